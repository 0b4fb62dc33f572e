//! `cargo xtask demo`: a whole mesh on one machine, as soon as there is one.

use anyhow::{Result, bail};

/// Says what is missing until a global control plane, a zone and its routers can run together.
///
/// # Errors
/// Always, for now: nothing that could be shown exists yet.
pub fn run() -> Result<()> {
    bail!(
        "there is no whole system to show yet: the control planes and the routers are still being built (README.md, \"Status\")"
    )
}
