//! What the global's side of KDS reads out of the configuration (kds-wire 6.1, 6.3).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use config::Effective;
use identity::tls::Files;
use model::Kind;
use model::insight::zone::Kept;
use runtime::Fatal;

use super::admission::{Admission, Reread};
use crate::insights;

/// Settings of the server that zones dial.
#[derive(Debug)]
pub struct Settings {
    /// Where it listens.
    pub address: SocketAddr,
    /// Certificate and key, unless it speaks plain HTTP/2.
    pub tls: Option<Files>,
    /// Largest message, in bytes.
    pub max_message: usize,
    /// Who is let in.
    pub admission: Admission,
    /// Reads that again, if it may change.
    pub reread: Option<Reread>,
    /// How often zones shall tell that they are well; zero leaves it to them.
    pub health_interval: Duration,
    /// When a zone that is silent is cut off, if ever.
    pub health: Option<Health>,
    /// Labels that are not sent: those whose keys begin so.
    pub skip_prefixes: Vec<String>,
    /// Kinds that are switched off.
    pub off: BTreeSet<Kind>,
    /// How connections are written down.
    pub insights: insights::Settings,
    /// Instance of this global.
    pub instance: String,
}

/// Health watching, `zoneHealthCheck`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Between two looks.
    pub poll: Duration,
    /// Longest silence.
    pub timeout: Duration,
    /// Whether a stream ends when the zone opens another of its kind.
    pub close_stale: bool,
}

impl Settings {
    /// `multizone.global.kds` and `metrics.zone`.
    ///
    /// # Errors
    /// A key of the configuration cannot be read.
    pub fn configured(effective: &Effective, instance: &str) -> Result<Self, Fatal> {
        const KDS: &str = "multizone.global.kds";
        let key = |word: &str| format!("{KDS}.{word}");
        let length = |key: &str| effective.duration(key).to_std().unwrap_or_default();
        let number = |key: &str| usize::try_from(effective.number(key)).unwrap_or_default();
        let (poll, timeout) = (length(&key("zoneHealthCheck.pollInterval")), length(&key("zoneHealthCheck.timeout")));
        let close_stale = effective.flag(&key("zoneHealthCheck.closeStaleConn"));
        Ok(Self {
            address: everywhere(effective, &key("grpcPort"))?,
            tls: effective.flag(&key("tlsEnabled")).then(|| Files::configured(effective, KDS)),
            max_message: number(&key("maxMsgSize")),
            admission: Admission::configured(effective)?,
            reread: None,
            health_interval: poll,
            health: (!timeout.is_zero()).then_some(Health { poll, timeout, close_stale }),
            skip_prefixes: effective.texts(&key("labels.skipPrefixes")).to_vec(),
            off: effective.switched_off(),
            insights: insights::Settings {
                flush: length(&key("zoneInsightFlushInterval")),
                kept: Kept {
                    subscriptions: number("metrics.zone.subscriptionLimit"),
                    compact: effective.flag("metrics.zone.compactFinishedSubscriptions"),
                },
                idle: length("metrics.zone.idleTimeout"),
            },
            instance: instance.to_owned(),
        })
    }
}

/// A port on all addresses of the machine.
pub(crate) fn everywhere(effective: &Effective, key: &str) -> Result<SocketAddr, Fatal> {
    let number = effective.number(key);
    let port = u16::try_from(number).map_err(|_| Fatal::new(format!("{key} must be a port, found {number}")))?;
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
}

#[cfg(test)]
mod tests {
    use config::{Host, Loader, Role};
    use discovery::kds::rules;

    use super::*;

    fn settings(sets: &[&str]) -> Settings {
        let loader = sets.iter().fold(Loader::new(Role::Global), |loader, set| loader.set(set));
        let mut effective = loader.load().unwrap().effective;
        effective.fill_in(&Host::default());
        Settings::configured(&effective, "g-1").unwrap()
    }

    #[test]
    fn defaults_are_kumas_and_zones_need_a_token() {
        let settings = settings(&[]);
        assert_eq!(settings.address, "0.0.0.0:5685".parse().unwrap());
        assert!(settings.tls.is_some() && settings.admission.required && settings.admission.encrypted);
        assert_eq!(settings.max_message, 10_485_760);
        assert_eq!((settings.health, settings.health_interval), (None, Duration::ZERO));
        assert_eq!(settings.insights.kept, Kept { subscriptions: 10, compact: false });
        assert_eq!((settings.insights.flush.as_secs(), settings.insights.idle.as_secs()), (10, 300));
    }

    /// kds-wire 4.1: what is not listed is switched off; kinds that are no plugins cannot be.
    #[test]
    fn kinds_are_switched_off_by_the_lists() {
        assert!(settings(&[]).off.is_empty());
        let some = settings(&[
            "policies.pluginPoliciesEnabled=meshtimeouts,meshtrafficpermissions",
            "coreResources.enabled=meshservices,hostnamegenerators,meshmultizoneservices",
        ]);
        let (up, down) = (rules::up_kinds(&some.off).count(), rules::down_kinds(&some.off).count());
        // Of 16 policies 2 are left, of 7 others 3; of the 4 that go, Workload goes up alone.
        assert_eq!((some.off.len(), up, down), (18, 29 - 14 - 4, 43 - 14 - 3));
        assert!(some.off.contains(&Kind::MeshRetry) && !some.off.contains(&Kind::Mesh));
    }

    #[test]
    fn keys_say_otherwise() {
        let settings = settings(&[
            "multizone.global.kds.tlsEnabled=false",
            "multizone.global.kds.auth.type=none",
            "multizone.global.kds.zoneHealthCheck.pollInterval=2s",
            "multizone.global.kds.zoneHealthCheck.timeout=5s",
            "multizone.global.kds.zoneHealthCheck.closeStaleConn=true",
            "multizone.global.kds.auth.exceptZones=a,b",
        ]);
        let (poll, timeout) = (Duration::from_secs(2), Duration::from_secs(5));
        assert_eq!(settings.health, Some(Health { poll, timeout, close_stale: true }));
        assert!(settings.tls.is_none() && !settings.admission.required);
        assert_eq!(settings.admission.except.len(), 2);
    }
}
