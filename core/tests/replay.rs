//! The fold of the log is the live state, whatever was asked in whatever order.

use proptest::prelude::*;
use pyro_core::{
    Accelerator, Actor, Backend, Carry, Cause, ClockObserved, Command, DeleteReason, DropPolicy, Envelope,
    ExecCancelRequested, ExecExited, ExecFailed, ExecLost, ExecNumber, ExecStarted, ExitStatus, Face,
    Lifetime, Limits, OutputDropped, Phase, Process, Seq, ShellExited, ShellFailed, ShellId, ShellLost,
    ShellSignal, ShellStarted, State, StopReason, Stream, StreamId, StreamSummary, SyncFailed, SyncFinished,
    SyncLost, SyncNumber, SyncSource, SyncSourceKind, Tags, TerminalSize, Timestamp, Workspace, WorkspaceId,
    WorkspaceKind, WorkspaceSpec, WorkspaceStartFailed, WorkspaceStarted, WorkspaceStopped, decide, evolve,
    react, reconcile,
};

fn workspace() -> impl Strategy<Value = WorkspaceId> {
    (0_u8..4).prop_map(|n| WorkspaceId::from_bytes([n; 6]))
}

fn exec() -> impl Strategy<Value = ExecNumber> {
    (1_u32..4).prop_map(ExecNumber)
}

fn spec() -> impl Strategy<Value = WorkspaceSpec> {
    (0_u32..40, 100_u64..3000, prop_oneof![Just(0), 50_u64..700]).prop_map(
        |(vcpu_count, mem_mib, ttl_seconds)| WorkspaceSpec {
            environment: "debian:12".parse().expect("the catalog has it"),
            environment_version: "1.0.0".into(),
            vcpu_count,
            mem_mib,
            ttl_seconds,
            network: false,
            allow_host_compat: false,
        },
    )
}

fn life_command() -> impl Strategy<Value = Command> {
    let kind = prop_oneof![Just(WorkspaceKind::Vm), Just(WorkspaceKind::Workspace)];
    let reason = prop_oneof![
        Just(DeleteReason::Explicit),
        Just(DeleteReason::Expired),
        Just(DeleteReason::ClientGone)
    ];
    prop_oneof![
        2 => (workspace(), kind, spec()).prop_map(|(workspace, kind, spec)| Command::CreateWorkspace {
            workspace, kind, lifetime: Lifetime::Ttl, spec
        }),
        2 => (workspace(), spec(), prop::option::of("[ab]"), any::<bool>()).prop_map(|(workspace, spec, name, seeded)| {
            let (tags, seed) = (Tags { name, ..Tags::default() }, seeded.then(source));
            Command::OpenWorkspace { workspace, spec, tags, seed }
        }),
        2 => (workspace(), spec()).prop_map(|(workspace, spec)| Command::Run {
            workspace, spec, command: "true".into(), timeout_ms: 1000
        }),
        3 => workspace().prop_map(|workspace| Command::StartWorkspace { workspace }),
        4 => workspace().prop_map(|workspace| Command::RecordStarted(WorkspaceStarted {
            workspace,
            backend: Backend::Qemu,
            accelerator: Accelerator::Tcg,
            process: Process { pid: 1, start_ticks: 2 },
            boot_ms: 3,
        })),
        1 => workspace().prop_map(|workspace| Command::RecordStartFailed(WorkspaceStartFailed { workspace, reason: "no".into() })),
        1 => workspace().prop_map(|workspace| Command::StopWorkspace { workspace }),
        1 => workspace().prop_map(|workspace| Command::RecordStopped(WorkspaceStopped {
            workspace, reason: StopReason::GuestDied("gone".into())
        })),
        1 => (workspace(), reason).prop_map(|(workspace, reason)| Command::DeleteWorkspace { workspace, reason }),
        1 => workspace().prop_map(|workspace| Command::RecordDeleted { workspace }),
    ]
}

fn dropped() -> impl Strategy<Value = Command> {
    let stream = prop_oneof![
        exec().prop_map(|exec| StreamId::Exec(exec, Stream::Stdout)),
        Just(StreamId::Shell(ShellId::from_bytes([1; 6]))),
    ];
    (workspace(), stream, 0_u64..3, 1_u64..5).prop_map(|(workspace, stream, from, to)| {
        let policy = DropPolicy::Stream { bytes_max: 1 };
        Command::RecordOutputDropped(OutputDropped { workspace, stream, from, to, digest: [0; 32], policy })
    })
}

