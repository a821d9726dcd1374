//! What a long history costs: starting with it, looking into it, checking it, and keeping it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pyro_api::Home;
use pyro_tests::{Pyro, SANDBOX};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::history;
use crate::sample::{Goal, Row, Samples, interleaved, timed};
use crate::succeed;

const EVENTS: u64 = 1_000_000;
const EVENTS_FEW: u64 = 10_000;
/// Rounds of what takes milliseconds.
const ROUNDS_FAST: usize = 40;
/// Rounds of what takes a good part of a second.
const ROUNDS_SLOW: usize = 9;
/// Rounds of what takes seconds.
const ROUNDS_FEW: usize = 3;
/// How long the daemon is watched while nobody wants anything.
const IDLE: Duration = Duration::from_secs(10);
/// Most memory that a daemon may need for its start, in MiB.
const START_MIB_MAX: u64 = 512;

/// Measures, and shows each row as soon as it is known.
pub(crate) fn measure(show: fn(&Row)) {
    let few = Books::new(EVENTS_FEW);
    show(&few.start_after_power_cut("10,000 events", Duration::from_secs(2)));
    drop(few);
    let books = Books::new(EVENTS);
    show(&books.start("after `kill -9`", |books| books.kill()));
    show(&books.start("after an orderly stop", |books| books.stop()));
    show(&books.memory("after an orderly stop"));
    show(&books.idle());
    books.look_back().iter().for_each(show);
    show(&books.verify());
    books.space().iter().for_each(show);
    show(&books.start_after_power_cut("1,000,000 events", Duration::from_secs(10)));
    show(&books.memory("without an index"));
}

/// A home with a history.
struct Books {
    pyro: Pyro,
    log: PathBuf,
    /// One of the workspaces that are there.
    workspace: String,
    /// The last event of the history; daemons have added theirs since.
    events: u64,
}

impl Books {
    fn new(events: u64) -> Self {
        let pyro = Pyro::new().config(SANDBOX);
        let home = Home::at(pyro.home()).expect("the home is there");
        home.create().expect("the home can be written");
        let state = history::write(&home.log(), events);
        for workspace in state.workspaces.keys() {
            for place in [home.workspaces(), home.outputs()] {
                fs::create_dir(place.join(workspace.to_string())).expect("the disk has room");
            }
        }
        let workspace = state.workspaces.keys().next().expect("there are workspaces").to_string();
        Self { pyro, log: home.log(), workspace, events: state.seq.0 }
    }

