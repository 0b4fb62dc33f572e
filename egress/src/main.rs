//! `kuma-egress`: traffic out of a zone, routed by SNI.

use std::process::ExitCode;

fn main() -> ExitCode {
    router::cli::main("kuma-egress", env!("CARGO_PKG_VERSION"), router::proxy::ProxyType::Egress)
}
