//! Rules for shells and syncs.

use super::*;
use crate::event::{
    ShellExited, ShellSignal, ShellStarted, SyncFailed, SyncFinished, SyncSource, SyncSourceKind,
    TerminalSize,
};
use crate::ids::{ShellId, SyncNumber};
use crate::state::{ShellEnd, ShellPhase};

const SHELL: ShellId = ShellId::from_bytes([3; 6]);
const SIZE: TerminalSize = TerminalSize { columns: 120, rows: 30 };

fn open_shell() -> Command {
    Command::OpenShell { workspace: ID, shell: SHELL, cwd: "/workspace".to_string(), size: SIZE }
}

fn shell_started() -> Command {
    Command::RecordShellStarted(ShellStarted { workspace: ID, shell: SHELL, guest_pid: 5 })
}

fn shell_exited() -> Command {
    Command::RecordShellExited(ShellExited {
        workspace: ID,
        shell: SHELL,
        status: ExitStatus::Code(3),
        output: StreamSummary { len_bytes: 0, digest: [0; 32] },
    })
}

fn input(len: usize) -> Command {
    Command::TypeInput { workspace: ID, shell: SHELL, data: vec![b'x'; len] }
}

fn close() -> Command {
    Command::CloseShell { workspace: ID, shell: SHELL }
}

fn with_shell() -> Vec<Command> {
    vec![super::open(ID, None), started(ID), open_shell(), shell_started()]
}

fn source() -> SyncSource {
    SyncSource { kind: SyncSourceKind::Directory, path: "/src".to_string() }
}

fn push() -> Command {
    let (destination, changes) = ("a".to_string(), None);
    Command::RequestSync { workspace: ID, source: source(), destination, changes }
}

fn seeded() -> Command {
    Command::OpenWorkspace { workspace: ID, spec: spec(), tags: Tags::default(), seed: Some(source()) }
}

fn sync_failed() -> Command {
    let (reason, refused) = ("no".to_string(), true);
    Command::RecordSyncFailed(SyncFailed { workspace: ID, sync: SyncNumber(1), reason, refused })
}

#[test]
fn input_is_one_stream_in_frames_of_the_guest() {
    let (state, actions) = given(&[with_shell(), vec![input(100_000), input(5)]].concat());
    let offsets: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::TypeInput { offset, data, .. } => Some((*offset, data.len())),
            _ => None,
        })
        .collect();
    assert_eq!(offsets, [(0, 65_536), (65_536, 34_464), (100_000, 5)]);
    assert_eq!(state.workspace(ID).unwrap().shells[&SHELL].input_len, 100_005);
}

#[test]
fn only_a_running_shell_is_written_to() {
    let wishes = [
        input(1),
        Command::SignalShell { workspace: ID, shell: SHELL, signal: ShellSignal::Int },
        Command::ResizeShell { workspace: ID, shell: SHELL, size: TerminalSize { columns: 1, rows: 1 } },
    ];
    let not_yet = [super::open(ID, None), started(ID), open_shell()].to_vec();
    let ended = [with_shell(), vec![shell_exited()]].concat();
    let closing = [with_shell(), vec![close()]].concat();
    for wish in &wishes {
        for history in [&not_yet, &ended, &closing] {
            assert!(matches!(when(history, wish), Err(Rejection::WrongShellPhase { .. })), "{wish:?}");
        }
        assert_eq!(when(&with_shell(), wish).unwrap().len(), 1);
    }
    let unknown = when(&[super::open(ID, None), started(ID)], &input(1));
    assert!(matches!(unknown, Err(Rejection::UnknownShell { .. })));
}

#[test]
fn shell_stays_readable_until_it_is_closed() {
    let (state, _) = given(&[with_shell(), vec![shell_exited()]].concat());
    let phase = &state.workspace(ID).unwrap().shells[&SHELL].phase;
    assert!(matches!(phase, ShellPhase::Ended { end: ShellEnd::Exited(ExitStatus::Code(3)), .. }));
    let (state, _) = given(&[with_shell(), vec![shell_exited(), close()]].concat());
    assert!(state.workspace(ID).unwrap().shells.is_empty());
}

