//! What the MCP server costs above the calls that it makes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use pyro_tests::{Pyro, SANDBOX};
use serde_json::{Value, json};

use crate::sample::{Goal, Row, Samples, interleaved, timed};
use crate::workspace::Place;

/// Rounds of what takes milliseconds.
const ROUNDS: usize = 200;
/// Rounds of what starts a process.
const ROUNDS_START: usize = 40;
/// Commands that run while pings are answered.
const RUNNING: usize = 100;
const PINGS: usize = 1_000;

/// Measures, and shows each row as soon as it is known.
pub(crate) fn measure(show: fn(&Row)) {
    let pyro = Pyro::new().config(SANDBOX);
    let place = Place::new(&pyro, "host sandbox", &["--allow-host-compat", "--ttl-seconds", "0"]);
    let starts =
        (0..ROUNDS_START).map(|_| timed(|| drop(Session::start(&pyro).ask("tools/list", &json!({})))));
    let what = "start of `pyro mcp serve` to the answer of `tools/list`";
    show(&Samples::alone(starts.collect()).row(what, "", Goal::Below(Duration::from_millis(50))));
    let mut session = Session::start(&pyro);
    show(&exec(&mut session, &place));
    show(&pings(&mut session, &pyro, &place));
}

fn exec(session: &mut Session, place: &Place<'_>) -> Row {
    let mut client = place.client();
    let call = call(&place.id, "true");
    let ours = || {
        timed(|| {
            let answer = session.ask("tools/call", &call);
            assert_eq!(answer["structuredContent"]["exit_code"], 0, "{answer}");
        })
    };
    let samples = interleaved(ROUNDS, ours, || timed(|| place.exec_by_socket(&mut client)));
    samples.row("`workspace_exec` `true` by MCP, host sandbox", "`exec true` by socket", Goal::AtMost(1.5))
}

/// Measures pings while commands run that print now and then.
fn pings(session: &mut Session, pyro: &Pyro, place: &Place<'_>) -> Row {
    let command = "until [ -e over ]; do echo working; sleep 0.5; done";
    let before = pyro.log().iter().filter(|event| event["kind"] == "exec_started").count();
    let running: Vec<u64> =
        (0..RUNNING).map(|_| session.request("tools/call", &call(&place.id, command))).collect();
    while pyro.log().iter().filter(|event| event["kind"] == "exec_started").count() < before + RUNNING {}
    let mut times: Vec<_> = (0..PINGS).map(|_| timed(|| drop(session.ask("ping", &json!({}))))).collect();
    times.sort_unstable();
    let slow = times[PINGS * 99 / 100];
    session.ask("tools/call", &call(&place.id, "touch over"));
    for number in running {
        session.answer(number);
    }
    let what = "`ping` while 100 commands run, the slowest of 99 %";
    let goal = "below 10 ms";
    Row::of_figure(
        what,
        format!("{:.2} ms", slow.as_secs_f64() * 1e3),
        goal,
        slow < Duration::from_millis(10),
    )
}

fn call(workspace_id: &str, command: &str) -> Value {
    let arguments = json!({"workspace_id": workspace_id, "command": command, "timeout_seconds": 600});
    json!({"name": "workspace_exec", "arguments": arguments})
}

/// A server and its client.
struct Session {
    server: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    sent: u64,
    /// Answers that came before the one that was waited for.
    early: Vec<Value>,
}

impl Session {
    fn start(pyro: &Pyro) -> Self {
        let mut command = pyro.command(&["mcp", "serve"]);
        let mut server =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the server can be started");
        let output = BufReader::new(server.stdout.take().expect("standard output is a pipe"));
        let input = server.stdin.take();
        let mut session = Self { server, input, output, sent: 0, early: Vec::new() };
        let hello = json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"},
        });
        session.ask("initialize", &hello);
        session.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        session
    }

    fn send(&mut self, message: &Value) {
        let input = self.input.as_mut().expect("it is open until the end");
        writeln!(input, "{message}").expect("the server reads");
    }

    fn request(&mut self, method: &str, params: &Value) -> u64 {
        self.sent += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.sent, "method": method, "params": params}));
        self.sent
    }

    fn answer(&mut self, number: u64) -> Value {
        if let Some(place) = self.early.iter().position(|message| message["id"] == number) {
            return self.early.remove(place)["result"].take();
        }
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).expect("the server answers");
            let mut message: Value = serde_json::from_str(&line).expect("a message");
            if message["id"] == number {
                return message["result"].take();
            }
            self.early.push(message);
        }
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        let number = self.request(method, params);
        self.answer(number)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The server ends with its input.
        drop(self.input.take());
        let _ended = self.server.wait();
    }
}
