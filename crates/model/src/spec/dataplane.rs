//! `Dataplane`: a proxy beside a workload, or a gateway (api-and-kumactl 3.4).

use std::collections::BTreeSet;

use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Inbound;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::gateway::GatewayType;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::inbound::{Health, ServiceProbe, State};
use kds_proto::kuma::mesh::v1alpha1::dataplane::{Networking, Probes};
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, Mesh};

use crate::labels::{SERVICE_TAG, ZONE};
use crate::resource::Meta;
use crate::spec::address::{check_port, check_proxy_address, is_reached_by_loopback, uri_port};
use crate::spec::limits::{check_optional_duration, check_threshold};
use crate::spec::tags::{self, Rules, Tags};
use crate::spec::{ProtoSpec, outbound, prometheus};
use crate::violation::{Path, Violations};

/// What a dataplane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A proxy beside a workload.
    Sidecar,
    /// A proxy beside a gateway that is not ours.
    DelegatedGateway,
    /// A gateway of its own.
    BuiltinGateway,
}

/// What a dataplane is.
pub fn role(dataplane: &Dataplane) -> Role {
    match dataplane.networking.as_ref().and_then(|networking| networking.gateway.as_ref()) {
        None => Role::Sidecar,
        Some(gateway) if gateway.r#type() == GatewayType::Builtin => Role::BuiltinGateway,
        Some(_) => Role::DelegatedGateway,
    }
}

/// Value of the label `kuma.io/proxy-type`.
pub fn proxy_type(dataplane: &Dataplane) -> &'static str {
    if role(dataplane) == Role::BuiltinGateway { "gateway" } else { "sidecar" }
}

/// The tags of each inbound, then those of the gateway.
pub fn tag_sets(dataplane: &Dataplane) -> impl Iterator<Item = &Tags> {
    dataplane.networking.iter().flat_map(|networking| {
        let inbounds = networking.inbound.iter().map(|inbound| &inbound.tags);
        inbounds.chain(networking.gateway.iter().map(|gateway| &gateway.tags))
    })
}

/// The services that a dataplane is an instance of, by name.
pub fn services(dataplane: &Dataplane) -> BTreeSet<&str> {
    tag_sets(dataplane).filter_map(|tags| tags.get(SERVICE_TAG)).map(String::as_str).collect()
}

/// The service that a dataplane is named after where one must be: its first.
pub fn identifying_service(dataplane: &Dataplane) -> &str {
    services(dataplane).first().copied().unwrap_or("unknown")
}

/// Whether a selector of tags chooses a dataplane: by one of its inbounds or by its gateway.
pub fn is_chosen_by(dataplane: &Dataplane, selector: &Tags) -> bool {
    selector.is_empty() || tag_sets(dataplane).any(|tags| tags::matches(selector, tags))
}

/// Whether an inbound gets traffic.
pub fn is_ready(inbound: &Inbound) -> bool {
    inbound.state() == State::Ready && inbound.health.as_ref().is_none_or(|health| health.ready)
}

/// Name of an inbound in policies and ports: its own or else its port.
pub fn section_name(inbound: &Inbound) -> String {
    if inbound.name.is_empty() { inbound.port.to_string() } else { inbound.name.clone() }
}

/// Where an inbound listens and where it forwards to, defaults applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Address of the listener.
    pub address: &'a str,
    /// Port of the listener.
    pub port: u32,
    /// Address that other proxies are told.
    pub advertised_address: &'a str,
    /// Address of the workload.
    pub workload_address: &'a str,
    /// Port of the workload.
    pub workload_port: u32,
}

/// Where an inbound listens and where it forwards to.
pub fn interface<'a>(networking: &'a Networking, inbound: &'a Inbound) -> Interface<'a> {
    let or = |text: &'a str, default: &'a str| if text.is_empty() { default } else { text };
    let address = or(&inbound.address, &networking.address);
    Interface {
        address,
        port: inbound.port,
        advertised_address: or(&networking.advertised_address, address),
        workload_address: or(&inbound.service_address, address),
        workload_port: if inbound.service_port == 0 { inbound.port } else { inbound.service_port },
    }
}

/// Writes the own zone into the tags of every inbound and of the gateway, as a zone does with what it is given.
pub fn set_zone(dataplane: &mut Dataplane, zone: &str) {
    let Some(networking) = &mut dataplane.networking else { return };
    let gateway = networking.gateway.iter_mut().map(|gateway| &mut gateway.tags);
    for tags in networking.inbound.iter_mut().map(|inbound| &mut inbound.tags).chain(gateway) {
        tags.insert(ZONE.to_owned(), zone.to_owned());
    }
}

