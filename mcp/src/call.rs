//! Carries the request of a call out. It blocks, so it has a thread of its own.

use std::path::{Path, PathBuf};

use pyro_api::{
    ApiError, CallError, CancelToken, CapturedOutput, ClientInfo, ErrorCode, ExecResult, Followed, History,
    Home, Link, Operation, Request, Response, Run, RunEvent, RunResult, Start, WorkspaceLogsRequest,
    resolve_host_path,
};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

/// Bytes of the beginning, and of the end, of an output stream that an answer holds: what a model can read.
pub(crate) const KEPT_BYTES: usize = 16 * 1024;

/// Longest line that is told as progress, in characters.
const LINE_CHARS_MAX: usize = 200;

/// The way to the daemon, as who the client is.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) home: Home,
    pub(crate) info: ClientInfo,
    pub(crate) program: PathBuf,
    /// Directories from which files may be brought; empty for all.
    pub(crate) allowed_paths: Vec<PathBuf>,
}

/// Takes the newest line that a command printed.
pub(crate) type Latest = watch::Sender<Option<String>>;

impl Way {
    /// Carries the request out. A token that is used ends what the guest does; the answer then says how.
    ///
    /// # Errors
    ///
    /// When the daemon refuses or fails, or a file may not be brought.
    pub(crate) fn perform(
        &self,
        mut request: Request,
        cancel: &CancelToken,
        latest: &Latest,
    ) -> Result<Value, ApiError> {
        request.identify();
        let done = match request {
            Request::Run(request) => self.follow(request, cancel, latest, RunResult::new),
            Request::VmExec(request) => self.follow(request, cancel, latest, RunResult::new),
            Request::WorkspaceExec(request) => self.follow(request, cancel, latest, ExecResult::new),
            Request::WorkspaceLogs(request) => self.history(&request, cancel),
            Request::WorkspaceCreate(mut request) => {
                request.seed_path =
                    request.seed_path.as_deref().map(|path| self.allowed(path)).transpose()?;
                self.ask(&request.into(), cancel)
            }
            Request::WorkspaceSyncPush(mut request) => {
                request.source_path = self.allowed(&request.source_path)?;
                self.ask(&request.into(), cancel)
            }
            Request::ShellRead(mut request) => {
                // What steers a terminal says nothing to a model.
                request.plain = true;
                self.ask(&request.into(), cancel)
            }
            request => self.ask(&request, cancel),
        };
        Ok(done?)
    }

    /// Asks for something that changes nothing.
    ///
    /// # Errors
    ///
    /// When the daemon refuses or fails.
    pub(crate) fn look<Asked: Operation>(
        &self,
        request: &Asked,
        cancel: &CancelToken,
    ) -> Result<Asked::Response, ApiError> {
        Ok(self.link().call(request, cancel, |_| {})?)
    }

    pub(crate) fn ask(&self, request: &Request, cancel: &CancelToken) -> Result<Value, CallError> {
        value_of(&self.link().call(request, cancel, |_| {})?)
    }

    fn follow<Asked, Outcome>(
        &self,
        request: Asked,
        cancel: &CancelToken,
        latest: &Latest,
        result: impl FnOnce(Asked::Response, CapturedOutput) -> Outcome,
    ) -> Result<Value, CallError>
    where
        Asked: Followed,
        Outcome: Serialize,
    {
        let mut run = Run::start(&self.home, &self.info, &self.start(), request, cancel)?;
        let mut output = CapturedOutput::keeping(KEPT_BYTES, KEPT_BYTES);
        loop {
            match run.next_event()? {
                RunEvent::Output(stream, bytes) => {
                    if let Some(line) = last_line(&bytes) {
                        latest.send_replace(Some(line));
                    }
                    output.push(stream, &bytes);
                }
                RunEvent::Gap(stream, len_bytes) => output.skip(stream, len_bytes),
                RunEvent::Ended(outcome) => return json(&result(outcome, output)),
                RunEvent::Progress(_) => {}
            }
        }
    }

    fn history(&self, request: &WorkspaceLogsRequest, cancel: &CancelToken) -> Result<Value, CallError> {
        let mut history = History::keeping(KEPT_BYTES, KEPT_BYTES);
        let end = self.link().call(request, cancel, |incoming| history.push(incoming))?;
        json(&history.finish(end))
    }

    pub(crate) fn link(&self) -> Link {
        Link::new(&self.home, &self.info, &self.start())
    }

    fn start(&self) -> Start {
        Start::IfNeeded { program: self.program.clone() }
    }

    /// Returns where a path of the host leads, if files may be brought from there.
    fn allowed(&self, path: &str) -> Result<String, ApiError> {
        let resolved = resolve_host_path(path)?;
        if self.allowed_paths.is_empty() {
            return Ok(resolved);
        }
        let real = Path::new(&resolved).canonicalize().map_err(|error| {
            ApiError::new(ErrorCode::InvalidArgument, format_args!("cannot use {resolved}: {error}"))
        })?;
        let roots: Vec<_> = self.allowed_paths.iter().map(|root| root.display().to_string()).collect();
        match real.to_str() {
            Some(text) if self.allowed_paths.iter().any(|root| real.starts_with(root)) => Ok(text.to_owned()),
            _ => Err(ApiError::new(
                ErrorCode::InvalidArgument,
                format_args!("{} is not below a directory that this server may read", real.display()),
            )
            .with_hint(format!(
                "it may read {}; `pyro mcp serve --allow-path` allows others",
                roots.join(", ")
            ))),
        }
    }
}

/// Returns the last line of some output that says something, without what steers a terminal.
fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|character| !character.is_control()).take(LINE_CHARS_MAX).collect())
}

/// Returns the answer without the name of its operation.
fn value_of(response: &Response) -> Result<Value, CallError> {
    match json(response)? {
        Value::Object(members) => members.into_iter().next().map(|(_, value)| value),
        _ => None,
    }
    .ok_or_else(|| CallError::Failed(ApiError::new(ErrorCode::Internal, "an answer without a name")))
}

fn json(value: &impl Serialize) -> Result<Value, CallError> {
    let value = serde_json::to_value(value);
    value.map_err(|error| CallError::Failed(ApiError::new(ErrorCode::Internal, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_says_something_is_told() {
        assert_eq!(last_line(b"one\ntwo\n\n").as_deref(), Some("two"));
        assert_eq!(last_line(b"\x1b[1mbold\x07").as_deref(), Some("[1mbold"));
        assert_eq!(last_line(b" \n\n"), None);
        assert_eq!(last_line("é".repeat(1000).as_bytes()).unwrap().chars().count(), LINE_CHARS_MAX);
    }
}
