//! The SNI router of zone ingress and egress: accept, read the ClientHello, look the name up, choose an endpoint, tunnel.
//!
//! Nothing is decrypted: TLS goes from end to end. Every core has a thread with a listener of its own ([`server`]); what
//! they share is a [table](table::Table) that is swapped as a whole, [clusters](cluster::Cluster) with one order of
//! endpoints each, and counts.

pub mod ads;
pub mod balance;
pub mod bootstrap;
pub mod cli;
pub mod client_hello;
pub mod cluster;
pub mod listeners;
mod metrics;
mod pipe;
pub mod program;
pub mod proxy;
pub mod resources;
pub mod server;
pub mod table;
pub mod tunnel;
