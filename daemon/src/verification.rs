//! Checking and repairing the log of a home, with or without a daemon that owns it.
//!
//! ```text
//! segments --chain, anchor--> events --fold--> state   compared with the daemon's, or with the last checkpoint
//!                                |
//!                                +--digests--> output files
//! ```

mod outputs;

use std::collections::BTreeMap;

use pyro_api::{
    ApiError, ErrorCode, Home, LogCheck, LogCheckProgress, LogCompacted, LogMark, LogProblem, LogRepaired,
    LogVerdict,
};
use pyro_core::{Seq, State, evolve};
use pyro_store::{
    BaseInfo, Corruption, GENESIS, Hash, Head, Part, Record, RepairError, Repaired, Report, SavedState,
    VerifyError, repair, repair_at, saved_state, state_digest, verify_parts,
};

use self::outputs::{Since, Streams, check_outputs};
use crate::clock;
use crate::describe::hex;

/// Events between two words on how far it has come.
const PROGRESS_EVENTS: u64 = 4096;

/// Reads the whole log of a home and all output that its events name, and compares it with what they say.
///
/// It changes nothing, and a daemon may go on with the log meanwhile.
///
/// # Errors
///
/// When something cannot be read. What is wrong with the log is no error; the verdict says it.
pub fn verify_log(
    home: &Home,
    check: &LogCheck,
    progress: &mut dyn FnMut(LogCheckProgress),
) -> Result<LogVerdict, ApiError> {
    let mut reading = Reading::new(home, check);
    let mut done = LogCheckProgress::default();
    let report = verify_parts(home.log(), |part| {
        match part {
            Part::Carried(record) => return reading.see_carried(&record),
            Part::Base(base) => return reading.see_base(base),
            Part::Record(record) => reading.see(&record),
        }
        done.events += 1;
        if done.events.is_multiple_of(PROGRESS_EVENTS) {
            progress(done);
        }
    });
    let report = report.map_err(|error| unreadable(&error))?;
    let mut problems = damage_of(&report);
    problems.extend(reading.unexpected(check, &report));
    let mut deleted = reading.streams.deleted;
    if report.damage.is_none() {
        problems.append(&mut reading.problems);
        let mut bad = check_outputs(home, &reading.streams, &mut done, progress)?;
        if !bad.is_empty() {
            let since = Since::read(home, report.head.seq)?;
            let before = bad.len();
            bad.retain(|bad| !since.deleted.contains(&bad.workspace));
            deleted += (before - bad.len()) as u64;
            bad.retain(|bad| !since.dropped.contains(&(bad.workspace, bad.stream)));
        }
        problems.extend(bad.into_iter().map(|bad| bad.problem));
    }
    Ok(LogVerdict {
        whole: problems.is_empty(),
        first_bad_seq: report.damage.as_ref().and_then(Corruption::first_bad).map(|seq| seq.0),
        problems,
        seq: report.head.seq.0,
        hash: hex(&report.head.hash),
        segments: report.segment_count as u64,
        compacted: report.base.map(compacted),
        torn_bytes: report.torn_len,
        state_compared_with: reading.compared_with.to_owned(),
        outputs_checked: done.outputs,
        output_bytes: done.output_bytes,
        outputs_deleted: deleted,
    })
}

/// Cuts the damaged log of a home before its first bad event, or already before the event `at`. What is cut is kept.
///
/// # Errors
///
/// When a daemon runs, when `at` lies behind the damage, or when something cannot be read or written.
pub fn repair_log(home: &Home, at: Option<u64>) -> Result<LogRepaired, ApiError> {
    let repaired = match at {
        Some(at) => repair_at(home.log(), Seq(at)),
        None => repair(home.log()),
    };
    let Repaired { head, reached, damage, backup } = repaired.map_err(|error| unrepaired(&error))?;
    Ok(LogRepaired {
        damage: damage.map(|damage| damage.to_string()),
        seq: head.seq.0,
        hash: hex(&head.hash),
        reached_seq: reached.0,
        kept_in: backup.map(|backup| backup.display().to_string()),
    })
}

