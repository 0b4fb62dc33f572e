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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Option<Arc<[(Box<str>, Box<str>)]>>);

impl Labels {
    /// Value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let entries = self.entries();
        let at = entries.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&entries[at].1)
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.entries().iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries().len()
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

    fn entries(&self) -> &[(Box<str>, Box<str>)] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Of entries with one key the last counts.
impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut entries: Vec<(Box<str>, Box<str>)> = entries.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        entries.reverse();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.dedup_by(|(a, _), (b, _)| a == b);
        if entries.is_empty() { Self(None) } else { Self(Some(entries.into())) }
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
}
