//! A zone that follows a global which a test plays, message by message.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

#[path = "../../../global/tests/program/client.rs"]
mod client;
mod global;
mod message;
mod recording;
mod zone;

mod connection;
mod joining;
mod replay;
