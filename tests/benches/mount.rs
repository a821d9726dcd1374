//! What it costs to read through the mount, against the same files on the local disk.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pyro_api::Home;
use pyro_tests::{MountPoint, Pyro, SANDBOX};

use crate::books::cpu_ticks;
use crate::history;
use crate::sample::{Goal, Row, Samples, interleaved, timed};
use crate::succeed;

const ROUNDS: usize = 7;

const MIB: usize = 1024 * 1024;
const LOG_LEN: usize = 1024 * MIB;
const PART_LEN: usize = 4096;
const PARTS: usize = 50_000;
const ENTRIES: u64 = 10_000;
const STATS: usize = 10_000;
const THREADS: usize = 8;
const LINES: usize = 300;
const FOLLOWERS: usize = 1_000;
/// How long the daemon is watched while nothing happens.
const IDLE: Duration = Duration::from_secs(20);

/// Measures, and shows each row as soon as it is known.
pub(crate) fn measure(show: fn(&Row)) {
    let Ok(place) = MountPoint::new() else { return println!("skipped: nobody can mount here") };
    let pyro = Pyro::new().config(SANDBOX);
    let id = pyro.create(&["--allow-host-compat", "--ttl-seconds", "0"]);
    let mounted = Mounted::new(&place, &pyro, &id);
    let ours = mounted.printed(&format!("yes 'a line of some output' | head -c {LOG_LEN}"));
    let theirs = Home::at(pyro.home()).expect("the home is there").outputs().join(&id).join("1.stdout");
    show(&sequential(&ours, &theirs));
    show(&random(&ours, &theirs));
    show(&mounted.delay());
    show(&mounted.idle());
    drop(pyro);
    entries().iter().for_each(show);
}

/// A workspace that is mounted.
struct Mounted<'a> {
    pyro: &'a Pyro,
    top: PathBuf,
}

impl<'a> Mounted<'a> {
    fn new(place: &MountPoint, pyro: &'a Pyro, id: &str) -> Self {
        let mut command = pyro.command(&["mount", &place.text()]);
        command.stdout(Stdio::null());
        succeed(command);
        Self { pyro, top: place.path().join(id) }
    }

    /// Begins a command and returns its directory.
    fn begin(&self, command: &str) -> PathBuf {
        fs::write(self.top.join("ctl"), format!("exec timeout=600 {command}\n")).expect("the workspace runs");
        self.top.join("logs").join(fs::read_link(self.top.join("logs/latest")).expect("there are commands"))
    }

    /// Runs a command to its end and returns the file of what it printed.
    fn printed(&self, command: &str) -> PathBuf {
        let logs = self.begin(command);
        let mut rest = File::open(logs.join("stdout.follow")).expect("the command is there");
        std::io::copy(&mut rest, &mut std::io::sink()).expect("the mount stays");
        logs.join("stdout")
    }

    /// Measures from right before a guest writes until a follower has read it.
    fn delay(&self) -> Row {
        let script = format!("for n in $(seq {LINES}); do echo $EPOCHREALTIME; sleep 0.01; done");
        let logs = self.begin(&format!("bash -c '{script}'"));
        let mut follow = File::open(logs.join("stdout.follow")).expect("the command is there");
        let mut line = [0; 128];
        let mut delays = Vec::new();
        while let len @ 1.. = follow.read(&mut line).expect("the mount stays") {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
            let written = str::from_utf8(&line[..len]).expect("digits").trim();
            // What came together came late for the first of it.
            let first = written.lines().next().expect("there is a line");
            let seconds: f64 = first.parse().expect("the guest's clock");
            delays.push(now.saturating_sub(Duration::from_secs_f64(seconds)));
        }
        let what = "from a guest's write until a follower has read it, host sandbox";
        Samples::alone(delays).row(what, "", Goal::Below(Duration::from_millis(2)))
    }

    /// Measures what the daemon does for followers of something that does not come.
    fn idle(&self) -> Row {
        let logs = self.begin("sleep 600");
        let alone = self.idle_percent();
        let follower = || {
            let mut command = Command::new("cat");
            command.arg(logs.join("stdout.follow")).stdin(Stdio::null()).stdout(Stdio::null());
            command.spawn().expect("cat can be started")
        };
        let mut followers: Vec<Child> = (0..FOLLOWERS).map(|_| follower()).collect();
        while !followers.iter().all(is_reading) {
            thread::yield_now();
        }
        let watched = self.idle_percent();
        for follower in &mut followers {
            follower.kill().expect("a child can be killed");
        }
        for follower in &mut followers {
            follower.wait().expect("a child can be waited for");
        }
        let what = format!("processor time of a daemon with 1,000 idle followers (without: {alone:.2} %)");
        let goal = "at most 0.1 % more, which is one tick a second of the clock in ten";
        Row::of_figure(&what, format!("{watched:.2} %"), goal, watched - alone < 0.101)
    }

