//! One piece of work in a guest, followed as `crate::exec`, `crate::shell` and `crate::sync` do.
//!
//! ```text
//! Send --> Listen --ended--> Report --> Waiting --> (recorded)
//!            ^ |
//!            | v
//!          Attach --not known--> Report
//! ```

use pyro_core::{
    Command, Event, Evidence, ExecExited, ExecFailed, ExecStarted, ExitStatus, Operation, OperationResolved,
    Phase, Seq, ShellExited, ShellFailed, ShellId, ShellPhase, ShellStarted, StreamSummary, SyncFailed,
    SyncFinished, WorkspaceId,
};

use super::daemon::{Asker, Entry};
use super::defect::Defect;
use super::driver::{Reach, lost};
use super::guest::{Message, Progress, Work};

#[derive(Debug)]
pub(super) struct Pump {
    step: Step,
    /// Somebody wants its end.
    to_end: bool,
    /// Its end was asked for on the connection that is open.
    end_sent: bool,
    started_told: bool,
    /// The guest has told its end, and keeps it until it is on record.
    told_by_guest: bool,
    /// An earlier daemon left it open, and what its guest says of it is not on record.
    unresolved: bool,
    /// Input that is not sent on the connection that is open.
    input: Vec<(u64, Vec<u8>)>,
}

#[derive(Debug)]
enum Step {
    Send,
    Attach,
    Listen,
    /// All but the commit of a sync is sent.
    Commit,
    Report(Command),
    /// Until it is on record.
    Waiting,
}

impl Pump {
    const fn new(step: Step) -> Self {
        Self {
            step,
            to_end: false,
            end_sent: false,
            started_told: false,
            told_by_guest: false,
            unresolved: false,
            input: Vec::new(),
        }
    }

    /// What was requested now.
    pub(super) const fn send() -> Self {
        Self::new(Step::Send)
    }

    /// What an earlier daemon may have sent.
    pub(super) fn attach() -> Self {
        Self { unresolved: true, ..Self::new(Step::Attach) }
    }

    /// What is only to be told.
    pub(super) const fn report(command: Command) -> Self {
        Self::new(Step::Report(command))
    }

    pub(super) const fn kill(&mut self) {
        self.to_end = true;
    }

    pub(super) fn type_in(&mut self, offset: u64, data: Vec<u8>) {
        self.input.push((offset, data));
    }

    pub(super) const fn told_by_guest(&self) -> bool {
        self.told_by_guest
    }

    pub(super) const fn can_step(&self) -> bool {
        !matches!(self.step, Step::Waiting)
    }

    pub(super) fn step(
        &mut self,
        reach: &mut Reach<'_>,
        work: Work,
        guest: Option<u32>,
        seen_dead: bool,
    ) -> String {
        if let Step::Report(command) = &self.step {
            reach.inbox.push_back(Entry::fact(command.clone(), Asker::Pump(reach.workspace, work)));
            if self.told_by_guest && reach.defect == Some(Defect::ForgottenEnd) {
                reach.guests.forget(reach.workspace, work);
            }
            self.step = Step::Waiting;
            return "reports".to_owned();
        }
        if guest.is_none() || reach.guests.life(reach.workspace) != guest {
            return self.without_guest(reach, work, seen_dead);
        }
        match self.step {
            Step::Send => self.begin(reach, work),
            Step::Attach => self.resume(reach, work),
            Step::Commit => self.commit(reach, work),
            Step::Listen => self.listen(reach, work),
            Step::Report(_) | Step::Waiting => String::new(),
        }
    }

    fn without_guest(&mut self, reach: &Reach<'_>, work: Work, seen_dead: bool) -> String {
        let started = reach.known().is_some_and(|known| known.phase == Phase::Started);
        if started && !seen_dead {
            return "connection broke".to_owned();
        }
        self.step = match (&self.step, work) {
            // Without a commit nothing was brought.
            (Step::Send | Step::Commit, Work::Sync(_)) => Step::Report(failed(reach.workspace, work)),
            _ => Step::Report(lost(reach.workspace, work)),
        };
        "guest is gone".to_owned()
    }

    fn begin(&mut self, reach: &mut Reach<'_>, work: Work) -> String {
        let known = reach.known().is_some_and(|known| match work {
            Work::Exec(exec) => known.open_execs.get(&exec).is_some_and(|exec| !exec.cancel_requested),
            Work::Shell(shell) => known.shells.contains_key(&shell),
            Work::Sync(sync) => known.open_syncs.get(&sync).is_some_and(|sync| !sync.cancel_requested),
        });
        let to_end = self.to_end && !matches!(work, Work::Shell(_));
        if to_end || !known {
            self.step = Step::Report(failed(reach.workspace, work));
            return "not begun".to_owned();
        }
        reach.guests.send(reach.workspace, Message::Begin(work));
        self.step = if matches!(work, Work::Sync(_)) { Step::Commit } else { Step::Listen };
        "sent".to_owned()
    }

    fn commit(&mut self, reach: &mut Reach<'_>, work: Work) -> String {
        let Work::Sync(sync) = work else { return String::new() };
        if self.to_end || reach.random.percent(20) {
            reach.guests.break_sync(reach.workspace, sync, reach.random);
            self.step = Step::Report(failed(reach.workspace, work));
            return "ends before its commit".to_owned();
        }
        reach.guests.send(reach.workspace, Message::Commit(sync));
        self.step = Step::Listen;
        "commits".to_owned()
    }

