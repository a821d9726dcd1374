//! Durable appends against the bare disk, and replay. Prints one table; the ratios are what counts.
#![expect(clippy::print_stdout, reason = "the table is the product")]

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use pyro_core::{
    Actor, Cause, Event, ExecExited, ExecNumber, ExecRequested, ExitStatus, Face, RequestId, Seq,
    StreamSummary, Timestamp, WorkspaceId,
};
use pyro_store::{Draft, EventLog, Options};

const RAW_APPENDS: u64 = 4_000;
const SINGLE_APPENDS: u64 = 4_000;
const CLIENTS: u64 = 64;
const APPENDS_PER_CLIENT: u64 = 2_000;
const REPLAYED: u64 = 1_000_000;
const WORKSPACES: u64 = 1_000;

/// A round is short, and the disk has moods: rounds of all candidates alternate, and the median counts.
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let record_len = record_len(&root.path().join("probe"))?;
    let (mut raw, mut single, mut many) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        raw.push(raw_rate(&root.path().join("raw"), record_len)?);
        single.push(append_rate(&root.path().join(format!("single-{round}")), 1, SINGLE_APPENDS)?);
        many.push(append_rate(&root.path().join(format!("many-{round}")), CLIENTS, APPENDS_PER_CLIENT)?);
    }
    let (raw, single, many) = (median(raw), median(single), median(many));
    println!("record of {record_len} bytes, median of {ROUNDS} rounds");
    println!("{:<44} {raw:>10.0}/s", "raw write + fdatasync");
    println!("{:<44} {single:>10.0}/s  {:.2} of raw (goal >= 0.5)", "append, 1 client", single / raw);
    println!(
        "{:<44} {many:>10.0}/s  {:.1} times 1 client (goal >= 8)",
        format!("append, {CLIENTS} clients"),
        many / single
    );
    replay(&root.path().join("replay"))
}

fn replay(dir: &Path) -> Result<(), Box<dyn Error>> {
    let log = EventLog::open(dir, Options::default())?;
    let mut number = 0;
    while number < REPLAYED {
        let drafts = (number..number + 500).map(draft).collect();
        number += 500;
        log.append(drafts)?;
    }
    drop(log);
    let start = Instant::now();
    let log = EventLog::open(dir, Options::default())?;
    let opened = start.elapsed();
    let mut count = 0_u64;
    let start = Instant::now();
    for envelope in log.reader().read(Seq(1)) {
        std::hint::black_box(envelope?);
        count += 1;
    }
    let read = start.elapsed();
    assert_eq!(count, REPLAYED, "every event is replayed");
    drop(log);
    std::fs::remove_dir_all(dir.join("index"))?;
    let start = Instant::now();
    drop(EventLog::open(dir, Options::default())?);
    let rebuilt = start.elapsed();
    println!("{:<44} {:>10.3} s", "open, 1,000,000 events", opened.as_secs_f64());
    println!("{:<44} {:>10.3} s", "replay, 1,000,000 events", read.as_secs_f64());
    println!("{:<44} {:>10.3} s", "open without an index, 1,000,000 events", rebuilt.as_secs_f64());
    Ok(())
}

fn raw_rate(path: &Path, record_len: usize) -> Result<f64, Box<dyn Error>> {
    let record = vec![0x5a; record_len];
    let mut file = File::create(path)?;
    let start = Instant::now();
    for _ in 0..RAW_APPENDS {
        file.write_all(&record)?;
        file.sync_data()?;
    }
    Ok(rate(RAW_APPENDS, start.elapsed()))
}

fn append_rate(dir: &Path, clients: u64, appends: u64) -> Result<f64, Box<dyn Error>> {
    let log = EventLog::open(dir, Options::default())?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let log = log.clone();
                scope.spawn(move || {
                    (0..appends).try_for_each(|n| log.append(vec![draft(client * appends + n)]).map(drop))
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a client does not panic"))
    })?;
    Ok(rate(clients * appends, start.elapsed()))
}

/// Measures how long the records are that the other functions write.
fn record_len(dir: &Path) -> Result<usize, Box<dyn Error>> {
    let log = EventLog::open(dir, Options::default())?;
    let segment = dir.join("00000000000000000001.seg");
    let before = segment.metadata()?.len();
    for number in 0..100 {
        log.append(vec![draft(number)])?;
    }
    Ok(usize::try_from((segment.metadata()?.len() - before) / 100)?)
}

/// Half of the events begin a command, half end one: the bulk of a real log.
fn draft(number: u64) -> Draft {
    let mut id = [0; 6];
    id.copy_from_slice(&(number % WORKSPACES).to_be_bytes()[2..]);
    let workspace = WorkspaceId::from_bytes(id);
    let exec = ExecNumber(u32::try_from(number / 2).expect("the benchmark has fewer execs"));
    let summary = StreamSummary { len_bytes: number, digest: [7; 32] };
    let event = if number.is_multiple_of(2) {
        let command = "make -j4 test && git status --short".to_owned();
        Event::ExecRequested(ExecRequested { workspace, exec, command, cwd: None, timeout_ms: 30_000 })
    } else {
        let (stdout, stderr) = (summary.clone(), summary);
        Event::ExecExited(ExecExited {
            workspace,
            exec,
            status: ExitStatus::Code(0),
            duration_ms: 1_234,
            stdout,
            stderr,
        })
    };
    // As a version 7 UUID: the time comes first.
    let mut request = [0; 16];
    request[..8].copy_from_slice(&number.to_be_bytes());
    Draft {
        at: Timestamp(1_760_000_000_000_000 + number),
        actor: Actor { face: Face::Cli, uid: 1000, pid: 4242, client: "pyro/2.5.0".to_owned() },
        cause: Cause::Request(RequestId::from_bytes(request)),
        event,
    }
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    let count = u32::try_from(count).expect("the benchmark counts less");
    f64::from(count) / elapsed.as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