    /// Runs a command that starts the daemon if there is none, and returns when it has its answer.
    fn first_answer(&self) -> Duration {
        let mut command = self.pyro.command(&["workspace", "status", &self.workspace]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        timed(|| succeed(command))
    }

    fn kill(&self) {
        self.end(|daemon| pidfd_send_signal(daemon, Signal::KILL).expect("the daemon runs"));
    }

    fn stop(&self) {
        self.end(|_| succeed(self.pyro.command(&["daemon", "stop"])));
    }

    /// Returns when the daemon is gone.
    fn end(&self, tell: impl FnOnce(&rustix::fd::OwnedFd)) {
        let pid = Pid::from_raw(self.pyro.daemon_pid()).expect("a pid is positive");
        let daemon = pidfd_open(pid, PidfdFlags::empty()).expect("the daemon runs");
        tell(&daemon);
        poll(&mut [PollFd::new(&daemon, PollFlags::IN)], None).expect("a pidfd can be waited for");
    }

    fn start(&self, how: &str, end: impl Fn(&Self)) -> Row {
        let _running = self.first_answer();
        let ours = || {
            end(self);
            self.first_answer()
        };
        let samples = interleaved(ROUNDS_SLOW, ours, || timed(|| drop(self.segments())));
        let what = format!("first answer {how}, 1,000,000 events and 1,000 workspaces");
        samples.row(&what, "reading the segments", Goal::Below(Duration::from_millis(500)))
    }

    fn start_after_power_cut(&self, what: &str, limit: Duration) -> Row {
        let ours = || {
            let _running = self.first_answer();
            self.kill();
            fs::remove_file(self.log.join("index.state")).expect("an index was open");
            self.first_answer()
        };
        let samples = interleaved(ROUNDS_FEW, ours, || timed(|| drop(self.segments())));
        let what = format!("first answer after a power cut, {what}");
        samples.row(&what, "reading the segments", Goal::Below(limit))
    }

    fn memory(&self, how: &str) -> Row {
        let peak = crate::workspace::peak_mib(self.pyro.daemon_pid());
        let what = format!("memory of the daemon, at most, after its start {how}");
        Row::of_figure(&what, format!("{peak} MiB"), "at most 512 MiB", peak <= START_MIB_MAX)
    }

    fn idle(&self) -> Row {
        let pid = self.pyro.daemon_pid();
        let before = cpu_ticks(pid);
        std::thread::sleep(IDLE);
        let used = Duration::from_millis(
            (cpu_ticks(pid) - before) * 1_000 / rustix::param::clock_ticks_per_second(),
        );
        let percent = used.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
        let what = "processor time of an idle daemon with 1,000 workspaces";
        Row::of_figure(what, format!("{percent:.2} %"), "below 1 %", percent < 1.0)
    }

    fn look_back(&self) -> Vec<Row> {
        let ask = |words: &[&str]| {
            let samples = (0..ROUNDS_FAST).map(|_| {
                let mut command = self.pyro.command(words);
                command.stdout(Stdio::null());
                timed(|| succeed(command))
            });
            Samples::alone(samples.collect())
        };
        let since = (self.events - 99).to_string();
        let limit = Goal::Below(Duration::from_millis(20));
        vec![
            ask(&["log", "--since", &since]).row(
                "`pyro log --since` of the last 100 events of 1,000,000",
                "",
                limit,
            ),
            ask(&["log", "--workspace", &self.workspace, "--limit", "20"]).row(
                "`pyro log --workspace --limit 20` of 1,000,000",
                "",
                limit,
            ),
        ]
    }

    fn verify(&self) -> Row {
        self.stop();
        let ours = || {
            let mut command = self.pyro.command(&["log", "verify"]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            timed(|| succeed(command))
        };
        let hash = || {
            timed(|| {
                for segment in self.segments() {
                    std::hint::black_box(blake3::hash(&segment));
                }
            })
        };
        interleaved(ROUNDS_FEW, ours, hash).row(
            "`pyro log verify`, 1,000,000 events",
            "BLAKE3 of the segments",
            Goal::Speed,
        )
    }

    fn space(&self) -> Vec<Row> {
        let encoded = self.segments().iter().map(|segment| payload_len(segment)).sum();
        let row = |what: &str| {
            let what = format!("the log on disk, index included, {what}");
            Row::of_lengths(&what, disk_usage(&self.log), "the encoded events", encoded, 2.0)
        };
        let stopped = row("after an orderly stop");
        let _running = self.first_answer();
        vec![stopped, row("while the daemon runs")]
    }

    fn segments(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(&self.log).expect("the log is there");
        let paths = entries.map(|entry| entry.expect("a directory can be read").path());
        let segments = paths.filter(|path| path.extension().is_some_and(|extension| extension == "seg"));
        segments.map(|path| fs::read(path).expect("a segment can be read")).collect()
    }
}

/// Returns the processor time that a process has used, in ticks of the clock.
pub(crate) fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// Returns how much of a segment is events, in bytes: all but the headers (`docs/log-format.md`).
fn payload_len(segment: &[u8]) -> u64 {
    let (mut offset, mut sum) = (80, 0);
    while let Some(len) = segment.get(offset + 4..offset + 8) {
        let len = u32::from_le_bytes(len.try_into().expect("four bytes were taken"));
        sum += u64::from(len);
        offset += 56 + usize::try_from(len).expect("a usize has 64 bits");
    }
    sum
}

/// Returns what a directory takes on its disk, in bytes.
fn disk_usage(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::symlink_metadata(path).expect("the file is there");
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).expect("the directory can be read");
    own + entries.map(|entry| disk_usage(&entry.expect("a directory can be read").path())).sum::<u64>()
}
