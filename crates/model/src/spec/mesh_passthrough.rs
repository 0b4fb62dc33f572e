//! `MeshPassthrough`: which destinations outside the mesh may be called directly (api-and-kumactl 3.30).

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{each, must_be_one_of};
use crate::spec::formats::{check_port, is_cidr, is_dns_name, is_ip};
use crate::spec::target_ref::{Allowed, Policy, TargetKind, TargetRef, check_top};
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Which destinations the selected proxies may call directly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshPassthrough {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// The destinations.
    #[serde(default)]
    pub default: Conf,
}

/// Destinations outside the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conf {
    /// All, none, or those of `appendMatch`, which is what absence means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passthrough_mode: Option<PassthroughMode>,
    /// Destinations that may be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_match: Option<Vec<Match>>,
}

words!(
    /// Which destinations may be called.
    open PassthroughMode { All = "All", Matched = "Matched", None = "None" }
);

/// Destinations that may be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Match {
    /// What the value is.
    pub r#type: MatchType,
    /// A name, with or without `*.` in front, an address, or a range of addresses.
    pub value: String,
    /// Their port; every port when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// Protocol that is spoken.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
}

words!(
    /// What names a destination.
    open MatchType { Domain = "Domain", Ip = "IP", Cidr = "CIDR" }
);

words!(
    /// Protocol that a destination speaks.
    open Protocol { Tcp = "tcp", Tls = "tls", Grpc = "grpc", Http = "http", Http2 = "http2", Mysql = "mysql" }
);

fn tcp() -> Protocol {
    Protocol::Tcp
}

const TOP: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh, TargetKind::MeshSubset, TargetKind::Dataplane]);

impl Policy for MeshPassthrough {
    const KIND: Kind = Kind::MeshPassthrough;

    type To = ();
    type From = ();
    type Rule = ();

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }
}

impl JsonSpec for MeshPassthrough {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, TOP, TOP, found);
        let mut seen = Seen::default();
        let matches = self.default.append_match.as_deref().unwrap_or_default();
        for (at, destination) in each(&Path::of("spec.default.appendMatch"), matches) {
            destination.check_port(&at, found);
            seen.check(destination, &at, found);
            destination.check_protocol(&at, found);
            destination.check_value(&at, found);
        }
    }
}

impl Match {
    /// Whether requests are looked into, which needs a filter chain of its own on the port.
    fn is_http(&self) -> bool {
        matches!(self.protocol, Protocol::Grpc | Protocol::Http | Protocol::Http2)
    }

    fn check_port(&self, at: &Path, found: &mut Violations) {
        match self.port {
            None if self.protocol == Protocol::Mysql => {
                found.add(&at.field("port"), "port must be defined for Mysql protocol");
            }
            None => {}
            Some(port) => check_port(&at.field("port"), port, found),
        }
    }

    fn check_protocol(&self, at: &Path, found: &mut Violations) {
        if matches!(self.protocol, Protocol::Other(_)) {
            let protocols = ["tcp", "tls", "grpc", "http", "http2", "mysql"];
            found.add(&at.field("protocol"), must_be_one_of("protocol", &protocols));
        }
    }

    fn check_value(&self, at: &Path, found: &mut Violations) {
        let value = at.field("value");
        match &self.r#type {
            MatchType::Cidr if !is_cidr(&self.value) => found.add(&value, "provided CIDR has incorrect value"),
            MatchType::Ip if !is_ip(&self.value) => found.add(&value, "provided IP has incorrect value"),
            MatchType::Cidr | MatchType::Ip => {}
            MatchType::Domain => self.check_domain(at, found),
            MatchType::Other(word) => {
                let reason = format!("provided type {word} is not supported, one of Domain, IP, or CIDR is supported");
                found.add(&at.field("type"), reason);
            }
        }
    }

    fn check_domain(&self, at: &Path, found: &mut Violations) {
        if matches!(self.protocol, Protocol::Tcp | Protocol::Mysql) {
            let reason = format!("protocol {} is not supported for a domain", self.protocol);
            found.add(&at.field("protocol"), reason);
        }
        let Some(rest) = self.value.strip_prefix('*') else {
            if !is_dns_name(&self.value) {
                found.add(&at.field("value"), "provided DNS has incorrect value");
            }
            return;
        };
        if !rest.is_empty() && !rest.starts_with('.') {
            let reason = "provided DNS has incorrect value, partial wildcard is currently not supported";
            found.add(&at.field("value"), reason);
        }
        if self.port.is_none() && self.is_http() {
            found.add(&at.field("port"), "wildcard domains doesn't work for all ports and layer 7 protocol");
        }
    }
}

