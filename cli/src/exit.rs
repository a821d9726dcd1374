//! How a command of pyro itself ends; `docs/exit-codes.md` lists the codes.

use std::io;
use std::process::ExitCode;

use nix::sys::signal::Signal;
use pyro_api::{ApiError, CallError, ConnectError, ErrorCode, json};
use serde::Serialize;

use crate::sanitize;
use crate::sink::Sink;

/// Exit code of every failure that is reported.
const FAILURE: u8 = 1;

/// A shell reports the death by signal N as this plus N.
const SIGNAL_BASE: u8 = 128;

/// Why a command did not do what was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The daemon, or the way to it.
    Api(ApiError),
    /// What was to be printed cannot be printed.
    Output(io::Error),
    /// A signal asked for the end.
    Interrupted(Signal),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Api(error.into())
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::Api(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// How results and errors are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Format {
    pub(crate) const fn from_flag(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// A failure in JSON.
#[derive(Debug, Serialize)]
struct JsonError<'a> {
    ok: bool,
    error: &'a str,
    code: ErrorCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl<'a> From<&'a ApiError> for JsonError<'a> {
    fn from(error: &'a ApiError) -> Self {
        Self { ok: false, error: &error.message, code: error.code, hint: error.hint.as_deref() }
    }
}

impl Failure {
    /// Tells the user and returns the exit code.
    pub(crate) fn report(&self, format: Format) -> ExitCode {
        match self {
            Self::Api(error) => {
                print(error, format);
                ExitCode::from(FAILURE)
            }
            // Whoever read the output has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => signal_code(Signal::SIGPIPE),
            Self::Output(error) => {
                let error = format_args!("failed to write the output: {error}");
                print(&ApiError::new(ErrorCode::OutputFailed, error), Format::Text);
                ExitCode::from(FAILURE)
            }
            Self::Interrupted(signal) => {
                print(&ApiError::new(ErrorCode::Canceled, format_args!("canceled by {signal}")), format);
                signal_code(*signal)
            }
        }
    }
}

fn print(error: &ApiError, format: Format) {
    let text = match format {
        Format::Text => error_text(error),
        Format::Json => json_text(error),
    };
    let sink = match format {
        Format::Text => Sink::stderr(),
        Format::Json => Sink::stdout(),
    };
    // There is no place left to report this to.
    let _unwritable = sink.and_then(|mut sink| sink.own(&text));
}

/// Returns an error as people see it.
pub(crate) fn error_text(error: &ApiError) -> String {
    let message = sanitize::paragraph(&error.message);
    match &error.hint {
        None => format!("[error] {message}\n"),
        Some(hint) => format!("[error] {message}\n[hint] {}\n", sanitize::paragraph(hint)),
    }
}

fn json_text(error: &ApiError) -> String {
    json::document(&JsonError::from(error))
}

/// Returns an error as one of several lines for programs.
pub(crate) fn error_line(error: &ApiError) -> String {
    json::line(&JsonError::from(error))
}

/// Returns the exit code by which shells report the signal.
pub(crate) fn signal_code(signal: Signal) -> ExitCode {
    let number = u8::try_from(signal as i32).unwrap_or(0);
    ExitCode::from(SIGNAL_BASE + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_others_cannot_forge_lines_or_move_the_cursor() {
        let error = ApiError::new(ErrorCode::Internal, "a\n[run] b\u{1b}[2J").with_hint("c\u{7}");
        assert_eq!(error_text(&error), "[error] a\n  [run] b\\x1b[2J\n[hint] c\\x07\n");
    }

    #[test]
    fn errors_in_json_have_the_keys_of_the_contract() {
        let error = ApiError::new(ErrorCode::UnknownVm, "é");
        assert_eq!(
            json_text(&error),
            "{\n  \"code\": \"unknown_vm\",\n  \"error\": \"\\u00e9\",\n  \"ok\": false\n}\n"
        );
    }
}
