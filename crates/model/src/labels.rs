//! Labels of a resource and the names of those that mean something (kds-wire 4.2, api-and-kumactl 1.7).

use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `kuma.io/origin`: which side made the resource, [`ORIGIN_GLOBAL`] or [`ORIGIN_ZONE`].
pub const ORIGIN: &str = "kuma.io/origin";
/// Value of [`ORIGIN`] for what the global made, and for all that it sends.
pub const ORIGIN_GLOBAL: &str = "global";
/// Value of [`ORIGIN`] for what a zone made.
pub const ORIGIN_ZONE: &str = "zone";
/// `kuma.io/zone`: the zone that owns the resource.
pub const ZONE: &str = "kuma.io/zone";
/// `kuma.io/mesh`: the mesh of the resource.
pub const MESH: &str = "kuma.io/mesh";
/// `kuma.io/env`: `universal` or `kubernetes`.
pub const ENV: &str = "kuma.io/env";
/// `kuma.io/display-name`: the name that users gave, when the stored one is another.
pub const DISPLAY_NAME: &str = "kuma.io/display-name";
/// `k8s.kuma.io/namespace`: the namespace on Kubernetes.
pub const NAMESPACE: &str = "k8s.kuma.io/namespace";
/// `kuma.io/proxy-type`: `sidecar`, `gateway`, `zoneingress` or `zoneegress`.
pub const PROXY_TYPE: &str = "kuma.io/proxy-type";
/// `kuma.io/policy-role`: `system`, `producer`, `consumer` or `workload-owner`.
pub const POLICY_ROLE: &str = "kuma.io/policy-role";
/// `kuma.io/kds-sync`: `disabled` keeps a resource from being sent.
pub const KDS_SYNC: &str = "kuma.io/kds-sync";
/// `kuma.io/effect`: `shadow` makes a policy count only in a dry run.
pub const EFFECT: &str = "kuma.io/effect";
/// `kuma.io/workload`: the workload that a dataplane belongs to.
pub const WORKLOAD: &str = "kuma.io/workload";
/// `kuma.io/managed-by`: what generated the resource.
pub const MANAGED_BY: &str = "kuma.io/managed-by";
/// `kuma.io/deletion-grace-period-started-at`: a zone's own mark on a service without endpoints.
pub const DELETION_GRACE_PERIOD_STARTED_AT: &str = "kuma.io/deletion-grace-period-started-at";

/// Tag that names the service of an inbound or an outbound.
pub const SERVICE_TAG: &str = "kuma.io/service";
/// Tag that names the protocol of an inbound.
pub const PROTOCOL_TAG: &str = "kuma.io/protocol";

/// Labels sorted by key. Immutable and shared: a clone costs a reference count.
///
/// All of them lie in one text, each key and value behind its length ([`push_sized`]): a control plane holds a handful of
/// short labels for each of 100,000 proxies, and an allocation for each piece would outweigh the pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Option<Arc<str>>);

impl Labels {
    /// Value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: self.0.as_deref().unwrap_or_default() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many there are; counts them.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// The same labels with one set.
    #[must_use]
    pub fn with(&self, key: &str, value: &str) -> Self {
        let others = self.iter().filter(|(k, _)| *k != key);
        others.chain(std::iter::once((key, value))).collect()
    }

    /// The same labels without one.
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        self.iter().filter(|(k, _)| *k != key).collect()
    }
}

/// Keys and values of [`Labels`], sorted by key.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some((take_sized(&mut self.rest), take_sized(&mut self.rest)))
    }
}

/// Appends a text behind its length, in bytes: ASCII characters of six bits each, lowest first, the seventh bit set in
/// all but the last. So pieces up to 63 bytes cost one byte more, and the whole stays a text.
fn push_sized(text: &mut String, piece: &str) {
    let mut length = piece.len();
    while length >= 0x40 {
        text.push(char::from((length & 0x3f) as u8 | 0x40));
        length >>= 6;
    }
    text.push(char::from(length as u8));
    text.push_str(piece);
}

/// Takes one piece off the front of what [`push_sized`] wrote.
fn take_sized<'a>(text: &mut &'a str) -> &'a str {
    let mut length = 0;
    let mut digits = 0;
    for byte in text.bytes() {
        length |= usize::from(byte & 0x3f) << (6 * digits);
        digits += 1;
        if byte & 0x40 == 0 {
            break;
        }
    }
    let (piece, rest) = text[digits..].split_at(length);
    *text = rest;
    piece
}

/// Of entries with one key the last counts.
impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut entries: Vec<(K, V)> = entries.into_iter().collect();
        entries.reverse();
        entries.sort_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
        entries.dedup_by(|(a, _), (b, _)| a.as_ref() == b.as_ref());
        let mut text = String::new();
        for (key, value) in &entries {
            push_sized(&mut text, key.as_ref());
            push_sized(&mut text, value.as_ref());
        }
        if text.is_empty() { Self(None) } else { Self(Some(text.into())) }
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = std::collections::BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_of_equal_keys_counts_and_order_is_by_key() {
        let labels: Labels = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
        assert_eq!(labels.get("b"), Some("3"));
        assert_eq!(labels.get("c"), None);
    }

    #[test]
    fn setting_and_dropping_leave_the_original_alone() {
        let labels: Labels = [(ZONE, "east")].into_iter().collect();
        let more = labels.with(ORIGIN, ORIGIN_ZONE).with(ZONE, "west");
        assert_eq!(labels.len(), 1);
        assert_eq!(more.get(ZONE), Some("west"));
        assert_eq!(more.without(ZONE).without(ORIGIN), Labels::default());
    }

    proptest! {
        #[test]
        fn labels_are_a_map_of_any_texts(entries in proptest::collection::btree_map(".{0,5}|x{60,200}", ".{0,5}|y{4000,5000}", 0..6)) {
            let labels: Labels = entries.iter().collect();
            let read: BTreeMap<String, String> = labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(labels.len(), entries.len());
            prop_assert_eq!(read, entries);
        }
    }
}
