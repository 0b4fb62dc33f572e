//! The proxy that a router is to its control plane: a ZoneIngress or a ZoneEgress (zone-dataplane 5.1, 6.1).

use std::collections::BTreeMap;

use kds_proto::bootstrap::{EnvoyVersion, KumaDpVersion, Request, Version};
use model::KUMA_VERSION;
use model::document::{self, Limits};
use serde_json::{Value, json};

/// Version of Envoy whose configuration it understands.
const ENVOY: &str = "1.36.8";
/// Largest document.
const LIMITS: Limits = Limits { size: 1 << 20, values: 100_000 };
/// What it can do, in the words of `kuma-dp`.
const FEATURES: [&str; 2] = ["feature-delta-grpc", "feature-reuse-port"];

/// Which of the two a router is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyType {
    /// Into a zone.
    Ingress,
    /// Out of it.
    Egress,
}

impl ProxyType {
    /// In a request, `--proxy-type` of `kuma-dp`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// Type of the resource.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Ingress => "ZoneIngress",
            Self::Egress => "ZoneEgress",
        }
    }
}

/// What was said of a proxy on the command line.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Its name; none when a document has it.
    pub name: String,
    /// A document and what it is called in messages.
    pub document: Option<(String, Vec<u8>)>,
    /// Values for what stands in double braces there.
    pub variables: BTreeMap<String, String>,
    /// Where it listens.
    pub address: Option<String>,
    /// Where it listens.
    pub port: Option<u16>,
    /// Where other zones reach it.
    pub advertised_address: Option<String>,
    /// Where other zones reach it.
    pub advertised_port: Option<u16>,
    /// Port of its own interface.
    pub admin_port: Option<u16>,
}

/// A proxy as its control plane is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Which.
    pub proxy_type: ProxyType,
    /// Its name.
    pub name: String,
    /// Its resource, JSON; `None`: the control plane has it.
    pub resource: Option<Value>,
}

impl Proxy {
    /// Out of what was said: a document, or a name with or without addresses.
    ///
    /// # Errors
    /// The document is none of this type, or what was said does not go together; the text says what to do.
    pub fn new(proxy_type: ProxyType, said: &Said) -> Result<Self, String> {
        let resource = match &said.document {
            Some((called, text)) => Some(read(called, text, &said.variables)?),
            None => built(proxy_type, said)?,
        };
        let Some(resource) = resource else {
            if said.name.is_empty() {
                return Err("the proxy needs a name: give --name, or a document with --dataplane-file".to_owned());
            }
            return Ok(Self { proxy_type, name: said.name.clone(), resource: None });
        };
        if said.document.is_some() && !said.name.is_empty() {
            return Err("--name cannot be given beside a document: the name is read from that".to_owned());
        }
        let of = |field: &str| resource.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (given, name) = (of("type"), of("name"));
        if given != proxy_type.resource() {
            return Err(format!("invalid proxy resource type {given:?}, expected {}", proxy_type.resource()));
        }
        if name.is_empty() {
            return Err("the document of the proxy has no name".to_owned());
        }
        Ok(Self { proxy_type, name, resource: Some(resource) })
    }

    /// What the control plane is asked; the token is not in it yet.
    pub fn request(&self) -> Request {
        Request {
            name: self.name.clone(),
            proxy_type: self.proxy_type.word().to_owned(),
            dataplane_resource: self.resource.as_ref().map(Value::to_string).unwrap_or_default(),
            version: Version {
                kuma_dp: KumaDpVersion {
                    version: KUMA_VERSION.to_owned(),
                    git_tag: KUMA_VERSION.to_owned(),
                    ..KumaDpVersion::default()
                },
                envoy: EnvoyVersion {
                    version: ENVOY.to_owned(),
                    build: format!("router/{}", env!("CARGO_PKG_VERSION")),
                    kuma_dp_compatible: true,
                },
            },
            operating_system: std::env::consts::OS.to_owned(),
            features: FEATURES.map(str::to_owned).to_vec(),
            ipv6_enabled: true,
            ..Request::default()
        }
    }
}

