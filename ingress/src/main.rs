//! `kuma-ingress`: traffic into a zone, routed by SNI.

use std::process::ExitCode;

fn main() -> ExitCode {
    router::cli::main("kuma-ingress", env!("CARGO_PKG_VERSION"), router::proxy::ProxyType::Ingress)
}