/// What the events say while they are read.
struct Reading {
    state: State,
    /// The hashes that the events which are expected somewhere really have.
    hashes: BTreeMap<u64, String>,
    known: Option<Known>,
    compared_with: &'static str,
    streams: Streams,
    base: Option<BaseInfo>,
    problems: Vec<LogProblem>,
}

/// A state that somebody else has made of the events up to one of them.
struct Known {
    seq: Seq,
    hash: String,
    digest: String,
    by: &'static str,
}

impl Reading {
    fn new(home: &Home, check: &LogCheck) -> Self {
        let known = match &check.live {
            Some(live) => Some(Known {
                seq: Seq(live.seq),
                hash: live.hash.clone(),
                digest: live.state_digest.clone(),
                by: "daemon",
            }),
            None => saved_state(home.log()).map(|SavedState { seq, hash, digest }| Known {
                seq,
                hash: hex(&hash),
                digest: hex(&digest),
                by: "checkpoint",
            }),
        };
        let expected = check.expected.iter().map(|mark| mark.seq);
        let hashes = expected.chain(check.live.iter().map(|live| live.seq));
        Self {
            state: State::default(),
            hashes: hashes.map(|seq| (seq, hex(&GENESIS))).collect(),
            known,
            compared_with: "nothing",
            streams: Streams::default(),
            base: None,
            problems: Vec::new(),
        }
    }

    fn see(&mut self, record: &Record) {
        if let Some(hash) = self.hashes.get_mut(&record.seq().0) {
            *hash = hex(&record.hash);
        }
        evolve(&mut self.state, &record.envelope);
        self.streams.see(record);
        self.compare(record.seq(), &record.hash);
    }

    /// Takes note of what was carried over of events that are not there any more.
    fn see_carried(&mut self, record: &Record) {
        evolve(&mut self.state, &record.envelope);
        self.streams.see(record);
    }

    fn see_base(&mut self, base: BaseInfo) {
        let Head { seq, hash } = base.dropped;
        self.state.seq = seq;
        if let Some(known) = self.hashes.get_mut(&seq.0) {
            *known = hex(&hash);
        }
        self.compare(seq, &hash);
        self.base = Some(base);
    }

    /// Compares the state with the one that somebody else has at this event.
    fn compare(&mut self, seq: Seq, hash: &Hash) {
        let Some(known) = self.known.take_if(|known| known.seq == seq) else { return };
        // Of another log, a checkpoint is worth nothing, and the daemon that has another log is told of elsewhere.
        if known.hash != hex(hash) {
            return;
        }
        self.compared_with = known.by;
        if state_digest(&self.state).is_ok_and(|digest| hex(&digest) == known.digest) {
            return;
        }
        self.problems.push(LogProblem {
            about: "state".to_owned(),
            seq: Some(known.seq.0),
            file: None,
            message: format!(
                "the events up to {} do not give the state that the {} has",
                known.seq, known.by
            ),
        });
    }

    /// Returns what is not as it was expected.
    fn unexpected(&self, check: &LogCheck, report: &Report) -> Vec<LogProblem> {
        let marks = check.expected.iter().map(|mark| ("expected", mark.clone()));
        let live =
            check.live.iter().map(|live| ("daemon", LogMark { seq: live.seq, hash: live.hash.clone() }));
        let head = report.head.seq;
        let problem = |(about, mark): (&str, LogMark)| {
            let message = if mark.seq > head.0 {
                format!("event {} is missing: the log ends with event {head}", mark.seq)
            } else if self.hashes.get(&mark.seq) == Some(&mark.hash) {
                return None;
            } else if let Some(base) = self.base.filter(|base| mark.seq < base.dropped.seq.0) {
                let (seq, earliest) = (mark.seq, base.dropped.seq);
                format!(
                    "event {seq} was compacted: its hash cannot be checked; event {earliest} is the first one whose hash can be"
                )
            } else {
                format!(
                    "event {} does not have the hash {}: what was written up to it was changed",
                    mark.seq, mark.hash
                )
            };
            Some(LogProblem { about: about.to_owned(), seq: Some(mark.seq), file: None, message })
        };
        marks.chain(live).filter_map(problem).collect()
    }
}

