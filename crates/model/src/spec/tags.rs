//! Rules of tags and of the selectors that the older policies choose proxies with (api-and-kumactl 3, first table).

use std::collections::BTreeMap;

use kds_proto::kuma::mesh::v1alpha1::Selector;
use sha2::{Digest, Sha256};

use crate::labels::{PROTOCOL_TAG, SERVICE_TAG, ZONE};
use crate::violation::{Path, Violations};

/// Tags of a proxy or of a selector.
pub type Tags = BTreeMap<String, String>;

/// A selector's value that stands for every value.
pub const ANY_VALUE: &str = "*";

/// Tag that a service outside the mesh is known by on its proxies.
const EXTERNAL_SERVICE_TAG: &str = "kuma.io/external-service-name";

/// Protocols that users may name, in the order in which messages list them.
pub const PROTOCOLS: [&str; 5] = ["grpc", "http", "http2", "kafka", "tcp"];

/// Whether a protocol tag names a protocol that Kuma knows. Case does not matter; `tls` and `mysql` are known, but
/// nobody advertises them.
pub fn is_protocol(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PROTOCOLS.contains(&name.as_str()) || name == "tls" || name == "mysql"
}

/// What the values of a map of tags may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    /// What a proxy has.
    Own,
    /// What proxies are selected with.
    Selecting,
}

/// What the protocol tag must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Not looked at.
    Whatever,
    /// Known, when there is one.
    Known,
    /// TCP, when there is one: a delegated or builtin gateway.
    Tcp,
    /// There, and one that speaks HTTP.
    Http,
}

/// What a map of tags must be like.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    values: Values,
    protocol: Protocol,
    at_least_one: bool,
    service: bool,
    service_alone: bool,
    reserved: &'static [&'static str],
}

impl Rules {
    const fn new(values: Values) -> Self {
        Self {
            values,
            protocol: Protocol::Whatever,
            at_least_one: false,
            service: false,
            service_alone: false,
            reserved: &[],
        }
    }

    /// Tags of any number that a proxy has.
    pub const OWN: Self = Self::new(Values::Own);
    /// Tags of any number that proxies are selected with.
    pub const SELECTING: Self = Self::new(Values::Selecting);
    /// Tags that something has, of which one must name its service.
    pub const OF_SERVICE: Self = Self { service: true, ..Self::OWN };
    /// Tags of an inbound, whose service tag [`crate::spec`] looks for elsewhere.
    pub const OF_INBOUND: Self = Self { protocol: Protocol::Known, ..Self::OWN };
    /// Tags of a service outside the mesh.
    pub const OF_EXTERNAL_SERVICE: Self = Self { protocol: Protocol::Known, ..Self::OF_SERVICE };
    /// Tags of a gateway's proxy.
    pub const OF_GATEWAY: Self = Self { protocol: Protocol::Tcp, ..Self::OF_SERVICE };
    /// Tags of a `MeshGateway` or one of its listeners: not those that proxies have a meaning for.
    pub const OF_LISTENER: Self =
        Self { reserved: &[EXTERNAL_SERVICE_TAG, PROTOCOL_TAG, SERVICE_TAG, ZONE], ..Self::SELECTING };
    /// A selector of any tags, at least one.
    pub const ANY: Self = Self { at_least_one: true, ..Self::SELECTING };
    /// A selector that names a service, and perhaps more.
    pub const SERVICE: Self = Self { service: true, ..Self::ANY };
    /// A selector of a service and nothing else.
    pub const SERVICE_ALONE: Self = Self { service: true, service_alone: true, ..Self::SELECTING };
    /// A selector of services that speak HTTP.
    pub const HTTP: Self = Self { protocol: Protocol::Http, ..Self::ANY };

    /// Adds what is wrong with a map of tags.
    pub fn check(&self, at: &Path, tags: &Tags, found: &mut Violations) {
        if self.at_least_one && tags.is_empty() {
            found.add(at, "must have at least one tag");
        }
        self.check_protocol(at, tags, found);
        if self.service_alone && (tags.len() != 1 || !tags.contains_key(SERVICE_TAG)) {
            found.add(at, format!("must consist of exactly one tag \"{SERVICE_TAG}\""));
        }
        for (name, value) in tags {
            self.check_name(at, name, found);
            self.check_value(&at.key(name), value, found);
        }
        if self.service && !tags.contains_key(SERVICE_TAG) {
            found.add(at, format!("mandatory tag \"{SERVICE_TAG}\" is missing"));
        }
    }