fn exec_command() -> impl Strategy<Value = Command> {
    let summary = || StreamSummary { len_bytes: 0, digest: [0; 32] };
    prop_oneof![
        3 => workspace().prop_map(|workspace| Command::RequestExec {
            workspace, command: "true".into(), cwd: None, timeout_ms: 1
        }),
        2 => (workspace(), exec()).prop_map(|(workspace, exec)| Command::RecordExecStarted(ExecStarted {
            workspace, exec, guest_pid: 1
        })),
        2 => (workspace(), exec()).prop_map(move |(workspace, exec)| Command::RecordExecExited(ExecExited {
            workspace, exec, status: ExitStatus::Code(0), duration_ms: 1, stdout: summary(), stderr: summary()
        })),
        1 => (workspace(), exec()).prop_map(|(workspace, exec)| Command::RecordExecFailed(ExecFailed {
            workspace, exec, reason: "no".into()
        })),
        1 => (workspace(), exec()).prop_map(|(workspace, exec)| Command::RecordExecLost(ExecLost {
            workspace, exec, reason: "gone".into(), stdout: None, stderr: None
        })),
        1 => (workspace(), exec()).prop_map(|(workspace, exec)| Command::CancelExec { workspace, exec }),
    ]
}

fn source() -> SyncSource {
    SyncSource { kind: SyncSourceKind::Directory, path: "/src".into() }
}

fn shell_command() -> impl Strategy<Value = Command> {
    let one = || (workspace(), (0_u8..2).prop_map(|n| ShellId::from_bytes([n; 6])));
    let size = TerminalSize { columns: 80, rows: 24 };
    let output = StreamSummary { len_bytes: 0, digest: [0; 32] };
    prop_oneof![
        3 => one().prop_map(move |(workspace, shell)| Command::OpenShell {
            workspace, shell, cwd: ".".into(), size
        }),
        3 => one().prop_map(|(workspace, shell)| Command::RecordShellStarted(ShellStarted {
            workspace, shell, guest_pid: 1
        })),
        1 => one().prop_map(|(workspace, shell)| Command::RecordShellFailed(ShellFailed {
            workspace, shell, reason: "no".into()
        })),
        1 => one().prop_map(move |(workspace, shell)| Command::RecordShellExited(ShellExited {
            workspace, shell, status: ExitStatus::Code(0), output: output.clone()
        })),
        1 => one().prop_map(|(workspace, shell)| Command::RecordShellLost(ShellLost {
            workspace, shell, reason: "gone".into(), output: None
        })),
        2 => (one(), 0_usize..100_000).prop_map(|((workspace, shell), len)| Command::TypeInput {
            workspace, shell, data: vec![0; len]
        }),
        1 => (one(), 2_u16..9).prop_map(|((workspace, shell), columns)| Command::ResizeShell {
            workspace, shell, size: TerminalSize { columns, rows: 2 }
        }),
        1 => one().prop_map(|(workspace, shell)| Command::SignalShell {
            workspace, shell, signal: ShellSignal::Int
        }),
        1 => one().prop_map(|(workspace, shell)| Command::CloseShell { workspace, shell }),
    ]
}

fn sync_command() -> impl Strategy<Value = Command> {
    let one = || (workspace(), (1_u32..4).prop_map(SyncNumber));
    prop_oneof![
        2 => workspace().prop_map(|workspace| Command::RequestSync {
            workspace, source: source(), destination: "a".into(), changes: None
        }),
        1 => one().prop_map(|(workspace, sync)| Command::RecordSyncFinished(SyncFinished {
            workspace, sync, entry_count: 1, bytes_written: 2, digest: None
        })),
        1 => one().prop_map(|(workspace, sync)| Command::RecordSyncFailed(SyncFailed {
            workspace, sync, reason: "no".into(), refused: true
        })),
        1 => one().prop_map(|(workspace, sync)| Command::RecordSyncLost(SyncLost {
            workspace, sync, reason: "gone".into()
        })),
        1 => one().prop_map(|(workspace, sync)| Command::CancelSync { workspace, sync }),
    ]
}

fn host_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        2 => (0_u8..3, -9_i64..9).prop_map(|(boot, seconds)| Command::RecordClock(ClockObserved {
            host_boot_id: boot.to_string(), offset_us: seconds * 1_000_000
        })),
        1 => (1_u32..9).prop_map(|guests_max| Command::RecordLimits(Limits { guests_max, ..Limits::default() })),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => life_command(),
        2 => exec_command(),
        2 => shell_command(),
        1 => sync_command(),
        1 => host_command(),
        1 => dropped(),
    ]
}

