//! The SNI router of zone ingress and egress: accept, read the ClientHello, look the name up, choose an endpoint, tunnel.
//!
//! TLS goes from end to end, apart from what leaves the mesh by an egress ([`terminate`]). Every core has a thread with a listener of its own ([`server`]); what
//! they share is a [table](table::Table) that is swapped as a whole, [clusters](cluster::Cluster) with one order of
//! endpoints each, and counts.

pub mod ads;
pub mod balance;
pub mod bootstrap;
pub mod cli;
pub mod client_hello;
pub mod cluster;
pub mod connect;
pub mod listeners;
mod metrics;
pub mod names;
mod pipe;
pub mod program;
pub mod proxy;
pub mod resources;
pub mod server;
pub mod table;
pub mod terminate;
pub mod tunnel;
