//! `kuma-global`: the control plane above all zones.

use std::process::ExitCode;

fn main() -> ExitCode {
    kuma_global::cli::main()
}
