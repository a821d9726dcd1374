//! `pyro workspace shell open`

use std::process::ExitCode;

use pyro_api::json;

use super::line::shell_line;
use crate::arguments::ShellOpenArgs;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;
use crate::sink::Sink;

pub(super) fn execute(args: ShellOpenArgs) -> Result<ExitCode, Failure> {
    let ShellOpenArgs { request, id_only, format } = args;
    let shell = Session::starting()?.call(request)?;
    match Format::from_flag(format.json) {
        Format::Json => Sink::stdout()?.own(&json::document(&shell))?,
        Format::Text if id_only => {
            Sink::stdout()?.own(&format!("{}\n", sanitize::line(&shell.shell_id)))?;
        }
        Format::Text => Sink::stderr()?.own(&shell_line("open", &shell, ""))?,
    }
    Ok(ExitCode::SUCCESS)
}