    /// Asks what the guest has, and goes on from there.
    fn resume(&mut self, reach: &mut Reach<'_>, work: Work) -> String {
        let known = reach.guests.ask(reach.workspace, work);
        if std::mem::take(&mut self.unresolved) {
            resolve(reach, work, evidence_of(work, known));
        }
        let Some(progress) = known else {
            let ran = match work {
                Work::Shell(shell) => reach.known().is_some_and(|known| {
                    known.shells.get(&shell).is_some_and(|shell| shell.phase == ShellPhase::Running)
                }),
                Work::Exec(_) | Work::Sync(_) => false,
            };
            let command = if ran { lost(reach.workspace, work) } else { failed(reach.workspace, work) };
            self.step = Step::Report(command);
            return "never arrived".to_owned();
        };
        self.end_sent = false;
        if let Work::Shell(shell) = work {
            self.input = missing_input(reach, shell);
        }
        self.step = Step::Listen;
        format!("finds {progress:?}")
    }

    fn listen(&mut self, reach: &mut Reach<'_>, work: Work) -> String {
        let workspace = reach.workspace;
        if reach.random.percent(5) {
            if let Work::Sync(sync) = work {
                reach.guests.break_sync(workspace, sync, reach.random);
            }
            self.step = Step::Attach;
            return "connection breaks".to_owned();
        }
        if self.to_end && !self.end_sent && !matches!(work, Work::Sync(_)) {
            self.end_sent = true;
            reach.guests.send(workspace, Message::End(work));
            return "asks for its end".to_owned();
        }
        if let Work::Shell(shell) = work
            && !self.input.is_empty()
        {
            let (offset, data) = self.input.remove(0);
            reach.guests.send(workspace, Message::Type { shell, offset, data });
            return "types".to_owned();
        }
        match reach.guests.progress(workspace, work) {
            Some(Progress::Running) if !self.started_told => {
                self.started_told = true;
                if let Some(command) = started(workspace, work) {
                    reach.inbox.push_back(Entry::fact(command, Asker::Nobody));
                }
                "runs".to_owned()
            }
            Some(Progress::Ended(status)) => {
                self.told_by_guest = !matches!(work, Work::Sync(_));
                self.step = Step::Report(ended(workspace, work, status));
                "has ended".to_owned()
            }
            Some(Progress::Running) | None => "listens".to_owned(),
        }
    }
}

const fn evidence_of(work: Work, known: Option<Progress>) -> Evidence {
    match (known, work) {
        (None, _) => Evidence::Unknown,
        (Some(Progress::Running), _) => Evidence::Running { stdout_len: 0, stderr_len: 0 },
        (Some(Progress::Ended(_)), Work::Sync(_)) => Evidence::InPlace,
        (Some(Progress::Ended(status)), Work::Exec(_) | Work::Shell(_)) => Evidence::Exited { status },
    }
}

/// Records what there was to see of work that an earlier daemon left open, as `crate::evidence` does.
pub(super) fn resolve(reach: &mut Reach<'_>, work: Work, evidence: Evidence) {
    let operation = match work {
        Work::Exec(exec) => Operation::Exec(exec),
        Work::Shell(shell) => Operation::Shell(shell),
        Work::Sync(sync) => Operation::Sync(sync),
    };
    let fact = OperationResolved { workspace: reach.workspace, operation, evidence };
    reach.inbox.push_back(Entry::fact(Command::RecordResolved(fact), Asker::Nobody));
}

/// Reads from the log what a shell was given and its guest does not have.
fn missing_input(reach: &Reach<'_>, shell: ShellId) -> Vec<(u64, Vec<u8>)> {
    let received = reach.guests.typed_len(reach.workspace, shell);
    let events = reach.reader.read_workspace(reach.workspace, Seq(1)).filter_map(Result::ok);
    let input = events.filter_map(|envelope| match envelope.event {
        Event::ShellInput(event) if event.shell == shell => Some((event.offset, event.data)),
        _ => None,
    });
    match reach.defect {
        Some(Defect::Retyped) => input.map(|(offset, data)| (offset + received, data)).collect(),
        _ => input.filter(|(offset, data)| offset + data.len() as u64 > received).collect(),
    }
}

fn summary() -> StreamSummary {
    StreamSummary { len_bytes: 0, digest: [0; 32] }
}

fn started(workspace: WorkspaceId, work: Work) -> Option<Command> {
    match work {
        Work::Exec(exec) => {
            Some(Command::RecordExecStarted(ExecStarted { workspace, exec, guest_pid: exec.0 }))
        }
        Work::Shell(shell) => {
            Some(Command::RecordShellStarted(ShellStarted { workspace, shell, guest_pid: 1 }))
        }
        Work::Sync(_) => None,
    }
}

fn ended(workspace: WorkspaceId, work: Work, status: ExitStatus) -> Command {
    match work {
        Work::Exec(exec) => Command::RecordExecExited(ExecExited {
            workspace,
            exec,
            status,
            duration_ms: 1,
            stdout: summary(),
            stderr: summary(),
        }),
        Work::Shell(shell) => {
            Command::RecordShellExited(ShellExited { workspace, shell, status, output: summary() })
        }
        Work::Sync(sync) => Command::RecordSyncFinished(SyncFinished {
            workspace,
            sync,
            entry_count: 1,
            bytes_written: 1,
            digest: None,
        }),
    }
}

fn failed(workspace: WorkspaceId, work: Work) -> Command {
    let reason = "it never began".to_owned();
    match work {
        Work::Exec(exec) => Command::RecordExecFailed(ExecFailed { workspace, exec, reason }),
        Work::Shell(shell) => Command::RecordShellFailed(ShellFailed { workspace, shell, reason }),
        Work::Sync(sync) => Command::RecordSyncFailed(SyncFailed { workspace, sync, reason, refused: false }),
    }
}
