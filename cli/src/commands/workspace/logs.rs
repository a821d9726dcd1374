//! `pyro workspace logs`

use std::process::ExitCode;

use pyro_api::{CommandRecord, GapCause, History, Incoming, Progress, Stream, WorkspaceLogsRequest, json};

use crate::exit::{Failure, Format};
use crate::follow::{gap_line, missing_line};
use crate::sanitize;
use crate::session::Session;
use crate::sink::Sink;

pub(crate) fn execute(request: WorkspaceLogsRequest, format: Format) -> Result<ExitCode, Failure> {
    match format {
        Format::Json => as_json(request)?,
        Format::Text => as_text(request)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(request: WorkspaceLogsRequest) -> Result<(), Failure> {
    let mut history = History::new();
    let end = Session::starting()?.connect()?.call(request, |incoming| history.push(incoming))?;
    Ok(Sink::stdout()?.own(&json::document(&history.finish(end)))?)
}

fn as_text(request: WorkspaceLogsRequest) -> Result<(), Failure> {
    let mut view = HistoryView { stdout: Sink::stdout()?, stderr: Sink::stderr()?, stdout_open: false };
    let mut shown = Ok(());
    let end = Session::starting()?.connect()?.call(request, |incoming| {
        if shown.is_ok() {
            shown = view.show(incoming);
        }
    })?;
    shown?;
    view.end_output()?;
    if end.count == 0 {
        view.stdout.own("No workspace logs found.\n")?;
    }
    Ok(())
}

/// Records with their output, as people see them.
#[derive(Debug)]
struct HistoryView {
    stdout: Sink,
    stderr: Sink,
    /// Whether what was printed last on standard output has no line end.
    stdout_open: bool,
}

impl HistoryView {
    fn show(&mut self, incoming: Incoming) -> std::io::Result<()> {
        match incoming {
            Incoming::Progress(Progress::Record(record)) => {
                self.end_output()?;
                self.stdout.own(&record_text(&record))
            }
            Incoming::Progress(Progress::Gap { stream, from, to, cause }) => {
                self.end_stdout()?;
                let len_bytes = to.saturating_sub(from);
                self.stderr.own(&match cause {
                    GapCause::Retention => gap_line(stream, len_bytes),
                    GapCause::Missing => missing_line(stream, len_bytes),
                })
            }
            Incoming::Output(Stream::Stdout, bytes) => {
                self.stdout_open = bytes.last().is_some_and(|last| *last != b'\n');
                self.stdout.guest(&bytes)
            }
            Incoming::Output(Stream::Stderr, bytes) => {
                self.end_stdout()?;
                self.stderr.guest(&bytes)
            }
            _ => Ok(()),
        }
    }

    fn end_output(&mut self) -> std::io::Result<()> {
        self.end_stdout()?;
        self.stderr.end_guest()?;
        // Into a file or pipe, only the guest's own bytes go.
        if self.stderr.has_open_line() {
            self.stderr.own("\n")?;
        }
        Ok(())
    }

    /// Begins a new line after standard output that has none at its end.
    fn end_stdout(&mut self) -> std::io::Result<()> {
        self.stdout.end_guest()?;
        if std::mem::take(&mut self.stdout_open) {
            self.stdout.own("\n")?;
        }
        Ok(())
    }
}

fn record_text(record: &CommandRecord) -> String {
    let end = match (&record.error, record.exit_code) {
        (None, Some(exit_code)) => format!("exit_code={exit_code}"),
        (error, _) => format!("error=\"{}\"", sanitize::line(error.as_deref().unwrap_or("unknown"))),
    };
    format!(
        "#{} {end} duration_ms={} cwd={}\n$ {}\n",
        record.sequence,
        record.duration_ms,
        sanitize::line(&record.cwd),
        sanitize::line(&record.command)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_without_a_result_says_why_and_forges_no_line() {
        let record = CommandRecord {
            sequence: 3,
            command: "echo a\n#4 exit_code=0".to_owned(),
            cwd: "/workspace".to_owned(),
            exit_code: None,
            duration_ms: 0,
            execution_mode: "guest_vsock".to_owned(),
            recorded_at: 1.0,
            stdout_file: String::new(),
            stderr_file: String::new(),
            signal: None,
            timed_out: false,
            error: Some("lost: the guest\u{1b}[2J is gone".to_owned()),
        };
        assert_eq!(
            record_text(&record),
            "#3 error=\"lost: the guest\\x1b[2J is gone\" duration_ms=0 cwd=/workspace\n$ echo a\\n#4 exit_code=0\n"
        );
    }
}
