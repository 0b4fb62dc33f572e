//! The control plane of one zone: alone, or following a global.
//!
//! [`run`] is the table of contents. A test starts the whole program with it, on port 0.

use std::net::SocketAddr;
use std::ops::Deref;

use api::{ControlPlane, Foundation};
use runtime::{Exit, Fatal};

mod bootstrap;
pub mod cli;
mod config;
mod defaults;
mod derived;
#[cfg(test)]
mod documented;
pub mod identities;
mod kds;
mod proxies;
#[cfg(feature = "test-support")]
pub mod simulated;
mod xds;

pub use config::Config;
pub use identities::Identities;
pub use kds::{Address, Federation, MigrateFrom, Token};
#[cfg(feature = "test-support")]
pub use kds::{Connect, Stream};

/// Version of this program, apart from the version of Kuma that it shows to peers.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A running control plane of a zone.
#[derive(Debug)]
pub struct Running {
    /// Where proxies dial.
    pub proxies: SocketAddr,
    control_plane: ControlPlane,
}

/// Starts everything and returns; [`Running::end`] then waits for the end.
///
/// # Errors
/// What keeps it from starting, in one line: a port in use, a database that cannot be opened.
pub async fn run(config: Config) -> Result<Running, Fatal> {
    let instance = config.api.instance.id.clone();
    let foundation = Foundation::lay(config.life, config.diagnostics, config.store, &instance).await?;
    let Foundation { life, metrics, store, candidate, .. } = &foundation;
    let (name, leading) = (config.zone.zone.name.clone(), candidate.leading());
    if let Some(federation) = &config.federation {
        federation.check_name(&store.configuration().borrow(), &name)?;
    }

    let zone = config.zone.zone.clone();
    let (wanted, clock) = (config.zone, life.clock().clone());
    let missing = move |stored| defaults::missing(wanted.clone(), stored, clock.clone());
    api::first_start::start(config.defaults, store, &leading, life, config.backoff, missing);

    let derived = derived::Metrics::default();
    metrics.register(|registry| derived.register(registry));
    if let Some(settings) = config.derived {
        derived::start(settings, store, &leading, life, derived, config.backoff);
    }
    let identities = Identities::new(config.identities, life.clock().clone(), identities::Metrics::default());
    metrics.register(|registry| identities.metrics().register(registry));
    identities.watch(life);

    match config.federation {
        Some(federation) => {
            let kds = kds::Zone {
                name,
                instance: instance.clone(),
                federation,
                store: store.clone(),
                clock: life.clock().clone(),
                metrics: kds::Metrics::default(),
                proxies: config.api.proxy_admin.clone(),
            };
            metrics.register(|registry| kds.metrics.register(registry));
            kds::start(kds, &leading, life);
        }
        // A federated zone keeps none: the global does.
        None => foundation.keep_insights(config.insights_pause, config.backoff),
    }

    let counts = xds::Metrics::default();
    metrics.register(|registry| counts.register(registry));
    let server = xds::Server { zone, instance: &instance, store, identities, metrics: &counts, life };
    let proxies = xds::start(config.xds, server).await?;

    Ok(Running { proxies, control_plane: foundation.serve(config.api, config.listeners).await? })
}

impl Running {
    /// Waits until it is asked to stop, or cannot go on, and ends well.
    pub async fn end(self) -> Exit {
        self.control_plane.end(async |_| ()).await
    }
}

/// What every control plane has.
impl Deref for Running {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.control_plane
    }
}
