//! `kuma-zone`: the control plane of one zone.

use std::process::ExitCode;

fn main() -> ExitCode {
    kuma_zone::cli::main()
}
