//! The synchronisation of control planes (KDS).

pub mod rules;
pub mod wire;
