//! The insight of a zone: how a control plane writes down the connections between the two (kds-wire 5.2, 5.3).
//!
//! The global keeps one for each zone, a zone its own mirror image. Several writers share one: each puts what it knows
//! into what is stored, and touches nothing else.

use kds_proto::kuma::system::v1alpha1::{
    EnvoyAdminStreams, HealthCheck, KdsServiceStats, KdsStream, KdsStreams, KdsSubscription, KdsSubscriptionStatus,
    KumaCpVersion, Version, ZoneInsight,
};
use prost_types::Timestamp;

/// What one writer knows and an insight is to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// Subscriptions that the writer holds or held, by the time they connected.
    pub subscriptions: Vec<KdsSubscription>,
    /// Streams that came since the last write.
    pub streams: KdsStreams,
    /// The last health check since the last write.
    pub health_check: Option<Timestamp>,
}

/// What is kept of subscriptions that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How many subscriptions, those that are open included (`metrics.zone.subscriptionLimit`).
    pub subscriptions: usize,
    /// Whether all but the last lose their configuration and the counters of single types
    /// (`metrics.zone.compactFinishedSubscriptions`).
    pub compact: bool,
}

impl Default for Kept {
    fn default() -> Self {
        Self { subscriptions: 10, compact: false }
    }
}

/// Puts notes into an insight. A subscription that is new to it ends all that are older.
pub fn merge(insight: &mut ZoneInsight, notes: &Notes, kept: Kept, now: Timestamp) {
    for subscription in &notes.subscriptions {
        match insight.subscriptions.iter_mut().find(|stored| stored.id == subscription.id) {
            Some(stored) => stored.clone_from(subscription),
            None => {
                for older in insight.subscriptions.iter_mut().filter(|older| older.disconnect_time.is_none()) {
                    older.disconnect_time = Some(now);
                }
                insight.subscriptions.push(subscription.clone());
            }
        }
    }
    let surplus = insight.subscriptions.len().saturating_sub(kept.subscriptions);
    insight.subscriptions.drain(..surplus);
    if let (true, Some((_, finished))) = (kept.compact, insight.subscriptions.split_last_mut()) {
        for subscription in finished {
            subscription.config.clear();
            if let Some(status) = &mut subscription.status {
                status.stat.clear();
            }
        }
    }
    if notes.health_check.is_some() {
        insight.health_check = Some(HealthCheck { time: notes.health_check });
    }
    merge_streams(insight, &notes.streams);
}

fn merge_streams(insight: &mut ZoneInsight, notes: &KdsStreams) {
    if *notes == KdsStreams::default() {
        return;
    }
    let stored = insight.kds_streams.get_or_insert_default();
    for (stored, noted) in [
        (&mut stored.clusters, &notes.clusters),
        (&mut stored.config_dump, &notes.config_dump),
        (&mut stored.stats, &notes.stats),
        (&mut stored.global_to_zone, &notes.global_to_zone),
        (&mut stored.zone_to_global, &notes.zone_to_global),
    ] {
        let newer =
            |noted: &&KdsStream| stored.as_ref().is_none_or(|stored| is_after(noted.connect_time, stored.connect_time));
        if let Some(noted) = noted.as_ref().filter(newer) {
            *stored = Some(noted.clone());
        }
    }
    // Superseded, and read by older peers.
    let instance = |stream: &Option<KdsStream>| stream.as_ref().map(|stream| stream.global_instance_id.clone());
    let admin = EnvoyAdminStreams {
        config_dump_global_instance_id: instance(&stored.config_dump).unwrap_or_default(),
        stats_global_instance_id: instance(&stored.stats).unwrap_or_default(),
        clusters_global_instance_id: instance(&stored.clusters).unwrap_or_default(),
    };
    if admin != EnvoyAdminStreams::default() {
        insight.envoy_admin_streams = Some(admin);
    }
}

fn is_after(one: Option<Timestamp>, other: Option<Timestamp>) -> bool {
    let key = |time: Option<Timestamp>| time.map(|time| (time.seconds, time.nanos));
    key(one) > key(other)
}