#[test]
fn closing_a_running_shell_ends_it_first() {
    assert_eq!(when(&with_shell(), &close()), Ok(vec!["shell_closing"]));
    let closing = [with_shell(), vec![close()]].concat();
    assert_eq!(when(&closing, &close()), Ok(vec![]), "whoever closes it too waits for the same end");
    assert_eq!(when(&closing, &shell_exited()), Ok(vec!["shell_exited", "shell_closed"]));
}

#[test]
fn death_of_a_guest_loses_its_shells_and_syncs() {
    let history = [with_shell(), vec![push()]].concat();
    assert_eq!(when(&history, &guest_died(ID)), Ok(vec!["shell_lost", "sync_lost", "workspace_stopped"]));
    let (state, _) = given(&[history, vec![guest_died(ID)]].concat());
    let workspace = state.workspace(ID).unwrap();
    assert!(matches!(workspace.shells[&SHELL].phase, ShellPhase::Ended { end: ShellEnd::Lost(_), .. }));
}

#[test]
fn shells_are_bounded_and_their_ids_taken_once() {
    assert!(matches!(when(&with_shell(), &open_shell()), Err(Rejection::ShellExists { .. })));
    let mut history = vec![super::open(ID, None), started(ID)];
    for number in 0..128 {
        let shell = ShellId::from_bytes([0, 0, 0, 0, 0, number]);
        history.push(Command::OpenShell { workspace: ID, shell, cwd: ".".to_string(), size: SIZE });
    }
    assert!(matches!(when(&history, &open_shell()), Err(Rejection::LimitReached { what: "shells", .. })));
}

#[test]
fn seed_is_sent_when_the_guest_answers() {
    let events = when(&[], &seeded()).unwrap();
    assert_eq!(events, ["workspace_created", "sync_requested", "workspace_starting"]);
    let (_, actions) = given(&[seeded(), started(ID)]);
    assert_eq!(
        actions,
        [Action::Boot { workspace: ID }, Action::Sync { workspace: ID, sync: SyncNumber(1) }]
    );
}

#[test]
fn workspace_without_its_seed_is_deleted() {
    let history = [seeded(), started(ID)];
    assert_eq!(when(&history, &sync_failed()), Ok(vec!["sync_failed", "workspace_deleting"]));
    assert_eq!(
        when(&history, &guest_died(ID)),
        Ok(vec!["sync_lost", "workspace_stopped", "workspace_deleting"])
    );
    let boot_failed =
        Command::RecordStartFailed(WorkspaceStartFailed { workspace: ID, reason: "no".to_string() });
    assert_eq!(
        when(&[seeded()], &boot_failed),
        Ok(vec!["workspace_start_failed", "sync_failed", "workspace_deleting"])
    );
}

#[test]
fn failed_push_leaves_the_workspace() {
    let history = [super::open(ID, None), started(ID), push()];
    assert_eq!(when(&history, &sync_failed()), Ok(vec!["sync_failed"]));
    assert_eq!(
        when(&[history.to_vec(), vec![sync_failed()]].concat(), &sync_failed()),
        Err(Rejection::Stale)
    );
}

#[test]
fn seed_is_remembered() {
    let finished = Command::RecordSyncFinished(SyncFinished {
        workspace: ID,
        sync: SyncNumber(1),
        entry_count: 7,
        bytes_written: 8,
        digest: None,
    });
    let (state, _) = given(&[seeded(), started(ID), finished]);
    let workspace = state.workspace(ID).unwrap();
    let seed = workspace.seed.as_ref().unwrap();
    assert_eq!((seed.entry_count, seed.bytes_written, workspace.sync_count), (7, 8, 1));
    assert!(workspace.open_syncs.is_empty());
}
