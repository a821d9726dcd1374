//! What connects to the guests that the tests start; the program `pyro` is put together elsewhere.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(2).collect();
    pyro_runtime::guest::connector_main(&arguments)
}