/// Returns what was dropped before the first event that is kept.
fn compacted(base: BaseInfo) -> LogCompacted {
    LogCompacted {
        first_seq: base.first.0,
        hash: hex(&base.dropped.hash),
        base: hex(&base.digest),
        bytes: base.bytes,
        since: clock::rfc3339(base.since),
        until: clock::rfc3339(base.until),
        carried: base.carried,
    }
}

fn damage_of(report: &Report) -> Vec<LogProblem> {
    let problem = |damage: &Corruption| LogProblem {
        about: "log".to_owned(),
        seq: damage.first_bad().map(|seq| seq.0),
        file: match damage {
            Corruption::Record { segment: path, .. }
            | Corruption::NoBase { path, .. }
            | Corruption::Base { path, .. }
            | Corruption::Exchanged { path, .. }
            | Corruption::Unsigned { path } => Some(path.display().to_string()),
            Corruption::Shortened { .. } | Corruption::Rewritten { .. } | Corruption::NoAnchor => None,
        },
        message: damage.to_string(),
    };
    report.damage.iter().map(problem).collect()
}

fn unreadable(error: &VerifyError) -> ApiError {
    let told = ApiError::new(ErrorCode::StorageFailed, crate::sessions::chain(error));
    match error.source.kind() {
        std::io::ErrorKind::NotFound => told.with_hint("if the log was compacted meanwhile, try again"),
        _ => told,
    }
}

fn unrepaired(error: &RepairError) -> ApiError {
    let told = |code| ApiError::new(code, crate::sessions::chain(error));
    match error {
        RepairError::Locked { .. } => told(ErrorCode::DaemonRunning)
            .with_hint("a log that a daemon could open is repaired after `pyro daemon stop` only"),
        RepairError::NewerFormat { .. } => told(ErrorCode::VersionMismatch),
        RepairError::BehindDamage { .. } => told(ErrorCode::InvalidArgument),
        RepairError::Compacted { .. } => told(ErrorCode::HistoryCompacted),
        RepairError::Read(_) | RepairError::Io { .. } => told(ErrorCode::StorageFailed),
    }
}

#[cfg(test)]
mod tests {
    use pyro_api::LogHead;
    use pyro_core::{
        Actor, Cause, Command, DeleteReason, DropPolicy, Event, ExecExited, ExecLost, ExecNumber, ExitStatus,
        Face, Limits, OutputDropped, ShellExited, ShellId, StreamSummary, Timestamp, WorkspaceDeleting,
        WorkspaceId,
    };
    use pyro_store::outputs::{Outputs, Stream, StreamId};
    use pyro_store::{Draft, EventLog, Options, Retention};

    use super::*;
    use crate::compaction;

    const KEPT: WorkspaceId = WorkspaceId::from_bytes([1; 6]);
    const DELETED: WorkspaceId = WorkspaceId::from_bytes([2; 6]);
    const SHELL: ShellId = ShellId::from_bytes([3; 6]);

    fn home(dir: &tempfile::TempDir) -> Home {
        let home = Home::at(dir.path()).unwrap();
        home.create().unwrap();
        home
    }

    fn append(log: &EventLog, event: Event) {
        let actor = Actor { face: Face::Daemon, uid: 0, pid: 1, client: "test".to_owned() };
        log.append(vec![Draft { at: Timestamp(1), actor, cause: Cause::Observation, event }]).unwrap();
    }

    fn write(home: &Home, workspace: WorkspaceId, stream: StreamId, bytes: &[u8]) -> StreamSummary {
        let path = Outputs::open(home.outputs()).unwrap().path(workspace, stream);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        StreamSummary { len_bytes: bytes.len() as u64, digest: *blake3::hash(bytes).as_bytes() }
    }

