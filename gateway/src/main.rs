//! The `kiln` program: the gateway, and the client's verbs.

use std::process::ExitCode;

fn main() -> ExitCode {
    kiln_gateway::cli::main()
}
