//! Each request that changes something is carried out once: a repetition gets the first outcome, at once, after the daemon
//! was killed, and when all that it was about is deleted.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

use pyro_api::{Client, ClientInfo, ErrorCode, Face, Home, Incoming, Request, Start, new_request_id};
use pyro_tests::{Pyro, SANDBOX, environments, signal};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Events that a daemon records of itself and not because somebody asked for something.
const OWN: [&str; 6] = [
    "daemon_started",
    "daemon_stopped",
    "limits_changed",
    "clock_observed",
    "operation_resolved",
    "backend_probed",
];

/// What a request came to.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    reply: Result<Value, (ErrorCode, String)>,
    output: Vec<u8>,
}

/// Requests with what they came to first.
struct Table {
    pyro: Pyro,
    known: Vec<(&'static str, Request, Answer)>,
}

impl Table {
    fn new() -> (Self, tempfile::TempDir) {
        // Pruning is for a directory of its own, in which something is left to remove.
        let cache = tempfile::tempdir().unwrap();
        let platform = cache.path().join("linux-x86_64");
        std::fs::create_dir_all(platform.join("debian_12-0.0.1")).unwrap();
        let installed = "debian_12-1.0.0";
        symlink(environments().join("linux-x86_64").join(installed), platform.join(installed)).unwrap();
        let pyro = Pyro::new()
            .config(SANDBOX)
            .variable("PYRO_ENVIRONMENT_CACHE_DIR", cache.path().to_str().unwrap());
        let _daemon = pyro.daemon_pid();
        (Self { pyro, known: Vec::new() }, cache)
    }

    fn restart(&self) {
        signal(self.pyro.daemon_pid(), Signal::KILL);
        let _next = self.pyro.daemon_pid();
    }

    fn ask(&self, request: &Request) -> Answer {
        let home = Home::at(self.pyro.home()).unwrap();
        let info = ClientInfo { client: "test/1".to_owned(), face: Face::Python };
        let mut client = Client::connect(&home, &info, &Start::Never).unwrap();
        client.send(request.clone()).unwrap();
        let mut output = Vec::new();
        loop {
            match client.receive().unwrap() {
                Incoming::Output(_, bytes) => output.extend(bytes),
                Incoming::Progress(_) | Incoming::Event(_) => {}
                Incoming::Reply(reply) => {
                    let reply = reply.map(|response| serde_json::to_value(response).unwrap());
                    return Answer { reply: reply.map_err(|error| (error.code, error.message)), output };
                }
            }
        }
    }

    /// Counts what happened because somebody asked for it.
    fn effects(&self) -> usize {
        let is_own = |event: &Value| OWN.iter().any(|kind| event["kind"] == *kind);
        self.pyro.log().iter().filter(|event| !is_own(event)).count()
    }

    /// Asks for the first time and once more, and returns the reply without its name.
    #[track_caller]
    fn step(&mut self, name: &'static str, mut arguments: Value) -> Value {
        arguments["request_id"] = new_request_id().to_string().into();
        let request: Request = serde_json::from_value(json!({ name: arguments })).unwrap();
        let first = self.ask(&request);
        let reply = first.reply.clone().unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let effects = self.effects();
        let gone = matches!(name, "run" | "vm_exec");
        self.repeat(name, &request, &first, gone);
        assert_eq!(self.effects(), effects, "{name} again");
        self.known.push((name, request, first));
        reply[name].clone()
    }

    /// Repeats a request; where its output is `gone`, the repetition says so and how the command ended.
    #[track_caller]
    fn repeat(&self, name: &str, request: &Request, first: &Answer, gone: bool) {
        let again = self.ask(request);
        if gone && !first.output.is_empty() {
            let (code, message) = again.reply.unwrap_err();
            assert_eq!(code, ErrorCode::ResultGone, "{name}: {message}");
            let exit_code = &first.reply.as_ref().unwrap()[name]["exit_code"];
            assert!(message.contains(&format!("exit code {exit_code}")), "{name}: {message}");
        } else {
            assert_eq!(again, *first, "{name}");
        }
    }

    /// Ends the daemon; the next one is not the one that was to end, and goes on.
    fn stop(&mut self) {
        let arguments = json!({ "request_id": new_request_id().to_string() });
        let request: Request = serde_json::from_value(json!({ "daemon_stop": arguments })).unwrap();
        let first = self.ask(&request);
        // It returns when the daemon is gone.
        let _gone = self.pyro.run(&["daemon", "stop"]);
        let next = self.pyro.daemon_pid();
        self.repeat("daemon_stop", &request, &first, false);
        assert_eq!(self.pyro.daemon_pid(), next);
        self.known.push(("daemon_stop", request, first));
    }

    /// Each event says who, by which way, why and when: what was asked for has a request, the rest is the daemon's.
    #[track_caller]
    fn assert_audit(&self) {
        let (user, own) = (rustix::process::geteuid().as_raw(), u64::from(std::process::id()));
        for event in self.pyro.log() {
            let actor = &event["actor"];
            assert_eq!(actor["uid"], user, "{event}");
            assert!(actor["pid"].as_u64() > Some(0) && event["at"].as_str().is_some(), "{event}");
            assert_eq!(actor["face"] == "daemon", event["request_id"].is_null(), "{event}");
            if actor["face"] == "python" {
                assert_eq!((&actor["pid"], &actor["client"]), (&own.into(), &"test/1".into()), "{event}");
            }
        }
    }

