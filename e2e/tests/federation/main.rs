//! A global and its zones as their operators know them: real processes, on a network that breaks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

mod admission;
mod basics;
mod crashes;
mod links;
mod membership;
mod outages;
mod replicas;
mod resources;
