//! The global control plane: the hub that zones follow and operators talk to.
//!
//! [`run`] is the table of contents. A test starts the whole program with it, on port 0.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use api::{ControlPlane, Foundation};
use runtime::{Exit, Fatal};

pub mod cli;
mod config;
mod defaults;
pub mod insights;
mod inter_cp;
pub mod kds;
mod proxy_admin;
mod refusing;
#[cfg(feature = "test-support")]
pub mod simulated;
pub mod zones;

pub use config::Config;
use insights::Insights;
use proxy_admin::ThroughZones;

/// Version of this program, apart from the version of Kuma that it shows to peers.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A running global control plane.
#[derive(Debug)]
pub struct Running {
    /// Where zones dial in.
    pub kds: SocketAddr,
    /// Where the other instances of this global call, if there can be any.
    pub inter_cp: Option<SocketAddr>,
    /// Where proxies are turned away.
    pub refusing: SocketAddr,
    control_plane: ControlPlane,
    insights: Insights,
}

/// Starts everything and returns; [`Running::end`] then waits for the end.
///
/// # Errors
/// What keeps it from starting, in one line: a port in use, a database that cannot be opened.
pub async fn run(mut config: Config) -> Result<Running, Fatal> {
    let id = config.api.instance.id.clone();
    let foundation = Foundation::lay(config.life, config.diagnostics, config.store, &id).await?;
    let Foundation { life, metrics, store, candidate, .. } = &foundation;
    let leading = candidate.leading();

    let (switches, clock) = (config.defaults, life.clock().clone());
    let missing = move |stored| defaults::missing(switches, stored, clock.clone());
    api::first_start::start(switches, store, &leading, life, config.backoff, missing);
    foundation.keep_insights(config.insights_pause, config.backoff);

    let zones = kds::Kds::new(config.kds, store, life);
    metrics.register(|registry| zones.metrics().register(registry));
    let instances =
        inter_cp::start(config.inter_cp, &id, zones.proxies(), leading.clone(), config.backoff, life).await?;
    zones.look_after(&leading, instances.living, config.backoff, life);
    config.api.proxy_admin = Some(Arc::new(ThroughZones { peers: instances.peers, ..zones.proxies() }));
    let (address, files) = config.refusing;
    let refusing = refusing::start(address, files, zones.metrics().clone(), life).await?;

    let (kds, insights) = zones.start(life).await?;
    let control_plane = foundation.serve(config.api, config.listeners).await?;
    Ok(Running { kds, inter_cp: instances.address, refusing, control_plane, insights })
}

impl Running {
    /// Waits until it is asked to stop, or cannot go on, and ends well.
    pub async fn end(self) -> Exit {
        // The streams have ended by then: that they did is written before the store closes.
        self.control_plane.end(async |store| self.insights.flush(store).await).await
    }
}

/// What every control plane has.
impl Deref for Running {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.control_plane
    }
}
