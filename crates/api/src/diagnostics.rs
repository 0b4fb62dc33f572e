//! The diagnostics server of a control plane, out of the configuration.

use std::net::{Ipv4Addr, SocketAddr};

use config::Effective;
use identity::tls::{Files, ServerTls};
use runtime::{Fatal, Life, Metrics};

use crate::configured::port;

/// Where diagnostics are served, and how.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    /// Where it listens.
    pub address: SocketAddr,
    /// Certificate and key, if it speaks TLS.
    pub tls: Option<Files>,
}

impl Diagnostics {
    /// `diagnostics`, on all addresses of the machine.
    ///
    /// # Errors
    /// The port is out of range.
    pub fn configured(effective: &Effective) -> Result<Self, Fatal> {
        let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port(effective, "diagnostics.serverPort")?);
        let tls = effective.flag("diagnostics.tlsEnabled").then(|| Files::configured(effective, "diagnostics"));
        Ok(Self { address, tls })
    }

    /// Starts the server and returns its real address.
    ///
    /// # Errors
    /// The certificate cannot be used, or the port is taken.
    pub async fn start(self, metrics: &Metrics, life: &Life) -> Result<SocketAddr, Fatal> {
        let tls = self.tls.map(|files| ServerTls::load(files, &["h2", "http/1.1"])).transpose()?;
        let config = tls.as_ref().map(|tls| tls.config().clone());
        let address = runtime::diagnostics::start(self.address, config, metrics, life).await?;
        if let Some(tls) = tls {
            tls.keep_current("diagnostics-certificate", "api", life);
        }
        Ok(address)
    }
}
