//! One command of pyro, as a client calls it: to its end, or until the client is killed.

use std::io::{self, Read};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::history::{Answer, History, Pulse};
use crate::Pyro;

/// Longest time that a call may take, restarts of the daemon included. More is a violation.
const CALL_DEADLINE: Duration = Duration::from_secs(90);

/// Whether the client lives to see the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for its answer.
    Waits,
    /// It is killed this long after its start.
    Dies(Duration),
}

/// What a client left.
#[derive(Debug)]
pub(super) struct Ending {
    /// Exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// What it printed, byte for byte.
    pub stdout: Vec<u8>,
    /// What it said.
    pub stderr: String,
}

/// Calls pyro and waits for the end of the client.
pub(super) fn call(pyro: &Pyro, history: &History, arguments: &[&str], fate: Fate) -> Ending {
    let mut command = pyro.command(arguments);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pyro can be started");
    history.pulse(Pulse::Call);
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut stderr = child.stderr.take().expect("it is piped");
    std::thread::scope(|scope| {
        let out = scope.spawn(|| read(&mut stdout, || history.pulse(Pulse::Output)));
        let err = scope.spawn(|| read(&mut stderr, || {}));
        let code = match fate {
            Fate::Waits => ended_within(&mut child, CALL_DEADLINE).unwrap_or_else(|| {
                history.violation("no answer", format!("{arguments:?} takes longer than {CALL_DEADLINE:?}"));
                None
            }),
            Fate::Dies(after) => ended_within(&mut child, after).flatten(),
        };
        Ending {
            code,
            stdout: out.join().expect("the reader does not panic"),
            stderr: String::from_utf8_lossy(&err.join().expect("the reader does not panic")).into_owned(),
        }
    })
}

/// Waits for the end of a child and returns its exit code; kills it when the time is over, and returns `None`.
fn ended_within(child: &mut Child, limit: Duration) -> Option<Option<i32>> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("a child has a pidfd");
    let limit = Timespec::try_from(limit).expect("limits are short");
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).unwrap_or(0) > 0;
    if !ended {
        child.kill().expect("a child can be killed");
    }
    let status = child.wait().expect("a child can be waited for");
    ended.then(|| status.code())
}

/// Reads to the end and tells of each piece.
fn read(from: &mut impl Read, mut tell: impl FnMut()) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return bytes,
            Ok(len) => bytes.extend_from_slice(&piece[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return bytes,
        }
        tell();
    }
}

impl Ending {
    /// Returns the answer of a command that was called with `--json`.
    #[must_use]
    pub(super) fn answer(&self) -> Answer {
        if self.code.is_none() {
            return Answer::Cut;
        }
        match serde_json::from_slice::<Value>(&self.stdout) {
            Ok(value) if value["ok"] == false => {
                Answer::Failed(value["code"].as_str().unwrap_or_default().to_owned())
            }
            Ok(value) => Answer::Done(value),
            Err(_) => Answer::Failed(self.stderr.clone()),
        }
    }

    /// Returns the answer of an exec or a run whose output was streamed: its numbers stand in the last line.
    #[must_use]
    pub(super) fn streamed_answer(&self) -> Answer {
        if self.code.is_none() {
            return Answer::Cut;
        }
        let told = self.stderr.lines().rev().find(|line| line.contains(" exit_code="));
        let Some(told) = told else { return Answer::Failed(self.stderr.clone()) };
        let pairs = told.split(' ').filter_map(|word| word.split_once('='));
        let value = pairs.map(|(key, text)| {
            let value = text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from);
            // Ids of workspaces may consist of digits.
            (key.to_owned(), if key.ends_with("_id") { Value::from(text) } else { value })
        });
        Answer::Done(Value::Object(value.collect()))
    }
}
