//! `ProxyTemplate`: the older way to patch what a proxy is given.

use kds_proto::kuma::mesh::v1alpha1::proxy_template::modifications::{
    Cluster, HttpFilter, Listener, NetworkFilter, Type, VirtualHost,
};
use kds_proto::kuma::mesh::v1alpha1::{ProxyTemplate, ProxyTemplateRawResource};

use crate::resource::Meta;
use crate::spec::tags::Rules;
use crate::spec::{ProtoSpec, envoy_resource};
use crate::violation::{Path, Violations};

/// What a proxy can be given before it is patched.
const PROFILES: [&str; 4] = ["default-proxy", "egress-proxy", "gateway-proxy", "ingress-proxy"];

const EMPTY: &str = "cannot be empty";

impl ProtoSpec for ProxyTemplate {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        for (position, selector) in self.selectors.iter().enumerate() {
            Rules::SERVICE.check(&Path::of("selectors").index(position).field("match"), &selector.r#match, found);
        }
        let Some(conf) = &self.conf else { return };
        let at = Path::of("conf");
        for (position, profile) in conf.imports.iter().enumerate() {
            let at = at.field("imports").index(position);
            match profile.as_str() {
                "" => found.add(&at, EMPTY),
                known if PROFILES.contains(&known) => {}
                _ => found.add(&at, format!("profile not found. Available profiles: {}", PROFILES.join(","))),
            }
        }
        for (position, resource) in conf.resources.iter().enumerate() {
            check_resource(&at.field("resources").index(position), resource, found);
        }
        for (position, modification) in conf.modifications.iter().enumerate() {
            if let Some(modification) = &modification.r#type {
                check_modification(&at.field("modifications").index(position), modification, found);
            }
        }
    }
}

fn check_resource(at: &Path, resource: &ProxyTemplateRawResource, found: &mut Violations) {
    for (member, text) in [("name", &resource.name), ("version", &resource.version), ("resource", &resource.resource)] {
        if text.is_empty() {
            found.add(&at.field(member), EMPTY);
        }
    }
    if !resource.resource.is_empty() {
        check_native(&at.field("resource"), envoy_resource::check_any(&resource.resource), found);
    }
}

fn check_native(at: &Path, verdict: Result<(), String>, found: &mut Violations) {
    if let Err(reason) = verdict {
        found.add(at, format!("native Envoy resource is not valid: {reason}"));
    }
}

/// A modification, whatever it modifies.
struct Modification<'a> {
    /// Member of the document.
    member: &'static str,
    /// Type of Envoy's resource.
    message: &'static str,
    operation: &'a str,
    value: &'a str,
    /// Whether a match is there, and the name that it asks for.
    matched: Option<&'a str>,
}

