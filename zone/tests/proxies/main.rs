//! Proxies that dial the control plane of a zone, over TLS, as Envoy does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

mod client;
mod delta;
mod faults;
mod lifecycle;
mod sotw;
mod zone;

#[path = "../../../global/tests/program/client.rs"]
mod http_client;
