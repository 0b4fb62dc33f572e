//! `kumactl`, the operator's tool: see `kumactl --help`.

use std::process::ExitCode;

use kumactl::Io;

fn main() -> ExitCode {
    if kumactl::complete() {
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: the system does not let this program start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // A completion engine or a user who has seen enough may close the pipe; threads that still resolve a name do not
    // hold up the end.
    let code = runtime.block_on(kumactl::run(std::env::args_os(), &mut Io::of_process()));
    runtime.shutdown_background();
    ExitCode::from(code)
}
