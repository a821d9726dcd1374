//! Clients of the MCP server that mean no good, or cannot do better.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::Write as _;
use std::thread;

use pyro_tests::{Pyro, SANDBOX};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::mcp::Client;

/// Most memory that the server may take beyond what it takes when it does nothing, in KiB.
const MEMORY_MAX: u64 = 64 * 1024;

const CALLS: u64 = 1_000;

/// The size of a large argument, in bytes.
const LARGE: usize = 10_000_000;

impl Client {
    /// Returns the most memory that the server has had so far, in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.server.id())).unwrap().count()
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.server.id())).unwrap().count()
    }
}

fn exec(id: &str, command: &str) -> Value {
    json!({"workspace_id": id, "command": command})
}

/// Catches rubbish that ends the session, or is kept.
#[test]
fn rubbish_is_survived() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let id = client.workspace();
    let idle = client.memory();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let call = |arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{{"name":"workspace_exec","arguments":{arguments}}}}}"#
        )
    };
    let lines: [Vec<u8>; 9] = [
        b"{".to_vec(),
        b"\xff\xfe\x00\x01".to_vec(),
        b"\"tools/call\"".to_vec(),
        br#"{"jsonrpc":"1.0","id":1}"#.to_vec(),
        br#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#.to_vec(),
        br#"{"jsonrpc":"2.0","id":99999,"method":"no/such","params":[]}"#.to_vec(),
        call(&deep).into_bytes(),
        call("[1, 2]").into_bytes(),
        // Longer than any message may be.
        vec![b'x'; 20_000_000],
    ];
    for line in lines {
        let input = client.input.as_mut().unwrap();
        input.write_all(&line).unwrap();
        input.write_all(b"\n").unwrap();
    }
    for _ in 0..3 {
        let large = "x".repeat(LARGE);
        let refusal = client.refused("workspace_exec", &exec(&id, &large));
        assert!(refusal.contains("bytes"), "{refusal}");
        let refusal = client.refused("workspace_exec", &json!({"workspace_id": large, "command": "true"}));
        assert!(refusal.len() < 1_000, "it need not hear all of it again");
    }
    assert_eq!(client.done("workspace_exec", &exec(&id, "echo here")).0["stdout"], "here\n");
    assert!(client.memory() < idle + MEMORY_MAX, "{} {idle}", client.memory());
}

/// Catches a call of many that gets no answer, one that holds up a ping, and what stays behind them.
#[test]
fn a_thousand_calls_at_once_are_answered() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let id = client.workspace();
    client.done("workspace_exec", &exec(&id, "true"));
    let (idle, descriptors) = (client.memory(), client.descriptors());
    let slow = client.begin("workspace_exec", &exec(&id, "until [ -e go ]; do sleep 0.05; done"));
    let calls: Vec<u64> =
        (0..CALLS).map(|_| client.begin("workspace_status", &json!({"workspace_id": id}))).collect();
    assert_eq!(client.ask("ping", json!({})), json!({}));
    for call in calls {
        assert_eq!(client.answer(call)["structuredContent"]["state"], "started");
    }
    client.done("workspace_exec", &exec(&id, "touch go"));
    client.answer(slow);
    assert!(client.memory() < idle + MEMORY_MAX, "{} {idle}", client.memory());
    let (kept, threads) = (client.descriptors(), client.threads());
    assert!(kept <= descriptors && threads < 160, "{kept} {descriptors} {threads}");
}

/// Catches answers that pile up because nobody reads them.
#[test]
fn a_client_that_does_not_read_is_waited_for() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let id = client.workspace();
    client.done("workspace_exec", &exec(&id, "head -c 500000 /dev/urandom | base64 > large"));
    let idle = client.memory();
    let mut input = client.input.take().unwrap();
    let asked = thread::spawn({
        let id = id.clone();
        move || {
            for number in 0..CALLS {
                let params = json!({"name": "workspace_exec", "arguments": exec(&id, "cat large")});
                let call = json!({"jsonrpc": "2.0", "id": 10_000 + number, "method": "tools/call", "params": params});
                writeln!(input, "{call}").unwrap();
            }
            input
        }
    });
    while pyro.log().iter().filter(|event| event["kind"] == "exec_exited").count() < 64 {}
    for number in 0..CALLS {
        let answer = client.answer(10_000 + number);
        assert_eq!(answer["structuredContent"]["exit_code"], 0, "{answer}");
    }
    client.input = Some(asked.join().unwrap());
    assert!(client.memory() < idle + MEMORY_MAX, "{} {idle}", client.memory());
}

/// Catches a command that goes on for a client that is gone, and a server that does.
#[test]
fn who_vanishes_leaves_nothing_running() {
    let pyro = Pyro::new().config(SANDBOX);
    for signal in [None, Some(Signal::TERM), Some(Signal::INT)] {
        let mut client = Client::start(&pyro, &[]);
        let id = client.workspace();
        client.begin("workspace_exec", &exec(&id, "touch running; sleep 1000"));
        while pyro.run(&["workspace", "exec", &id, "--", "test", "-e", "running"]).code != Some(0) {}
        match signal {
            Some(signal) => pyro_tests::signal(i32::try_from(client.server.id()).unwrap(), signal),
            None => drop(client.input.take()),
        }
        assert!(client.server.wait().unwrap().success());
        let canceled = |event: &Value| event["kind"] == "exec_cancel_requested";
        assert!(pyro.log().iter().any(|event| canceled(event) && event["workspace_id"] == id.as_str()));
    }
}