    fn stdout(exec: u32) -> StreamId {
        StreamId::Exec(ExecNumber(exec), Stream::Stdout)
    }

    fn exited(home: &Home, workspace: WorkspaceId, exec: u32) -> Event {
        let stdout = write(home, workspace, stdout(exec), b"printed");
        let stderr = StreamSummary { len_bytes: 0, digest: *blake3::hash(b"").as_bytes() };
        let (exec, status) = (ExecNumber(exec), ExitStatus::Code(0));
        Event::ExecExited(ExecExited { workspace, exec, status, duration_ms: 1, stdout, stderr })
    }

    /// Writes seven events: two workspaces with output, one of which is then deleted.
    fn fill(home: &Home) -> EventLog {
        let log = EventLog::open(home.log(), Options::default()).unwrap();
        append(&log, exited(home, DELETED, 1));
        append(&log, exited(home, KEPT, 1));
        let (workspace, exec, reason) = (KEPT, ExecNumber(2), "lost".to_owned());
        let stdout = Some(write(home, KEPT, stdout(2), b"half"));
        append(&log, Event::ExecLost(ExecLost { workspace, exec, reason, stdout, stderr: None }));
        let output = write(home, KEPT, StreamId::Shell(SHELL), b"$ ");
        let status = ExitStatus::Code(0);
        append(&log, Event::ShellExited(ShellExited { workspace, shell: SHELL, status, output }));
        let reason = DeleteReason::Explicit;
        append(&log, Event::WorkspaceDeleting(WorkspaceDeleting { workspace: DELETED, reason }));
        append(&log, exited(home, DELETED, 2));
        std::fs::remove_dir_all(home.outputs().join(DELETED.to_string())).unwrap();
        append(&log, exited(home, KEPT, 3));
        log
    }

    fn check(home: &Home, check: &LogCheck) -> LogVerdict {
        verify_log(home, check, &mut |_| {}).unwrap()
    }

    fn problems(verdict: &LogVerdict) -> Vec<(&str, Option<u64>)> {
        verdict.problems.iter().map(|problem| (problem.about.as_str(), problem.seq)).collect()
    }

    fn head(log: &EventLog) -> LogHead {
        let mut state = State::default();
        log.reader().read(Seq(1)).for_each(|envelope| evolve(&mut state, &envelope.unwrap()));
        let state_digest = hex(&state_digest(&state).unwrap());
        LogHead { seq: log.head().seq.0, hash: hex(&log.head().hash), state_digest }
    }

