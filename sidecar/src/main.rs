//! `kuma-dp`: starts an Envoy beside a workload and looks after it.

use std::process::ExitCode;

fn main() -> ExitCode {
    kuma_dp::cli::main()
}
