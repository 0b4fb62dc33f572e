//! The configuration of proxies: a pure function of what a zone knows.
//!
//! ```text
//! snapshot ─► plan ([`plan`]: policies selected and merged, names and endpoints chosen, typed)
//!               └─► Envoy resources ([`emit`]: each encoded once, versioned by its content)
//! ```
//!
//! The same snapshot and the same [`Input`] give the same bytes, in every replica. There is no I/O and no clock here.
//! Contract: zone-dataplane; every recorded scenario is a test (`tests/golden.rs`).

pub mod destination;
pub mod emit;
pub mod endpoint;
mod external;
pub mod input;
pub mod names;
pub mod plan;
pub mod policies;
pub mod protocol;
pub mod resource;
pub mod view;

use model::Kind;

pub use input::{Error, Features, Input, KeyPair, Node, Secrets, Settings, TransparentProxy, Weights};
pub use plan::Plan;
pub use resource::{Configuration, Emitted, Type};

/// The configuration of a dataplane.
///
/// # Errors
/// Its resource cannot be read, or its mesh is not there; the proxy keeps its last configuration.
pub fn dataplane(input: Input<'_>) -> Result<Configuration, Error> {
    Ok(emit::configuration(&plan::of_dataplane(input)?))
}

/// The configuration of any proxy, by the kind of its resource: a dataplane, an ingress or an egress.
///
/// # Errors
/// Its resource cannot be read, or its mesh is not there; the proxy keeps its last configuration.
pub fn configuration(input: Input<'_>) -> Result<Configuration, Error> {
    let plan = match input.resource.kind() {
        Kind::ZoneIngress => plan::zone::of_ingress(input)?,
        Kind::ZoneEgress => plan::zone::of_egress(input)?,
        _ => plan::of_dataplane(input)?,
    };
    Ok(emit::configuration(&plan))
}
