//! The synchronisation of control planes (KDS): what flows between a global and its zones, and what becomes of it.
//!
//! [`node`] is how a control plane introduces itself, [`rules`] what flows where, [`wire`] under which name and in which
//! bytes. [`down`] is the view of a zone, [`receive`] takes over what a peer tells.

pub mod down;
mod edit;
mod moment;
pub mod node;
pub mod receive;
pub mod rules;
pub mod up;
pub mod wire;

pub use moment::{Moment, follow};
