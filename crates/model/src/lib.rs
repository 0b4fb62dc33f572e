//! The mesh in types: kinds, resources, names, labels, validation, snapshots. No I/O, no clock.

pub mod defaults;
pub mod duration;
pub mod insight;
pub mod kind;
pub mod labels;
pub mod mode;
pub mod number;
pub mod resource;
pub mod schema;
pub mod spec;
pub mod violation;

pub use kind::Kind;
pub use labels::Labels;
pub use resource::{Key, Meta, Payload, Resource};
pub use violation::{Path, Violation, Violations};
