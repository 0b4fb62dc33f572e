//! Whole systems: real processes on machines of their own, and a network between them that can be broken.
//!
//! A test is a [`scenario()`]. It runs in namespaces that no other test sees and that end with it, so that every program
//! listens on the port that it has in production. In there a [`World`] holds a [`Node`] per control plane: a network
//! namespace with an address, a folder and a process. [`eventually`] waits; nothing sleeps.
//!
//! [`sim`] is another kind of world: the control planes' real code in one thread, over a network, disks and clocks that
//! are simulated. A seed decides everything that happens, and the same seed gives the same trace.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

mod envoys;
mod http;
mod network;
mod node;
mod programs;
mod relay;
mod scenario;
pub mod sim;
mod wait;
mod world;

pub use envoys::envoy;
pub use http::Answer;
pub use network::Cut;
pub use node::{Node, Told};
pub use relay::Relay;
pub use scenario::{not_run, scenario};
pub use wait::{eventually, throughout};
pub use world::{Database, World};
