//! What the data-plane server reads out of the configuration (api-and-kumactl 5.2).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use config::Effective;
use identity::tls::Files;
use runtime::Fatal;

use crate::bootstrap;

/// Settings of the server that proxies dial.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where it listens (`dpServer.port`).
    pub address: SocketAddr,
    /// Its certificate.
    pub tls: Files,
    /// For the head of a request (`dpServer.readHeaderTimeout`).
    pub head: Duration,
    /// How proxies start.
    pub bootstrap: bootstrap::Settings,
}

impl Settings {
    /// # Errors
    /// A value cannot be used.
    pub fn configured(effective: &Effective) -> Result<Self, Fatal> {
        let number = effective.number("dpServer.port");
        let port = u16::try_from(number);
        let port = port.map_err(|_| Fatal::new(format!("dpServer.port must be a port, found {number}")))?;
        Ok(Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            tls: Files::configured(effective, "dpServer"),
            head: effective.duration("dpServer.readHeaderTimeout").to_std().unwrap_or_default(),
            bootstrap: bootstrap::Settings::configured(effective),
        })
    }
}
