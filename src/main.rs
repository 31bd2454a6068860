//! The `qcc` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(qcc::cli::run(std::env::args_os()))
}
