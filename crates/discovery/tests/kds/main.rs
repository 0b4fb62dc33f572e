//! KDS without sockets: what was recorded between control planes of Kuma is played against ours, and rules that hold for
//! whatever is told.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod properties;
mod recording;
mod replay;
mod world;
