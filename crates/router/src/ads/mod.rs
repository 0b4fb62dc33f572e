//! Routes from a zone's control plane, over ADS: an ordinary client of listeners, clusters, endpoints and secrets
//! (zone-dataplane 1.3, 1.4).
//!
//! A [bootstrap](source) says where, [`dial`] connects, and [`held`] keeps what was told, also on disk: without a control
//! plane the router starts and serves what it served last.

pub mod dial;
pub mod disk;
pub mod held;
pub mod session;
pub mod source;
