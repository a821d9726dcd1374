//! `kill -9` around appends: every acknowledged event is there afterwards.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pyro_core::{Cause, Seq};
use pyro_store::{Draft, EventLog, OpenError, Options, verify};

use crate::sample;

const DIR_VARIABLE: &str = "PYRO_STORE_CRASH_DIR";
const CLIENTS: u32 = 4;

/// Lines that the parent reads before it kills. Zero kills while the log is being opened.
const ROUNDS: [usize; 12] = [1, 50, 0, 7, 300, 0, 120, 3, 0, 500, 33, 200];

/// Appends until it is killed and says on stderr what was acknowledged.
#[test]
#[ignore = "the child process of the other tests"]
fn child_appends() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let log = sample::open_small(dir);
    let start = u32::try_from(log.head().seq.0).unwrap();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let log = log.clone();
            scope.spawn(move || {
                for n in 0.. {
                    let tag = start * 10_000 + n * CLIENTS + client;
                    let envelopes = log.append(tagged(tag)).unwrap();
                    writeln!(std::io::stderr(), "acked {tag} {}", envelopes[0].seq).unwrap();
                }
            });
        }
    });
}

/// The batch that belongs to a tag: one to three events.
fn tagged(tag: u32) -> Vec<Draft> {
    let cause = Cause::Request(sample::request(u64::from(tag)));
    let caused = |draft| Draft { cause, ..draft };
    sample::drafts(tag..tag + 1 + tag % 3).into_iter().map(caused).collect()
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["crash::child_appends", "--exact", "--ignored", "--nocapture"])
        .env(DIR_VARIABLE, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Catches an acknowledgement before durability against a process crash, a recovery that cuts too much, batches in part, and
/// request ids that the index lost.
#[test]
fn acknowledged_events_survive_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(u32, u64)> = Vec::new();
    for lines in ROUNDS {
        let mut child = spawn(dir.path());
        let mut output = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        for _ in 0..lines {
            assert_ne!(output.read_line(&mut text).unwrap(), 0, "the child ended by itself: {text}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        output.read_to_string(&mut text).unwrap();
        // The last line may be cut: then nobody was told.
        let complete = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        acknowledged.extend(complete.map(|line| {
            let mut words = line.strip_prefix("acked ").expect(line).split(' ');
            (words.next().unwrap().parse::<u32>().unwrap(), words.next().unwrap().parse::<u64>().unwrap())
        }));
        check(dir.path(), &acknowledged);
    }
    assert!(acknowledged.len() > 1_000, "the rounds did something");
}

fn check(dir: &Path, acknowledged: &[(u32, u64)]) {
    let log = sample::open_small(dir);
    let events = sample::read(&log);
    for (tag, seq) in acknowledged {
        let first = usize::try_from(seq - 1).unwrap();
        for (envelope, draft) in events[first..].iter().zip(tagged(*tag)) {
            assert_eq!(
                (&envelope.event, envelope.cause),
                (&draft.event, draft.cause),
                "batch {tag} at {seq}"
            );
        }
    }
    for (tag, seq) in acknowledged.iter().rev().take(200) {
        let batch = log.reader().request(sample::request(u64::from(*tag))).unwrap();
        assert_eq!(batch.len(), tagged(*tag).len());
        assert_eq!(batch[0].seq, Seq(*seq));
    }
    drop(log);
    assert_eq!(verify(dir).unwrap().damage, None);
}

/// Catches a lock that does not name its holder, and one that a killed holder leaves behind.
#[test]
fn the_lock_names_the_process_and_dies_with_it() {
    let dir = sample::dir();
    let mut child = spawn(dir.path());
    let mut line = String::new();
    let mut output = BufReader::new(child.stderr.take().unwrap());
    output.read_line(&mut line).unwrap();
    let second = EventLog::open(dir.path(), Options::default());
    assert!(matches!(second, Err(OpenError::Locked { pid }) if pid == child.id()), "{second:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    sample::open(dir.path());
}
