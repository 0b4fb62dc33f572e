//! Which zone this is and which global it has joined, remembered over restarts (kds-wire 4.8).
//!
//! A zone with another name, or a global with another identity, would delete what is here without a word: the first
//! response of each kind is the whole truth. So both are compared with what is remembered, before anything is taken over.

use kds_proto::kuma::system::v1alpha1::Config;
use model::{Key, Kind, Labels, Payload, Resource, Snapshot, labels};
use runtime::Fatal;
use serde::{Deserialize, Serialize};
use store::{Batch, Write};

use super::settings::MigrateFrom;

/// Name of the Config that holds it; it is local, so that it never travels.
const NAME: &str = "zone-membership";
/// Name of the Config with which a global tells its identity.
const CLUSTER_ID: &str = "kuma-cluster-id";

/// What is remembered.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Membership {
    /// The zone's name.
    pub zone: String,
    /// `clusterId` of the global; none when it has not told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<String>,
}

/// A global that does not fit what is remembered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    #[error(
        "this is another global: its clusterId is {found}, and this zone has joined {remembered}. Nothing was taken over. If \
         the zone is to move, set multizone.zone.migrateFrom.global={remembered}; what this global does not have is deleted \
         then"
    )]
    OtherGlobal { remembered: String, found: String },
    #[error(
        "the global has not told its clusterId yet, and this zone has joined {remembered}. Nothing was taken over; trying \
         again"
    )]
    Unknown { remembered: String },
}

impl Membership {
    fn key() -> Key {
        Key::global(Kind::Config, NAME)
    }

    /// What the store remembers; what cannot be read counts as nothing.
    pub fn stored(stored: &Snapshot) -> Option<Self> {
        let config = stored.get(&Self::key())?.spec.message::<Config>().ok()?;
        let read = serde_json::from_str(&config.config);
        read.inspect_err(|error| tracing::warn!(%error, name = NAME, "cannot read which global this zone has joined"))
            .ok()
    }

    /// As it is stored.
    pub fn to_resource(&self) -> Resource {
        let config = Config { config: serde_json::to_string(self).unwrap_or_default() };
        Resource::new(Self::key(), Labels::default(), Payload::from_message(&config))
    }
}

/// Whether this zone may start under a name.
///
/// # Errors
/// It has joined a global under another one.
pub(crate) fn check_name(stored: &Snapshot, zone: &str, from: &MigrateFrom) -> Result<(), Fatal> {
    match Membership::stored(stored) {
        Some(Membership { zone: old, .. }) if old != zone && from.zone.as_ref() != Some(&old) => {
            Err(Fatal::new(format!("this is the store of zone \"{old}\", which has joined a global under that name"))
                .remedy(format!(
                    "set multizone.zone.name={old}, or, if the zone is to be called \"{zone}\" from now on, \
                     multizone.zone.migrateFrom.zone={old}"
                )))
        }
        _ => Ok(()),
    }
}

/// The identity that a set of Configs tells.
pub(crate) fn cluster_id<'r>(configs: impl IntoIterator<Item = &'r Resource>) -> Option<String> {
    let told = configs.into_iter().find(|config| config.meta.display_name() == CLUSTER_ID)?;
    let config = told.spec.message::<Config>().ok()?;
    Some(config.config.clone()).filter(|id| !id.is_empty())
}

/// What is to be remembered once a global has told who it is.
///
/// # Errors
/// It is not the one that this zone has joined, and the zone was not told to move.
pub(crate) fn admit(
    remembered: Option<&Membership>,
    zone: &str,
    told: Option<String>,
    from: &MigrateFrom,
) -> Result<Membership, Misfit> {
    let now = Membership { zone: zone.to_owned(), global: told };
    match (remembered.and_then(|remembered| remembered.global.clone()), &now.global) {
        (None, _) => Ok(now),
        (Some(old), Some(new)) if old == *new || from.global.as_ref() == Some(&old) => Ok(now),
        (Some(remembered), Some(found)) => Err(Misfit::OtherGlobal { remembered, found: found.clone() }),
        (Some(remembered), None) => Err(Misfit::Unknown { remembered }),
    }
}

