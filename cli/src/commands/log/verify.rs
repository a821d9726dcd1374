//! `pyro log verify`

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use pyro_api::{
    ApiError, Client, Home, LogCheck, LogCheckProgress, LogHead, LogHeadRequest, LogMark, LogVerdict,
};

use crate::arguments::LogVerifyArgs;
use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;
use crate::sink::Sink;

/// What is done within this time is not worth a bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the time on the bar is redrawn when nothing else changes.
const TICK: Duration = Duration::from_millis(200);

/// A log that this process is to check.
#[derive(Debug)]
pub struct LogVerification {
    home: Home,
    check: LogCheck,
    format: Format,
}

pub(super) fn prepare(args: LogVerifyArgs) -> Result<LogVerification, Failure> {
    let session = Session::looking()?;
    let check = LogCheck { expected: args.expected, live: live(&session) };
    Ok(LogVerification { home: session.home, check, format: Format::from_flag(args.format.json) })
}

/// Asks the daemon for its state. Where none runs, or one that is in trouble, the files have to speak for themselves.
fn live(session: &Session) -> Option<LogHead> {
    let mut client = Client::connect(&session.home, &session.info, &session.start).ok()?;
    client.call(LogHeadRequest {}, drop).ok()
}

impl LogVerification {
    /// Checks the log by `verify`, tells the user what came of it, and returns the exit code.
    pub fn run(
        self,
        verify: impl FnOnce(&Home, &LogCheck, &mut dyn FnMut(LogCheckProgress)) -> Result<LogVerdict, ApiError>,
    ) -> ExitCode {
        let result = self.verdict(verify).and_then(|verdict| {
            print(&verdict, self.format, verdict_text)?;
            Ok(if verdict.whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        });
        result.unwrap_or_else(|failure| failure.report(self.format))
    }

    fn verdict(
        &self,
        verify: impl FnOnce(&Home, &LogCheck, &mut dyn FnMut(LogCheckProgress)) -> Result<LogVerdict, ApiError>,
    ) -> Result<LogVerdict, Failure> {
        let mut view = View::new(&Sink::stderr()?);
        let verdict = verify(&self.home, &self.check, &mut |progress| view.update(progress));
        view.clear();
        Ok(verdict?)
    }
}

fn verdict_text(verdict: &LogVerdict) -> String {
    let mut text = String::new();
    for problem in &verdict.problems {
        let file = problem.file.as_ref().filter(|file| !problem.message.contains(file.as_str()));
        let file = file.map(|file| format!(" ({file})")).unwrap_or_default();
        let about = sanitize::line(&problem.about);
        writeln!(text, "[{about}] {}", sanitize::line(&format!("{}{file}", problem.message)))
            .expect("a string takes everything");
    }
    if let Some(seq) = verdict.first_bad_seq {
        writeln!(text, "First bad event: {seq}").expect("a string takes everything");
    }
    let head = LogMark { seq: verdict.seq, hash: sanitize::line(&verdict.hash) };
    let state = match verdict.state_compared_with.as_str() {
        "nothing" => "compared with nothing".to_owned(),
        other => format!("as the {} has it", sanitize::line(other)),
    };
    let state =
        if verdict.problems.iter().any(|problem| problem.about == "state") { "wrong" } else { &state };
    let mut events = verdict.seq.to_string();
    if let Some(compacted) = &verdict.compacted {
        events = format!("{} to {events}", compacted.first_seq);
        let last = LogMark { seq: compacted.first_seq - 1, hash: sanitize::line(&compacted.hash) };
        let (since, until) = (sanitize::line(&compacted.since), sanitize::line(&compacted.until));
        writeln!(
            text,
            "Compacted: 1 to {last}, from {since} to {until} ({}); {} of them carried over",
            HumanBytes(compacted.bytes),
            compacted.carried
        )
        .expect("a string takes everything");
    }
    writeln!(
        text,
        "Events: {events} in {} segments\nHead: {head}\nState: {state}\nOutput files: {} checked ({}), {} deleted with their workspaces\nLog: {}",
        verdict.segments,
        verdict.outputs_checked,
        HumanBytes(verdict.output_bytes),
        verdict.outputs_deleted,
        if verdict.whole { "whole" } else { "not what was written" }
    )
    .expect("a string takes everything");
    text
}

/// How far the check has come, on a terminal only and when it takes a while.
struct View {
    bar: Option<ProgressBar>,
    since: Instant,
}

impl View {
    fn new(stderr: &Sink) -> Self {
        Self { bar: stderr.is_terminal().then(ProgressBar::hidden), since: Instant::now() }
    }

    fn update(&mut self, progress: LogCheckProgress) {
        let Some(bar) = &mut self.bar else { return };
        if self.since.elapsed() < PATIENCE {
            return;
        }
        if bar.is_hidden() {
            let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
            *bar = ProgressBar::new_spinner().with_style(style.expect("the template is well formed"));
            bar.enable_steady_tick(TICK);
        }
        bar.set_message(message(progress));
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn message(LogCheckProgress { events, outputs, output_bytes }: LogCheckProgress) -> String {
    let events = HumanCount(events);
    match outputs {
        0 => format!("{events} events"),
        _ => format!("{events} events, {} output files, {}", HumanCount(outputs), HumanBytes(output_bytes)),
    }
}
