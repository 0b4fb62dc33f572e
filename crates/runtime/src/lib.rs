//! How a program lives: its clock, its configuration, its tasks, its end, and what it tells about itself.
//!
//! This crate knows nothing of meshes and uses no other crate of this workspace.

pub mod clock;

pub use clock::{Clock, ManualClock};
