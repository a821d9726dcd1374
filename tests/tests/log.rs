//! The log as evidence: filtered, explained, exported, verified and repaired.

use pyro_tests::{Pyro, SANDBOX, signal};
use rustix::process::Signal;
use serde_json::Value;

/// Makes a home with two workspaces, one of which is deleted; each has printed something.
#[track_caller]
fn history() -> (Pyro, String, String) {
    let pyro = Pyro::new().config(SANDBOX);
    let create = |text: &str| {
        let id = pyro.create(&["--allow-host-compat"]);
        let exec =
            pyro.run(&["workspace", "exec", &id, "--", "sh", "-c", &format!("echo {text}; echo x >&2")]);
        assert_eq!(exec.code, Some(0), "{}", exec.err());
        id
    };
    let (kept, deleted) = (create("kept"), create("deleted"));
    assert_eq!(pyro.run(&["workspace", "delete", &deleted]).code, Some(0));
    (pyro, kept, deleted)
}

#[track_caller]
fn lines(pyro: &Pyro, arguments: &[&str]) -> Vec<Value> {
    let output = pyro.run(&[&["log"], arguments, &["--json"]].concat());
    assert_eq!(output.code, Some(0), "{}", output.err());
    output.out().lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["kind"].as_str()).collect()
}

#[test]
fn events_are_filtered_explained_and_seen_as_they_were() {
    let (pyro, kept, deleted) = history();
    let execs = lines(&pyro, &["--workspace", &deleted[..6], "--kind", "exec_*"]);
    assert_eq!(kinds(&execs), ["exec_requested", "exec_started", "exec_exited"]);
    let asked = lines(&pyro, &["--workspace", &deleted, "--actor", "cli", "--limit", "1"]);
    assert_eq!(kinds(&asked), ["workspace_deleting"]);
    assert!(lines(&pyro, &["--until", "1h"]).is_empty());

    let exited = &execs[2];
    let seq = exited["seq"].to_string();
    let shown = pyro.run(&["log", "show", &seq, "--json"]).json();
    assert_eq!(shown["event"]["data"], exited["data"]);
    assert_eq!(shown["workspace_before"]["kind"], "exec_started");
    assert_eq!(shown["workspace_after"]["kind"], "workspace_deleting");
    let before = pyro.run(&["log", "show", &(exited["seq"].as_u64().unwrap_or(0) - 1).to_string(), "--json"]);
    assert_eq!(before.json()["event"]["hash"], shown["previous_hash"], "the chain");
    let asking = pyro.run(&["log", "show", &execs[0]["seq"].to_string(), "--json"]).json();
    assert_eq!(asking["request"][0]["request_id"], execs[0]["request_id"]);

    let count = |arguments: &[&str]| {
        pyro.run(&[&["workspace", "list", "--json"], arguments].concat()).json()["count"].clone()
    };
    assert_eq!((count(&[]), count(&["--at", &seq]), count(&["--at", "1h"])), (1.into(), 2.into(), 0.into()));
    let then = pyro.run(&["workspace", "status", &deleted, "--at", &seq, "--json"]).json();
    assert_eq!((&then["state"], &then["command_count"]), (&"started".into(), &1.into()));
    let never = pyro.run(&["workspace", "status", &kept, "--at", "1"]);
    assert_eq!(never.code, Some(1), "{}", never.out());
}

/// Catches a follower that shows an event twice or not at all where the past meets the present.
#[test]
fn filtered_events_are_followed_across_a_restart() {
    use std::io::{BufRead as _, BufReader};
    let pyro = Pyro::new();
    let _started = pyro.log();
    let mut follower = pyro.spawn(&["log", "--follow", "--json", "--kind", "daemon_started", "--limit", "1"]);
    let mut events = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    let mut next = || -> u64 {
        let line = events.next().expect("the follower goes on").expect("a pipe can be read");
        let event: Value = serde_json::from_str(&line).expect("each line is JSON");
        assert_eq!(event["kind"], "daemon_started");
        event["seq"].as_u64().expect("an event has a number")
    };
    let mut seen = vec![next()];
    for _ in 0..2 {
        signal(pyro.daemon_pid(), Signal::KILL);
        seen.push(next());
    }
    follower.kill().expect("a child can be killed");
    follower.wait().expect("a child can be waited for");
    let all: Vec<_> = lines(&pyro, &["--kind", "daemon_started"])
        .iter()
        .filter_map(|event| event["seq"].as_u64())
        .collect();
    assert_eq!(seen, all[..3]);
}

