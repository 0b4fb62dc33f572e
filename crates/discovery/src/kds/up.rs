//! What a global shall hold of one of its zones: a view of the zone's moments (kds-wire 4.4, KDS-45).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{Kind, Payload, Resource, labels};

use super::Moment;
use super::edit::{self, Edit};
use super::rules::goes_up;
use super::wire;
use crate::view::{Changes, Encoded, Interest, View};

/// The zone's own resources, under the names that they have away from home.
#[derive(Clone, Debug)]
pub struct Up {
    zone: Arc<str>,
    skipped: Vec<String>,
    off: BTreeSet<Kind>,
}

impl Up {
    /// Of a zone. Labels whose keys begin with one of the prefixes are not sent (`labels.skipPrefixes`);
    /// kinds that are switched off are as if nobody knew them (kds-wire 4.1).
    pub fn new(zone: &str, skipped: Vec<String>, off: BTreeSet<Kind>) -> Self {
        Self { zone: zone.into(), skipped, off }
    }

    fn encoded(&self, resource: &Resource) -> Option<Encoded> {
        if !goes_up(resource) {
            return None;
        }
        let own = resource.meta.labels.with(labels::ORIGIN, labels::ORIGIN_ZONE).with(labels::ZONE, &self.zone);
        let mut sent = resource.clone();
        sent.meta.labels = wire::without_prefixes(own.without(labels::DELETION_GRACE_PERIOD_STARTED_AT), &self.skipped);
        wire::hashed(&mut sent);
        if let Some(still) = without_generations(resource) {
            sent.spec = still;
        }
        Some(wire::encode(&sent))
    }

    fn whole(&self, kind: Kind, now: &Moment) -> Changes {
        let put = now.of(kind).list(kind).filter_map(|resource| self.encoded(resource)).collect();
        Changes { put, removed: Vec::new() }
    }

    fn step(&self, kind: Kind, from: &Moment, to: &Moment) -> Changes {
        let (then, now) = (from.of(kind), to.of(kind));
        if now.changed_at(kind) <= then.revision() {
            return Changes::default();
        }
        let (mut put, mut removed) = (Vec::new(), BTreeSet::new());
        for key in now.diff(then).iter().filter(|key| key.kind == kind) {
            let sent = |resource: Option<&Arc<Resource>>| resource.and_then(|resource| self.encoded(resource));
            let (before, after) = (sent(then.get(key)), sent(now.get(key)));
            if let Some(before) =
                before.as_ref().filter(|before| after.as_ref().is_none_or(|after| after.name != before.name))
            {
                removed.insert(before.name.to_string());
            }
            // What does not cross, such as a generation, is no change.
            put.extend(after.filter(|after| before.as_ref() != Some(after)));
        }
        put.iter().for_each(|encoded| drop(removed.take(&*encoded.name)));
        Changes { put, removed: removed.into_iter().collect() }
    }
}

impl View for Up {
    type Moment = Moment;

    /// Of names alone nobody asks here: an interest is for everything.
    fn changes(&self, type_url: &str, _: &Interest, from: Option<&Moment>, to: &Moment) -> Changes {
        match type_url.parse::<Kind>() {
            Ok(kind) if kind.info().sync.zone_to_global() && !self.off.contains(&kind) => match from {
                None => self.whole(kind, to),
                Some(from) => self.step(kind, from, to),
            },
            _ => Changes::default(),
        }
    }

    fn made(&self, moment: &Moment) -> Option<Duration> {
        Some(moment.made)
    }
}

/// Number of the field that holds the subscriptions of each of the three insights.
const SUBSCRIPTIONS: u32 = 1;
/// Number of the field of a subscription that counts generations.
const GENERATION: u32 = 7;

/// An insight whose subscriptions count no generations, which grow as long as a proxy is connected (KDS-58).
fn without_generations(resource: &Resource) -> Option<Payload> {
    if !matches!(resource.kind(), Kind::DataplaneInsight | Kind::ZoneIngressInsight | Kind::ZoneEgressInsight) {
        return None;
    }
    let zeroed = |subscription| {
        edit::edited(subscription, |field| if field.number == GENERATION { Edit::Drop } else { Edit::Keep })
    };
    match edit::within(resource.spec.bytes(), SUBSCRIPTIONS, zeroed) {
        Ok(Cow::Owned(still)) => Some(Payload::from_bytes(still)),
        _ => None,
    }
}

/// Whether a change of this kind may be news to a global.
pub fn matters(kind: Kind) -> bool {
    kind.info().sync.zone_to_global()
}

#[cfg(test)]
mod tests {
    use kds_proto::kuma::mesh::v1alpha1::{DataplaneInsight, DiscoverySubscription, KumaResource};
    use model::snapshot::{Change, Snapshot};
    use model::{Key, Labels};
    use prost::Message;

    use super::*;

    const TIMEOUT: &str = r#"{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"2s"}}]}"#;

    fn timeout(name: &str, own: &[(&str, &str)]) -> Resource {
        let labels: Labels = own.iter().copied().collect();
        Resource::new(Key::new(Kind::MeshTimeout, "default", name), labels, Payload::from_bytes(TIMEOUT))
    }

