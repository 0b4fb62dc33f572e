//! Every message that crosses a process boundary: KDS, Kuma's resources, and the part of Envoy's API that we use.
//!
//! `src/generated` is written by `cargo xtask codegen` from `proto/` (ours, after kuma-messages.md and kds-wire.md
//! 1.4–1.7) and from Envoy's files in the package `envoy-types`; it is never edited by hand. Maps are ordered, so
//! equal messages have equal bytes, which is what resource versions are made of.

mod any;
pub mod bootstrap;
pub mod json;
mod secrecy;

pub use any::Any;
pub use generated::{envoy, google, kuma, xds};

#[allow(warnings, clippy::all, clippy::allow_attributes_without_reason, unused_qualifications, reason = "generated")]
#[rustfmt::skip]
mod generated {
    include!("generated/mod.rs");
}

/// `type_url` of every resource in a KDS response (kds-wire 3.5).
pub const KUMA_RESOURCE_TYPE_URL: &str = "type.googleapis.com/kuma.mesh.v1alpha1.KumaResource";

/// What stands before the full name of a message in the `type_url` of an `Any`.
pub const TYPE_URL_PREFIX: &str = "type.googleapis.com/";
