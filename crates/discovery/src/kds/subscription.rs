//! What the telling end of a stream keeps of it, for the ZoneInsight (kds-wire 1.7, 3.10, 5.2, 5.3).

use chrono::{DateTime, Utc};
use kds_proto::kuma::system::v1alpha1::{
    KdsServiceStats, KdsSubscription, KdsSubscriptionStatus, KumaCpVersion, Version, ZoneInsight,
};
use prost_types::Timestamp;

/// The account of one stream.
#[derive(Clone, Debug)]
pub struct Account {
    subscription: KdsSubscription,
    changed: bool,
}

/// What became of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was sent.
    Sent,
    /// The peer took it over.
    Acknowledged,
    /// The peer refused something of it.
    Rejected,
}

impl Account {
    /// Of a stream that opens now. `subscription` holds what is known from the start: `id` and instance ids.
    pub fn open(mut subscription: KdsSubscription, now: DateTime<Utc>) -> Self {
        subscription.connect_time = Some(timestamp(now));
        let status = KdsSubscriptionStatus { total: Some(KdsServiceStats::default()), ..Default::default() };
        subscription.status = Some(status);
        Self { subscription, changed: true }
    }

    /// The subscription as it is now.
    pub fn subscription(&self) -> &KdsSubscription {
        &self.subscription
    }

    /// Whether it changed since this was last asked.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Changes what is told of the peer, in place.
    pub fn describe(&mut self, describe: impl FnOnce(&mut KdsSubscription)) {
        describe(&mut self.subscription);
        self.changed = true;
    }

    /// Counts, per type and in total (KDS-16).
    pub fn count(&mut self, type_url: &str, event: Event, now: DateTime<Utc>) {
        let status = self.subscription.status.get_or_insert_default();
        status.last_update_time = Some(timestamp(now));
        let of_type = match status.stat.get_mut(type_url) {
            Some(stats) => stats,
            None => status.stat.entry(type_url.to_owned()).or_default(),
        };
        for stats in [of_type, status.total.get_or_insert_default()] {
            match event {
                Event::Sent => stats.responses_sent += 1,
                Event::Acknowledged => stats.responses_acknowledged += 1,
                Event::Rejected => stats.responses_rejected += 1,
            }
        }
        self.changed = true;
    }

    /// The stream has ended.
    pub fn close(&mut self, now: DateTime<Utc>) {
        self.subscription.disconnect_time = Some(timestamp(now));
        self.changed = true;
    }
}

/// Puts a subscription into an insight: in place of the one with its id, else last, which ends those before it. Of all
/// the newest `limit` stay (KDS-15).
pub fn enter(insight: &mut ZoneInsight, subscription: &KdsSubscription, limit: usize, now: DateTime<Utc>) {
    let subscriptions = &mut insight.subscriptions;
    match subscriptions.iter_mut().find(|known| known.id == subscription.id) {
        Some(known) => known.clone_from(subscription),
        None => {
            for older in subscriptions.iter_mut().filter(|older| older.disconnect_time.is_none()) {
                older.disconnect_time = Some(timestamp(now));
            }
            subscriptions.push(subscription.clone());
        }
    }
    let surplus = subscriptions.len().saturating_sub(limit);
    subscriptions.drain(..surplus);
}

/// Whether a stream stands, as far as an insight knows (KDS-17).
pub fn is_online(insight: &ZoneInsight) -> bool {
    insight.subscriptions.iter().any(|known| known.connect_time.is_some() && known.disconnect_time.is_none())
}

/// A peer's version, with Kuma's verdict whether the two fit: the same major, at most two minors apart. What cannot be
/// read fits. `ours` is the version that we show to peers.
pub fn judged(mut version: KumaCpVersion, ours: &str) -> Version {
    version.kuma_cp_global_compatible = match (numbers(&version.version), numbers(ours)) {
        (Some((major, minor)), Some((our_major, our_minor))) => major == our_major && minor.abs_diff(our_minor) <= 2,
        _ => true,
    };
    Version { kuma_cp: Some(version) }
}

fn numbers(version: &str) -> Option<(u64, u64)> {
    if version.contains("preview") {
        return None;
    }
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 5).unwrap()
    }

    fn account(id: &str, second: i64) -> Account {
        Account::open(KdsSubscription { id: id.to_owned(), ..KdsSubscription::default() }, at(second))
    }

    /// KDS-16: per type and in total.
    #[test]
    fn what_happens_is_counted_twice() {
        let mut account = account("a", 1);
        assert!(account.take_change() && !account.take_change());
        for (kind, event) in [
            ("Mesh", Event::Sent),
            ("Mesh", Event::Acknowledged),
            ("Secret", Event::Sent),
            ("Secret", Event::Rejected),
            ("Secret", Event::Sent),
        ] {
            account.count(kind, event, at(2));
        }
        assert!(account.take_change());
        let status = account.subscription().status.clone().unwrap();
        let counts = |stats: &KdsServiceStats| {
            [stats.responses_sent, stats.responses_acknowledged, stats.responses_rejected]
        };
        assert_eq!(counts(&status.total.unwrap()), [3, 1, 1]);
        assert_eq!(counts(&status.stat["Mesh"]), [1, 1, 0]);
        assert_eq!(counts(&status.stat["Secret"]), [2, 0, 1]);
        assert_eq!(status.last_update_time, Some(Timestamp { seconds: 2, nanos: 5 }));
    }

    /// KDS-15, KDS-17.
    #[test]
    fn a_new_stream_ends_the_older_ones_and_ten_are_kept() {
        let mut insight = ZoneInsight::default();
        assert!(!is_online(&insight));
        for number in 0..12 {
            enter(&mut insight, account(&number.to_string(), number).subscription(), 10, at(number));
        }
        let open = |insight: &ZoneInsight| {
            let open = insight.subscriptions.iter().filter(|known| known.disconnect_time.is_none());
            open.map(|known| known.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(insight.subscriptions.len(), 10);
        assert_eq!(insight.subscriptions[0].id, "2");
        assert_eq!(insight.subscriptions[0].disconnect_time.unwrap().seconds, 3);
        assert_eq!(open(&insight), ["11"]);

        let mut last = account("11", 11);
        last.close(at(20));
        enter(&mut insight, last.subscription(), 10, at(30));
        assert_eq!(insight.subscriptions.last().unwrap().disconnect_time.unwrap().seconds, 20);
        assert!(!is_online(&insight));
        enter(&mut insight, last.subscription(), 0, at(30));
        assert!(insight.subscriptions.is_empty());
    }

    #[test]
    fn two_minors_apart_still_fit() {
        let fits = |theirs: &str| {
            let version = KumaCpVersion { version: theirs.to_owned(), ..KumaCpVersion::default() };
            judged(version, "2.13.10").kuma_cp.unwrap().kuma_cp_global_compatible
        };
        for (version, expected) in [
            ("2.13.0", true),
            ("2.11.4", true),
            ("2.15.0-rc1", true),
            ("2.10.9", false),
            ("3.13.0", false),
            ("2.16.1", false),
            ("dev", true),
            ("2.1.0-preview.v1", true),
        ] {
            assert_eq!(fits(version), expected, "{version}");
        }
    }
}