/// Marks inbounds that are going to be probed as not ready yet, as is done when a dataplane is created.
pub fn await_probes(dataplane: &mut Dataplane) {
    for inbound in dataplane.networking.iter_mut().flat_map(|networking| &mut networking.inbound) {
        if inbound.service_probe.is_some() {
            inbound.set_state(State::NotReady);
            inbound.health = Some(Health { ready: false });
        }
    }
}

/// Why a dataplane must not join a mesh (`constraints` of the mesh).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// None of the requirements is met.
    #[error(
        "dataplane cannot be a member of mesh {mesh:?} because its tags {tags:?} does not fulfill any requirements \
         defined on the Mesh"
    )]
    Unfit {
        /// Name of the mesh.
        mesh: String,
        /// Tags of the inbound or gateway.
        tags: String,
    },
    /// One of the restrictions is met.
    #[error(
        "dataplane cannot be a member of mesh {mesh:?} because its tags {tags:?} matches restricted tags \
         {restricted:?} defined on the Mesh"
    )]
    Restricted {
        /// Name of the mesh.
        mesh: String,
        /// Tags of the inbound or gateway.
        tags: String,
        /// Tags of the restriction.
        restricted: String,
    },
}

/// Whether a mesh takes a dataplane, each of whose tag sets must meet some requirement and no restriction.
///
/// # Errors
/// The first tag set that the mesh does not take.
pub fn check_membership(mesh_name: &str, mesh: &Mesh, dataplane: &Dataplane) -> Result<(), MembershipError> {
    let rules = mesh.constraints.as_ref().and_then(|constraints| constraints.dataplane_proxy.as_ref());
    let Some(rules) = rules else { return Ok(()) };
    for has in tag_sets(dataplane) {
        let (mesh, tags) = (mesh_name.to_owned(), tags::print(has));
        if !rules.requirements.is_empty() && !rules.requirements.iter().any(|rule| tags::matches(&rule.tags, has)) {
            return Err(MembershipError::Unfit { mesh, tags });
        }
        if let Some(rule) = rules.restrictions.iter().find(|rule| tags::matches(&rule.tags, has)) {
            return Err(MembershipError::Restricted { mesh, tags, restricted: tags::print(&rule.tags) });
        }
    }
    Ok(())
}

impl ProtoSpec for Dataplane {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        let at = Path::of("networking");
        let Some(networking) = &self.networking else {
            found.add(&at, "must be defined");
            return;
        };
        check_admin_port(&at.field("admin.port"), networking, found);
        let role = role(self);
        match role {
            Role::Sidecar if networking.inbound.is_empty() => {
                found.add(&at, "has to contain at least one inbound interface or gateway");
            }
            Role::Sidecar => {}
            Role::DelegatedGateway | Role::BuiltinGateway => check_gateway(&at, role, self, networking, found),
        }
        check_networking(&at, networking, found);
        if let Some(probes) = self.probes.as_ref().filter(|_| role != Role::BuiltinGateway) {
            check_probes(&Path::of("probes"), probes, found);
        }
        if let Some(metrics) = self.metrics.as_ref().filter(|_| role == Role::Sidecar) {
            prometheus::check_backend(&Path::of("metrics"), metrics, found);
        }
    }
}

fn check_admin_port(at: &Path, networking: &Networking, found: &mut Violations) {
    let Some(admin) = networking.admin.as_ref().map(|admin| admin.port) else { return };
    let taken = |port: u32, address: &str| admin == port && is_reached_by_loopback(address);
    let by_inbound = networking.inbound.iter().map(|inbound| interface(networking, inbound)).any(|interface| {
        taken(interface.port, interface.address) || taken(interface.workload_port, interface.workload_address)
    });
    if by_inbound {
        found.add(at, "must differ from inbound");
    }
    if networking.outbound.iter().any(|outbound| taken(outbound.port, outbound::address(outbound))) {
        found.add(at, "must differ from outbound");
    }
}

fn check_gateway(at: &Path, role: Role, dataplane: &Dataplane, networking: &Networking, found: &mut Violations) {
    let builtin = role == Role::BuiltinGateway;
    let kind = if builtin { "builtin" } else { "delegated" };
    if !networking.inbound.is_empty() {
        found.add(&at.field("inbound"), format!("inbound cannot be defined for {kind} gateways"));
    }
    if builtin && !networking.outbound.is_empty() {
        found.add(&at.field("outbound"), "outbound cannot be defined for builtin gateways");
    }
    if builtin && dataplane.probes.is_some() {
        found.add(&at.field("probes"), "probes cannot be defined for builtin gateways");
    }
    if let Some(gateway) = &networking.gateway {
        Rules::OF_GATEWAY.check(&at.field("gateway.tags"), &gateway.tags, found);
    }
}

