//! Samples of the events of shells, syncs, clocks and mounts.

use pyro_core::{
    AccessFault, AccessRefused, ClockObserved, DropPolicy, Event, Evidence, ExecNumber, ExitStatus,
    LogCompacted, Mounted, Operation, OperationResolved, OutputDropped, RequestMet, RetentionPolicy, Seq,
    ShellClosed, ShellClosing, ShellExited, ShellFailed, ShellId, ShellInput, ShellLost, ShellRequested,
    ShellResized, ShellSignal, ShellSignaled, ShellStarted, Stream, StreamId, SyncCancelRequested,
    SyncChanges, SyncFailed, SyncFinished, SyncLost, SyncNumber, SyncPurpose, SyncRequested, SyncSource,
    SyncSourceKind, TerminalSize, Timestamp, Unmounted, WorkspaceId,
};

use super::{summary, text, workspace};

const SHELL: ShellId = ShellId::from_bytes([0xa, 0xb, 0xc, 0xd, 0xe, 0xf]);
const EXEC: ExecNumber = ExecNumber(1);
const SYNC: SyncNumber = SyncNumber(300);

/// Returns samples of the kind after that of the event; none after the last.
pub(super) fn following_kind(event: &Event) -> Vec<Event> {
    let (workspace, shell, sync) = (workspace(1), SHELL, SYNC);
    match event {
        Event::ExecCancelRequested(_) => {
            let size = TerminalSize { columns: 120, rows: 30 };
            vec![Event::ShellRequested(ShellRequested { workspace, shell, cwd: text(), size })]
        }
        Event::ShellRequested(_) => {
            vec![Event::ShellStarted(ShellStarted { workspace, shell, guest_pid: 77 })]
        }
        Event::ShellStarted(_) => {
            vec![Event::ShellFailed(ShellFailed { workspace, shell, reason: text() })]
        }
        Event::ShellFailed(_) => [ExitStatus::Code(255), ExitStatus::Signal(9)]
            .map(|status| ShellExited { workspace, shell, status, output: summary(1 << 40) })
            .map(Event::ShellExited)
            .to_vec(),
        Event::ShellExited(_) => [None, Some(summary(9))]
            .map(|output| ShellLost { workspace, shell, reason: text(), output })
            .map(Event::ShellLost)
            .to_vec(),
        Event::ShellLost(_) => {
            let data = b"ls\n\x00\xff".to_vec();
            vec![Event::ShellInput(ShellInput { workspace, shell, offset: 65_536, data })]
        }
        Event::ShellInput(_) => {
            let size = TerminalSize { columns: u16::MAX, rows: 1 };
            vec![Event::ShellResized(ShellResized { workspace, shell, size })]
        }
        Event::ShellResized(_) => ShellSignal::ALL
            .map(|signal| Event::ShellSignaled(ShellSignaled { workspace, shell, signal }))
            .to_vec(),
        Event::ShellSignaled(_) => vec![Event::ShellClosing(ShellClosing { workspace, shell })],
        Event::ShellClosing(_) => vec![Event::ShellClosed(ShellClosed { workspace, shell })],
        Event::ShellClosed(_) => sync_requested(workspace),
        Event::SyncRequested(_) => [None, Some([7; 32])]
            .map(|digest| SyncFinished {
                workspace,
                sync,
                entry_count: 20_000,
                bytes_written: 1 << 33,
                digest,
            })
            .map(Event::SyncFinished)
            .to_vec(),
        Event::SyncFinished(_) => [false, true]
            .map(|refused| Event::SyncFailed(SyncFailed { workspace, sync, reason: text(), refused }))
            .to_vec(),
        Event::SyncFailed(_) => vec![Event::SyncLost(SyncLost { workspace, sync, reason: text() })],
        Event::SyncLost(_) => {
            vec![Event::SyncCancelRequested(SyncCancelRequested { workspace, sync })]
        }
        Event::SyncCancelRequested(_) => [i64::MIN, 1_800_000_000_000_000]
            .map(|offset_us| Event::ClockObserved(ClockObserved { host_boot_id: text(), offset_us }))
            .to_vec(),
        Event::ClockObserved(_) => resolved(workspace),
        Event::OperationResolved(_) => [None, Some(workspace)]
            .map(|workspace| Event::RequestMet(RequestMet { workspace, wish: text() }))
            .to_vec(),
        Event::RequestMet(_) => output_dropped(workspace),
        Event::OutputDropped(_) => {
            [false, true].map(|allow_other| Event::Mounted(Mounted { path: text(), allow_other })).to_vec()
        }
        Event::Mounted(_) => vec![Event::Unmounted(Unmounted { path: text() })],
        Event::Unmounted(_) => access_refused(),
        Event::AccessRefused(_) => log_compacted(),
        _ => Vec::new(),
    }
}

