//! The side of KDS that zones dial, over connections that a simulation makes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use axum::Router;
use runtime::Life;
use runtime::drain::Guard;
use runtime::serve::{Limits, serve_connection};
use runtime::tasks::Backoff;
use store::{Lease, Store};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::kds::Kds;
use crate::kds::settings::Settings;

/// Serves zones as [`run`](crate::run) does, and nobody else.
#[derive(Clone, Debug)]
pub struct Hub {
    routes: Router,
    limits: Limits,
    guard: Guard,
}

impl Hub {
    /// Starts everything but the listener. `instances` names all replicas, none of which is ever given up.
    pub fn start(
        settings: Settings,
        store: &Store,
        leading: &watch::Receiver<Option<Lease>>,
        instances: BTreeSet<String>,
        life: &Life,
    ) -> Self {
        let kds = Kds::new(settings, store, life);
        let (_, living) = watch::channel(Some(instances));
        kds.look_after(leading, living, Backoff::default(), life);
        let (routes, limits) = kds.routes();
        Self { routes, limits, guard: life.drain().listener() }
    }

    /// Serves one connection until it ends.
    pub async fn connection<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        serve_connection(stream, peer, self.routes.clone(), self.limits, self.guard.clone()).await;
    }
}
