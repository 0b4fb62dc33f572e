//! What the server of proxies reads out of the configuration (api-and-kumactl 5.2).

use std::time::Duration;

use config::Effective;
use identity::tls::Files;
use model::mode::Zone;
use runtime::Fatal;

use super::Admission;
use crate::bootstrap;

/// Settings of the server that proxies dial.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where it listens, at every address (`dpServer.port`).
    pub port: u16,
    /// Its certificate.
    pub tls: Files,
    /// For the head of a request (`dpServer.readHeaderTimeout`).
    pub head: Duration,
    /// How proxies start.
    pub bootstrap: bootstrap::Settings,
    /// Which tokens are good.
    pub admission: Admission,
    /// Until what a proxy brought is removed after it (`xdsServer.dataplaneDeregistrationDelay`).
    pub deregistration: Duration,
    /// What configurations depend on.
    pub envoy: envoy::Settings,
}

impl Settings {
    /// # Errors
    /// A value cannot be used.
    pub fn configured(effective: &Effective, zone: &Zone) -> Result<Self, Fatal> {
        let number = effective.number("dpServer.port");
        let port = u16::try_from(number);
        let port = port.map_err(|_| Fatal::new(format!("dpServer.port must be a port, found {number}")))?;
        let length = |key: &str| effective.duration(key).to_std().unwrap_or_default();
        Ok(Self {
            port,
            tls: Files::configured(effective, "dpServer"),
            head: length("dpServer.readHeaderTimeout"),
            bootstrap: bootstrap::Settings::configured(effective),
            admission: Admission::configured(effective, &zone.name, zone.environment)?,
            deregistration: length("xdsServer.dataplaneDeregistrationDelay"),
            envoy: envoy::Settings {
                internal_networks: effective.texts("ipam.knownInternalCIDRs").to_vec(),
                ..envoy::Settings::new(&zone.name)
            },
        })
    }
}