/// What earlier matches have taken.
#[derive(Default)]
struct Seen<'a> {
    protocols: HashMap<u32, &'a Protocol>,
    values: HashSet<(u32, &'a str, &'a str)>,
}

impl<'a> Seen<'a> {
    fn check(&mut self, destination: &'a Match, at: &Path, found: &mut Violations) {
        let Some(port) = destination.port else { return };
        let Match { value, protocol, .. } = destination;
        if self.protocols.get(&port).is_some_and(|other| *other != protocol) && destination.is_http() {
            let reason = "using the same port in multiple matches requires the same protocol for the following \
                          protocols: [grpc http http2]";
            found.add(&at.field("port"), reason);
        } else {
            self.protocols.insert(port, protocol);
        }
        if !self.values.insert((port, protocol.as_str(), value)) {
            // The typing error is part of the text.
            found.add(&at.field("value"), format!("value {value} is already defiend for this port and protocol"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::spec::tabled::{assert_faults, assert_printed};

    fn of(matches: &str) -> String {
        format!(r#"{{"default":{{"appendMatch":[{matches}]}}}}"#)
    }

    #[test]
    fn defaults_are_printed() {
        assert_printed::<MeshPassthrough>("{}", r#"{"default":{}}"#);
        assert_printed::<MeshPassthrough>(
            r#"{"default":{"appendMatch":[{"port":80,"value":"1.2.3.4","type":"IP"}],"passthroughMode":"Matched"}}"#,
            r#"{"default":{"passthroughMode":"Matched","appendMatch":[{"type":"IP","value":"1.2.3.4","port":80,"protocol":"tcp"}]}}"#,
        );
    }

    #[test]
    fn every_destination_is_checked() {
        assert_faults::<MeshPassthrough>(
            Kind::MeshPassthrough,
            &[
                (&of(r#"{"type":"Domain","value":"*.example.com","protocol":"tls"},{"type":"Domain","value":"*","protocol":"http","port":80}"#), ""),
                (
                    &of(r#"{"type":"CIDR","value":"x"},{"type":"IP","value":"1.2.3","protocol":"mysql"},{"type":"SNI","value":"x","protocol":"udp"}"#),
                    r#"spec.default.appendMatch[0].value: provided CIDR has incorrect value
                       spec.default.appendMatch[1].port: port must be defined for Mysql protocol
                       spec.default.appendMatch[1].value: provided IP has incorrect value
                       spec.default.appendMatch[2].protocol: "protocol" must be one of ["tcp", "tls", "grpc", "http", "http2", "mysql"]
                       spec.default.appendMatch[2].type: provided type SNI is not supported, one of Domain, IP, or CIDR is supported"#,
                ),
                (
                    &of(r#"{"type":"Domain","value":"*.*"},{"type":"Domain","value":"*a.b","protocol":"grpc"},{"type":"Domain","value":"a b","protocol":"tls","port":0},
                        {"type":"IP","value":"1.2.3.4","port":65536}"#),
                    "spec.default.appendMatch[0].protocol: protocol tcp is not supported for a domain
                     spec.default.appendMatch[1].value: provided DNS has incorrect value, partial wildcard is currently not supported
                     spec.default.appendMatch[1].port: wildcard domains doesn't work for all ports and layer 7 protocol
                     spec.default.appendMatch[2].port: port must be a valid (1-65535)
                     spec.default.appendMatch[2].value: provided DNS has incorrect value
                     spec.default.appendMatch[3].port: port must be a valid (1-65535)",
                ),
            ],
        );
    }

    #[test]
    fn a_port_has_one_protocol_when_requests_are_looked_into() {
        assert_faults::<MeshPassthrough>(
            Kind::MeshPassthrough,
            &[
                (
                    &of(r#"{"type":"IP","value":"1.1.1.1","port":80,"protocol":"tcp"},{"type":"Domain","value":"a.b","port":80,"protocol":"http"},
                        {"type":"IP","value":"1.1.1.1","port":80,"protocol":"tcp"},{"type":"IP","value":"1.1.1.1","protocol":"tcp"},{"type":"IP","value":"1.1.1.1","protocol":"tcp"}"#),
                    "spec.default.appendMatch[1].port: using the same port in multiple matches requires the same protocol for the following protocols: [grpc http http2]
                     spec.default.appendMatch[2].value: value 1.1.1.1 is already defiend for this port and protocol",
                ),
                (&of(r#"{"type":"Domain","value":"a.b","port":80,"protocol":"http"},{"type":"IP","value":"1.1.1.1","port":80}"#), ""),
            ],
        );
    }
}
