//! The program `pyro`.

use std::process::ExitCode;

use clap::Parser as _;
use pyro_cli::{Cli, Invocation};

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Invocation::Done(code) => code,
        Invocation::Daemon(_) | Invocation::SandboxInit(_) => ExitCode::FAILURE,
    }
}