    fn check_protocol(&self, at: &Path, tags: &Tags, found: &mut Violations) {
        let Some(protocol) = tags.get(PROTOCOL_TAG) else {
            if self.protocol == Protocol::Http {
                found.add(at, "protocol must be specified");
            }
            return;
        };
        let reason = match self.protocol {
            Protocol::Known if !is_protocol(protocol) => {
                let allowed = PROTOCOLS.join(", ");
                format!("tag \"{PROTOCOL_TAG}\" has an invalid value {protocol:?}. Allowed values: {allowed}")
            }
            Protocol::Tcp if !protocol.eq_ignore_ascii_case("tcp") => {
                format!("other values than tcp are not allowed, provided value {protocol:?}")
            }
            Protocol::Http if !["http", "http2", "grpc"].iter().any(|http| protocol.eq_ignore_ascii_case(http)) => {
                "must be one of the [http, http2, grpc]".to_owned()
            }
            _ => return,
        };
        found.add(&at.key(PROTOCOL_TAG), reason);
    }

    fn check_name(&self, at: &Path, name: &str, found: &mut Violations) {
        let entry = at.key(name);
        if name.is_empty() {
            found.add(at, "tag name must be non-empty");
        }
        if !is_tag_name(name) {
            let reason = "tag name must consist of alphanumeric characters, dots, dashes, slashes and underscores";
            found.add(&entry, reason);
        }
        if self.service_alone && name != SERVICE_TAG {
            found.add(&entry, format!("tag {name:?} is not allowed"));
        }
        if self.reserved.contains(&name) {
            found.add(&entry, format!("tag name must not be {name:?}"));
        }
    }

    fn check_value(&self, entry: &Path, value: &str, found: &mut Violations) {
        if value.is_empty() {
            found.add(entry, "tag value must be non-empty");
        }
        match self.values {
            Values::Own if !value.chars().all(in_value) => {
                found.add(entry, "tag value must consist of alphanumeric characters, dots, dashes and underscores");
            }
            Values::Selecting if value != ANY_VALUE && !is_tag_name(value) => {
                let reason = "tag value must consist of alphanumeric characters, dots, dashes, slashes and underscores \
                              or be \"*\"";
                found.add(entry, reason);
            }
            Values::Own | Values::Selecting => {}
        }
    }

    /// Adds what is wrong with a list of selectors, which must not be empty.
    pub fn check_selectors(&self, at: &Path, selectors: &[Selector], found: &mut Violations) {
        if selectors.is_empty() {
            found.add(at, "must have at least one element");
        }
        for (position, selector) in selectors.iter().enumerate() {
            self.check(&at.index(position).field("match"), &selector.r#match, found);
        }
    }
}

/// Whether every character may stand in the name of a tag. (Colons may, although the message does not say so.)
pub fn is_tag_name(name: &str) -> bool {
    name.chars().all(|c| in_value(c) || c == '/')
}

fn in_value(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':')
}

/// Adds what is wrong with the selectors of a policy between services: sources with a service tag and perhaps others,
/// destinations with a service tag alone.
pub fn check_connection(sources: &[Selector], destinations: &[Selector], found: &mut Violations) {
    Rules::SERVICE.check_selectors(&Path::of("sources"), sources, found);
    Rules::SERVICE_ALONE.check_selectors(&Path::of("destinations"), destinations, found);
}

/// Whether tags satisfy a selector: every pair of it is there, `*` with any value.
pub fn matches(selector: &Tags, tags: &Tags) -> bool {
    selector.iter().all(|(name, value)| tags.get(name).is_some_and(|has| value == ANY_VALUE || has == value))
}

/// How closely a selector describes what it matches, to compare selectors with: by the number of its tags, then by how many
/// of them name a value.
pub fn rank(selector: &Tags) -> (usize, usize) {
    (selector.len(), selector.values().filter(|value| *value != ANY_VALUE).count())
}

/// The name that Envoy knows services with these tags by: the service, and a hash when there are more.
pub fn cluster_name(tags: &Tags) -> String {
    let service = tags.get(SERVICE_TAG).map(String::as_str).unwrap_or_default();
    if tags.keys().all(|key| key == SERVICE_TAG) {
        return service.to_owned();
    }
    let mut hash = Sha256::new();
    for (key, value) in tags {
        hash.update(key);
        hash.update(value);
    }
    let digest: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{service}-{digest}")
}

