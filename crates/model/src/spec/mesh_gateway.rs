//! `MeshGateway`: listeners of a builtin gateway (api-and-kumactl 3.26).

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::mesh_gateway::listener::Protocol;
use kds_proto::kuma::mesh::v1alpha1::mesh_gateway::tls::Mode;
use kds_proto::kuma::mesh::v1alpha1::mesh_gateway::{Conf, Listener};
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, MeshGateway};

use crate::kind::Kind;
use crate::resource::{Meta, Resource};
use crate::snapshot::Snapshot;
use crate::spec::ProtoSpec;
use crate::spec::address::check_port;
use crate::spec::dataplane::{self, Role};
use crate::spec::tags::{self, Rules, Tags};
use crate::syntax::is_dns_1123_subdomain;
use crate::violation::{Path, Violations};

const EMPTY: &str = "cannot be empty";

/// The hostname of a listener that names none.
const ANY_HOST: &str = "*";

/// The gateway that configures a builtin gateway's proxy: the first by name whose selectors choose its tags.
pub fn of<'a>(snapshot: &'a Snapshot, proxy: &Meta, dataplane: &Dataplane) -> Option<&'a Arc<Resource>> {
    if dataplane::role(dataplane) != Role::BuiltinGateway {
        return None;
    }
    let own = &dataplane.networking.as_ref()?.gateway.as_ref()?.tags;
    snapshot.list_in(Kind::MeshGateway, &proxy.key.mesh).find(|resource| {
        let gateway = resource.spec.message::<MeshGateway>();
        gateway.is_ok_and(|gateway| gateway.selectors.iter().any(|selector| tags::matches(&selector.r#match, own)))
    })
}

/// The tags of each listener of a gateway at one of its proxies: the proxy's, the gateway's and its own.
pub fn listener_tags(gateway: &Resource, dataplane: &Dataplane) -> Vec<Tags> {
    let Ok(spec) = gateway.spec.message::<MeshGateway>() else { return Vec::new() };
    let own = dataplane.networking.as_ref().and_then(|networking| networking.gateway.as_ref());
    let mut common = own.map(|own| own.tags.clone()).unwrap_or_default();
    common.extend(spec.tags.clone());
    let listeners = spec.conf.iter().flat_map(|conf| &conf.listeners);
    listeners.map(|listener| common.clone().into_iter().chain(listener.tags.clone()).collect()).collect()
}

impl ProtoSpec for MeshGateway {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        let conf = self.conf.as_ref();
        let crosses_meshes = conf.is_some_and(|conf| conf.listeners.iter().any(|listener| listener.cross_mesh));
        let at = Path::of("selectors");
        if self.selectors.is_empty() {
            found.add(&at, "must have at least one element");
        }
        for (position, selector) in self.selectors.iter().enumerate() {
            Rules::SERVICE.check(&at.index(position).field("match"), &selector.r#match, found);
            if position > 0 && crosses_meshes {
                found.add(&at.index(position), "there can be at most one selector");
            }
        }
        Rules::OF_LISTENER.check(&Path::of("tags"), &self.tags, found);
        match conf {
            None => found.add(&Path::of("conf"), EMPTY),
            Some(conf) => check_conf(&Path::of("conf.listeners"), conf, found),
        }
    }
}

fn check_conf(at: &Path, conf: &Conf, found: &mut Violations) {
    if conf.listeners.is_empty() {
        found.add(at, EMPTY);
    }
    for (position, listener) in conf.listeners.iter().enumerate() {
        let at = at.index(position);
        if !listener.hostname.is_empty() {
            check_hostname(&at.field("hostname"), &listener.hostname, found);
        }
        check_port(&at.field("port"), listener.port, found);
        check_protocol(&at, listener, found);
        check_tls(&at.field("tls"), listener, found);
        Rules::OF_LISTENER.check(&at.field("tags"), &listener.tags, found);
    }
    check_ports_shared(at, &conf.listeners, found);
}

/// Adds what is wrong with `*`, `*.domain.name` or `domain.name`.
fn check_hostname(at: &Path, hostname: &str, found: &mut Violations) {
    if hostname == ANY_HOST {
        return;
    }
    if hostname.len() > 253 {
        found.add(at, "must be at most 253 characters");
    }
    match hostname.strip_prefix("*.") {
        Some(domain) if !is_dns_1123_subdomain(domain) => found.add(at, "invalid wildcard domain"),
        None if !is_dns_1123_subdomain(hostname) => found.add(at, "invalid hostname"),
        _ => {}
    }
}

fn check_protocol(at: &Path, listener: &Listener, found: &mut Violations) {
    let protocol = at.field("protocol");
    match listener.protocol() {
        Protocol::None => found.add(&protocol, EMPTY),
        Protocol::Https if listener.cross_mesh => found.add(&protocol, "protocol is not supported with crossMesh"),
        Protocol::Https => match &listener.tls {
            None => found.add(&at.field("tls"), EMPTY),
            Some(tls) if tls.mode() == Mode::Passthrough => {
                found.add(&at.field("tls.mode"), "mode is not supported on HTTPS listeners");
            }
            Some(_) => {}
        },
        Protocol::Tcp | Protocol::Tls | Protocol::Http => {}
    }
}

fn check_tls(at: &Path, listener: &Listener, found: &mut Violations) {
    let Some(tls) = &listener.tls else { return };
    if listener.cross_mesh {
        if tls.mode() != Mode::None || !tls.certificates.is_empty() {
            found.add(at, "must be empty with crossMesh");
        }
        return;
    }
    match (tls.mode(), tls.certificates.len()) {
        (Mode::None, _) => found.add(&at.field("mode"), EMPTY),
        (Mode::Terminate, 0) => found.add(&at.field("certificates"), "cannot be empty in TLS termination mode"),
        // One of RSA and one of ECDSA.
        (Mode::Terminate, 3..) => found.add(&at.field("certificates"), "cannot have more than 2 certificates"),
        (Mode::Terminate | Mode::Passthrough, _) => {}
    }
}

/// Listeners of one port become one listener of Envoy, so they must agree.
fn check_ports_shared(at: &Path, listeners: &[Listener], found: &mut Violations) {
    let mut by_port = BTreeMap::<u32, Vec<(usize, &Listener)>>::new();
    for (position, listener) in listeners.iter().enumerate() {
        by_port.entry(listener.port).or_default().push((position, listener));
    }
    for sharers in by_port.values() {
        if sharers.iter().any(|(_, listener)| listener.protocol != sharers[0].1.protocol) {
            for (position, _) in sharers {
                found.add(&at.index(*position), "protocol conflicts with other listeners on this port");
            }
        }
    }
    for sharers in by_port.values() {
        for (position, listener) in sharers {
            if sharers.iter().filter(|(_, other)| host(other) == host(listener)).count() > 1 {
                found.add(&at.index(*position), "multiple listeners for hostname on this port");
            }
        }
    }
    for sharers in by_port.values() {
        let limits: Vec<_> = sharers.iter().filter(|(_, listener)| limit(listener) != 0).collect();
        if limits.iter().any(|(_, listener)| limit(listener) != limit(limits[0].1)) {
            for (position, _) in limits {
                found.add(&at.index(*position).field("resources.connectionLimit"), "conflicting values for this port");
            }
        }
    }
}

fn host(listener: &Listener) -> &str {
    if listener.hostname.is_empty() { ANY_HOST } else { &listener.hostname }
}

fn limit(listener: &Listener) -> u32 {
    listener.resources.as_ref().map_or(0, |resources| resources.connection_limit)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::kind::Kind;
    use crate::spec::tabled::proto_faults as faults;

    fn with(listeners: Value) -> Vec<String> {
        let selectors = json!([{"match": {"kuma.io/service": "gw"}}]);
        faults(Kind::MeshGateway, json!({"selectors": selectors, "conf": {"listeners": listeners}}))
    }

    #[test]
    fn a_gateway_selects_proxies_and_has_listeners() {
        assert_eq!(
            faults(Kind::MeshGateway, json!({"tags": {"kuma.io/zone": "a"}})),
            [
                "selectors: must have at least one element",
                r#"tags["kuma.io/zone"]: tag name must not be "kuma.io/zone""#,
                "conf: cannot be empty"
            ]
        );
        assert_eq!(with(json!([])), ["conf.listeners: cannot be empty"]);
        assert!(with(json!([{"port": 80, "protocol": "HTTP", "tags": {"port": "http/80"}}])).is_empty());
    }

    #[test]
    fn hostnames_may_begin_with_a_wildcard() {
        let with = |hostname: &str| with(json!([{"port": 80, "protocol": "HTTP", "hostname": hostname}]));
        for good in ["*", "*.example.com", "a.example.com"] {
            assert!(with(good).is_empty(), "{good}");
        }
        assert_eq!(with("*.a_b"), ["conf.listeners[0].hostname: invalid wildcard domain"]);
        assert_eq!(with("A.b"), ["conf.listeners[0].hostname: invalid hostname"]);
        assert_eq!(with(&"a".repeat(254)), ["conf.listeners[0].hostname: must be at most 253 characters"]);
    }

    #[test]
    fn tls_fits_the_protocol() {
        let with = |listener: Value| with(json!([listener]));
        let at = "conf.listeners[0]";
        assert_eq!(
            with(json!({"port": 1, "protocol": "HTTPS", "tls": {"mode": "PASSTHROUGH"}})),
            [format!("{at}.tls.mode: mode is not supported on HTTPS listeners")]
        );
        assert_eq!(with(json!({"port": 1, "protocol": "TLS", "tls": {}})), [format!("{at}.tls.mode: cannot be empty")]);
        assert_eq!(
            with(json!({"port": 1, "protocol": "HTTPS", "tls": {"mode": "TERMINATE"}})),
            [format!("{at}.tls.certificates: cannot be empty in TLS termination mode")]
        );
        let source = json!({"secret": "a"});
        assert_eq!(
            with(
                json!({"port": 1, "protocol": "TLS", "tls": {"mode": "TERMINATE", "certificates": [source, source, source]}})
            ),
            [format!("{at}.tls.certificates: cannot have more than 2 certificates")]
        );
        assert_eq!(
            with(json!({"port": 1, "protocol": "HTTPS", "crossMesh": true, "tls": {"mode": "TERMINATE"}})),
            [
                format!("{at}.protocol: protocol is not supported with crossMesh"),
                format!("{at}.tls: must be empty with crossMesh")
            ]
        );
    }

    #[test]
    fn listeners_of_a_port_agree() {
        assert_eq!(
            with(json!([
                {"port": 80, "protocol": "HTTP"},
                {"port": 80, "protocol": "HTTP", "hostname": "*", "resources": {"connectionLimit": 1}},
                {"port": 80, "protocol": "HTTP", "hostname": "a", "resources": {"connectionLimit": 2}},
                {"port": 81, "protocol": "HTTP", "resources": {"connectionLimit": 3}}
            ])),
            [
                "conf.listeners[0]: multiple listeners for hostname on this port",
                "conf.listeners[1]: multiple listeners for hostname on this port",
                "conf.listeners[1].resources.connectionLimit: conflicting values for this port",
                "conf.listeners[2].resources.connectionLimit: conflicting values for this port"
            ]
        );
    }

    #[test]
    fn a_gateway_across_meshes_has_one_selector() {
        let selector = json!({"match": {"kuma.io/service": "gw"}});
        let listeners = json!([{"port": 80, "protocol": "HTTP", "crossMesh": true}]);
        assert_eq!(
            faults(Kind::MeshGateway, json!({"selectors": [selector, selector], "conf": {"listeners": listeners}})),
            ["selectors[1]: there can be at most one selector"]
        );
    }
}