    #[track_caller]
    fn repeat_all(&self, gone: bool) {
        let effects = self.effects();
        for (name, request, first) in &self.known {
            let gone = gone || matches!(*name, "run" | "vm_exec");
            self.repeat(name, request, first, gone);
        }
        assert_eq!(self.effects(), effects);
    }
}

fn fill(table: &mut Table) -> String {
    let guest = json!({ "environment": "debian:12", "mem_mib": 512, "allow_host_compat": true });
    let with = |more: Value| {
        let mut arguments = guest.clone();
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    table.step("env_pull", json!({ "environment": "debian:12" }));
    let pruned = table.step("env_prune", json!({}));
    assert_eq!(pruned["count"], 1);
    let ran = table.step("run", with(json!({ "command": "echo ran; exit 3" })));
    assert_eq!(ran["exit_code"], 3);
    let vm = table.step("vm_create", guest.clone())["vm_id"].clone();
    table.step("vm_start", json!({ "vm_id": vm }));
    table.step("vm_exec", json!({ "vm_id": vm, "command": "echo ran; exit 4" }));
    let vm = table.step("vm_create", guest.clone())["vm_id"].clone();
    table.step("vm_stop", json!({ "vm_id": vm }));
    table.step("vm_delete", json!({ "vm_id": vm }));
    table.step("vm_reap_expired", json!({}));
    let created = table.step("workspace_create", with(json!({ "name": "w" })));
    let id = created["workspace_id"].clone();
    let of = |more: Value| {
        let mut arguments = json!({ "workspace_id": id });
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    let ran = table.step("workspace_exec", of(json!({ "command": "echo once >>ran; cat ran; exit 5" })));
    assert_eq!(ran["exit_code"], 5);
    table.step("workspace_exec", of(json!({ "command": "test $(wc -l <ran) = 1" })));
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("pushed"), "once").unwrap();
    table.step("workspace_sync_push", of(json!({ "source_path": source.path() })));
    drop(source);
    let shell = table.step("shell_open", of(json!({})))["shell_id"].clone();
    let shell_of = |more: Value| {
        let mut arguments = of(more);
        arguments["shell_id"] = shell.clone();
        arguments
    };
    table.step("shell_write", shell_of(json!({ "input": "echo typed >>typed" })));
    table.step("shell_write", shell_of(json!({ "input": "", "append_newline": false })));
    table.step("shell_resize", shell_of(json!({ "cols": 91, "rows": 21 })));
    table.step("shell_resize", shell_of(json!({ "cols": 91, "rows": 21 })));
    table.step("shell_signal", shell_of(json!({ "signal_name": "INT" })));
    table.step("shell_close", shell_of(json!({})));
    table.step("workspace_stop", of(json!({})));
    table.step("workspace_stop", of(json!({})));
    table.step("workspace_start", of(json!({})));
    id.as_str().unwrap().to_owned()
}

/// Catches a request that is carried out twice, whose first outcome is forgotten, or that is told to be about something
/// unknown after it was done.
#[test]
fn every_change_has_one_effect_and_one_outcome() {
    let (mut table, _cache) = Table::new();
    let id = fill(&mut table);
    table.restart();
    table.repeat_all(false);
    table.step("workspace_delete", json!({ "workspace_id": id }));
    table.repeat_all(true);
    table.stop();
    table.restart();
    table.repeat_all(true);
    table.assert_audit();
    let asked: BTreeSet<_> = table.known.iter().map(|(name, ..)| camel(name)).collect();
    let changing: BTreeSet<_> = Request::CHANGING.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(asked, changing);
}

/// Returns the name that a request has in the table of operations.
fn camel(name: &str) -> String {
    let words = name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect()
}

/// Catches a second run of a command that two clients ask for under one id, the second of them while it runs.
#[test]
fn command_that_is_asked_for_again_while_it_runs_runs_once() {
    let (table, _cache) = Table::new();
    let id = table.pyro.create(&["--allow-host-compat"]);
    let script = "echo once >>ran; until [ -e go ]; do sleep 0.02; done; cat ran; exit 6";
    let arguments = json!({
        "workspace_id": id, "command": script, "request_id": new_request_id().to_string(),
    });
    let request: Request = serde_json::from_value(json!({ "workspace_exec": arguments })).unwrap();
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| table.ask(&request));
        let _started = table.pyro.wait_for("exec_started");
        let second = scope.spawn(|| table.ask(&request));
        let go = table.pyro.run(&["workspace", "exec", &id, "--", "touch", "go"]);
        assert_eq!(go.code, Some(0), "{}", go.err());
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(first, second);
    assert_eq!(first.output, b"once\n");
    assert_eq!(first.reply.unwrap()["workspace_exec"]["exit_code"], 6);
}

/// Catches a second try that is refused for what the first one just did: its name is taken, by the same request.
#[test]
fn tries_at_the_same_time_make_one_workspace() {
    let (table, _cache) = Table::new();
    let arguments = json!({
        "environment": "debian:12", "mem_mib": 512, "allow_host_compat": true, "name": "once",
        "request_id": new_request_id().to_string(),
    });
    let request: Request = serde_json::from_value(json!({ "workspace_create": arguments })).unwrap();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| table.ask(&request))).collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers[0].reply.is_ok(), "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(table.pyro.kinds().iter().filter(|kind| *kind == "workspace_created").count(), 1);
}
