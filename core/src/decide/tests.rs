//! Rules by given / when / then.

mod output;
mod work;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;

use super::decide;
use crate::event::{
    Accelerator, Actor, Backend, Cause, ClockObserved, DeleteReason, Envelope, Event, Evidence, ExecExited,
    ExecRequested, ExitStatus, Face, Lifetime, LogCompacted, Mounted, Operation, OperationResolved, Process,
    RetentionPolicy, StopReason, StreamSummary, Unmounted, WorkspaceKind, WorkspaceSpec,
    WorkspaceStartFailed, WorkspaceStarted, WorkspaceStopped,
};
use crate::ids::{ExecNumber, Seq, Timestamp, WorkspaceId};
use crate::rejection::Rejection;
use crate::state::State;
use crate::tags::Tags;
use crate::{Action, Command, evolve, react};

const ID: WorkspaceId = WorkspaceId::from_bytes([1; 6]);
const OTHER: WorkspaceId = WorkspaceId::from_bytes([2; 6]);

fn spec() -> WorkspaceSpec {
    WorkspaceSpec {
        environment: "debian:12".parse().unwrap(),
        environment_version: "1.0.0".to_string(),
        vcpu_count: 1,
        mem_mib: 1024,
        ttl_seconds: 600,
        network: false,
        allow_host_compat: false,
    }
}

fn run() -> Command {
    Command::Run { workspace: ID, spec: spec(), command: "true".to_string(), timeout_ms: 30_000 }
}

fn create(id: WorkspaceId, kind: WorkspaceKind) -> Command {
    Command::CreateWorkspace { workspace: id, kind, lifetime: Lifetime::Ttl, spec: spec() }
}

fn started(id: WorkspaceId) -> Command {
    Command::RecordStarted(WorkspaceStarted {
        workspace: id,
        backend: Backend::Qemu,
        accelerator: Accelerator::Tcg,
        process: Process { pid: 7, start_ticks: 8 },
        boot_ms: 9,
    })
}

fn request(id: WorkspaceId) -> Command {
    Command::RequestExec { workspace: id, command: "true".to_string(), cwd: None, timeout_ms: 1000 }
}

fn exited(id: WorkspaceId, number: u32) -> Command {
    let empty = StreamSummary { len_bytes: 0, digest: [0; 32] };
    Command::RecordExecExited(ExecExited {
        workspace: id,
        exec: ExecNumber(number),
        status: ExitStatus::Code(0),
        duration_ms: 1,
        stdout: empty.clone(),
        stderr: empty,
    })
}

fn guest_died(id: WorkspaceId) -> Command {
    Command::RecordStopped(WorkspaceStopped {
        workspace: id,
        reason: StopReason::GuestDied("killed".to_string()),
    })
}

/// Folds accepted commands and returns the state with the actions that followed.
fn given(commands: &[Command]) -> (State, Vec<Action>) {
    let mut state = State::default();
    let mut actions = Vec::new();
    for command in commands {
        for event in decide(&state, command).unwrap() {
            let envelope = envelope(state.seq.next(), event);
            evolve(&mut state, &envelope);
            actions.extend(react(&state, &envelope.event));
        }
    }
    (state, actions)
}

fn envelope(seq: Seq, event: Event) -> Envelope {
    let actor = Actor { face: Face::Cli, uid: 0, pid: 1, client: String::new() };
    Envelope { seq, at: Timestamp(seq.0), actor, cause: Cause::Observation, event }
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::kind).collect()
}

fn when(commands: &[Command], command: &Command) -> Result<Vec<&'static str>, Rejection> {
    let (state, _) = given(commands);
    decide(&state, command).map(|events| kinds(&events))
}

#[test]
fn run_is_accepted_as_a_whole() {
    assert_eq!(when(&[], &run()), Ok(vec!["workspace_created", "workspace_starting", "exec_requested"]));
}

#[test]
fn run_sends_its_command_only_when_the_guest_answers() {
    let (_, actions) = given(&[run()]);
    assert_eq!(actions, [Action::Boot { workspace: ID }]);
    let (_, actions) = given(&[run(), started(ID)]);
    assert_eq!(
        actions,
        [Action::Boot { workspace: ID }, Action::Exec { workspace: ID, exec: ExecNumber(1) }]
    );
}

