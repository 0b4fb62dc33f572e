//! What a proxy tells of itself with the first request of a stream (zone-dataplane 1.3, 1.4).

use envoy::{Features, TransparentProxy};
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::kuma::mesh::v1alpha1::Version;
use model::spec::proto_json::from_struct;
use model::{Key, Resource};
use prost_types::value::Kind as Member;
use prost_types::{Struct, Value};

use super::refusal::Refusal;
use crate::proxies::{self, ProxyType};

/// A proxy and how it was started.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub proxy_type: ProxyType,
    /// Key of its resource.
    pub key: Key,
    /// The resource that it brings with it.
    pub resource: Option<Resource>,
    /// What it can do.
    pub node: envoy::Node,
    /// Versions of its parts.
    pub version: Option<Version>,
    /// All that it tells, for its insight.
    #[expect(dead_code, reason = "insights are written soon")]
    pub metadata: Struct,
}

impl Introduction {
    /// # Errors
    /// It does not say who it is, or brings something else than its resource.
    pub fn of(node: &Node) -> Result<Self, Refusal> {
        let bad = |text: &str| Refusal::Introduction(text.to_owned());
        let (mesh, name) = node.id.split_once('.').ok_or_else(|| bad("node.id has to be <mesh>.<name>"))?;
        if name.is_empty() {
            return Err(bad("node.id has to be <mesh>.<name>, and there is no name in it"));
        }
        let metadata = node.metadata.clone().ok_or_else(|| bad("node.metadata is missing"))?;
        let facts = Facts(&metadata);
        let word = facts.text("dataplane.proxyType");
        let proxy_type = ProxyType::parse(word)
            .ok_or_else(|| Refusal::Introduction(format!("dataplane.proxyType: {word:?} is no type of proxy")))?;
        let key = Key::new(proxy_type.kind(), mesh, name);
        let document = facts.text("dataplane.resource");
        let resource = if document.is_empty() { None } else { Some(brought(&key, document)?) };
        Ok(Self { proxy_type, key, resource, node: facts.node(), version: facts.version(), metadata })
    }
}

/// A resource has to be that of the proxy which brings it.
fn brought(key: &Key, document: &str) -> Result<Resource, Refusal> {
    let resource = proxies::read_resource(key.kind, document)
        .map_err(|reason| Refusal::Introduction(format!("dataplane.resource: {reason}")))?;
    if resource.meta.key == *key {
        return Ok(resource);
    }
    Err(Refusal::Introduction(format!("dataplane.resource: it is {}, and the proxy is {key}", resource.meta.key)))
}

/// Metadata, whose keys have dots in them.
struct Facts<'a>(&'a Struct);

impl<'a> Facts<'a> {
    fn member(&self, key: &str) -> Option<&'a Member> {
        self.0.fields.get(key)?.kind.as_ref()
    }

    fn text(&self, key: &str) -> &'a str {
        match self.member(key) {
            Some(Member::StringValue(text)) => text,
            _ => "",
        }
    }

    /// A number that is told as a text; what is none is 0.
    fn number(&self, key: &str) -> u32 {
        self.text(key).parse().unwrap_or_default()
    }

    fn structure(&self, key: &str) -> Option<&'a Struct> {
        match self.member(key) {
            Some(Member::StructValue(inner)) => Some(inner),
            _ => None,
        }
    }

    fn node(&self) -> envoy::Node {
        let words = match self.member("features") {
            Some(Member::ListValue(list)) => &*list.values,
            _ => &[],
        };
        envoy::Node {
            features: Features::parse(words.iter().filter_map(as_text)),
            work_dir: self.text("workdir").to_owned(),
            admin_address: self.text("dataplane.admin.address").to_owned(),
            admin_port: self.number("dataplane.admin.port"),
            readiness_port: self.number("dataplane.readinessReporter.port"),
            // Older ones do not say, and had it.
            ipv6: !matches!(self.member("ipv6Enabled"), Some(Member::BoolValue(false))),
            system_ca_path: self.text("systemCaPath").to_owned(),
            transparent_proxy: self.structure("transparentProxy").and_then(redirected),
        }
    }

    fn version(&self) -> Option<Version> {
        let mut version = from_struct::<Version>(self.structure("version")).ok()?;
        if let Some(kuma_dp) = &mut version.kuma_dp {
            kuma_dp.kuma_cp_compatible = model::insight::zone::are_compatible(api::VERSION, &kuma_dp.version);
        }
        Some(version)
    }
}

fn as_text(value: &Value) -> Option<&str> {
    match value.kind.as_ref()? {
        Member::StringValue(text) => Some(text),
        _ => None,
    }
}