    fn idle_percent(&self) -> f64 {
        let pid = self.pyro.daemon_pid();
        let before = cpu_ticks(pid);
        thread::sleep(IDLE);
        let ms = (cpu_ticks(pid) - before) * 1_000 / rustix::param::clock_ticks_per_second();
        Duration::from_millis(ms).as_secs_f64() / IDLE.as_secs_f64() * 100.0
    }
}

/// Tells whether a follower has got as far as the read that waits.
fn is_reading(follower: &Child) -> bool {
    /// The first two words of what the kernel tells of a thread that waits in `read` of descriptor 3.
    const READ: &str = "0 0x3 ";
    let call = fs::read_to_string(format!("/proc/{}/syscall", follower.id())).expect("the follower waits");
    call.starts_with(READ)
}

fn sequential(ours: &Path, theirs: &Path) -> Row {
    let read = |path: &Path| {
        let mut file = File::open(path).expect("the output is there");
        let mut part = vec![0; MIB];
        timed(|| {
            let mut len = 0;
            while let read @ 1.. = file.read(&mut part).expect("the output can be read") {
                len += read;
            }
            assert_eq!(len, LOG_LEN);
        })
    };
    let _in_memory = read(theirs);
    interleaved(ROUNDS, || read(ours), || read(theirs)).row(
        "1 GiB of output read from its beginning to its end",
        "the same file",
        Goal::SpeedAtLeast(0.5),
    )
}

fn random(ours: &Path, theirs: &Path) -> Row {
    let read = |path: &Path| {
        let file = File::open(path).expect("the output is there");
        let mut part = [0; PART_LEN];
        let mut place = 1;
        timed(|| {
            for _ in 0..PARTS {
                place = place * 75 % 65_537;
                let offset = place * (LOG_LEN - PART_LEN) / 65_537;
                file.read_exact_at(&mut part, offset as u64).expect("the output can be read");
            }
        })
    };
    interleaved(ROUNDS, || read(ours), || read(theirs)).row(
        "50,000 reads of 4 KiB all over it",
        "the same file",
        Goal::Speed,
    )
}

/// Looks at a workspace that has run many commands.
fn entries() -> Vec<Row> {
    let Ok(place) = MountPoint::new() else { return Vec::new() };
    let pyro = Pyro::new().config(SANDBOX);
    let home = Home::at(pyro.home()).expect("the home is there");
    home.create().expect("the home can be written");
    let workspace = history::write_one(&home.log(), ENTRIES).to_string();
    for place in [home.workspaces(), home.outputs()] {
        fs::create_dir(place.join(&workspace)).expect("the disk has room");
    }
    let mounted = Mounted::new(&place, &pyro, &workspace);
    let (ours, theirs) = (mounted.top.join("logs"), pyro.home().join("copy"));
    for number in 1..=ENTRIES {
        let logs = theirs.join(number.to_string());
        fs::create_dir_all(&logs).expect("the disk has room");
        fs::write(logs.join("exit_code"), "0\n").expect("the disk has room");
    }
    let list = |path: &Path| {
        let mut command = Command::new("ls");
        command.arg("-l").arg(path).stdout(Stdio::null());
        timed(|| succeed(command))
    };
    let first = Samples::alone(vec![list(&ours)]);
    let again = interleaved(ROUNDS, || list(&ours), || list(&theirs));
    let (_cold, _cold_too) = (stat_all(&ours, 1), stat_all(&theirs, 1));
    let settled = |threads| interleaved(ROUNDS, || stat_all(&ours, threads), || stat_all(&theirs, threads));
    let (live, copy) = (mounted.top.join("status.json"), theirs.join("1/exit_code"));
    let asked = interleaved(ROUNDS, || stat_one(&live), || stat_one(&copy));
    let same = "as many files in directories";
    vec![
        first.row("`ls -l` of 10,000 commands, the first time", "", Goal::None),
        again.row("`ls -l` of 10,000 commands, again", "`ls -l` of 10,000 directories", Goal::Speed),
        settled(1).row("`stat` of `exit_code` of 10,000 commands", same, Goal::Speed),
        settled(THREADS).row("the same with 8 threads", same, Goal::Speed),
        asked.row("10,000 `stat` of a `status.json`, each asked of the daemon", "one file", Goal::Speed),
    ]
}

fn stat_one(path: &Path) -> Duration {
    timed(|| {
        for _ in 0..STATS {
            let _metadata = fs::metadata(path).expect("the file is there");
        }
    })
}

/// Looks at each command once.
fn stat_all(logs: &Path, threads: usize) -> Duration {
    let look = |thread| {
        for number in (1..=ENTRIES).skip(thread).step_by(threads) {
            let path = logs.join(number.to_string()).join("exit_code");
            let _metadata = fs::metadata(path).expect("the command has ended");
        }
    };
    timed(|| {
        thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || look(thread));
            }
        });
    })
}