/// A resource out of addresses; `None` without any.
fn built(proxy_type: ProxyType, said: &Said) -> Result<Option<Value>, String> {
    let Said { name, address, port, advertised_address, advertised_port, admin_port, .. } = said;
    if address.is_none() && port.is_none() && advertised_address.is_none() && advertised_port.is_none() {
        return Ok(None);
    }
    if name.is_empty() {
        return Err("the proxy needs a name: give --name".to_owned());
    }
    let (Some(address), Some(port)) = (address, port) else {
        return Err("--address and --port go together: where the proxy listens".to_owned());
    };
    if advertised_address.is_some() != advertised_port.is_some() {
        return Err("--advertised-address and --advertised-port go together: where other zones reach it".to_owned());
    }
    if advertised_address.is_some() && proxy_type == ProxyType::Egress {
        return Err("an egress is not advertised to other zones: leave --advertised-address away".to_owned());
    }
    let mut networking = json!({"address": address, "port": port});
    if let (Some(address), Some(port)) = (advertised_address, advertised_port) {
        networking["advertisedAddress"] = json!(address);
        networking["advertisedPort"] = json!(port);
    }
    if let Some(port) = admin_port {
        networking["admin"] = json!({"port": port});
    }
    Ok(Some(json!({"type": proxy_type.resource(), "name": name, "networking": networking})))
}

/// A document with its variables replaced.
fn read(called: &str, text: &[u8], variables: &BTreeMap<String, String>) -> Result<Value, String> {
    let filled = document::fill_in(called, text, variables)?;
    let mut documents = document::read(called, &filled, LIMITS).map_err(|error| error.to_string())?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => Ok(document.value),
        _ => Err(format!("{called}: it must hold one document")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str =
        "type: ZoneIngress\nname: '{{ name }}'\nnetworking: {address: '{{ own.address }}', port: 10001}";

    fn from(document: &str, variables: &[(&str, &str)]) -> Said {
        let variables = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Said { document: Some(("zi.yaml".to_owned(), document.into())), variables, ..Said::default() }
    }

    /// DP-5 in its client half.
    #[test]
    fn a_document_or_a_few_flags_say_who_a_proxy_is() {
        let said = from(DOCUMENT, &[("name", "zi"), ("own.address", "10.0.0.1")]);
        let proxy = Proxy::new(ProxyType::Ingress, &said).unwrap();
        let flags =
            Said { name: "zi".to_owned(), address: Some("10.0.0.1".to_owned()), port: Some(10001), ..Said::default() };
        assert_eq!(Proxy::new(ProxyType::Ingress, &flags), Ok(proxy.clone()));
        let request = proxy.request();
        assert_eq!((&*request.name, &*request.proxy_type, &*request.mesh), ("zi", "ingress", ""));
        let resource: Value = serde_json::from_str(&request.dataplane_resource).unwrap();
        assert_eq!(resource["networking"]["address"], "10.0.0.1");
        let known = Said { name: "zi".to_owned(), ..Said::default() };
        assert_eq!(Proxy::new(ProxyType::Egress, &known).unwrap().request().dataplane_resource, "");
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let address = Some("10.0.0.1".to_owned());
        let named = Said { name: "z".to_owned(), ..Said::default() };
        let cases = [
            (Said::default(), "the proxy needs a name"),
            (Said { address: address.clone(), ..named.clone() }, "--address and --port go together"),
            (
                Said { address: address.clone(), port: Some(1), advertised_port: Some(2), ..named.clone() },
                "--advertised-address and --advertised-port go together",
            ),
            (Said { name: "z".to_owned(), ..from(DOCUMENT, &[]) }, "--name cannot be given"),
            (
                from("type: ZoneEgress\nname: a", &[]),
                "invalid proxy resource type \"ZoneEgress\", expected ZoneIngress",
            ),
            (from("type: ZoneIngress", &[]), "the document of the proxy has no name"),
            (from("a: {{ b", &[]), "zi.yaml: "),
        ];
        for (said, why) in cases {
            let error = Proxy::new(ProxyType::Ingress, &said).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