/// How connections are redirected to the proxy, if they are.
fn redirected(config: &Struct) -> Option<TransparentProxy> {
    let redirect = Facts(config).structure("redirect").map(Facts)?;
    let flow = |way: &str, default: u32| {
        let flow = redirect.structure(way).map(Facts)?;
        let enabled = matches!(flow.member("enabled"), Some(Member::BoolValue(true)));
        let port = match flow.member("port") {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be a port")]
            Some(Member::NumberValue(port)) if (1.0..=65535.0).contains(port) => *port as u32,
            _ => default,
        };
        enabled.then_some(port)
    };
    let (inbound, outbound) = (flow("inbound", 15006), flow("outbound", 15001));
    if inbound.is_none() && outbound.is_none() {
        return None;
    }
    Some(TransparentProxy {
        inbound_port: inbound.unwrap_or(0),
        outbound_port: outbound.unwrap_or(0),
        ipv6: Facts(config).text("ipFamilyMode") != "ipv4",
    })
}

#[cfg(test)]
mod tests {
    use kds_proto::json::{UnknownFields::Refused, from_value};
    use serde_json::{Value as Json, json};

    use super::*;

    fn node(id: &str, metadata: Json) -> Node {
        from_value(json!({"id": id, "metadata": metadata}), Refused).unwrap()
    }

    /// What unmodified proxies were told to say of themselves.
    fn recorded() -> Vec<Json> {
        let text = include_str!("../../tests/recorded/bootstrap.jsonl");
        text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["envoy"]["node"].clone()).collect()
    }

    #[test]
    fn recorded_proxies_are_understood() {
        let mut kinds = Vec::new();
        for recorded in recorded() {
            let read = Introduction::of(&node(recorded["id"].as_str().unwrap(), recorded["metadata"].clone())).unwrap();
            kinds.push(read.key.kind.name());
            assert_eq!(read.resource.unwrap().meta.key, read.key);
            assert_eq!(read.node.readiness_port, 9902);
            assert!(read.node.ipv6 && read.node.features.reuse_port && read.node.transparent_proxy.is_none());
            let version = read.version.unwrap();
            assert!(version.kuma_dp.as_ref().unwrap().kuma_cp_compatible);
            assert_eq!(version.envoy.unwrap().version, "1.36.4");
        }
        assert_eq!(kinds, ["Dataplane", "Dataplane", "Dataplane", "Dataplane", "ZoneIngress", "ZoneEgress"]);
    }

    /// The first dot of an id ends the mesh; a proxy's name may have more of them.
    #[test]
    fn a_name_may_have_dots() {
        let of = |id: &str| Introduction::of(&node(id, json!({}))).map(|read| read.key);
        assert_eq!(of("default.web.ns").unwrap(), Key::new(model::Kind::Dataplane, "default", "web.ns"));
        for bad in ["web", "default."] {
            assert!(of(bad).unwrap_err().to_string().contains("node.id has to be <mesh>.<name>"), "{bad}");
        }
        assert!(Introduction::of(&Node { id: "a.b".to_owned(), ..Node::default() }).is_err());
    }

    #[test]
    fn a_proxy_brings_its_own_resource() {
        let resource = json!({"type": "Dataplane", "mesh": "default", "name": "other", "networking": {
            "address": "10.0.0.1", "inbound": [{"port": 80, "tags": {"kuma.io/service": "web"}}]}});
        let bringing = json!({"dataplane.resource": resource.to_string()});
        let error = Introduction::of(&node("default.web", bringing)).unwrap_err().to_string();
        assert!(
            error.contains(r#"it is Dataplane "other" in mesh "default", and the proxy is Dataplane "web""#),
            "{error}"
        );
        let error = Introduction::of(&node("default.web", json!({"dataplane.resource": "type: Mesh"}))).unwrap_err();
        assert!(error.to_string().contains("a Dataplane is wanted, \"Mesh\" is given"), "{error}");
        let error = Introduction::of(&node("default.web", json!({"dataplane.proxyType": "x"}))).unwrap_err();
        assert!(error.to_string().contains("\"x\" is no type of proxy"), "{error}");
    }

    #[test]
    fn redirected_connections_are_known() {
        let of = |config: Json| {
            Introduction::of(&node("default.web", json!({"transparentProxy": config}))).unwrap().node.transparent_proxy
        };
        let both = json!({"ipFamilyMode": "dualstack", "redirect": {
            "inbound": {"enabled": true, "port": 15006}, "outbound": {"enabled": true, "port": 15001},
            "dns": {"enabled": true, "port": 15053}}});
        assert_eq!(of(both), Some(TransparentProxy { inbound_port: 15006, outbound_port: 15001, ipv6: true }));
        assert_eq!(of(json!({"redirect": {"inbound": {"enabled": false, "port": 1}}})), None);
    }
}