fn check_modification(at: &Path, modification: &Type, found: &mut Violations) {
    let (modification, filter) = match modification {
        Type::Cluster(Cluster { r#match, operation, value }) => {
            let matched = r#match.as_ref().map(|matched| matched.name.as_str());
            (
                Modification {
                    member: "cluster",
                    message: "envoy.config.cluster.v3.Cluster",
                    operation,
                    value,
                    matched,
                },
                false,
            )
        }
        Type::Listener(Listener { r#match, operation, value }) => {
            let matched = r#match.as_ref().map(|matched| matched.name.as_str());
            (
                Modification {
                    member: "listener",
                    message: "envoy.config.listener.v3.Listener",
                    operation,
                    value,
                    matched,
                },
                false,
            )
        }
        Type::VirtualHost(VirtualHost { r#match, operation, value }) => {
            let matched = r#match.as_ref().map(|matched| matched.name.as_str());
            (
                Modification {
                    member: "virtualHost",
                    message: "envoy.config.route.v3.VirtualHost",
                    operation,
                    value,
                    matched,
                },
                false,
            )
        }
        Type::NetworkFilter(NetworkFilter { r#match, operation, value }) => {
            let matched = r#match.as_ref().map(|matched| matched.name.as_str());
            (
                Modification {
                    member: "networkFilter",
                    message: "envoy.config.listener.v3.Filter",
                    operation,
                    value,
                    matched,
                },
                true,
            )
        }
        Type::HttpFilter(HttpFilter { r#match, operation, value }) => {
            let matched = r#match.as_ref().map(|matched| matched.name.as_str());
            let message = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";
            (Modification { member: "httpFilter", message, operation, value, matched }, true)
        }
    };
    let at = at.field(modification.member);
    if filter { modification.check_filter(&at, found) } else { modification.check_whole(&at, found) }
}

impl Modification<'_> {
    /// Clusters, listeners and virtual hosts: nothing is matched when one is added.
    fn check_whole(&self, at: &Path, found: &mut Violations) {
        match self.operation {
            "add" => {
                match self.matched {
                    None | Some("") if self.member == "virtualHost" => {}
                    Some(_) if self.member == "virtualHost" => {
                        found.add(&at.field("match.name"), "cannot be defined");
                    }
                    Some(_) => found.add(&at.field("match"), "cannot be defined"),
                    None => {}
                }
                self.check_value(at, found);
            }
            "patch" => self.check_value(at, found),
            "remove" => {}
            _ => found
                .add(&at.field("operation"), r#"invalid operation. Available operations: "add", "patch", "remove""#),
        }
    }

    /// Filters: they stand in an order.
    fn check_filter(&self, at: &Path, found: &mut Violations) {
        let needs_name = match self.operation {
            "addBefore" => Some("cannot be empty. You need to pick a filter before which this one will be added"),
            "addAfter" => Some("cannot be empty. You need to pick a filter after which this one will be added"),
            "patch" => Some(EMPTY),
            "addFirst" | "addLast" => None,
            "remove" => return,
            _ => {
                let reason = r#"invalid operation. Available operations: "addFirst", "addLast", "addBefore", "addAfter", "patch", "remove""#;
                return found.add(&at.field("operation"), reason);
            }
        };
        if let Some(reason) = needs_name.filter(|_| self.matched.unwrap_or_default().is_empty()) {
            found.add(&at.field("match.name"), reason);
        }
        self.check_value(at, found);
    }

    fn check_value(&self, at: &Path, found: &mut Violations) {
        check_native(&at.field("value"), envoy_resource::check(self.message, self.value), found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::kind::Kind;
    use crate::spec::tabled::proto_faults as faults;

    fn with(conf: Value) -> Vec<String> {
        faults(Kind::ProxyTemplate, json!({"selectors": [{"match": {"kuma.io/service": "*"}}], "conf": conf}))
    }

    #[test]
    fn imports_are_profiles() {
        assert!(with(json!({"imports": ["default-proxy"]})).is_empty());
        assert_eq!(
            with(json!({"imports": ["", "x"]})),
            [
                "conf.imports[0]: cannot be empty",
                "conf.imports[1]: profile not found. Available profiles: default-proxy,egress-proxy,gateway-proxy,ingress-proxy"
            ]
        );
    }

    #[test]
    fn raw_resources_are_resources_of_envoy() {
        let cluster = "'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster\nname: a\nconnectTimeout: 5s\n";
        assert!(with(json!({"resources": [{"name": "a", "version": "v1", "resource": cluster}]})).is_empty());
        assert_eq!(
            with(json!({"resources": [{}, {"name": "a", "version": "v1", "resource": "name: a"}]})),
            [
                "conf.resources[0].name: cannot be empty",
                "conf.resources[0].version: cannot be empty",
                "conf.resources[0].resource: cannot be empty",
                "conf.resources[1].resource: native Envoy resource is not valid: Any JSON doesn't have '@type'"
            ]
        );
    }

    #[test]
    fn modifications_have_an_operation_a_place_and_a_value() {
        let with = |modification: Value| with(json!({"modifications": [modification]}));
        let at = "conf.modifications[0]";
        let native = "native Envoy resource is not valid: json: cannot unmarshal number into Go value of type string";
        assert!(with(json!({"cluster": {"operation": "add", "value": "name: a"}})).is_empty());
        assert_eq!(
            with(json!({"cluster": {"operation": "add", "match": {}, "value": "name: 5"}})),
            [format!("{at}.cluster.match: cannot be defined"), format!("{at}.cluster.value: {native}")]
        );
        assert_eq!(
            with(json!({"listener": {"operation": "x"}})),
            [format!(r#"{at}.listener.operation: invalid operation. Available operations: "add", "patch", "remove""#)]
        );
        assert_eq!(
            with(json!({"virtualHost": {"operation": "add", "match": {"name": "a"}, "value": "name: a"}})),
            [format!("{at}.virtualHost.match.name: cannot be defined")]
        );
        assert_eq!(
            with(json!({"httpFilter": {"operation": "addBefore", "value": "name: 5"}})),
            [
                format!(
                    "{at}.httpFilter.match.name: cannot be empty. You need to pick a filter before which this one will be added"
                ),
                format!("{at}.httpFilter.value: {native}")
            ]
        );
        assert_eq!(
            with(json!({"networkFilter": {"operation": "patch", "match": {"name": "a"}, "value": "name: 5"}})),
            [format!("{at}.networkFilter.value: {native}")]
        );
        assert!(with(json!({"networkFilter": {"operation": "remove"}})).is_empty());
    }
}
