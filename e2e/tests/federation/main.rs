//! A global and its zones as their operators know them: real processes, on a network that breaks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

mod basics;
mod resources;
