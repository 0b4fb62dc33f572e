//! How long the certificates last that Envoy shows to others: from 80 % of a life on, nobody has renewed it in time.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use prometheus_client::metrics::gauge::Gauge;
use runtime::{Clock, Life, Metrics};
use serde::Deserialize;

use crate::envoy::Admin;
use crate::http::{Target, get};
use crate::lasting;

/// Between two looks; lives are of a minute at least.
const LOOKS: Duration = Duration::from_secs(5);
/// Of a life; then a certificate is to be renewed (zone-dataplane 3).
const LATE: f64 = 0.8;

/// What `/certs` shows of one.
#[derive(Clone, Debug, Deserialize)]
struct Certificate {
    #[serde(default)]
    serial_number: String,
    #[serde(default)]
    subject_alt_names: Vec<Name>,
    valid_from: DateTime<Utc>,
    expiration_time: DateTime<Utc>,
}

#[derive(Clone, Debug, Deserialize)]
struct Name {
    uri: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Shown {
    #[serde(default)]
    certificates: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    cert_chain: Vec<Certificate>,
}

impl Certificate {
    /// How much of its life is over: 1 when it expires.
    fn age(&self, now: DateTime<Utc>) -> f64 {
        let seconds = |span: chrono::TimeDelta| span.num_milliseconds() as f64 / 1000.0;
        let life = seconds(self.expiration_time - self.valid_from);
        if life <= 0.0 { 1.0 } else { seconds(now - self.valid_from) / life }
    }

    /// That of a mesh: others have no name of SPIFFE.
    fn identity(&self) -> Option<&str> {
        self.subject_alt_names.iter().find_map(|name| name.uri.as_deref())
    }
}

#[derive(Clone, Debug, Default)]
struct Told {
    late: Gauge,
    seconds_left: Gauge<f64, AtomicU64>,
}

/// Looks again and again.
pub fn watch(admin: Admin, metrics: &Metrics, life: &Life) {
    let told = Told::default();
    metrics.register(|registry| {
        let help = "Identities past 80 % of their life: the control plane has not renewed them";
        registry.register("dp_certificates_late", help, told.late.clone());
        let help = "Until the first identity expires; below zero when it has";
        registry.register("dp_certificate_seconds_left", help, told.seconds_left.clone());
    });
    let clock = life.clock().clone();
    life.tasks().spawn(lasting("certificates"), move || {
        let (told, clock) = (told.clone(), clock.clone());
        async move {
            let mut warned = BTreeSet::new();
            loop {
                clock.sleep(LOOKS).await;
                // An Envoy that is not there is somebody else's trouble.
                if let Ok(shown) = ask(admin).await {
                    tell(&shown, &told, &mut warned, &clock);
                }
            }
        }
    });
}

async fn ask(admin: Admin) -> Result<Vec<Certificate>> {
    let answer = get(&Target::Tcp(admin.0), "/certs", &[]).await?;
    ensure!(answer.status == 200, "status {}", answer.status);
    let shown: Shown = serde_json::from_slice(&answer.body)?;
    Ok(shown.certificates.into_iter().flat_map(|entry| entry.cert_chain).collect())
}

/// Each late one is warned of once.
fn tell(shown: &[Certificate], told: &Told, warned: &mut BTreeSet<String>, clock: &Clock) {
    let now = clock.now();
    let mut serials = BTreeSet::new();
    let mut left = f64::INFINITY;
    let mut late = BTreeSet::new();
    for certificate in shown {
        let Some(identity) = certificate.identity() else { continue };
        serials.insert(certificate.serial_number.clone());
        left = left.min((certificate.expiration_time - now).num_milliseconds() as f64 / 1000.0);
        if certificate.age(now) < LATE {
            continue;
        }
        late.insert(certificate.serial_number.clone());
        if warned.insert(certificate.serial_number.clone()) {
            tracing::warn!(
                identity,
                expires = %certificate.expiration_time,
                "the proxy's certificate is past 80 % of its life and was not renewed: is the control plane reachable?"
            );
        }
    }
    warned.retain(|serial| serials.contains(serial));
    told.late.set(late.len() as i64);
    told.seconds_left.set(if left.is_finite() { left } else { 0.0 });
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use runtime::ManualClock;

    use super::*;

    /// In the form of Envoy's answer; the second entry is that of the admin listener.
    fn shown(from: DateTime<Utc>, life: TimeDelta, serial: &str) -> Vec<Certificate> {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let text = serde_json::json!({"certificates": [
            {"ca_cert": [], "cert_chain": [{
                "path": "<inline>", "serial_number": serial, "subject_alt_names": [{"uri": "spiffe://default/web"}],
                "days_until_expiration": "0", "valid_from": time(from), "expiration_time": time(from + life),
            }]},
            {"ca_cert": [], "cert_chain": [{
                "path": "<inline>", "serial_number": "9", "subject_alt_names": [{"dns": "a"}],
                "valid_from": time(from), "expiration_time": time(from),
            }]},
        ]});
        let parsed: Shown = serde_json::from_value(text).unwrap();
        parsed.certificates.into_iter().flat_map(|entry| entry.cert_chain).collect()
    }

    #[test]
    fn from_four_fifths_of_its_life_on_a_certificate_is_late() {
        let start = DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().to_utc();
        let manual = ManualClock::at(start);
        let (clock, told, mut warned) = (manual.clock(), Told::default(), BTreeSet::new());
        let first = shown(start, TimeDelta::seconds(60), "1");
        manual.advance(Duration::from_secs(47));
        tell(&first, &told, &mut warned, &clock);
        assert_eq!((told.late.get(), told.seconds_left.get(), warned.len()), (0, 13.0, 0));
        manual.advance(Duration::from_secs(1));
        tell(&first, &told, &mut warned, &clock);
        assert_eq!((told.late.get(), told.seconds_left.get(), warned.len()), (1, 12.0, 1));
        tell(&shown(clock.now(), TimeDelta::seconds(60), "2"), &told, &mut warned, &clock);
        assert_eq!((told.late.get(), warned.len()), (0, 0), "renewed");
        tell(&[], &told, &mut warned, &clock);
        assert_eq!(told.seconds_left.get(), 0.0);
    }
}