/// A subscription that begins now and of whose peer nothing is known yet.
pub fn subscription(id: String, global_instance: &str, now: Timestamp) -> KdsSubscription {
    KdsSubscription {
        id,
        global_instance_id: global_instance.to_owned(),
        connect_time: Some(now),
        status: Some(KdsSubscriptionStatus {
            last_update_time: Some(now),
            total: Some(KdsServiceStats::default()),
            ..KdsSubscriptionStatus::default()
        }),
        ..KdsSubscription::default()
    }
}

/// What happened to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// It was sent.
    Sent,
    /// The peer took it.
    Acknowledged,
    /// The peer refused some of it.
    Rejected,
}

/// Counts a response of a type (kds-wire 3.10).
pub fn count(subscription: &mut KdsSubscription, type_url: &str, what: Count, now: Timestamp) {
    let status = subscription.status.get_or_insert_default();
    status.last_update_time = Some(now);
    if !status.stat.contains_key(type_url) {
        status.stat.insert(type_url.to_owned(), KdsServiceStats::default());
    }
    let of_type = status.stat.get_mut(type_url);
    for stats in of_type.into_iter().chain([status.total.get_or_insert_default()]) {
        match what {
            Count::Sent => stats.responses_sent += 1,
            Count::Acknowledged => stats.responses_acknowledged += 1,
            Count::Rejected => stats.responses_rejected += 1,
        }
    }
}

/// The version of a zone, judged against the global's.
pub fn version(zone: KumaCpVersion, global: &str) -> Version {
    let kuma_cp_global_compatible = are_compatible(global, &zone.version);
    Version { kuma_cp: Some(KumaCpVersion { kuma_cp_global_compatible, ..zone }) }
}

/// Same major version, at most two minor ones apart; what cannot be read, and previews, pass (kds-wire 2.3).
pub fn are_compatible(one: &str, other: &str) -> bool {
    let parts = |version: &str| {
        let mut numbers = version.strip_prefix('v').unwrap_or(version).split('.').map(str::parse::<u32>);
        let parts = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        (!version.contains("preview")).then_some(parts)
    };
    match (parts(one), parts(other)) {
        (Some(one), Some(other)) => one.0 == other.0 && one.1.abs_diff(other.1) <= 2,
        _ => true,
    }
}