/// Gives what is this zone's the zone's name, where another one stands.
pub(crate) fn renamed(stored: &Snapshot, zone: &str) -> Batch {
    let own = |resource: &&std::sync::Arc<Resource>| {
        let meta = &resource.meta;
        let local = meta.labels.get(labels::ORIGIN).is_none_or(|origin| origin != labels::ORIGIN_GLOBAL);
        local && meta.zone().is_some_and(|old| old != zone)
    };
    let updates = stored.iter().filter(own).map(|resource| {
        let mut resource = Resource::clone(resource);
        resource.meta.labels = resource.meta.labels.with(labels::ZONE, zone);
        Write::Update { resource }
    });
    updates.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::snapshot::Change;

    use super::*;

    fn member(zone: &str, global: Option<&str>) -> Membership {
        Membership { zone: zone.to_owned(), global: global.map(str::to_owned) }
    }

    fn holding(resources: impl IntoIterator<Item = Resource>) -> Snapshot {
        Snapshot::empty().apply(1, resources.into_iter().map(|resource| Change::Put(Arc::new(resource))))
    }

    fn from(zone: Option<&str>, global: Option<&str>) -> MigrateFrom {
        MigrateFrom { zone: zone.map(str::to_owned), global: global.map(str::to_owned) }
    }

    #[test]
    fn what_is_remembered_is_read_back() {
        let membership = member("east", Some("a"));
        assert_eq!(Membership::stored(&holding([membership.to_resource()])), Some(membership));
        assert_eq!(Membership::stored(&Snapshot::empty()), None);
    }

    #[test]
    fn another_name_is_refused_unless_the_old_one_is_named() {
        let stored = holding([member("east", Some("a")).to_resource()]);
        check_name(&stored, "east", &from(None, None)).unwrap();
        check_name(&Snapshot::empty(), "west", &from(None, None)).unwrap();
        check_name(&stored, "west", &from(Some("east"), None)).unwrap();
        for wrong in [None, Some("north")] {
            let error = check_name(&stored, "west", &from(wrong, None)).unwrap_err().to_string();
            assert!(error.starts_with("this is the store of zone \"east\", which has joined"), "{error}");
            assert!(error.ends_with("multizone.zone.migrateFrom.zone=east"), "{error}");
        }
    }

    #[test]
    fn another_global_is_refused_unless_the_old_one_is_named() {
        let old = member("east", Some("a"));
        let admitted = |told: Option<&str>, from| admit(Some(&old), "east", told.map(str::to_owned), &from);
        assert_eq!(admitted(Some("a"), from(None, None)), Ok(old.clone()));
        assert_eq!(admitted(Some("b"), from(None, Some("a"))), Ok(member("east", Some("b"))));
        for wrong in [from(None, None), from(None, Some("c")), from(None, Some("b"))] {
            let text = admitted(Some("b"), wrong).unwrap_err().to_string();
            assert!(
                text.starts_with("this is another global: its clusterId is b, and this zone has joined a."),
                "{text}"
            );
        }
        let text = admitted(None, from(None, None)).unwrap_err().to_string();
        assert!(text.starts_with("the global has not told its clusterId yet"), "{text}");
    }

    /// The first global that a zone joins may be any; one without identity is remembered as such.
    #[test]
    fn a_zone_joins_the_first_global_it_meets() {
        let told = |id: &str| Some(id.to_owned());
        assert_eq!(admit(None, "east", told("a"), &from(None, None)), Ok(member("east", Some("a"))));
        assert_eq!(admit(None, "east", None, &from(None, None)), Ok(member("east", None)));
        assert_eq!(admit(Some(&member("east", None)), "east", told("a"), &from(None, None)).unwrap().global, told("a"));
    }

    #[test]
    fn what_is_the_zones_own_gets_its_new_name_and_what_is_not_stays() {
        let labelled = |name: &str, origin: &str, zone: &str| {
            let labels = [(labels::ORIGIN, origin), (labels::ZONE, zone)].into_iter().collect();
            Resource::new(Key::new(Kind::MeshTimeout, "default", name), labels, Payload::from_bytes("{}"))
        };
        let stored = holding([
            labelled("own", labels::ORIGIN_ZONE, "east"),
            labelled("done", labels::ORIGIN_ZONE, "west"),
            labelled("synced", labels::ORIGIN_GLOBAL, "north"),
        ]);
        let batch = renamed(&stored, "west");
        let [Write::Update { resource }] = batch.writes() else { panic!("{batch:?}") };
        assert_eq!((&*resource.meta.key.name, resource.meta.zone()), ("own", Some("west")));
    }
}