    /// Catches a check that complains of what is as it should be, or counts wrong.
    #[test]
    fn a_log_with_its_output_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let log = fill(&home);
        let verdict = check(&home, &LogCheck { expected: Vec::new(), live: Some(head(&log)) });
        assert_eq!((verdict.whole, &verdict.problems[..]), (true, &[][..]));
        assert_eq!((verdict.seq, verdict.hash.as_str()), (7, head(&log).hash.as_str()));
        assert_eq!((verdict.outputs_checked, verdict.output_bytes, verdict.outputs_deleted), (6, 20, 4));
        assert_eq!(verdict.state_compared_with, "daemon");
    }

    /// Catches output that was changed, cut, prolonged or removed without anybody noticing.
    #[test]
    fn changed_output_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let log = fill(&home);
        let path = |stream| Outputs::open(home.outputs()).unwrap().path(KEPT, stream);
        std::fs::write(path(stdout(1)), "Printed").unwrap();
        std::fs::write(path(stdout(2)), "ha").unwrap();
        std::fs::write(path(StreamId::Shell(SHELL)), "$ exit").unwrap();
        std::fs::remove_file(path(stdout(3))).unwrap();
        for live in [None, Some(head(&log))] {
            let verdict = check(&home, &LogCheck { expected: Vec::new(), live });
            let expected = [2, 3, 4, 7].map(|seq| ("output", Some(seq)));
            assert_eq!((verdict.whole, problems(&verdict)), (false, expected.to_vec()));
            assert_eq!(verdict.problems[0].file, Some(path(stdout(1)).display().to_string()));
            assert_eq!(verdict.first_bad_seq, None, "the events themselves are what was written");
        }
    }

    /// Catches a gap that is taken for damage, damage that hides beside or behind a gap, and a stream whose bytes were
    /// changed before all of them were dropped.
    #[test]
    fn what_is_kept_beside_gaps_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let log = EventLog::open(home.log(), Options::default()).unwrap();
        let outputs = Outputs::open(home.outputs()).unwrap();
        let dropped = |exec, from, to, bytes: &[u8]| {
            let policy = DropPolicy::Stream { bytes_max: 1 };
            let (workspace, stream, digest) = (KEPT, stdout(exec), *blake3::hash(bytes).as_bytes());
            Event::OutputDropped(OutputDropped { workspace, stream, from, to, digest, policy })
        };
        let ended = |exec, kept: &[u8]| {
            let stdout = StreamSummary { len_bytes: 7, ..write(&home, KEPT, stdout(exec), kept) };
            let (exec, reason) = (ExecNumber(exec), "lost".to_owned());
            Event::ExecLost(ExecLost { workspace: KEPT, exec, reason, stdout: Some(stdout), stderr: None })
        };
        // The middle of the first went while it grew. The others went as a whole when they had ended, the third after
        // somebody had changed it.
        append(&log, dropped(1, 2, 5, b"int"));
        append(&log, ended(1, b"pred"));
        append(&log, ended(2, b"printed"));
        append(&log, dropped(2, 0, 7, b"printed"));
        append(&log, ended(3, b"printed"));
        append(&log, dropped(3, 0, 7, b"changed"));
        std::fs::write(outputs.path(KEPT, stdout(1)), b"pr\0\0\0ed").unwrap();
        for exec in [2, 3] {
            std::fs::write(outputs.path(KEPT, stdout(exec)), [0; 7]).unwrap();
        }
        let verdict = check(&home, &LogCheck { expected: Vec::new(), live: None });
        assert_eq!(problems(&verdict), [("output", Some(5))]);
        std::fs::write(outputs.path(KEPT, stdout(1)), b"pr\0\0\0eD").unwrap();
        std::fs::write(outputs.path(KEPT, stdout(2)), [0; 6]).unwrap();
        let verdict = check(&home, &LogCheck { expected: Vec::new(), live: None });
        let bad = [2, 3, 5].map(|seq| ("output", Some(seq)));
        assert_eq!(problems(&verdict), bad);
    }

    /// Catches a rewritten or shortened history that is taken for the one whose hash was kept.
    #[test]
    fn hashes_that_were_kept_elsewhere_are_compared() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let log = fill(&home);
        let mut marks: Vec<_> = log.reader().records(Seq(1)).map(Result::unwrap).collect();
        let mark = |record: Record| LogMark { seq: record.seq().0, hash: hex(&record.hash) };
        let mut expected: Vec<_> = marks.drain(..).map(mark).collect();
        expected.push(LogMark { seq: 0, hash: hex(&GENESIS) });
        assert!(check(&home, &LogCheck { expected: expected.clone(), live: None }).whole);
        let wrong = LogMark { seq: 2, hash: expected[2].hash.clone() };
        let missing = LogMark { seq: 8, hash: expected[0].hash.clone() };
        let verdict = check(&home, &LogCheck { expected: vec![wrong, missing], live: None });
        assert_eq!(problems(&verdict), [("expected", Some(2)), ("expected", Some(8))]);
    }

    /// Catches a daemon or a checkpoint whose state does not follow from the log.
    #[test]
    fn the_state_is_the_one_that_the_events_give() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let log = fill(&home);
        let live = LogHead { state_digest: hex(&[7; 32]), ..head(&log) };
        let verdict = check(&home, &LogCheck { expected: Vec::new(), live: Some(live.clone()) });
        assert_eq!(problems(&verdict), [("state", Some(7))]);
        let live = LogHead { hash: hex(&[7; 32]), ..live };
        let verdict = check(&home, &LogCheck { expected: Vec::new(), live: Some(live) });
        assert_eq!(problems(&verdict), [("daemon", Some(7))]);

        let limits = Limits { guests_max: 1, ..Limits::default() };
        log.checkpoints().save(&State { seq: Seq(4), limits, ..State::default() }).unwrap();
        drop(log);
        let verdict = check(&home, &LogCheck::default());
        assert_eq!(
            (verdict.state_compared_with.as_str(), problems(&verdict)),
            ("checkpoint", vec![("state", Some(4))])
        );
    }

    /// Catches a damaged log that cannot be repaired, and one whose damage hides behind what follows from it.
    #[test]
    fn damage_is_named_and_cut() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let log = fill(&home);
        let error = repair_log(&home, None).unwrap_err();
        assert_eq!(error.code, ErrorCode::DaemonRunning, "somebody has the log open");
        drop(log);
        assert_eq!(repair_log(&home, Some(2)).unwrap().damage, None);
        let path = home.log().join("00000000000000000001.seg");
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let verdict = check(&home, &LogCheck::default());
        assert_eq!((problems(&verdict), verdict.first_bad_seq), (vec![("log", Some(7))], Some(7)));
        assert_eq!(verdict.problems[0].file, Some(path.display().to_string()));
        assert_eq!(repair_log(&home, Some(9)).unwrap_err().code, ErrorCode::InvalidArgument);
        let repaired = repair_log(&home, None).unwrap();
        assert_eq!((repaired.seq, repaired.reached_seq), (6, 7));
        let kept = std::path::PathBuf::from(repaired.kept_in.unwrap());
        assert_eq!(std::fs::read(kept.join("00000000000000000001.seg")).unwrap(), bytes);
        assert!(check(&home, &LogCheck::default()).whole);
    }

    /// Catches a check that cannot deal with a log whose beginning was dropped, or that believes what it cannot know.
    #[test]
    fn a_compacted_log_is_checked_from_its_base_on() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let log = fill(&home);
        let marks: Vec<_> = log.reader().records(Seq(1)).map(Result::unwrap).collect();
        let mark = |seq: usize| LogMark { seq: seq as u64, hash: hex(&marks[seq - 1].hash) };
        let compactor = log.compactor();
        compactor.roll().unwrap();
        let policy = Retention { before: Some(Seq(u64::MAX)), ..Retention::default() };
        let written = compactor.plan(policy).unwrap().unwrap().write().unwrap();
        let Command::CompactLog(event) = compaction::signature(written.info()) else {
            panic!("another command")
        };
        append(&log, Event::LogCompacted(event));
        written.finish().unwrap();

        let last = marks.len();
        let verdict = check(&home, &LogCheck { expected: vec![mark(last), mark(last - 1)], live: None });
        assert_eq!(problems(&verdict), [("expected", Some(last as u64 - 1))]);
        assert!(verdict.problems[0].message.contains("was compacted"), "{:?}", verdict.problems);
        let compacted = verdict.compacted.unwrap();
        assert_eq!((compacted.first_seq, compacted.hash), (last as u64 + 1, mark(last).hash));

        let mut state = log.reader().beginning();
        log.reader().read(log.reader().first()).for_each(|envelope| evolve(&mut state, &envelope.unwrap()));
        let state_digest = hex(&state_digest(&state).unwrap());
        let live = LogHead { seq: log.head().seq.0, hash: hex(&log.head().hash), state_digest };
        let verdict = check(&home, &LogCheck { expected: vec![mark(last)], live: Some(live) });
        assert_eq!((verdict.whole, verdict.state_compared_with.as_str()), (true, "daemon"));
    }
}
