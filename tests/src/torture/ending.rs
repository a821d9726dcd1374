//! The end of a run: a last look into every guest, and then nothing of them may be left.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::call::{Fate, call};
use super::chance::Chance;
use super::client::{Client, World};
use super::history::{Answer, Change};
use super::ledger::Ledger;
use super::payload::Received;
use crate::Pyro;

/// Number of the client that looks and deletes; others have smaller ones.
const LAST_CLIENT: u64 = 0xffff;

/// Longest time that a VM may stay when nothing holds it any more.
const DELETION_DEADLINE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

const EXPORT: &[&str] = &["log", "export", "--format", "jsonl"];

/// Looks into all workspaces, deletes them and returns the exported log.
pub(super) fn conclude(world: &World<'_>, chance: &Chance) -> String {
    let mut client = Client::patient(world, LAST_CLIENT, chance);
    for workspace in listed(world) {
        check_outputs(world, &workspace);
        client.change(&workspace, Change::Start);
        client.remove(&workspace);
    }
    for workspace in listed(world) {
        world.history.violation("left", format!("{workspace} was deleted and is still listed"));
    }
    await_deletions(world);
    let export = call(world.pyro, world.history, EXPORT, Fate::Waits);
    let stop = call(world.pyro, world.history, &["daemon", "stop"], Fate::Waits);
    if (export.code, stop.code) != (Some(0), Some(0)) {
        world.history.violation("no answer", format!("at the end: {}{}", export.stderr, stop.stderr));
    }
    let verify = call(world.pyro, world.history, &["log", "verify", "--json"], Fate::Waits);
    if verify.code != Some(0) {
        let told = String::from_utf8_lossy(&verify.stdout);
        world.history.violation("verify", format!("at the end: {told}{}", verify.stderr));
    }
    for what in left(world.pyro) {
        world.history.violation("left", what);
    }
    String::from_utf8_lossy(&export.stdout).into_owned()
}

/// The VM of a `run` stays for a while when its client may still come back for its output.
fn await_deletions(world: &World<'_>) {
    let export = call(world.pyro, world.history, EXPORT, Fate::Waits);
    let ledger = Ledger::read(&String::from_utf8_lossy(&export.stdout));
    for workspace in ledger.created.keys().filter(|id| !ledger.deleted.contains_key(*id)) {
        let words = ["log", "--follow", "--json", "--kind", "workspace_deleted", "--workspace", workspace];
        let mut follower = world.pyro.spawn(&words);
        let events = follower.stdout.take().expect("it is piped");
        // An event that does not come is a violation, which the checker finds in the log.
        let _seen = poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&DELETION_DEADLINE));
        follower.kill().expect("a child can be killed");
        follower.wait().expect("a child can be waited for");
    }
}

fn listed(world: &World<'_>) -> Vec<String> {
    let list = call(world.pyro, world.history, &["workspace", "list", "--json"], Fate::Waits).answer();
    let Answer::Done(value) = list else {
        world.history.violation("no answer", format!("to the last list: {list:?}"));
        return Vec::new();
    };
    let workspaces = value["workspaces"].as_array().into_iter().flatten();
    workspaces.filter_map(|workspace| Some(workspace["workspace_id"].as_str()?.to_owned())).collect()
}

/// Compares the kept output of every command with what it printed, byte by byte.
fn check_outputs(world: &World<'_>, workspace: &str) {
    let payloads = world.history.payloads();
    let logs = call(world.pyro, world.history, &["workspace", "logs", workspace, "--json"], Fate::Waits);
    let Answer::Done(logs) = logs.answer() else {
        return world.history.violation("no answer", format!("to logs: {}", logs.stderr));
    };
    for entry in logs["entries"].as_array().into_iter().flatten() {
        let command = entry["command"].as_str().unwrap_or_default();
        let token = command.split("echo ").nth(1).and_then(|rest| rest.split(' ').next());
        let Some((payload, exit_code)) = token.and_then(|token| payloads.get(token)) else { continue };
        let file = entry["stdout_file"].as_str().map(Path::new);
        let bytes = file.and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        let received = Received::compare(&bytes, &payload.bytes());
        let complete = entry["exit_code"] == *exit_code;
        if received.wrong_at.is_some() || (complete && !received.is_whole()) {
            world.history.violation("output", format!("the file of {workspace}: {entry}: {received:?}"));
        }
    }
}

/// Returns every process, mount, socket, cgroup and file of guests that is still there when the daemon has ended.
fn left(pyro: &Pyro) -> Vec<String> {
    let home = pyro.home().to_str().expect("a temporary path is text");
    let processes = pyro.processes().into_iter().map(|(pid, line)| format!("process {pid}: {line}"));
    let mut left: Vec<_> = processes.collect();
    for (what, table) in [("mount", "/proc/self/mountinfo"), ("socket", "/proc/net/unix")] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        left.extend(text.lines().filter(|line| line.contains(home)).map(|line| format!("{what}: {line}")));
    }
    let find = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", "*pyro*"]).output();
    let groups = find.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    left.extend(groups.lines().map(|group| format!("cgroup: {group}")));
    for directory in ["workspaces", "outputs"] {
        let entries = std::fs::read_dir(pyro.home().join(directory)).into_iter().flatten().flatten();
        left.extend(entries.map(|entry| format!("file: {}", entry.path().display())));
    }
    left
}

/// Returns a text in which each line is indented.
pub(super) fn indented(text: &str) -> String {
    let mut indented = String::new();
    for line in text.lines() {
        writeln!(indented, "    {line}").expect("a string takes everything");
    }
    indented
}