/// Plays commands as the engine does; refused ones leave no trace.
fn play(commands: &[Command]) -> (State, Vec<Envelope>) {
    let mut state = State::default();
    let mut log = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        let Ok(events) = decide(&state, command) else { continue };
        for event in events {
            let actor = Actor { face: Face::Cli, uid: 0, pid: 1, client: "test".into() };
            let at = Timestamp(index as u64);
            let envelope = Envelope { seq: state.seq.next(), at, actor, cause: Cause::Observation, event };
            evolve(&mut state, &envelope);
            for action in react(&state, &envelope.event) {
                assert!(
                    state.workspace(action.workspace()).is_some(),
                    "{action:?} for a workspace that is not there"
                );
            }
            log.push(envelope);
        }
    }
    (state, log)
}

fn check_invariants(state: &State) {
    assert!(state.workspaces.len() <= state.limits.workspaces_max as usize);
    assert!(state.mem_mib_reserved() <= state.limits.mem_mib_total, "memory is over-committed");
    for (id, workspace) in &state.workspaces {
        if matches!(workspace.phase, Phase::Created | Phase::Stopped(_)) {
            assert!(workspace.open_execs.is_empty(), "{id} has open execs without a guest");
            assert!(workspace.open_syncs.is_empty(), "{id} has open syncs without a guest");
            let open = workspace.shells.values().any(|shell| shell.phase.is_open());
            assert!(!open, "{id} has open shells without a guest");
        }
        let same_name =
            |other: &&std::sync::Arc<Workspace>| other.name.is_some() && other.name == workspace.name;
        assert!(state.workspaces.values().filter(same_name).count() <= 1, "{id} shares its name");
        assert!(workspace.open_execs.keys().all(|number| number.0 <= workspace.exec_count));
    }
    for action in reconcile(state) {
        assert!(state.workspace(action.workspace()).is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn fold_of_the_log_is_the_live_state(commands in prop::collection::vec(command(), 0..120)) {
        let (live, log) = play(&commands);
        let mut replayed = State::default();
        for envelope in &log {
            evolve(&mut replayed, envelope);
        }
        prop_assert_eq!(&replayed, &live);
        check_invariants(&live);
    }

    #[test]
    fn the_same_commands_give_the_same_log(commands in prop::collection::vec(command(), 0..60)) {
        prop_assert_eq!(play(&commands).1, play(&commands).1);
    }

    /// Catches an event that is dropped although a state, or what is told of a workspace, depends on it.
    #[test]
    fn what_is_carried_over_gives_the_same_state(
        commands in prop::collection::vec(command(), 0..120),
        cuts in (0_usize..100, 0_usize..100),
    ) {
        let (live, mut log) = play(&commands);
        // A second compaction begins with what the first one left.
        for cut in [cuts.0.min(cuts.1), cuts.0.max(cuts.1)] {
            let cut = Seq(live.seq.0 * cut as u64 / 100);
            let mut carry = Carry::default();
            log.iter().take_while(|envelope| envelope.seq <= cut).for_each(|envelope| carry.see(envelope));
            log.retain(|envelope| envelope.seq > cut || carry.needs(envelope));
            let mut replayed = State::default();
            log.iter().for_each(|envelope| evolve(&mut replayed, envelope));
            replayed.seq = live.seq;
            prop_assert_eq!(&replayed, &live);
            let carried = log.iter().filter(|envelope| envelope.seq <= cut);
            for envelope in carried.filter(|envelope| envelope.event.workspace().is_some()) {
                let boot = envelope.event.kind() == "workspace_started";
                let workspace = envelope.event.workspace().and_then(|id| carry.state().workspace(id));
                prop_assert!(boot || workspace.is_some(), "{:?} is of nobody", envelope);
            }
        }
    }

    #[test]
    fn every_prefix_of_the_log_keeps_the_invariants(commands in prop::collection::vec(command(), 0..60)) {
        for end in 0..=commands.len() {
            check_invariants(&play(&commands[..end]).0);
        }
    }
}

#[test]
fn events_about_what_is_not_there_are_folded_quietly() {
    let mut state = State::default();
    let actor = Actor { face: Face::Daemon, uid: 0, pid: 1, client: String::new() };
    let event = pyro_core::Event::ExecCancelRequested(ExecCancelRequested {
        workspace: WorkspaceId::from_bytes([9; 6]),
        exec: ExecNumber(1),
    });
    let envelope =
        Envelope { seq: state.seq.next(), at: Timestamp(0), actor, cause: Cause::Observation, event };
    evolve(&mut state, &envelope);
    assert_eq!(state, State { seq: envelope.seq, ..State::default() });
}
