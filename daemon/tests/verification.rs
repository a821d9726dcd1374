//! What `pyro log verify` finds in the output files of a home, and what it needs a kept head for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use pyro_api::{Home, LogCheck, LogMark, LogVerdict};
use pyro_core::{
    Actor, Cause, Event, ExecExited, ExecNumber, ExitStatus, Face, Gaps, Seq, ShellExited, ShellId,
    Timestamp, WorkspaceId,
};
use pyro_daemon::verify_log;
use pyro_store::outputs::{Outputs, Stream, StreamId};
use pyro_store::{Draft, EventLog, Options, verify_records};
use tempfile::TempDir;

const WORKSPACE: WorkspaceId = WorkspaceId::from_bytes([1, 2, 3, 4, 5, 6]);
const EXEC: ExecNumber = ExecNumber(3);
const SHELL: ShellId = ShellId::from_bytes([6, 5, 4, 3, 2, 1]);

/// A home with a command and a shell that have ended, and no daemon.
struct Written {
    _dir: TempDir,
    home: Home,
    /// The files with their output.
    outputs: Vec<PathBuf>,
    drafts: Vec<Draft>,
}

fn written() -> Written {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(&dir.path().join("home")).unwrap();
    home.create().unwrap();
    let files = Outputs::open(home.outputs()).unwrap();
    let write = |stream, bytes: &[u8]| {
        let mut writer = files.create(WORKSPACE, stream).unwrap();
        for (offset, at) in [(0, 5), (bytes.len() / 2, 50_000)] {
            writer.append(offset as u64, &bytes[offset..], Timestamp(at)).unwrap();
        }
        writer.finish(&Gaps::default()).unwrap()
    };
    let (stdout, stderr) = (StreamId::Exec(EXEC, Stream::Stdout), StreamId::Exec(EXEC, Stream::Stderr));
    let exited = Event::ExecExited(ExecExited {
        workspace: WORKSPACE,
        exec: EXEC,
        status: ExitStatus::Code(0),
        duration_ms: 1,
        stdout: write(stdout, b"what a command said\n"),
        stderr: write(stderr, b"and what went wrong\n"),
    });
    let shell = StreamId::Shell(SHELL);
    let output = write(shell, b"$ exit\r\n");
    let closed = Event::ShellExited(ShellExited {
        workspace: WORKSPACE,
        shell: SHELL,
        status: ExitStatus::Code(0),
        output,
    });
    let drafts = [exited, closed].map(draft).to_vec();
    let outputs = [stdout, stderr, shell].map(|stream| files.path(WORKSPACE, stream)).to_vec();
    append(&home, &drafts);
    // It costs each verification more than all the rest, and says nothing of output.
    fs::remove_dir_all(home.log().join("index")).unwrap();
    Written { _dir: dir, home, outputs, drafts }
}

fn draft(event: Event) -> Draft {
    let actor = Actor { face: Face::Daemon, uid: 0, pid: 1, client: "pyro/2.5.0".to_owned() };
    Draft { at: Timestamp(7), actor, cause: Cause::Observation, event }
}

fn append(home: &Home, drafts: &[Draft]) {
    let log = EventLog::open(home.log(), Options::default()).unwrap();
    log.append(drafts.to_vec()).unwrap();
}

fn verdict(home: &Home, expected: &[LogMark]) -> LogVerdict {
    let check = LogCheck { expected: expected.to_vec(), live: None };
    verify_log(home, &check, &mut drop).unwrap()
}

/// Returns the last event with its hash, as `pyro log head` prints it.
fn head(home: &Home) -> LogMark {
    let mut mark = LogMark { seq: 0, hash: String::new() };
    let report = verify_records(home.log(), |record| {
        let hash = record.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        mark = LogMark { seq: record.seq().0, hash };
    });
    assert_eq!(report.unwrap().head.seq, Seq(mark.seq));
    mark
}

/// Writes a file in another way and checks that the verdict names just this file.
fn check_named(home: &Home, path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    let verdict = verdict(home, &[]);
    let named: Vec<_> = verdict.problems.iter().map(|problem| problem.file.clone()).collect();
    assert!(!verdict.whole, "{} as {:?} is believed", path.display(), bytes.escape_ascii().to_string());
    assert_eq!(named, [Some(path.display().to_string())]);
}

/// Catches a bit, a cut or an addition in a file of output that verification passes over or blames on another file.
#[test]
fn every_bit_and_every_prefix_of_output_is_found() {
    let Written { _dir, home, outputs, .. } = written();
    assert!(verdict(&home, &[]).whole);
    for path in outputs {
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            check_named(&home, &path, &bytes);
        }
        for len in 0..whole.len() {
            check_named(&home, &path, &whole[..len]);
        }
        check_named(&home, &path, &[&whole[..], b"\n"].concat());
        fs::remove_file(&path).unwrap();
        assert!(!verdict(&home, &[]).whole, "{} is gone", path.display());
        fs::write(&path, whole).unwrap();
    }
    assert!(verdict(&home, &[]).whole);
}

/// Catches times that have a say in what was printed: nothing proves them, so nothing may depend on them.
#[test]
fn damaged_times_change_no_output() {
    let Written { _dir, home, outputs, .. } = written();
    let files = Outputs::open(home.outputs()).unwrap();
    let stream = StreamId::Shell(SHELL);
    let path = outputs[2].with_file_name(format!("{stream}.times"));
    let whole = fs::read(&path).unwrap();
    let summary = files.summary(WORKSPACE, stream, &Gaps::default()).unwrap();
    let flipped = (0..whole.len() * 8).map(|bit| {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    for bytes in flipped.chain((0..whole.len()).map(|len| whole[..len].to_vec())) {
        fs::write(&path, &bytes).unwrap();
        assert!(verdict(&home, &[]).whole, "times are not under any digest");
        assert_eq!(files.summary(WORKSPACE, stream, &Gaps::default()).unwrap(), summary);
        let reader = files.read(WORKSPACE, stream).unwrap();
        assert_eq!(reader.times().unwrap().len(), bytes.len() / 16);
        let len = reader.len_bytes().unwrap();
        assert!(reader.len_at(Timestamp(7), len).unwrap() <= len, "times invent bytes");
        let writer = files.resume(WORKSPACE, stream, &Gaps::default()).unwrap();
        assert_eq!(writer.finish(&Gaps::default()).unwrap(), summary.clone().unwrap());
    }
}

/// Catches a promise that the anchor cannot keep: a log that was written anew as a whole, with its own chain and anchor,
/// is told from the first one by a head that was kept elsewhere, and by nothing else.
#[test]
fn a_log_written_anew_is_found_by_a_kept_head_only() {
    let Written { _dir, home, drafts, .. } = written();
    let kept = head(&home);
    assert!(verdict(&home, std::slice::from_ref(&kept)).whole);

    let mut forged = drafts;
    let Event::ExecExited(exited) = &mut forged[0].event else { panic!("a command came first") };
    exited.status = ExitStatus::Code(1);
    fs::remove_dir_all(home.log()).unwrap();
    append(&home, &forged);

    assert!(verdict(&home, &[]).whole, "the log by itself is in order");
    let found = verdict(&home, std::slice::from_ref(&kept));
    assert!(!found.whole);
    assert_eq!((found.problems[0].about.as_str(), found.problems[0].seq), ("expected", Some(kept.seq)));
    assert!(verdict(&home, &[head(&home)]).whole, "its own head proves nothing about the first one");
}
