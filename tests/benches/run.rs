//! What pyro costs above what it is made of. Prints one table with ratios from one run; `docs/performance.md` keeps
//! the results.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod books;
mod by_hand;
mod history;
mod mcp;
mod mount;
mod python;
mod sample;
mod workspace;

use std::path::Path;
use std::process::{Command, Stdio};

use pyro_tests::{Pyro, dist, environments};

use by_hand::Recorded;
use sample::{Goal, Row, interleaved, timed};

/// Rounds of what takes milliseconds.
const ROUNDS_FAST: usize = 60;
/// Rounds of what boots a virtual machine.
const ROUNDS_BOOT: usize = 7;

/// The tables, which can be asked for by name.
const TABLES: [(&str, fn()); 6] = [
    ("commands", commands),
    ("workspace", || workspace::measure(show)),
    ("mcp", || mcp::measure(show)),
    ("mount", || mount::measure(show)),
    ("python", || python::measure(show)),
    ("books", || books::measure(show)),
];

/// Measures the tables that the arguments name, or all: `cargo bench -p pyro-tests -- books`.
fn main() {
    // Cargo adds an option of its own.
    let names: Vec<_> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    for (name, measure) in TABLES {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            println!("| what | median | baseline | median | ratio | goal |\n|---|---|---|---|---|---|");
            measure();
        }
    }
}

fn commands() {
    show(&version());
    sandbox().iter().for_each(show);
    show(&boot());
}

fn show(row: &Row) {
    println!("{row}");
}

fn quiet(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn succeed(mut command: Command) {
    let status = command.status().expect("the program can be started");
    assert!(status.success(), "{command:?}: {status}");
}

fn version() -> Row {
    let pyro = dist().join("bin/pyro");
    let ours = || {
        let mut command = quiet(&pyro);
        command.arg("--version");
        timed(|| succeed(command))
    };
    let samples = interleaved(ROUNDS_FAST * 5, ours, || timed(|| succeed(quiet("/bin/true"))));
    samples.row("`pyro --version`", "`/bin/true`", Goal::AtMost(3.0))
}

fn sandbox() -> Vec<Row> {
    let pyro = Pyro::new().config("backend = \"host_sandbox\"\n");
    let ours = || {
        let mut command = pyro.command(&["run", "--allow-host-compat", "debian:12", "--", "true"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        timed(|| succeed(command))
    };
    let _the_daemon_starts = ours();
    let root = environments().join("linux-x86_64/debian_12-1.0.0/rootfs");
    let bwrap = || timed(|| succeed(bwrap(&root)));
    let what = "`pyro run --allow-host-compat -- true`";
    let mut rows = vec![interleaved(ROUNDS_FAST, ours, bwrap).row(
        what,
        "`bwrap`, same root and namespaces",
        Goal::AtMost(2.0),
    )];
    match by_hand::runc_bundle(&root) {
        Some(bundle) => {
            let mut round = 0;
            let runc = || {
                round += 1;
                let mut command = quiet("runc");
                command
                    .args(["run", "--bundle"])
                    .arg(bundle.path())
                    .arg(format!("pyro-bench-{}-{round}", std::process::id()));
                timed(|| succeed(command))
            };
            rows.push(interleaved(ROUNDS_FAST, ours, runc).row(
                what,
                "`runc run`, same root",
                Goal::AtMost(0.5),
            ));
        }
        None => println!("skipped: runc cannot run a container here"),
    }
    rows
}

fn bwrap(root: &Path) -> Command {
    let mut command = quiet("bwrap");
    command
        .args([
            "--unshare-user",
            "--unshare-pid",
            "--unshare-net",
            "--unshare-ipc",
            "--unshare-uts",
            "--clearenv",
        ])
        .args(["--uid", "0", "--gid", "0"])
        .arg("--ro-bind")
        .arg(root)
        .args(["/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/bin/sh", "-lc", "true"]);
    command
}

fn boot() -> Row {
    let pyro = Pyro::new().config("backend = \"qemu\"\n");
    let run = |command: &str| pyro.command(&["run", "debian:12", "--", "sh", "-c", command]);
    let recorded = Recorded::of(&pyro, run("echo ready; sleep 100"));
    let ours = || timed(|| succeed(pyro.command(&["run", "debian:12", "--", "true"])));
    let _files_are_read = ours();
    let samples = interleaved(ROUNDS_BOOT, ours, || recorded.boot());
    samples.row(
        "`pyro run debian:12 -- true`",
        "same QEMU by hand, to the agent's first word",
        Goal::AtMost(1.15),
    )
}
