//! The API as a whole: who may do what, what it bears, and what a write leaves behind.

#![expect(clippy::unwrap_used, reason = "a test: what is missing ends it")]

mod access;
mod certificates;
mod limits;
mod support;
mod writes;
