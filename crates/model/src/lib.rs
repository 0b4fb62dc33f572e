//! The mesh in types: kinds, resources, names, labels, validation, snapshots. No I/O, no clock.

pub mod defaults;
pub mod document;
pub mod duration;
pub mod hostname;
pub mod insight;
pub mod intake;
pub mod kind;
pub mod kri;
pub mod kubernetes_form;
pub mod label_rules;
pub mod labels;
pub mod mode;
pub mod name;
pub mod number;
pub mod policy;
pub mod resource;
pub mod rest_form;
pub mod schema;
pub mod snapshot;
pub mod sni;
pub mod spec;
pub mod syntax;
pub mod violation;
pub mod vips;
pub mod workload_identity;

pub use kind::Kind;
pub use kri::Kri;
pub use labels::Labels;
pub use mode::Mode;
pub use resource::{Key, Meta, Payload, Resource};
pub use snapshot::{Change, Snapshot};
pub use violation::{Path, Violation, Violations};

/// Version of Kuma that peers are shown: that of the protocols that are spoken.
pub const KUMA_VERSION: &str = "2.13.10";
