//! The synchronisation of control planes (KDS).

pub mod receive;
pub mod rules;
pub mod wire;
