//! The global as zones meet it: a whole one in this process, and real gRPC calls.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

mod admission;
#[path = "../program/client.rs"]
mod client;
mod instances;
mod lifecycle;
mod probes;
mod proxies;
mod syncing;
mod world;
mod zone;