#[test]
fn exports_are_the_same_before_and_after_a_restart() {
    let (pyro, ..) = history();
    let last = lines(&pyro, &["--limit", "1"])[0]["seq"].to_string();
    let export = |format: &str| {
        let file = pyro.home().join("export");
        let path = file.display().to_string();
        let output = pyro.run(&["log", "export", "--format", format, "--until", &last, "--output", &path]);
        assert_eq!(output.code, Some(0), "{}", output.err());
        std::fs::read(file).expect("it was written")
    };
    let formats = ["jsonl", "otlp-json", "sqlite"];
    let before = formats.map(export);
    assert_eq!(pyro.run(&["daemon", "stop"]).code, Some(0));
    assert_eq!(formats.map(export), before);
    assert_eq!(before[0].iter().filter(|byte| **byte == b'\n').count().to_string(), last);
}

/// Catches tampering that is not found, with a daemon, without one, and when none can start any more.
#[test]
fn tampering_is_found_and_damage_is_cut() {
    let (pyro, kept, _) = history();
    let head = pyro.run(&["log", "head"]).out();
    let verify = |arguments: &[&str]| {
        let output = pyro.run(&[&["log", "verify", "--json"], arguments].concat());
        (output.code, output.json())
    };
    let (code, verdict) = verify(&["--expect", head.trim_end()]);
    assert_eq!((code, &verdict["state_compared_with"]), (Some(0), &"daemon".into()), "{verdict}");
    assert_eq!((&verdict["outputs_checked"], &verdict["outputs_deleted"]), (&2.into(), &2.into()));

    let output = pyro.home().join("outputs").join(&kept).join("1.stdout");
    std::fs::write(&output, "kepT\n").expect("the home can be written");
    let (code, verdict) = verify(&[]);
    assert_eq!((code, &verdict["problems"][0]["file"]), (Some(1), &output.display().to_string().into()));
    std::fs::write(&output, "kept\n").expect("the home can be written");
    assert_eq!(pyro.run(&["log", "repair"]).code, Some(1), "a daemon has the log open");

    assert_eq!(pyro.run(&["daemon", "stop"]).code, Some(0));
    let segment = pyro.home().join("log/00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).expect("it is there");
    *bytes.last_mut().expect("it has events") ^= 1;
    std::fs::write(&segment, bytes).expect("the home can be written");
    let refused = pyro.run(&["log", "--json"]);
    assert_eq!((refused.code, &refused.json()["code"]), (Some(1), &"log_corrupt".into()));
    let (code, verdict) = verify(&[]);
    let bad = verdict["first_bad_seq"].as_u64().expect("it is known");
    assert_eq!((code, verdict["seq"].as_u64()), (Some(1), Some(bad - 1)), "{verdict}");
    let repaired = pyro.run(&["log", "repair", "--json"]).json();
    assert_eq!(repaired["seq"], bad - 1);
    assert!(std::path::Path::new(repaired["kept_in"].as_str().expect("it was cut")).is_dir());
    assert!(pyro.log().len() as u64 >= bad, "the daemon starts and goes on");
    let (code, verdict) = verify(&["--expect", head.trim_end()]);
    assert_eq!(code, Some(0), "what was kept elsewhere is older than the damage: {verdict}");
}

/// Catches a compaction that breaks the chain, forgets what lives, or leaves a log that the next daemon does not take.
#[test]
fn compacted_log_continues_the_same_history() {
    let (pyro, kept, deleted) = history();
    let commands = pyro.run(&["workspace", "logs", &kept]).out();
    let nothing = pyro.run(&["log", "compact"]);
    assert_eq!(nothing.code, Some(1), "nobody says what is to be kept: {}", nothing.out());
    let head = pyro.run(&["log", "head"]).out();
    let compact = ["log", "compact", "--before", &u64::MAX.to_string(), "--json"];
    let planned = pyro.run(&[&compact[..], &["--dry-run"]].concat()).json();
    let done = pyro.run(&compact).json();
    assert_eq!(planned["dropped"], done["dropped"]);
    assert_eq!(kinds(&pyro.log()), ["log_compacted"]);
    assert_eq!(pyro.log()[0]["seq"], done["signed_off_seq"]);

    let verify = || pyro.run(&["log", "verify", "--json", "--expect", head.trim_end()]).json();
    let live = verify();
    assert_eq!(
        (&live["whole"], &live["compacted"]["first_seq"]),
        (&true.into(), &done["first_seq"]),
        "{live}"
    );
    let exported = pyro.run(&["log", "export", "--format", "jsonl"]).out();
    let early =
        [&["log", "--since", "2", "--json"][..], &["workspace", "status", &deleted, "--at", "2", "--json"]];
    for arguments in early {
        assert_eq!(pyro.run(arguments).json()["code"], "history_compacted", "{arguments:?}");
    }
    signal(pyro.daemon_pid(), Signal::KILL);
    assert_eq!(pyro.run(&["workspace", "logs", &kept]).out(), commands);
    assert_eq!(pyro.run(&["workspace", "exec", &kept, "--", "true"]).code, Some(0));
    assert!(pyro.run(&["log", "export", "--format", "jsonl"]).out().starts_with(&exported));
    let next = verify();
    assert_eq!((&next["whole"], &next["state_compared_with"]), (&true.into(), &"daemon".into()), "{next}");
}
