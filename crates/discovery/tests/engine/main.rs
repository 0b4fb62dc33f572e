//! Both ends of the protocol against each other, against peers that misbehave, and over a real connection.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod connection;
mod driver;
mod properties;
mod things;
