//! The part of `make powercut` that runs in a guest: it appends to a log until the power is cut. On the host it checks
//! what the disk then holds.
//!
//! ```text
//! /init                        mounts /dev/vda, appends, says `acked TAG SEQ` on the console; TAG decides what a batch is
//! powercut-writer check DIR    reads such lines and compares the log in DIR with them
//! ```

#![expect(clippy::print_stdout, reason = "the console is its only way to tell")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use pyro_core::{
    Actor, Cause, DaemonStopped, Envelope, Event, Face, RequestId, Seq, State, Timestamp, evolve,
};
use pyro_store::{Draft, EventLog, Options, verify};
use rustix::mount::{MountFlags, mount};

/// Threads that append at the same time.
const THREADS: u64 = 4;
/// A segment is full after this many bytes, so that segments roll many times in a round.
const SEGMENT_LEN_MAX: u64 = 64 << 10;
/// Events between two checkpoints.
const CHECKPOINT_DISTANCE: u64 = 200;
/// So many acknowledged batches are looked up by their request ids as well.
const LOOKUPS: usize = 200;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check", dir] => check(Path::new(dir)),
        _ => write(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the events of a batch: how many, and how long they are, follows from its tag.
fn batch(tag: u64, group: u64) -> Vec<Draft> {
    let count = 1 + tag % group;
    let drafts = (0..count).map(|index| {
        let filler = "x".repeat(usize::try_from((tag * 37 + index * 11) % 600).expect("it is small"));
        Draft {
            at: Timestamp(tag),
            actor: Actor { face: Face::Daemon, uid: 0, pid: 1, client: "powercut".to_owned() },
            cause: Cause::Request(request(tag)),
            event: Event::DaemonStopped(DaemonStopped { reason: format!("{tag} {index} {count} {filler}") }),
        }
    });
    drafts.collect()
}

fn request(tag: u64) -> RequestId {
    let mut bytes = [0xee; 16];
    bytes[8..].copy_from_slice(&tag.to_be_bytes());
    RequestId::from_bytes(bytes)
}

/// Appends for ever. The kernel makes variables of the words of its command line that it does not know.
fn write() -> anyhow::Result<()> {
    let group = std::env::var("POWERCUT_GROUP").context("it runs as the first process of a guest")?;
    let group: u64 = group.parse()?;
    load_modules()?;
    std::fs::create_dir_all("/dev")?;
    std::fs::create_dir_all("/disk")?;
    // The kernel may have mounted it already.
    let _mounted = mount("devtmpfs", "/dev", "devtmpfs", MountFlags::empty(), None);
    mount("/dev/vda", "/disk", "ext4", MountFlags::empty(), None).context("mount the disk")?;
    let log = EventLog::open("/disk/log", Options { segment_len_max: SEGMENT_LEN_MAX })?;
    let (start, recovered) = (log.head().seq.0, log.recovered());
    println!("opened {start} torn={} rebuilt={}", recovered.torn_len, recovered.index_rebuilt);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let log = log.clone();
                scope.spawn(move || append(&log, start, thread, group))
            })
            .collect();
        scope.spawn(|| match save_checkpoints(&log) {
            Ok(()) => {}
            Err(error) => println!("failed: a checkpoint: {error:#}"),
        });
        threads.into_iter().try_for_each(|thread| thread.join().expect("an appender does not panic"))
    })
}

fn append(log: &EventLog, start: u64, thread: u64, group: u64) -> anyhow::Result<()> {
    for number in 0.. {
        // No two boots begin at the same position once one of them acknowledged something.
        let tag = start * 100_000 + number * THREADS + thread;
        let envelopes = log.append(batch(tag, group))?;
        println!("acked {tag} {} {group}", envelopes[0].seq.0);
    }
    Ok(())
}

/// Folds what was appended and saves the fold from time to time.
fn save_checkpoints(log: &EventLog) -> anyhow::Result<()> {
    let mut state = State::default();
    loop {
        for envelope in log.reader().read(state.seq.next()) {
            evolve(&mut state, &envelope?);
            if state.seq.0.is_multiple_of(CHECKPOINT_DISTANCE) {
                log.checkpoints().save(&state)?;
                println!("checkpoint {}", state.seq);
            }
        }
        std::thread::yield_now();
    }
}

fn load_modules() -> anyhow::Result<()> {
    for path in std::fs::read_to_string("/modules/order")?.lines() {
        let file = Path::new("/modules").join(path);
        match rustix::system::finit_module(File::open(&file)?, c"", 0) {
            // Built in, or loaded as a dependency.
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => println!("module {path}: {error}"),
        }
    }
    Ok(())
}

/// What was acknowledged: the tag, the position of its first event and the size of groups.
struct Acked {
    tag: u64,
    seq: u64,
    group: u64,
}

fn check(dir: &Path) -> anyhow::Result<()> {
    let mut acked = Vec::new();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let numbers: Vec<u64> = line.split(' ').skip(1).map(str::parse).collect::<Result<_, _>>()?;
        let [tag, seq, group] = numbers[..] else { anyhow::bail!("not an acknowledgement: {line}") };
        acked.push(Acked { tag, seq, group });
    }
    let before = verify(dir)?;
    ensure!(before.damage.is_none(), "damaged: {:?}", before.damage);
    let log = EventLog::open(dir, Options { segment_len_max: SEGMENT_LEN_MAX })?;
    let recovered = log.recovered();
    let events: Vec<Envelope> = log.reader().read(Seq(1)).collect::<Result<_, _>>()?;
    for one in &acked {
        let here =
            usize::try_from(one.seq - 1).ok().and_then(|first| events.get(first..)).unwrap_or_default();
        let drafts = batch(one.tag, one.group);
        let same = here.len() >= drafts.len()
            && here
                .iter()
                .zip(&drafts)
                .all(|(envelope, draft)| (&envelope.event, envelope.cause) == (&draft.event, draft.cause));
        ensure!(same, "batch {} at {} was acknowledged and is not there", one.tag, one.seq);
    }
    ensure!(parts(&events).is_none(), "a part of a batch is there: {:?}", parts(&events));
    for one in acked.iter().rev().take(LOOKUPS) {
        let found = log.reader().request(request(one.tag))?;
        let whole = found.len() == batch(one.tag, one.group).len();
        ensure!(whole && found[0].seq.0 == one.seq, "request {} is not found", one.tag);
    }
    let saved = log.checkpoints().latest().map_or(0, |state| state.seq.0);
    drop(log);
    let after = verify(dir)?;
    ensure!(after.damage.is_none() && after.torn_len == 0, "damaged by opening it: {after:?}");
    println!(
        "acknowledged={} events={} torn_bytes={} index_rebuilt={} checkpoint={saved}",
        acked.len(),
        events.len(),
        before.torn_len,
        recovered.index_rebuilt
    );
    Ok(())
}

/// Returns a batch of which only some events are there.
fn parts(events: &[Envelope]) -> Option<(u64, u64)> {
    let mut batches: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for envelope in events {
        let Event::DaemonStopped(DaemonStopped { reason }) = &envelope.event else { continue };
        let count = reason.split(' ').nth(2).and_then(|count| count.parse().ok()).unwrap_or(0);
        let seen = batches.entry(envelope.at.0).or_insert((0, count));
        seen.0 += 1;
    }
    batches.into_values().find(|(seen, count)| seen != count)
}