fn check_networking(at: &Path, networking: &Networking, found: &mut Violations) {
    check_proxy_address(&at.field("address"), &networking.address, found);
    for (position, inbound) in networking.inbound.iter().enumerate() {
        let at = at.field("inbound").index(position);
        check_inbound(&at, inbound, &networking.address, found);
        if !inbound.tags.contains_key(SERVICE_TAG) {
            found.add(&at.field("tags").key(SERVICE_TAG), "tag has to exist");
        }
    }
    for (position, outbound) in networking.outbound.iter().enumerate() {
        outbound::check(&at.field("outbound").index(position), outbound, found);
    }
    if let Some(reachable) =
        networking.transparent_proxying.as_ref().and_then(|proxying| proxying.reachable_backends.as_ref())
    {
        // Kuma misspells the member.
        outbound::check_reachable(&at.field("transparentProxing.reachableBackends.refs"), reachable, found);
    }
}

fn check_inbound(at: &Path, inbound: &Inbound, dataplane_address: &str, found: &mut Violations) {
    check_port(&at.field("port"), inbound.port, found);
    if inbound.service_port != 0 {
        check_port(&at.field("servicePort"), inbound.service_port, found);
    }
    let service = at.field("serviceAddress");
    let same_port = inbound.service_port == 0 || inbound.service_port == inbound.port;
    let loops = "serviceAddress and servicePort has to differ from address and port";
    if !inbound.service_address.is_empty() {
        outbound::check_ip(&service, "serviceAddress", &inbound.service_address, found);
        if inbound.service_address == dataplane_address && same_port {
            found.add(&service, loops);
        }
    }
    if !inbound.address.is_empty() {
        outbound::check_ip(&at.field("address"), "address", &inbound.address, found);
        if inbound.address == inbound.service_address && same_port {
            found.add(&service, loops);
        }
    }
    Rules::OF_INBOUND.check(&at.field("tags"), &inbound.tags, found);
    if let Some(probe) = &inbound.service_probe {
        check_service_probe(&at.field("serviceProbe"), probe, found);
    }
}

fn check_service_probe(at: &Path, probe: &ServiceProbe, found: &mut Violations) {
    check_optional_duration(&at.field("interval"), probe.interval.as_ref(), found);
    check_optional_duration(&at.field("timeout"), probe.timeout.as_ref(), found);
    let thresholds = [("unhealthyThreshold", probe.unhealthy_threshold), ("healthyThreshold", probe.healthy_threshold)];
    for (member, threshold) in thresholds {
        if let Some(threshold) = threshold {
            check_threshold(&at.field(member), threshold, found);
        }
    }
}

