//! The synchronisation of control planes (KDS).

pub mod rules;
pub mod subscription;
pub mod wire;