#[test]
fn end_of_the_command_and_deletion_of_its_vm_are_one_batch() {
    assert_eq!(when(&[run(), started(ID)], &exited(ID, 1)), Ok(vec!["exec_exited", "workspace_deleting"]));
}

#[test]
fn failed_boot_of_a_run_ends_the_exec_and_deletes_the_vm() {
    let failed = Command::RecordStartFailed(WorkspaceStartFailed { workspace: ID, reason: "no".to_string() });
    assert_eq!(
        when(&[run()], &failed),
        Ok(vec!["workspace_start_failed", "exec_failed", "workspace_deleting"])
    );
}

#[test]
fn death_of_a_guest_loses_its_open_execs_first() {
    let workspace = [
        create(ID, WorkspaceKind::Workspace),
        Command::StartWorkspace { workspace: ID },
        started(ID),
        request(ID),
        request(ID),
    ];
    assert_eq!(when(&workspace, &guest_died(ID)), Ok(vec!["exec_lost", "exec_lost", "workspace_stopped"]));
    assert_eq!(
        when(&[run(), started(ID)], &guest_died(ID)),
        Ok(vec!["exec_lost", "workspace_stopped", "workspace_deleting"])
    );
}

#[test]
fn exec_results_are_recorded_once() {
    let commands = [
        create(ID, WorkspaceKind::Workspace),
        Command::StartWorkspace { workspace: ID },
        started(ID),
        request(ID),
        exited(ID, 1),
    ];
    assert_eq!(
        when(&commands, &exited(ID, 1)),
        Err(Rejection::UnknownExec { workspace: ID, exec: ExecNumber(1) })
    );
}

#[test]
fn exec_needs_a_started_guest() {
    for commands in [vec![create(ID, WorkspaceKind::Workspace)], vec![run()]] {
        assert!(matches!(when(&commands, &request(ID)), Err(Rejection::WrongPhase { .. })));
    }
    assert_eq!(when(&[], &request(ID)), Err(Rejection::UnknownWorkspace { workspace: ID }));
}

#[test]
fn vm_takes_one_command_at_a_time() {
    let commands =
        [create(ID, WorkspaceKind::Vm), Command::StartWorkspace { workspace: ID }, started(ID), request(ID)];
    assert!(matches!(when(&commands, &request(ID)), Err(Rejection::LimitReached { .. })));
}

#[test]
fn numbers_outside_their_bounds_are_named() {
    let cases = [
        ("vcpu_count", WorkspaceSpec { vcpu_count: 0, ..spec() }),
        ("vcpu_count", WorkspaceSpec { vcpu_count: 33, ..spec() }),
        ("mem_mib", WorkspaceSpec { mem_mib: 1, ..spec() }),
        ("mem_mib", WorkspaceSpec { mem_mib: 1 << 40, ..spec() }),
        ("ttl_seconds", WorkspaceSpec { ttl_seconds: 59, ..spec() }),
    ];
    for (name, spec) in cases {
        let command = Command::Run { workspace: ID, spec, command: "true".to_string(), timeout_ms: 1000 };
        assert!(
            matches!(when(&[], &command), Err(Rejection::OutOfRange { field, .. }) if field == name),
            "{name}"
        );
    }
}

#[test]
fn commands_that_cannot_run_are_refused() {
    let run = |command: &str, timeout_ms| Command::Run {
        workspace: ID,
        spec: spec(),
        command: command.to_string(),
        timeout_ms,
    };
    assert_eq!(when(&[], &run(" ", 1000)), Err(Rejection::EmptyCommand));
    assert_eq!(when(&[], &run("a\0b", 1000)), Err(Rejection::NulInCommand));
    assert!(matches!(
        when(&[], &run("true", 0)),
        Err(Rejection::OutOfRange { field: "timeout_seconds", .. })
    ));
    let long = "x".repeat(128 * 1024 + 1);
    assert!(matches!(when(&[], &run(&long, 1000)), Err(Rejection::CommandTooLong { .. })));
}

