//! The server that proxies of this zone dial: how they start ([`crate::bootstrap`]) and, to come, their configuration.

mod metrics;
mod server;
mod settings;

pub(crate) use metrics::Metrics;
pub(crate) use server::start;
pub(crate) use settings::Settings;
