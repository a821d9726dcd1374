//! `pyro workspace shell read`

use std::process::ExitCode;

use pyro_api::{ShellFollowRequest, ShellReadRequest, ShellReadResult, Stream, json};

use super::follow;
use super::line::{Reading, read_line};
use crate::arguments::ShellReadArgs;
use crate::exit::{Failure, Format};
use crate::follow::gap_line;
use crate::session::Session;
use crate::sink::Sink;

pub(super) fn execute(args: ShellReadArgs) -> Result<ExitCode, Failure> {
    let ShellReadArgs { request, follow, raw, format } = args;
    if follow {
        let ShellReadRequest { workspace_id, shell_id, cursor, .. } = request;
        return follow::execute(ShellFollowRequest { workspace_id, shell_id, cursor }, raw);
    }
    let condition = (request.plain || request.wait_for_idle_ms.is_some())
        .then_some((request.plain, request.wait_for_idle_ms));
    let result = Session::starting()?.call(request)?;
    match Format::from_flag(format.json) {
        Format::Json => Sink::stdout()?.own(&json::document(&result))?,
        Format::Text => {
            let ShellReadResult { shell, cursor, next_cursor, output, truncated, dropped_bytes, .. } = result;
            let reading = Reading { cursor, next_cursor, truncated, condition };
            let (mut stdout, mut stderr) = (Sink::stdout()?, Sink::stderr()?);
            if raw {
                stdout.raw();
            }
            if dropped_bytes > 0 {
                stderr.own(&gap_line(Stream::Stdout, dropped_bytes))?;
            }
            stdout.guest(output.as_bytes())?;
            stderr.own_below(&mut stdout, &read_line(&shell, &reading))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
