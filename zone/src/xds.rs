//! The server that proxies of this zone dial: how they start ([`crate::bootstrap`]), and their configuration over the
//! aggregated discovery service, state of the world and incremental (zone-dataplane 1.4).
//!
//! A [session] proves who its proxy is, stores what the proxy brings ([`crate::proxies`]) and tells it its configuration.
//! Configurations are made in the [workshop], whenever something changes that [concerns](touched) the proxy.

mod account;
mod admission;
mod configuration;
mod introduction;
mod metrics;
mod refusal;
mod server;
mod service;
mod session;
mod settings;
mod touched;
mod workshop;

use std::sync::Arc;

use model::mode::Mode;
use runtime::drain::Guard;
use runtime::{Clock, Drain};
use store::Store;

use crate::proxies::Seats;

pub(crate) use admission::Admission;
pub(crate) use metrics::Metrics;
pub(crate) use server::{Server, start};
pub(crate) use settings::Settings;

/// What every session has. Cheap to clone.
#[derive(Clone, Debug)]
struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mode: Mode,
    /// This process: what responses say their sender is called.
    instance: String,
    store: Store,
    clock: Clock,
    admission: Admission,
    seats: Seats,
    workshop: workshop::Workshop,
    metrics: Metrics,
    /// Streams end with the listeners: a connection is not over before its streams are.
    closing: Guard,
    drain: Drain,
}

impl std::ops::Deref for Door {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