/// Ends the open subscriptions that a rule picks; tells whether there was one.
pub fn finish(insight: &mut ZoneInsight, now: Timestamp, ended: impl Fn(&KdsSubscription) -> bool) -> bool {
    let mut any = false;
    for subscription in &mut insight.subscriptions {
        if subscription.disconnect_time.is_none() && ended(subscription) {
            subscription.disconnect_time = Some(now);
            any = true;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::zone_is_online;

    fn at(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 0 }
    }

    fn connected(id: &str, seconds: i64) -> KdsSubscription {
        KdsSubscription { config: "{}".into(), ..subscription(id.to_owned(), "global-1", at(seconds)) }
    }

    fn notes(subscriptions: Vec<KdsSubscription>) -> Notes {
        Notes { subscriptions, ..Notes::default() }
    }

    /// KDS-14, KDS-15, KDS-17: one subscription a stream, a new one ends the older, and the newest ten are kept.
    #[test]
    fn a_new_subscription_ends_the_older_and_ten_are_kept() {
        let mut insight = ZoneInsight::default();
        for number in 0..12 {
            merge(&mut insight, &notes(vec![connected(&number.to_string(), number)]), Kept::default(), at(number));
        }
        let ids: Vec<&str> = insight.subscriptions.iter().map(|subscription| &*subscription.id).collect();
        assert_eq!(ids, ["2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]);
        assert_eq!(insight.subscriptions[8].disconnect_time, Some(at(11)));
        assert!(zone_is_online(&insight));

        let mut last = connected("11", 11);
        last.disconnect_time = Some(at(20));
        merge(&mut insight, &notes(vec![last]), Kept::default(), at(21));
        assert_eq!(insight.subscriptions.len(), 10);
        assert_eq!(insight.subscriptions[9].disconnect_time, Some(at(20)));
        assert!(!zone_is_online(&insight));

        merge(&mut insight, &notes(vec![connected("x", 30)]), Kept { subscriptions: 0, compact: false }, at(30));
        assert!(insight.subscriptions.is_empty());
    }

    #[test]
    fn finished_subscriptions_can_be_made_small() {
        let mut insight = ZoneInsight::default();
        let mut first = connected("1", 1);
        count(&mut first, "Mesh", Count::Sent, at(2));
        let kept = Kept { compact: true, ..Kept::default() };
        merge(&mut insight, &notes(vec![first, connected("2", 3)]), kept, at(3));
        let [first, last] = &insight.subscriptions[..] else { panic!("two") };
        assert!(first.config.is_empty() && first.status.as_ref().unwrap().stat.is_empty());
        assert_eq!(first.status.as_ref().unwrap().total.unwrap().responses_sent, 1);
        assert_eq!(last.config, "{}");
    }

    /// KDS-16: per type and in total.
    #[test]
    fn responses_are_counted_by_type_and_in_total() {
        let mut subscription = connected("1", 1);
        for (type_url, what) in
            [("Mesh", Count::Sent), ("Mesh", Count::Acknowledged), ("Secret", Count::Sent), ("Secret", Count::Rejected)]
        {
            count(&mut subscription, type_url, what, at(5));
        }
        let status = subscription.status.unwrap();
        let figures =
            |stats: &KdsServiceStats| (stats.responses_sent, stats.responses_acknowledged, stats.responses_rejected);
        assert_eq!(figures(&status.total.unwrap()), (2, 1, 1));
        assert_eq!(figures(&status.stat["Mesh"]), (1, 1, 0));
        assert_eq!(figures(&status.stat["Secret"]), (1, 0, 1));
        assert_eq!(status.last_update_time, Some(at(5)));
    }

    #[test]
    fn the_newest_stream_of_a_sort_counts() {
        let stream = |instance: &str, seconds| {
            Some(KdsStream { global_instance_id: instance.to_owned(), connect_time: Some(at(seconds)) })
        };
        let with = |config_dump: Option<KdsStream>| Notes {
            streams: KdsStreams { config_dump, ..KdsStreams::default() },
            ..Notes::default()
        };
        let mut insight = ZoneInsight::default();
        for (instance, seconds) in [("a", 5), ("b", 9), ("c", 7)] {
            merge(&mut insight, &with(stream(instance, seconds)), Kept::default(), at(seconds));
        }
        assert_eq!(insight.kds_streams.unwrap().config_dump, stream("b", 9));
        assert_eq!(insight.envoy_admin_streams.unwrap().config_dump_global_instance_id, "b");
        assert_eq!(insight.health_check, None);
    }

    #[test]
    fn versions_are_compatible_within_two_minors() {
        for (zone, compatible) in [
            ("2.13.10", true),
            ("2.11.0", true),
            ("2.15.1", true),
            ("2.10.9", false),
            ("3.0.0", false),
            ("0.0.0-preview.v123", true),
            ("unknown", true),
        ] {
            let judged = version(KumaCpVersion { version: zone.into(), ..KumaCpVersion::default() }, "2.13.10");
            assert_eq!(judged.kuma_cp.unwrap().kuma_cp_global_compatible, compatible, "{zone}");
        }
    }

    #[test]
    fn only_open_subscriptions_that_are_picked_end() {
        let mut closed = connected("1", 1);
        closed.disconnect_time = Some(at(2));
        let subscriptions = vec![closed, connected("2", 3), connected("3", 4)];
        let mut insight = ZoneInsight { subscriptions, ..ZoneInsight::default() };
        assert!(finish(&mut insight, at(9), |subscription| subscription.id != "3"));
        let ends: Vec<_> = insight.subscriptions.iter().map(|subscription| subscription.disconnect_time).collect();
        assert_eq!(ends, [Some(at(2)), Some(at(9)), None]);
        assert!(!finish(&mut insight, at(10), |subscription| subscription.id != "3"));
    }
}
