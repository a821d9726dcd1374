//! `pyro workspace exec`

use std::process::ExitCode;

use pyro_api::{ExecOutcome, ExecResult, json};

use crate::arguments::WorkspaceExecArgs;
use crate::exit::{Failure, Format};
use crate::follow::{capture, command_line, follow};
use crate::live_view::LiveView;
use crate::sanitize;
use crate::sink::Sink;

pub(crate) fn execute(args: WorkspaceExecArgs) -> Result<ExitCode, Failure> {
    let WorkspaceExecArgs { mut request, format, raw, words } = args;
    request.command = command_line(&words);
    let exit_code = match Format::from_flag(format.json) {
        Format::Json => {
            let (outcome, output) = capture(request)?;
            let result = ExecResult::new(outcome, output);
            Sink::stdout()?.own(&json::document(&result))?;
            result.exit_code
        }
        Format::Text => {
            let mut view = LiveView::new(raw)?;
            let outcome = follow(request, &mut |event| view.show(event))?;
            view.end(&summary_line(&outcome))?;
            outcome.exit_code
        }
    };
    Ok(ExitCode::from(exit_code))
}

fn summary_line(outcome: &ExecOutcome) -> String {
    format!(
        "[workspace-exec] workspace_id={} sequence={} cwd={} execution_mode={} exit_code={} duration_ms={}\n",
        sanitize::line(&outcome.workspace_id),
        outcome.sequence,
        sanitize::line(&outcome.cwd),
        sanitize::line(&outcome.execution_mode),
        outcome.exit_code,
        outcome.duration_ms
    )
}