fn check_probes(at: &Path, probes: &Probes, found: &mut Violations) {
    check_port(&at.field("port"), probes.port, found);
    for (position, endpoint) in probes.endpoints.iter().enumerate() {
        let at = at.field("endpoints").index(position);
        check_port(&at.field("inboundPort"), endpoint.inbound_port, found);
        for (member, path) in [("inboundPath", &endpoint.inbound_path), ("path", &endpoint.path)] {
            if uri_port(path).is_err() {
                found.add(&at.field(member), "should be a valid URL Path");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kind::Kind;
    use crate::spec::proto_json::from_value;
    use crate::spec::tabled::proto_faults as faults;

    /// A good sidecar, members of `networking` replaced.
    fn document(networking: Value) -> Value {
        let mut good = json!({"address": "10.0.0.1", "inbound": [{"port": 80, "tags": {"kuma.io/service": "a"}}]});
        good.as_object_mut().unwrap().extend(networking.as_object().unwrap().clone());
        json!({"networking": good})
    }

    fn with(networking: Value) -> Vec<String> {
        faults(Kind::Dataplane, document(networking))
    }

    fn with_inbound(members: Value) -> Vec<String> {
        let mut inbound = json!({"port": 80, "tags": {"kuma.io/service": "a"}});
        inbound.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        with(json!({"inbound": [inbound]}))
    }

    #[test]
    fn a_good_dataplane_passes() {
        assert!(with(json!({})).is_empty());
        assert!(with(json!({"gateway": {"tags": {"kuma.io/service": "gw"}}, "inbound": []})).is_empty());
        assert!(
            with(json!({"gateway": {"type": "BUILTIN", "tags": {"kuma.io/service": "gw"}}, "inbound": []})).is_empty()
        );
    }

    #[test]
    fn the_admin_port_is_taken_by_what_listens_on_the_loopback_address() {
        let with = |address: &str, inbound: Value, outbound: Value| {
            with(json!({"address": address, "admin": {"port": 9901}, "inbound": [inbound], "outbound": [outbound]}))
        };
        let tags = json!({"kuma.io/service": "a"});
        let inbound = json!({"port": 9901, "tags": tags});
        let outbound = json!({"port": 9901, "tags": tags});
        assert_eq!(
            with("127.0.0.1", inbound.clone(), outbound),
            ["networking.admin.port: must differ from inbound", "networking.admin.port: must differ from outbound"]
        );
        let elsewhere = json!({"port": 9901, "address": "127.0.0.2", "tags": tags});
        assert!(with("10.0.0.1", inbound, elsewhere.clone()).is_empty());
        let workload = json!({"port": 80, "servicePort": 9901, "serviceAddress": "127.0.0.1", "tags": tags});
        assert_eq!(with("10.0.0.1", workload, elsewhere), ["networking.admin.port: must differ from inbound"]);
    }

    #[test]
    fn addresses_of_an_inbound_lead_somewhere_else() {
        let at = "networking.inbound[0]";
        let loops = format!("{at}.serviceAddress: serviceAddress and servicePort has to differ from address and port");
        assert_eq!(with_inbound(json!({"serviceAddress": "10.0.0.1"})), std::slice::from_ref(&loops));
        assert!(with_inbound(json!({"serviceAddress": "10.0.0.1", "servicePort": 81})).is_empty());
        assert_eq!(with_inbound(json!({"address": "10.0.0.2", "serviceAddress": "10.0.0.2"})), [loops]);
        assert_eq!(
            with_inbound(json!({"address": "a.b", "serviceAddress": "c.d"})),
            [
                format!("{at}.serviceAddress: serviceAddress has to be valid IP address"),
                format!("{at}.address: address has to be valid IP address")
            ]
        );
    }

    #[test]
    fn a_builtin_gateway_has_no_probes_and_a_delegated_one_checks_them() {
        let gateway = |kind: &str| {
            let mut document =
                document(json!({"gateway": {"type": kind, "tags": {"kuma.io/service": "gw"}}, "inbound": []}));
            document["probes"] = json!({"port": 0});
            document["metrics"] = json!({"type": "foo"});
            faults(Kind::Dataplane, document)
        };
        assert_eq!(gateway("BUILTIN"), ["networking.probes: probes cannot be defined for builtin gateways"]);
        assert_eq!(gateway("DELEGATED"), ["probes.port: port must be in the range [1, 65535]"]);
    }

    #[test]
    fn a_backend_is_referred_to_by_name_or_labels() {
        let at = "networking.outbound[0]";
        let outbound = |outbound: Value| with(json!({"outbound": [outbound]}));
        assert!(
            outbound(json!({"port": 1, "backendRef": {"kind": "MeshExternalService", "labels": {"a": "b"}}}))
                .is_empty()
        );
        assert_eq!(
            outbound(json!({"port": 1, "backendRef": {"kind": "MeshMultiZoneService", "name": "a"}})),
            [format!("{at}.backendRef.port: port must be in the range [1, 65535]")]
        );
        assert_eq!(
            outbound(json!({"port": 1, "tags": {"a": "b c"}})),
            [
                format!(
                    "{at}.tags[\"a\"]: tag value must consist of alphanumeric characters, dots, dashes and underscores"
                ),
                format!("{at}.tags: mandatory tag \"kuma.io/service\" is missing")
            ]
        );
        let reachable =
            |backend: Value| with(json!({"transparentProxying": {"reachableBackends": {"refs": [backend]}}}));
        assert!(reachable(json!({"kind": "MeshService", "labels": {"a": "b"}})).is_empty());
        assert_eq!(
            reachable(json!({"kind": "MeshService", "namespace": "x", "labels": {"a": "b"}})),
            [
                "networking.transparentProxing.reachableBackends.refs[0].name: name is required, when namespace is defined",
                "networking.transparentProxing.reachableBackends.refs[0].labels: labels cannot be defined when name is specified"
            ]
        );
        let [fault] = reachable(json!({"kind": "MeshService", "name": "A"})).try_into().unwrap();
        assert!(fault.contains("refs[0].name: invalid characters."), "{fault}");
    }

    fn dataplane(networking: Value) -> Dataplane {
        from_value(&document(networking)).unwrap()
    }

    #[test]
    fn services_are_those_of_inbounds_and_gateway() {
        let two = json!([{"tags": {"kuma.io/service": "b"}}, {"tags": {"kuma.io/service": "a"}}, {"tags": {"x": "y"}}]);
        let sidecar = dataplane(json!({"inbound": two}));
        assert_eq!(services(&sidecar).into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((identifying_service(&sidecar), role(&sidecar)), ("a", Role::Sidecar));
        let gateway =
            dataplane(json!({"inbound": [], "gateway": {"type": "BUILTIN", "tags": {"kuma.io/service": "gw"}}}));
        assert_eq!((identifying_service(&gateway), proxy_type(&gateway)), ("gw", "gateway"));
        assert_eq!(identifying_service(&Dataplane::default()), "unknown");
        let selector = Tags::from([("kuma.io/service".to_owned(), "*".to_owned())]);
        assert!(is_chosen_by(&gateway, &selector) && !is_chosen_by(&Dataplane::default(), &selector));
    }

    #[test]
    fn an_inbound_is_ready_unless_state_or_health_say_otherwise() {
        let ready = |inbound: Value| {
            is_ready(
                &from_value::<Dataplane>(&json!({"networking": {"inbound": [inbound]}}))
                    .unwrap()
                    .networking
                    .unwrap()
                    .inbound[0],
            )
        };
        assert!(ready(json!({})) && ready(json!({"health": {"ready": true}})));
        assert!(
            !ready(json!({"health": {}}))
                && !ready(json!({"state": "NotReady"}))
                && !ready(json!({"state": "Ignored"}))
        );
    }

    #[test]
    fn defaults_lead_to_the_listener_of_the_dataplane() {
        let dataplane = dataplane(json!({"advertisedAddress": "192.0.2.1"}));
        let networking = dataplane.networking.as_ref().unwrap();
        assert_eq!(
            interface(networking, &networking.inbound[0]),
            Interface {
                address: "10.0.0.1",
                port: 80,
                advertised_address: "192.0.2.1",
                workload_address: "10.0.0.1",
                workload_port: 80
            }
        );
        assert_eq!(section_name(&networking.inbound[0]), "80");
    }

    #[test]
    fn a_zone_writes_itself_into_tags_and_awaits_probes() {
        let inbounds = json!([{"port": 1, "tags": {"kuma.io/zone": "x"}, "serviceProbe": {"tcp": {}}}, {"port": 2}]);
        let mut made = dataplane(json!({"inbound": inbounds, "gateway": {}}));
        set_zone(&mut made, "east");
        assert!(tag_sets(&made).all(|tags| tags["kuma.io/zone"] == "east"));
        assert_eq!(tag_sets(&made).count(), 3);
        await_probes(&mut made);
        let inbounds = made.networking.unwrap().inbound;
        assert_eq!((inbounds[0].state(), inbounds[0].health), (State::NotReady, Some(Health { ready: false })));
        assert_eq!((inbounds[1].state(), inbounds[1].health), (State::Ready, None));
    }

    #[test]
    fn a_mesh_takes_members_by_their_tags() {
        let mesh = |requirements: Value, restrictions: Value| -> Mesh {
            from_value(&json!({"constraints": {"dataplaneProxy": {"requirements": requirements, "restrictions": restrictions}}}))
                .unwrap()
        };
        let member = dataplane(json!({}));
        let check = |mesh: &Mesh| check_membership("m", mesh, &member).map_err(|fault| fault.to_string());
        assert_eq!(check(&Mesh::default()), Ok(()));
        assert_eq!(check(&mesh(json!([{"tags": {"x": "*"}}, {"tags": {"kuma.io/service": "*"}}]), json!([]))), Ok(()));
        assert_eq!(
            check(&mesh(json!([{"tags": {"x": "*"}}]), json!([]))).unwrap_err(),
            r#"dataplane cannot be a member of mesh "m" because its tags "kuma.io/service=a" does not fulfill any requirements defined on the Mesh"#
        );
        assert_eq!(
            check(&mesh(json!([]), json!([{"tags": {"kuma.io/service": "a"}}]))).unwrap_err(),
            r#"dataplane cannot be a member of mesh "m" because its tags "kuma.io/service=a" matches restricted tags "kuma.io/service=a" defined on the Mesh"#
        );
    }
}