    fn moment(resources: &[Resource]) -> Moment {
        let (mut configuration, mut insights) = (Vec::new(), Vec::new());
        for resource in resources {
            let insight = resource.kind().info().access == model::kind::Access::ControlPlanes;
            let stream = if insight { &mut insights } else { &mut configuration };
            stream.push(Change::Put(Arc::new(resource.clone())));
        }
        let snapshot = |changes| Arc::new(Snapshot::empty().apply(1, changes));
        Moment { configuration: snapshot(configuration), insights: snapshot(insights), made: Duration::ZERO }
    }

    /// The moment after some changes of the configuration.
    fn after(before: &Moment, changes: Vec<Change>) -> Moment {
        let revision = before.configuration.revision() + 1;
        Moment { configuration: Arc::new(before.configuration.apply(revision, changes)), ..before.clone() }
    }

    fn changes(kind: Kind, from: Option<&Moment>, to: &Moment) -> (Vec<String>, Vec<String>) {
        let changes =
            Up::new("east", vec!["secret.".to_owned()], BTreeSet::new()).changes(kind.name(), &Interest::All, from, to);
        let mut put: Vec<String> = changes.put.iter().map(|put| put.name.to_string()).collect();
        put.sort();
        (put, changes.removed)
    }

    fn sent(resource: &Resource) -> KumaResource {
        let encoded =
            Up::new("east", vec!["secret.".to_owned()], BTreeSet::new()).encoded(resource).expect("it goes up");
        KumaResource::decode(encoded.resource.value).unwrap()
    }

    /// KDS-45, KDS-46: its own, with the zone's mark, hashed; not what came from the global, nor what stays at home.
    #[test]
    fn a_zone_tells_of_its_own() {
        let now = moment(&[
            timeout("redis", &[]),
            timeout("labelled", &[("kuma.io/origin", "zone")]),
            timeout("synced", &[("kuma.io/origin", "global")]),
            timeout("hidden", &[("kuma.io/kds-sync", "disabled")]),
        ]);
        let (put, removed) = changes(Kind::MeshTimeout, None, &now);
        assert!(put.len() == 2 && put[0].starts_with("labelled-") && put[1].starts_with("redis-"), "{put:?}");
        assert!(removed.is_empty());
        assert_eq!(changes(Kind::Secret, None, &now), (vec![], vec![]));
        let marked =
            timeout("redis", &[("kuma.io/deletion-grace-period-started-at", "x"), ("secret.a", "b"), ("c", "d")]);
        let meta = sent(&marked).meta.unwrap();
        let expected =
            [("c", "d"), ("kuma.io/display-name", "redis"), ("kuma.io/origin", "zone"), ("kuma.io/zone", "east")];
        assert_eq!(meta.labels.iter().map(|(k, v)| (&**k, &**v)).collect::<Vec<_>>(), expected);
        assert!(meta.name.starts_with("redis-"), "{}", meta.name);
    }

    #[test]
    fn later_only_differences_are_told() {
        let first = moment(&[timeout("a", &[]), timeout("b", &[])]);
        let put = |resource| Change::Put(Arc::new(resource));
        let changed = after(&first, vec![put(timeout("a", &[("x", "y")])), put(timeout("c", &[]))]);
        let (told, removed) = changes(Kind::MeshTimeout, Some(&first), &changed);
        assert!(told.len() == 2 && told[0].starts_with("a-") && told[1].starts_with("c-"), "{told:?}");
        assert!(removed.is_empty());
        let gone = after(
            &changed,
            vec![
                Change::Remove(Key::new(Kind::MeshTimeout, "default", "c")),
                put(timeout("b", &[("kuma.io/kds-sync", "disabled")])),
            ],
        );
        let (told, removed) = changes(Kind::MeshTimeout, Some(&changed), &gone);
        assert!(
            told.is_empty() && removed.len() == 2 && removed[0].starts_with("b-") && removed[1].ends_with(".default")
        );
        assert_eq!(changes(Kind::MeshTimeout, Some(&gone), &gone), (vec![], vec![]));
        assert_eq!(changes(Kind::Dataplane, Some(&first), &gone), (vec![], vec![]));
    }

    /// kds-wire 4.1: of a kind that is switched off nothing is told, as if nobody knew it.
    #[test]
    fn a_kind_that_is_switched_off_is_empty() {
        let now = moment(&[timeout("redis", &[])]);
        let told = |off: BTreeSet<Kind>| {
            Up::new("east", Vec::new(), off).changes("MeshTimeout", &Interest::All, None, &now).put.len()
        };
        assert_eq!((told(BTreeSet::new()), told([Kind::MeshTimeout].into())), (1, 0));
    }

    /// KDS-58.
    #[test]
    fn a_generation_is_no_news() {
        let insight = |generation| {
            let subscription = DiscoverySubscription { id: "1".into(), generation, ..DiscoverySubscription::default() };
            let insight = DataplaneInsight { subscriptions: vec![subscription], ..DataplaneInsight::default() };
            let key = Key::new(Kind::DataplaneInsight, "default", "dp");
            Resource::new(key, Labels::default(), Payload::from_message(&insight))
        };
        let told = DataplaneInsight::decode(sent(&insight(5)).spec.unwrap().value).unwrap();
        assert_eq!(told.subscriptions[0].generation, 0);
        let first = moment(&[insight(5)]);
        let mut next = first.clone();
        next.insights = Arc::new(first.insights.apply(2, [Change::Put(Arc::new(insight(6)))]));
        assert_eq!(changes(Kind::DataplaneInsight, Some(&first), &next), (vec![], vec![]));
    }
}
