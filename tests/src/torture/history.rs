//! What clients asked and what they were told, in the order in which it happened.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::payload::{Payload, Received};

/// A request of a client and what it was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Moment before it was sent: moments count up over all clients.
    pub asked: u64,
    /// Moment after the answer.
    pub answered: u64,
    /// The request id, in 32 hexadecimal digits; a request that is sent again keeps its id.
    pub request: String,
    /// What was asked for.
    pub operation: Operation,
    /// What the client was told.
    pub answer: Answer,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// A new workspace.
    Create,
    /// Another state of a workspace.
    Change {
        /// Which workspace.
        workspace: String,
        /// Which state.
        to: Change,
    },
    /// A command that appends its token to a file of the guest, prints what is known and ends with a known code.
    Exec {
        /// Which workspace.
        workspace: String,
        /// What it prints; its token, which no other command has, is what it appends.
        payload: Payload,
        /// The code that it ends with when nothing disturbs it.
        exit_code: u8,
        /// What the client got of its standard output.
        stdout: Received,
    },
    /// A command in a VM of its own.
    Run {
        /// What it prints.
        payload: Payload,
        /// The code that it ends with when nothing disturbs it.
        exit_code: u8,
        /// What the client got of its standard output.
        stdout: Received,
    },
    /// A new shell.
    Open {
        /// Where.
        workspace: String,
    },
    /// A line typed into a shell that appends a token to the file of the guest.
    Type {
        /// Which workspace.
        workspace: String,
        /// Which shell.
        shell: String,
        /// The token, which no other command has.
        token: String,
    },
    /// The output of a shell, followed to its end, compared with what a reader gets who comes later.
    Follow {
        /// Which workspace.
        workspace: String,
        /// Which shell.
        shell: String,
        /// What the follower got.
        output: Received,
    },
    /// A shell that is to be closed.
    Close {
        /// Which workspace.
        workspace: String,
        /// Which shell.
        shell: String,
    },
    /// Files that are brought into a directory of their own.
    Push {
        /// Which workspace.
        workspace: String,
        /// Name of the directory below `/workspace`.
        directory: String,
        /// What [`Operation::Look`] shows of it when it is complete.
        listing: String,
    },
    /// All workspaces.
    List,
    /// A look into the guest, by a command.
    Look {
        /// Which workspace.
        workspace: String,
        /// The tokens in its file, in the order in which they stand there.
        tokens: Vec<String>,
        /// What its directories hold, by their names.
        listings: BTreeMap<String, String>,
    },
}

/// A state that a workspace is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It runs.
    Start,
    /// It is stopped.
    Stop,
    /// It is gone.
    Delete,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It was done, with this result.
    Done(Value),
    /// It was refused, or it failed: the code.
    Failed(String),
    /// Nothing: the client was killed before.
    Cut,
}

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise is broken, in a word or two.
    pub rule: &'static str,
    /// By what.
    pub what: String,
}

/// What the nemesis can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// A client was told something.
    Reply,
    /// A client got some output.
    Output,
    /// A client was started.
    Call,
}

/// What happened so far; all threads write to it.
#[derive(Debug, Default)]
pub struct History {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    moment: u64,
    told: Vec<Told>,
    violations: Vec<Violation>,
    pulses: [u64; 3],
    over: bool,
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A client that panicked leaves a history that is still one.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next moment.
    pub fn moment(&self) -> u64 {
        let mut inner = self.lock();
        inner.moment += 1;
        inner.moment
    }

    /// Keeps what a client was told; the answer came at this moment.
    pub fn tell(&self, asked: u64, request: &str, operation: Operation, answer: Answer) {
        let answered = self.moment();
        let request = request.replace('-', "");
        self.lock().told.push(Told { asked, answered, request, operation, answer });
        self.pulse(Pulse::Reply);
    }

    /// Keeps something that must never be and was seen at once.
    pub fn violation(&self, rule: &'static str, what: impl Into<String>) {
        self.lock().violations.push(Violation { rule, what: what.into() });
    }

    /// Tells the nemesis that something happened.
    pub fn pulse(&self, pulse: Pulse) {
        self.lock().pulses[pulse as usize] += 1;
        self.changed.notify_all();
    }

    /// Waits until something happened so many times, the work is over, or the time is.
    pub fn wait(&self, pulse: Pulse, times: u64, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut inner = self.lock();
        let until = inner.pulses[pulse as usize] + times;
        while inner.pulses[pulse as usize] < until && !inner.over {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells the clients to begin nothing any more.
    pub fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    /// Tells whether clients are to begin nothing any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Returns how many answers there are, and how many violations were seen already.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.told.len(), inner.violations.len())
    }

    /// Returns what the commands were to print, by their tokens.
    #[must_use]
    pub fn payloads(&self) -> BTreeMap<String, (Payload, u8)> {
        let inner = self.lock();
        let of_execs = inner.told.iter().filter_map(|told| {
            let Operation::Exec { payload, exit_code, .. } = &told.operation else { return None };
            Some((payload.token.clone(), (payload.clone(), *exit_code)))
        });
        of_execs.collect()
    }

    /// Takes out what was kept.
    #[must_use]
    pub fn take(&self) -> (Vec<Told>, Vec<Violation>) {
        let mut inner = self.lock();
        (std::mem::take(&mut inner.told), std::mem::take(&mut inner.violations))
    }
}