#[test]
fn memory_is_reserved_from_start_to_deletion() {
    let mut commands = Vec::new();
    for index in 0..4 {
        let id = WorkspaceId::from_bytes([index + 10; 6]);
        commands.extend([create(id, WorkspaceKind::Workspace), Command::StartWorkspace { workspace: id }]);
    }
    commands.push(create(OTHER, WorkspaceKind::Workspace));
    let start = Command::StartWorkspace { workspace: OTHER };
    assert!(matches!(
        when(&commands, &start),
        Err(Rejection::LimitReached { what: "MiB of guest memory", .. })
    ));

    let first = WorkspaceId::from_bytes([10; 6]);
    commands.push(Command::DeleteWorkspace { workspace: first, reason: DeleteReason::Explicit });
    assert!(when(&commands, &start).is_err(), "a guest that is being deleted still occupies memory");
    commands.push(Command::RecordDeleted { workspace: first });
    assert_eq!(when(&commands, &start), Ok(vec!["workspace_starting"]));
}

#[test]
fn deletion_wins_over_a_boot_that_finishes_late() {
    let commands = [run(), Command::DeleteWorkspace { workspace: ID, reason: DeleteReason::ClientGone }];
    assert_eq!(when(&commands, &started(ID)), Err(Rejection::Stale));
    assert_eq!(
        when(&commands, &Command::RecordDeleted { workspace: ID }),
        Ok(vec!["exec_lost", "workspace_deleted"])
    );
}

#[test]
fn repeated_wishes_change_nothing() {
    let delete = Command::DeleteWorkspace { workspace: ID, reason: DeleteReason::Explicit };
    assert_eq!(when(&[run(), delete.clone()], &delete), Ok(vec![]));
    let cancel = Command::CancelExec { workspace: ID, exec: ExecNumber(1) };
    assert_eq!(when(&[run(), cancel.clone()], &cancel), Ok(vec![]));
    let stop = Command::StopWorkspace { workspace: ID };
    assert_eq!(when(&[create(ID, WorkspaceKind::Vm)], &stop), Ok(vec![]));
}

#[test]
fn ids_are_never_taken_twice() {
    assert_eq!(when(&[run()], &run()), Err(Rejection::WorkspaceExists { workspace: ID }));
}

#[test]
fn exec_numbers_go_on_after_a_restart_of_the_guest() {
    let stop = Command::RecordStopped(WorkspaceStopped { workspace: ID, reason: StopReason::Requested });
    let commands = [
        create(ID, WorkspaceKind::Workspace),
        Command::StartWorkspace { workspace: ID },
        started(ID),
        request(ID),
        Command::StopWorkspace { workspace: ID },
        stop,
        Command::StartWorkspace { workspace: ID },
        started(ID),
    ];
    let (state, _) = given(&commands);
    let events = decide(&state, &request(ID)).unwrap();
    assert!(matches!(&events[..], [Event::ExecRequested(ExecRequested { exec: ExecNumber(2), .. })]));
}

fn open(id: WorkspaceId, name: Option<&str>) -> Command {
    let tags = Tags { name: name.map(str::to_string), labels: BTreeMap::new() };
    Command::OpenWorkspace { workspace: id, spec: spec(), tags, seed: None }
}

#[test]
fn workspace_is_opened_as_a_whole() {
    assert_eq!(when(&[], &open(ID, None)), Ok(vec!["workspace_created", "workspace_starting"]));
    assert_eq!(
        when(&[], &open(ID, Some("web"))),
        Ok(vec!["workspace_created", "workspace_labeled", "workspace_starting"])
    );
    let full: Vec<_> = (0..4).map(|index| open(WorkspaceId::from_bytes([index + 10; 6]), None)).collect();
    assert!(matches!(when(&full, &open(ID, None)), Err(Rejection::LimitReached { .. })));
}

