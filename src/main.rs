//! The binary `meterd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meterd::cli::main()
}
