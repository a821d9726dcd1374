//! `pyro run`

use std::process::ExitCode;

use pyro_api::{
    CapturedStream, Progress, Run, RunEvent, RunOutcome, RunProgress, RunRequest, RunResult, Stream,
};

use crate::arguments::RunArgs;
use crate::exit::{Failure, Format};
use crate::interrupts::Interrupts;
use crate::json;
use crate::pull_view::PullView;
use crate::quoting;
use crate::sanitize;
use crate::session::Session;
use crate::sink::Sink;

pub(crate) fn execute(args: RunArgs) -> Result<ExitCode, Failure> {
    let RunArgs { mut request, format, raw, words } = args;
    request.command = command_line(&words);
    let outcome = match Format::from_flag(format.json) {
        Format::Json => run_to_json(request)?,
        Format::Text => {
            let mut view = LiveView::new()?;
            if raw {
                view.stdout.raw();
                view.stderr.raw();
            }
            let outcome = follow(request, &mut |event| view.show(event))?;
            view.end(&outcome)?;
            outcome
        }
    };
    Ok(ExitCode::from(outcome.exit_code))
}

/// Returns the words as one command line; a single empty word is no command at all.
fn command_line(words: &[String]) -> String {
    match words {
        [word] if word.is_empty() => String::new(),
        _ => quoting::join(words.iter().map(String::as_str)),
    }
}

/// Runs and prints the result with its output.
pub(crate) fn run_to_json(request: RunRequest) -> Result<RunOutcome, Failure> {
    let (mut stdout, mut stderr) = (CapturedStream::new(), CapturedStream::new());
    let outcome = follow(request, &mut |event| {
        match event {
            Shown::Output(Stream::Stdout, bytes) => stdout.push(&bytes),
            Shown::Output(Stream::Stderr, bytes) => stderr.push(&bytes),
            Shown::Progress(_) => {}
        }
        Ok(())
    })?;
    let result = RunResult::new(outcome.clone(), stdout, stderr);
    Sink::stdout()?.own(&json::document(&result))?;
    Ok(outcome)
}

/// What happens before the end.
enum Shown {
    Progress(Progress),
    Output(Stream, Vec<u8>),
}

/// Runs to the end. An error of `show` ends the run as well: the daemon deletes the VM when the connection closes.
fn follow(
    request: RunRequest,
    show: &mut dyn FnMut(Shown) -> Result<(), Failure>,
) -> Result<RunOutcome, Failure> {
    let interrupts = Interrupts::take_over()?;
    let session = Session::starting()?;
    let result = drive(&session, request, &interrupts, show);
    match (interrupts.first(), result) {
        // Also when the command ended by itself meanwhile: whoever interrupts wants to see that it worked.
        (Some(signal), _) => Err(Failure::Interrupted(signal)),
        (None, result) => result,
    }
}

fn drive(
    session: &Session,
    request: RunRequest,
    interrupts: &Interrupts,
    show: &mut dyn FnMut(Shown) -> Result<(), Failure>,
) -> Result<RunOutcome, Failure> {
    let mut run = Run::start(&session.home, &session.info, &session.start, request, interrupts.token())?;
    loop {
        match run.next_event()? {
            RunEvent::Progress(progress) => show(Shown::Progress(progress))?,
            RunEvent::Output(stream, bytes) => show(Shown::Output(stream, bytes))?,
            RunEvent::Ended(outcome) => return Ok(outcome),
        }
    }
}

/// A run as people see it.
#[derive(Debug)]
struct LiveView {
    stdout: Sink,
    stderr: Sink,
    pull: Option<PullView>,
}

impl LiveView {
    fn new() -> Result<Self, Failure> {
        Ok(Self { stdout: Sink::stdout()?, stderr: Sink::stderr()?, pull: None })
    }

    fn show(&mut self, shown: Shown) -> Result<(), Failure> {
        match shown {
            Shown::Output(Stream::Stdout, bytes) => self.stdout.guest(&bytes)?,
            Shown::Output(Stream::Stderr, bytes) => self.stderr.guest(&bytes)?,
            Shown::Progress(Progress::Pull(progress)) => {
                let mut pull = match self.pull.take() {
                    Some(pull) => pull,
                    None => PullView::new(&progress.environment, &mut self.stderr)?,
                };
                pull.update(&progress, &mut self.stderr)?;
                self.pull = Some(pull);
            }
            Shown::Progress(Progress::Run(progress)) => {
                if let Some(pull) = self.pull.take() {
                    pull.ready(&mut self.stderr)?;
                }
                self.stderr.own(&phase_line(&progress))?;
            }
        }
        Ok(())
    }

    fn end(&mut self, outcome: &RunOutcome) -> Result<(), Failure> {
        self.stdout.end_guest()?;
        self.stderr.end_guest()?;
        // Into a file or pipe, only the guest's own bytes go.
        if self.stderr.is_terminal() && (self.stdout.has_open_line() || self.stderr.has_open_line()) {
            self.stderr.own("\n")?;
        }
        Ok(self.stderr.own(&summary_line(outcome))?)
    }
}

fn phase_line(progress: &RunProgress) -> String {
    match progress {
        RunProgress::Create { environment } => {
            format!("[run] phase=create environment={}\n", sanitize::line(environment))
        }
        RunProgress::Start { vm_id } => format!("[run] phase=start vm_id={}\n", sanitize::line(vm_id)),
        RunProgress::Execute { vm_id } => format!("[run] phase=execute vm_id={}\n", sanitize::line(vm_id)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_word_alone_is_no_command() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(command_line(&words(&[""])), "");
        assert_eq!(command_line(&words(&["", ""])), "'' ''");
        assert_eq!(command_line(&words(&["sh", "-lc", "a && b"])), "sh -lc 'a && b'");
    }
}
