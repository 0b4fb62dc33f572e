//! `cargo xtask`: the workspace's own commands. `cargo xtask help` lists them.

mod bench;
mod cli;
mod codegen;
mod collector;
mod demo;
mod envoys;
mod fuzz;
mod packaged;
mod recordings;
mod sim;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
