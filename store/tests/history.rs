//! A history in which everything happens that a compaction must know of, and the golden copies of it.

use std::path::{Path, PathBuf};

use pyro_core::{
    Cause, DeleteReason, Envelope, Event, ExecExited, ExecNumber, ExecRequested, ExecStarted, ExitStatus,
    Face, Lifetime, LogCompacted, RetentionPolicy, Seq, State, StreamSummary, Timestamp, WorkspaceCreated,
    WorkspaceDeleted, WorkspaceId, WorkspaceKind, WorkspaceSpec, evolve,
};
use pyro_store::{BaseInfo, Draft, Dropped, EventLog, Retention, verify};

use crate::sample;

/// A workspace that lives on.
pub(crate) const LIVE: u8 = 1;

fn draft(number: u64, event: Event) -> Draft {
    let cause = Cause::Request(sample::request(number));
    Draft { at: Timestamp(1_000 + number), actor: sample::actor(Face::Cli), cause, event }
}

fn created(workspace: WorkspaceId) -> Event {
    let spec = WorkspaceSpec {
        environment: "debian:12".parse().unwrap(),
        environment_version: "1.0.0".to_owned(),
        vcpu_count: 1,
        mem_mib: 1024,
        ttl_seconds: 0,
        network: false,
        allow_host_compat: false,
    };
    let (kind, lifetime) = (WorkspaceKind::Workspace, Lifetime::Ttl);
    Event::WorkspaceCreated(WorkspaceCreated { workspace, kind, lifetime, spec })
}

/// Returns what happens in one request: a command in a workspace, from its wish to its end.
fn command(workspace: WorkspaceId, exec: u32, number: u64) -> Vec<Draft> {
    let exec = ExecNumber(exec);
    let summary = |byte| StreamSummary { len_bytes: 1, digest: [byte; 32] };
    let (command, cwd) = (format!("make {number}"), None);
    let events = [
        Event::ExecRequested(ExecRequested { workspace, exec, command, cwd, timeout_ms: 1000 }),
        Event::ExecStarted(ExecStarted { workspace, exec, guest_pid: 7 }),
        Event::ExecExited(ExecExited {
            workspace,
            exec,
            status: ExitStatus::Code(0),
            duration_ms: 5,
            stdout: summary(1),
            stderr: summary(2),
        }),
    ];
    events.map(|event| draft(number, event)).to_vec()
}

/// Returns batches: a workspace that lives on and runs a command now and then, and others that come and go.
pub(crate) fn batches() -> Vec<Vec<Draft>> {
    let mut batches = vec![vec![draft(0, created(sample::workspace(LIVE)))]];
    for round in 1..=20_u8 {
        let (other, number) = (sample::workspace(100 + round), u64::from(round) * 10);
        batches.push(vec![draft(number, created(other))]);
        batches.push(command(other, 1, number + 1));
        let (workspace, reason) = (other, DeleteReason::Explicit);
        let deleted = Event::WorkspaceDeleted(WorkspaceDeleted { workspace, reason });
        batches.push(vec![draft(number + 2, deleted)]);
        batches.push(command(sample::workspace(LIVE), u32::from(round), number + 3));
    }
    batches
}

/// Fills a log with the history.
pub(crate) fn fill(dir: &Path) -> EventLog {
    let log = sample::open_small(dir);
    for batch in batches() {
        log.append(batch).unwrap();
    }
    log
}

pub(crate) fn fold<'a>(envelopes: impl IntoIterator<Item = &'a Envelope>) -> State {
    let mut state = State::default();
    envelopes.into_iter().for_each(|envelope| evolve(&mut state, envelope));
    state
}

/// Returns the event that signs a compaction off.
pub(crate) fn signature(dropped: Dropped, base: BaseInfo) -> Draft {
    let Dropped { first, hash, records, bytes, since, until, .. } = dropped;
    let policy = RetentionPolicy { keep_days: None, keep_mib: None, before: Some(first) };
    let event = LogCompacted { first, hash, base: base.digest, records, bytes, since, until, policy };
    draft(9_000 + dropped.first.0, Event::LogCompacted(event))
}

/// Compacts a log as the daemon does.
pub(crate) fn compact(log: &EventLog, before: u64) -> Dropped {
    let retention = Retention { before: Some(Seq(before)), ..Retention::default() };
    let compaction = log.compactor().plan(retention).unwrap().unwrap();
    let dropped = compaction.dropped();
    let written = compaction.write().unwrap();
    log.append(vec![signature(dropped, written.info())]).unwrap();
    written.finish().unwrap();
    dropped
}

fn golden(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version).join("history")
}

/// Catches a reader that no longer understands a whole log of an older version: segments, a base that stands for others, the
/// event that signs it off, the anchor. With `PYRO_WRITE_GOLDEN=1` the history is written where there is none.
#[test]
fn the_history_of_version_1_is_read() {
    let golden = golden("v1");
    if std::env::var_os("PYRO_WRITE_GOLDEN").is_some() && !golden.exists() {
        let dir = sample::dir();
        let log = fill(dir.path());
        compact(&log, 60);
        compact(&log, 100);
        drop(log);
        sample::copy_log(dir.path(), &golden);
    }
    let dir = sample::dir();
    sample::copy_log(&golden, dir.path());
    assert_eq!(verify(dir.path()).unwrap().damage, None);
    let log = sample::open_small(dir.path());
    let (all, reader) = (sample::envelopes(&batches().concat()), log.reader());
    let first = usize::try_from(reader.first().0).unwrap();
    assert!((60..=100).contains(&first), "{first}");
    let read = sample::read(&log);
    let (kept, signatures) = read.split_at(all.len() + 1 - first);
    assert_eq!(kept, &all[first - 1..]);
    assert_eq!(
        signatures.iter().map(|envelope| envelope.event.kind()).collect::<Vec<_>>(),
        ["log_compacted"; 2]
    );
    assert_eq!(reader.beginning(), fold(&all[..first - 1]));
}
