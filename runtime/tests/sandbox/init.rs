//! The first program of the sandboxes that the tests start; the program `pyro` is put together elsewhere.

use std::process::ExitCode;

fn main() -> ExitCode {
    pyro_runtime::sandbox::init_main(std::env::args_os().skip(2).collect())
}