fn access_refused() -> Vec<Event> {
    let refused = |(reason, peer_uid)| {
        let (peer, claimed) = ("127.0.0.1:40000".to_owned(), text());
        Event::AccessRefused(AccessRefused { reason, peer, peer_uid, claimed, left_out: 7 })
    };
    [(AccessFault::Host, None), (AccessFault::Origin, Some(0)), (AccessFault::Token, Some(u32::MAX))]
        .map(refused)
        .to_vec()
}

fn log_compacted() -> Vec<Event> {
    let all = RetentionPolicy { keep_days: Some(30), keep_mib: Some(1 << 40), before: Some(Seq(5000)) };
    [RetentionPolicy::default(), all]
        .map(|policy| {
            Event::LogCompacted(LogCompacted {
                first: Seq(4001),
                hash: [0xa5; 32],
                base: [0x5a; 32],
                records: 4000,
                bytes: 1 << 40,
                since: Timestamp(1_760_000_000_000_000),
                until: Timestamp(1_760_000_000_000_001),
                policy,
            })
        })
        .to_vec()
}

fn resolved(workspace: WorkspaceId) -> Vec<Event> {
    let exec = Operation::Exec(ExecNumber(u32::MAX));
    [
        (exec, Evidence::Unknown),
        (Operation::Shell(SHELL), Evidence::Running { stdout_len: 1 << 40, stderr_len: 0 }),
        (exec, Evidence::Exited { status: ExitStatus::TimedOut }),
        (Operation::Sync(SYNC), Evidence::InPlace),
        (Operation::Sync(SYNC), Evidence::Failed { reason: text() }),
        (exec, Evidence::Silent { seen: text() }),
        (exec, Evidence::GuestGone { seen: text() }),
    ]
    .map(|(operation, evidence)| {
        Event::OperationResolved(OperationResolved { workspace, operation, evidence })
    })
    .to_vec()
}

fn output_dropped(workspace: WorkspaceId) -> Vec<Event> {
    let stdout = (StreamId::Exec(EXEC, Stream::Stdout), DropPolicy::Stream { bytes_max: 1 << 27 });
    let stderr = (StreamId::Exec(EXEC, Stream::Stderr), DropPolicy::Workspace { bytes_max: 0 });
    let terminal = (StreamId::Shell(SHELL), DropPolicy::Workspace { bytes_max: 1 << 30 });
    [stdout, stderr, terminal]
        .map(|(stream, policy)| OutputDropped {
            workspace,
            stream,
            from: 1 << 20,
            to: 1 << 33,
            digest: [0xd1; 32],
            policy,
        })
        .map(Event::OutputDropped)
        .to_vec()
}

fn sync_requested(workspace: WorkspaceId) -> Vec<Event> {
    let changes = SyncChanges { changed: vec![b"a/\xff".to_vec()], removed: vec![b"b".to_vec(), Vec::new()] };
    let request = |purpose, kind, changes| {
        Event::SyncRequested(SyncRequested {
            workspace,
            sync: SYNC,
            purpose,
            source: SyncSource { kind, path: text() },
            destination: "/workspace/a".to_owned(),
            changes,
        })
    };
    vec![
        request(SyncPurpose::Seed, SyncSourceKind::Archive, None),
        request(SyncPurpose::Push, SyncSourceKind::Directory, Some(changes)),
    ]
}
