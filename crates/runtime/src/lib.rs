//! How a program lives: its clock, its configuration, its tasks, its end, and what it tells about itself.
//!
//! This crate knows nothing of meshes and uses no other crate of this workspace.

pub mod clock;
pub mod diagnostics;
pub mod drain;
pub mod exit;
pub mod host;
pub mod life;
pub mod metrics;
pub mod readiness;
pub mod serve;
pub mod signals;
pub mod socket;
pub mod tasks;
pub mod telemetry;

pub use clock::{Clock, ManualClock, SimulatedClock};
pub use drain::Drain;
pub use exit::{Exit, Fatal};
pub use life::Life;
pub use metrics::Metrics;

pub use readiness::Readiness;
pub use tasks::Tasks;
