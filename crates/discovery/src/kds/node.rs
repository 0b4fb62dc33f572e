//! How a control plane introduces itself: the node of its subscriptions (kds-wire 2.2, 2.3). The one place that knows the
//! features of the two lists; what it does not know is left aside, so that newer peers can say more.

use kds_proto::envoy::config::core::v3::Node;
use kds_proto::kuma::system::v1alpha1::KumaCpVersion;
use prost_types::value::Kind as Member;
use prost_types::{ListValue, Struct, Value};

/// Longest configuration text that is kept, in bytes.
const MAX_CONFIG: usize = 1 << 20;
/// Longest of the other texts, in bytes.
const MAX_TEXT: usize = 1 << 10;

const HASH_SUFFIX: &str = "hash-suffix";
const HG_MZ_SELECTOR: &str = "hg-mz-selector";
const PRODUCER_POLICY_FLOW: &str = "producer-policy-flow";
const OPTIONAL_TARGET_REF: &str = "optional-top-level-target-ref";

/// What we tell in the node, in Kuma's order.
const OURS: [&str; 5] = ["zone-token", HASH_SUFFIX, HG_MZ_SELECTOR, PRODUCER_POLICY_FLOW, OPTIONAL_TARGET_REF];

/// Feature in the metadata of a zone's calls: it tells of its health.
pub const TELLS_HEALTH: &str = "zone-ping-health";
/// Feature in the metadata of a zone's calls: its names need no prefix.
pub const HASHES_NAMES: &str = HASH_SUFFIX;
/// What the metadata of our calls says under `features`, an entry each: a global of Kuma knows no list (kds-wire 2.1).
pub const ON_CALLS: [&str; 2] = [TELLS_HEALTH, HASHES_NAMES];

/// What a peer can do, by its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Names are hashed for it.
    pub hash_suffix: bool,
    /// It knows HostnameGenerators that select MeshMultiZoneServices.
    pub hg_mz_selector: bool,
    /// It takes policies that producers in other zones made.
    pub producer_policy_flow: bool,
    /// It takes policies without a `targetRef` of their own.
    pub optional_target_ref: bool,
}

impl Features {
    /// All that we know.
    pub const ALL: Self =
        Self { hash_suffix: true, hg_mz_selector: true, producer_policy_flow: true, optional_target_ref: true };
}

/// A peer by its own account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Introduction {
    /// Name of its zone; for a global the one that it speaks to.
    pub id: String,
    /// Its instance.
    pub instance: String,
    /// Its version.
    pub version: KumaCpVersion,
    /// Its configuration, JSON.
    pub config: String,
    /// What it can do.
    pub features: Features,
}

impl Introduction {
    /// Reads a node; what is missing, of another type or too long is left empty.
    pub fn of(node: &Node) -> Self {
        let empty = Struct::default();
        let metadata = node.metadata.as_ref().unwrap_or(&empty);
        let version = object_in(object_in(Some(metadata), "version"), "kumaCp").unwrap_or(&empty);
        let told = |name| text_in(version, name, MAX_TEXT);
        let features = match member(metadata, "features") {
            Some(Member::ListValue(list)) => &list.values[..],
            _ => &[],
        };
        let has = |feature: &str| {
            features.iter().any(|has| matches!(&has.kind, Some(Member::StringValue(name)) if name == feature))
        };
        Self {
            id: node.id.clone(),
            instance: text_in(metadata, "control-plane-id", MAX_TEXT),
            version: KumaCpVersion {
                version: told("version"),
                git_tag: told("gitTag"),
                git_commit: told("gitCommit"),
                build_date: told("buildDate"),
                kuma_cp_global_compatible: false,
            },
            config: text_in(metadata, "config", MAX_CONFIG),
            features: Features {
                hash_suffix: has(HASH_SUFFIX),
                hg_mz_selector: has(HG_MZ_SELECTOR),
                producer_policy_flow: has(PRODUCER_POLICY_FLOW),
                optional_target_ref: has(OPTIONAL_TARGET_REF),
            },
        }
    }

    /// The node that says so, with all features of ours (KDS-27, KDS-28).
    pub fn to_node(&self) -> Node {
        let version = [
            ("version", &self.version.version),
            ("gitTag", &self.version.git_tag),
            ("gitCommit", &self.version.git_commit),
            ("buildDate", &self.version.build_date),
        ];
        let version = version.into_iter().filter(|(_, text)| !text.is_empty());
        let version = object(version.map(|(name, value)| (name, text(value))));
        let features = ListValue { values: OURS.into_iter().map(text).collect() };
        let metadata = [
            ("version", object([("kumaCp", version)])),
            ("config", text(&self.config)),
            ("control-plane-id", text(&self.instance)),
            ("features", Value { kind: Some(Member::ListValue(features)) }),
        ];
        let fields = metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Node { id: self.id.clone(), metadata: Some(Struct { fields }), ..Node::default() }
    }
}

fn member<'a>(of: &'a Struct, name: &str) -> Option<&'a Member> {
    of.fields.get(name)?.kind.as_ref()
}

fn object_in<'a>(of: Option<&'a Struct>, name: &str) -> Option<&'a Struct> {
    match member(of?, name) {
        Some(Member::StructValue(object)) => Some(object),
        _ => None,
    }
}

fn text_in(of: &Struct, name: &str, max: usize) -> String {
    match member(of, name) {
        Some(Member::StringValue(text)) if text.len() <= max => text.clone(),
        _ => String::new(),
    }
}

fn text(value: &str) -> Value {
    Value { kind: Some(Member::StringValue(value.to_owned())) }
}

fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let fields = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Value { kind: Some(Member::StructValue(Struct { fields })) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn east() -> Introduction {
        Introduction {
            id: "east".into(),
            instance: "host-1a2b".into(),
            version: KumaCpVersion { version: "2.13.10".into(), ..KumaCpVersion::default() },
            config: r#"{"mode":"zone"}"#.into(),
            features: Features::ALL,
        }
    }

    /// KDS-28: version, configuration, instance and the five features, and they are read as they were written.
    #[test]
    fn an_introduction_survives_the_node() {
        let node = east().to_node();
        assert_eq!(Introduction::of(&node), east());
        let metadata = node.metadata.unwrap();
        let version = object_in(object_in(Some(&metadata), "version"), "kumaCp").unwrap();
        assert_eq!(version.fields.keys().collect::<Vec<_>>(), ["version"]);
    }

    /// A peer that says more than we know, and one that says nothing.
    #[test]
    fn what_is_unknown_is_left_aside_and_what_is_missing_is_empty() {
        let mut node = east().to_node();
        let fields = &mut node.metadata.as_mut().unwrap().fields;
        fields.insert("receipts".into(), object([("from", text("7"))]));
        if let Some(Member::ListValue(features)) = &mut fields.get_mut("features").unwrap().kind {
            features.values.extend([text("from-the-future"), object([])]);
        }
        assert_eq!(Introduction::of(&node), east());
        node.metadata.as_mut().unwrap().fields.insert("config".into(), object([]));
        assert_eq!(Introduction::of(&node).config, "");
        let bare = Node { id: "east".into(), ..Node::default() };
        assert_eq!(Introduction::of(&bare), Introduction { id: "east".into(), ..Introduction::default() });
    }

    #[test]
    fn a_configuration_without_end_is_not_kept() {
        let node = Introduction { config: "x".repeat(MAX_CONFIG + 1), ..east() }.to_node();
        assert_eq!(Introduction::of(&node).config, "");
    }
}
