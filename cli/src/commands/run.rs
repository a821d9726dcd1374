//! `pyro run`

use std::process::ExitCode;

use pyro_api::{RunOutcome, RunRequest, RunResult, json};

use crate::arguments::RunArgs;
use crate::exit::{Failure, Format};
use crate::follow::{capture, command_line, follow};
use crate::live_view::LiveView;
use crate::sanitize;
use crate::sink::Sink;

pub(crate) fn execute(args: RunArgs) -> Result<ExitCode, Failure> {
    let RunArgs { mut request, format, raw, words } = args;
    request.command = command_line(&words);
    let outcome = match Format::from_flag(format.json) {
        Format::Json => run_to_json(request)?,
        Format::Text => {
            let mut view = LiveView::new(raw)?;
            let outcome = follow(request, &mut |event| view.show(event))?;
            view.end(&summary_line(&outcome))?;
            outcome
        }
    };
    Ok(ExitCode::from(outcome.exit_code))
}

/// Runs and prints the result with its output.
pub(crate) fn run_to_json(request: RunRequest) -> Result<RunOutcome, Failure> {
    let (outcome, output) = capture(request)?;
    let result = RunResult::new(outcome.clone(), output);
    Sink::stdout()?.own(&json::document(&result))?;
    Ok(outcome)
}

fn summary_line(outcome: &RunOutcome) -> String {
    format!(
        "[run] environment={} execution_mode={} exit_code={} duration_ms={}\n",
        sanitize::line(&outcome.environment),
        sanitize::line(&outcome.execution_mode),
        outcome.exit_code,
        outcome.duration_ms
    )
}