#[test]
fn workspace_that_does_not_boot_when_it_is_created_is_deleted() {
    let failed = Command::RecordStartFailed(WorkspaceStartFailed { workspace: ID, reason: "no".to_string() });
    assert_eq!(when(&[open(ID, None)], &failed), Ok(vec!["workspace_start_failed", "workspace_deleting"]));
    let again = [open(ID, None), started(ID), guest_died(ID), Command::StartWorkspace { workspace: ID }];
    assert_eq!(when(&again, &failed), Ok(vec!["workspace_start_failed"]), "its files are kept");
}

#[test]
fn name_belongs_to_one_workspace_at_a_time() {
    let first = open(ID, Some("web"));
    assert!(matches!(
        when(core::slice::from_ref(&first), &open(OTHER, Some("web"))),
        Err(Rejection::NameTaken { workspace: ID, .. })
    ));
    let delete = Command::DeleteWorkspace { workspace: ID, reason: DeleteReason::Explicit };
    let deleted = [first, delete, Command::RecordDeleted { workspace: ID }];
    assert!(when(&deleted, &open(OTHER, Some("web"))).is_ok());
}

#[test]
fn names_and_labels_can_stand_in_paths_and_lines() {
    for name in ["", ".", "..", "a/b", "-x", "a b", "ä", "x\n", &"x".repeat(65)] {
        assert!(
            matches!(when(&[], &open(ID, Some(name))), Err(Rejection::InvalidText { field: "name", .. })),
            "{name:?}"
        );
    }
    let labeled = |key: &str, value: &str| {
        let labels = BTreeMap::from([(key.to_string(), value.to_string())]);
        Command::OpenWorkspace { workspace: ID, spec: spec(), tags: Tags { name: None, labels }, seed: None }
    };
    assert!(when(&[], &labeled("team.a", "any text, also ünïcode")).is_ok());
    for (key, value) in [("a b", ""), ("", "x"), ("a", "\u{1b}[2J"), ("a", &"x".repeat(257))] {
        assert!(matches!(when(&[], &labeled(key, value)), Err(Rejection::InvalidText { .. })), "{key:?}");
    }
}

#[test]
fn last_exec_is_the_one_that_exited_last() {
    let commands = [open(ID, None), started(ID), request(ID), request(ID), exited(ID, 2), exited(ID, 1)];
    let (state, _) = given(&commands);
    let workspace = state.workspace(ID).unwrap();
    assert_eq!(workspace.last_exec.as_ref().map(|exec| exec.number), Some(ExecNumber(1)));
    assert_eq!(workspace.exec_count, 2);
    let (state, _) = given(&[&commands[..], &[request(ID), guest_died(ID)]].concat());
    let workspace = state.workspace(ID).unwrap();
    assert_eq!(
        workspace.last_exec.as_ref().map(|exec| exec.number),
        Some(ExecNumber(1)),
        "a lost one has no result"
    );
}

fn clock(boot: &str, offset_us: i64) -> Command {
    Command::RecordClock(ClockObserved { host_boot_id: boot.to_string(), offset_us })
}

#[test]
fn a_clock_that_was_set_neither_shortens_nor_lengthens_a_life() {
    const DAY: i64 = 24 * 3600 * 1_000_000;
    let first = 50_000 * DAY;
    let history = [clock("a", first), open(ID, None)];
    let born = given(&history).0.workspace(ID).unwrap().expires_at().unwrap();
    for days in [400, -400, -60_000] {
        let jumped = [history.to_vec(), vec![clock("a", first + days * DAY)]].concat();
        let (state, _) = given(&jumped);
        let expected = Timestamp(born.0.saturating_add_signed(days * DAY));
        assert_eq!(state.workspace(ID).unwrap().expires_at(), Some(expected), "{days} days");
    }
    let rebooted = [history.to_vec(), vec![clock("b", first + DAY)]].concat();
    assert_eq!(given(&rebooted).0.workspace(ID).unwrap().expires_at(), Some(born), "no clock to go by");
}

#[test]
fn a_clock_that_only_drifts_is_no_news() {
    let history = [clock("a", 0)];
    assert_eq!(when(&history, &clock("a", 999_999)), Ok(vec![]));
    assert_eq!(when(&history, &clock("a", -1_000_000)), Ok(vec!["clock_observed"]));
    assert_eq!(when(&history, &clock("b", 0)), Ok(vec!["clock_observed"]));
}