/// Tags as messages print a set of them: `a=1 b=2`.
pub fn print(tags: &Tags) -> String {
    let pairs: Vec<String> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn faults(rules: Rules, pairs: &[(&str, &str)]) -> Vec<String> {
        let mut found = Violations::default();
        rules.check(&Path::of("t"), &tags(pairs), &mut found);
        found.into_iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect()
    }

    #[test]
    fn names_and_values_have_their_characters() {
        let name = "tag name must consist of alphanumeric characters, dots, dashes, slashes and underscores";
        let own = "tag value must consist of alphanumeric characters, dots, dashes and underscores";
        let selecting =
            "tag value must consist of alphanumeric characters, dots, dashes, slashes and underscores or be \"*\"";
        assert!(faults(Rules::OF_INBOUND, &[("a.B-1_:/", "a.B-1_:")]).is_empty());
        assert_eq!(
            faults(Rules::OF_INBOUND, &[("a b", "")]),
            [format!("t[\"a b\"]: {name}"), "t[\"a b\"]: tag value must be non-empty".to_owned()]
        );
        assert_eq!(
            faults(Rules::OF_INBOUND, &[("", "a/b")]),
            ["t: tag name must be non-empty".to_owned(), format!("t[\"\"]: {own}")]
        );
        assert!(faults(Rules::ANY, &[("a", "*"), ("b", "c/d")]).is_empty());
        assert_eq!(faults(Rules::ANY, &[("a", "b*")]), [format!("t[\"a\"]: {selecting}")]);
        assert_eq!(faults(Rules::ANY, &[]), ["t: must have at least one tag"]);
    }

    #[test]
    fn the_service_tag_is_demanded_alone_or_reserved() {
        let missing = "t: mandatory tag \"kuma.io/service\" is missing";
        let alone = "t: must consist of exactly one tag \"kuma.io/service\"";
        assert_eq!(faults(Rules::SERVICE, &[]), ["t: must have at least one tag", missing]);
        assert_eq!(faults(Rules::SERVICE_ALONE, &[]), [alone, missing]);
        assert_eq!(
            faults(Rules::SERVICE_ALONE, &[("kuma.io/service", "a"), ("x", "y")]),
            [alone, "t[\"x\"]: tag \"x\" is not allowed"]
        );
        assert_eq!(
            faults(Rules::OF_LISTENER, &[("kuma.io/zone", "a"), ("port", "http")]),
            ["t[\"kuma.io/zone\"]: tag name must not be \"kuma.io/zone\""]
        );
    }

    #[test]
    fn the_protocol_depends_on_the_bearer() {
        let at = "t[\"kuma.io/protocol\"]";
        let speaking = |rules, protocol| faults(rules, &[("kuma.io/protocol", protocol), ("kuma.io/service", "a")]);
        assert!(speaking(Rules::OF_INBOUND, "HTTP2").is_empty());
        assert!(speaking(Rules::OF_EXTERNAL_SERVICE, "mysql").is_empty());
        assert_eq!(
            speaking(Rules::OF_INBOUND, "smtp"),
            [format!(
                "{at}: tag \"kuma.io/protocol\" has an invalid value \"smtp\". Allowed values: grpc, http, http2, kafka, tcp"
            )]
        );
        assert_eq!(
            speaking(Rules::OF_GATEWAY, "http"),
            [format!("{at}: other values than tcp are not allowed, provided value \"http\"")]
        );
        assert_eq!(speaking(Rules::HTTP, "kafka"), [format!("{at}: must be one of the [http, http2, grpc]")]);
        assert_eq!(faults(Rules::HTTP, &[("a", "b")]), ["t: protocol must be specified"]);
    }

    #[test]
    fn a_selector_matches_what_has_all_of_it() {
        let has = tags(&[("a", "1"), ("b", "2")]);
        assert!(matches(&tags(&[]), &has));
        assert!(matches(&tags(&[("a", "1"), ("b", "*")]), &has));
        assert!(!matches(&tags(&[("a", "2")]), &has));
        assert!(!matches(&tags(&[("c", "*")]), &has));
        assert_eq!(print(&has), "a=1 b=2");
    }
}
