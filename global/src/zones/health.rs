//! Ends streams of zones that stopped telling that they are well, and streams that were replaced elsewhere; off unless
//! `zoneHealthCheck.timeout` is set (kds-wire 5.6).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use kds_proto::kuma::system::v1alpha1::ZoneInsight;
use model::{Key, Kind, Snapshot};
use prost_types::Timestamp;

use super::Zones;
use crate::insights::timestamp;
use crate::kds::ending::Ending;
use crate::kds::settings::Health;

/// Looks after the zones of this instance every `pollInterval`, and with `closeStaleConn` also when insights change.
pub(crate) async fn watch_health(zones: Zones, health: Health) {
    let clock = zones.0.clock.clone();
    let mut insights = zones.0.store.insights();
    let mut next = clock.elapsed() + health.poll;
    loop {
        tokio::select! {
            () = clock.sleep_until(next) => {
                next = clock.elapsed() + health.poll;
                let snapshot = insights.borrow().clone();
                zones.end_silent(&snapshot, health.timeout);
            }
            changed = insights.changed(), if health.close_stale => {
                if changed.is_err() {
                    return;
                }
                let snapshot = insights.borrow_and_update().clone();
                zones.end_replaced(&snapshot);
            }
        }
    }
}

impl Zones {
    fn end_silent(&self, insights: &Snapshot, timeout: Duration) {
        let now = self.0.clock.now();
        let mut opened: BTreeMap<Arc<str>, DateTime<Utc>> = BTreeMap::new();
        for live in self.live().values().filter(|live| live.facts.tells_health) {
            let last = opened.entry(Arc::clone(&live.facts.zone)).or_insert(live.connected);
            *last = live.connected.max(*last);
        }
        for (zone, opened) in opened {
            let insight = insight(insights, &zone);
            let checked = insight.as_ref().and_then(|insight| insight.health_check?.time).and_then(time);
            let last = checked.map_or(opened, |checked| checked.max(opened));
            let silent = (now - last).to_std().unwrap_or_default();
            if insight.is_some() && silent <= timeout {
                continue;
            }
            let ended = self.end(&Ending::Stale, |_, live| live.facts.zone == zone && live.facts.tells_health);
            tracing::warn!(zone = &*zone, streams = ended, silent_s = silent.as_secs(), "a zone is not well: cut off");
        }
    }

    /// Ends the streams that another instance of the global has a newer one of.
    fn end_replaced(&self, insights: &Snapshot) {
        let mut newest = BTreeMap::new();
        for live in self.live().values().filter(|live| live.facts.tells_health) {
            let zone = &live.facts.zone;
            let streams =
                || insight(insights, zone).and_then(|insight| insight.kds_streams.clone()).unwrap_or_default();
            newest.entry(Arc::clone(zone)).or_insert_with(streams);
        }
        let is_replaced = |_, live: &super::Live| {
            let stream =
                newest.get(&live.facts.zone).cloned().and_then(|mut streams| live.kind.of(&mut streams).take());
            let (mine, theirs) = (timestamp(live.connected), stream.and_then(|stream| stream.connect_time));
            live.facts.tells_health && theirs.is_some_and(|theirs| key(theirs) > key(mine))
        };
        let ended = self.end(&Ending::Stale, is_replaced);
        if ended > 0 {
            tracing::info!(streams = ended, "streams that are open elsewhere by now are ended here");
        }
    }
}

fn insight(insights: &Snapshot, zone: &str) -> Option<Arc<ZoneInsight>> {
    insights.get(&Key::global(Kind::ZoneInsight, zone))?.spec.message().ok()
}

fn time(stamp: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(stamp.seconds, u32::try_from(stamp.nanos).ok()?)
}

fn key(stamp: Timestamp) -> (i64, i32) {
    (stamp.seconds, stamp.nanos)
}