/// Catches a reaping that leaves something, takes what lives, or cannot be told from its record.
#[test]
fn what_has_lived_its_time_is_reaped_at_once() {
    let other = WorkspaceId::from_bytes([2; 6]);
    let history = [open(ID, None), open(other, None)];
    let (state, _) = given(&history);
    let ends = [ID, other].map(|id| state.workspace(id).unwrap().expires_at().unwrap());
    assert!(ends[0] < ends[1]);
    let reap = |now| Command::ReapExpired { now };
    assert_eq!(when(&history, &reap(Timestamp(ends[0].0 - 1))), Ok(vec![]));
    assert_eq!(when(&history, &reap(ends[0])), Ok(vec!["workspace_deleting"]));
    assert_eq!(when(&history, &reap(ends[1])), Ok(vec!["workspace_deleting"; 2]));
    let once = [history.to_vec(), vec![reap(ends[1])]].concat();
    assert_eq!(when(&once, &reap(ends[1])), Ok(vec![]), "they are on their way");
}

/// Catches evidence behind the outcome that it is for.
#[test]
fn evidence_is_for_what_is_open() {
    let resolved = Command::RecordResolved(OperationResolved {
        workspace: ID,
        operation: Operation::Exec(ExecNumber(1)),
        evidence: Evidence::Unknown,
    });
    let history =
        [create(ID, WorkspaceKind::Workspace), Command::StartWorkspace { workspace: ID }, started(ID)];
    assert_eq!(when(&history, &resolved), Err(Rejection::Stale));
    let running = [history.to_vec(), vec![request(ID)]].concat();
    assert_eq!(when(&running, &resolved), Ok(vec!["operation_resolved"]));
    let ended = [running, vec![exited(ID, 1)]].concat();
    assert_eq!(when(&ended, &resolved), Err(Rejection::Stale));
}

/// Catches a mount that comes back although it was taken away, and a log that grows with each start of the daemon.
#[test]
fn a_mount_is_told_once_and_stays_until_it_is_taken_away() {
    let at = |path: &str, allow_other| Mounted { path: path.to_string(), allow_other };
    let mounted = |path: &str, allow_other| Command::RecordMounted(at(path, allow_other));
    let unmounted = |path: &str| Command::RecordUnmounted(Unmounted { path: path.to_string() });
    let history = [mounted("/mnt/a", false), mounted("/mnt/b", false)];
    assert_eq!(when(&history, &mounted("/mnt/a", false)), Ok(vec![]));
    assert_eq!(when(&history, &mounted("/mnt/a", true)), Ok(vec!["mounted"]));
    assert_eq!(when(&history, &unmounted("/mnt/c")), Err(Rejection::Stale));
    let (state, _) = given(&[history.to_vec(), vec![unmounted("/mnt/a"), mounted("/mnt/b", true)]].concat());
    assert_eq!(state.mounts.into_values().collect::<Vec<_>>(), [at("/mnt/b", true)]);
}

/// Catches a compaction that is signed off twice, or that drops what the log does not have.
#[test]
fn the_log_is_dropped_from_its_beginning_only() {
    let compact = |first| {
        Command::CompactLog(LogCompacted {
            first: Seq(first),
            hash: [1; 32],
            base: [2; 32],
            records: 4,
            bytes: 100,
            since: Timestamp(1),
            until: Timestamp(2),
            policy: RetentionPolicy::default(),
        })
    };
    let state = State { seq: Seq(10), ..State::default() };
    for refused in [0, 1, 12] {
        assert!(matches!(decide(&state, &compact(refused)), Err(Rejection::OutOfRange { .. })), "{refused}");
    }
    assert!(decide(&state, &compact(11)).is_ok(), "all that there is");
    let Ok(events) = decide(&state, &compact(5)) else { panic!("it is refused") };
    let [Event::LogCompacted(fact)] = &events[..] else { panic!("{events:?}") };
    let state = State { compacted: Some(fact.clone()), ..state };
    assert!(decide(&state, &compact(5)).is_err());
    assert!(decide(&state, &compact(6)).is_ok());
}
