//! The SNI router of zone ingress and egress: accept, read the ClientHello, look the name up, choose an endpoint, tunnel.

pub mod balance;
pub mod client_hello;
