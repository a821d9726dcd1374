//! The MCP server over standard input and output, as a client that knows nothing but the protocol uses it.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use pyro_tests::{Pyro, SANDBOX};
use serde_json::{Value, json};

/// A client with its server.
pub(crate) struct Client {
    pub(crate) server: Child,
    pub(crate) input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    sent: u64,
    /// What came before what was waited for.
    pub(crate) told: Vec<Value>,
}

impl Client {
    pub(crate) fn start(pyro: &Pyro, options: &[&str]) -> Self {
        let mut client = Self::open(pyro, options);
        let hello = json!({
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "tester", "version": "7.1"},
        });
        let welcome = client.ask("initialize", hello);
        assert_eq!(welcome["serverInfo"]["name"], "pyro_mcp");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    /// Starts a server and says nothing to it.
    pub(crate) fn open(pyro: &Pyro, options: &[&str]) -> Self {
        let mut command = pyro.command(&[&["mcp", "serve"], options].concat());
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (server.stdin.take(), BufReader::new(server.stdout.take().unwrap()));
        Self { server, input, output, sent: 0, told: Vec::new() }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{message}").unwrap();
    }

    /// Sends a request and returns its number.
    pub(crate) fn request(&mut self, method: &str, params: Value) -> u64 {
        self.sent += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.sent, "method": method, "params": params}));
        self.sent
    }

    pub(crate) fn next(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Waits for the answer to a request, which may have come before that of another one.
    pub(crate) fn answer(&mut self, number: u64) -> Value {
        let known = self.told.iter().position(|message| message["id"] == number);
        let mut answer = known.map(|place| self.told.remove(place));
        while answer.is_none() {
            let message = self.next();
            if message["id"] == number {
                answer = Some(message);
            } else {
                self.told.push(message);
            }
        }
        let answer = answer.unwrap();
        assert_eq!(answer["error"], Value::Null, "{answer}");
        answer["result"].clone()
    }

    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let number = self.request(method, params);
        self.answer(number)
    }

    pub(crate) fn begin(&mut self, tool: &str, arguments: &Value) -> u64 {
        self.request("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let number = self.begin(tool, arguments);
        self.answer(number)
    }

    /// Calls a tool that succeeds, and returns its answer and the text.
    pub(crate) fn done(&mut self, tool: &str, arguments: &Value) -> (Value, String) {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], false, "{result}");
        (result["structuredContent"].clone(), text(&result))
    }

    /// Calls a tool that fails, and returns why.
    pub(crate) fn refused(&mut self, tool: &str, arguments: &Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{result}");
        text(&result)
    }

    pub(crate) fn workspace(&mut self) -> String {
        let machine = json!({"environment": "debian:12", "allow_host_compat": true, "mem_mib": "256"});
        let (created, _) = self.done("workspace_create", &machine);
        created["workspace_id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.input.take());
        // A server that writes to nobody would not end by itself.
        if std::thread::panicking() {
            let _ended = self.server.kill();
        }
        let _ended = self.server.wait();
    }
}

fn text(result: &Value) -> String {
    result["content"][0]["text"].as_str().unwrap().to_owned()
}

/// Catches a tool of the contract that is not there, or takes something else.
#[test]
fn tools_are_those_of_the_contract() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let tools = client.ask("tools/list", json!({}))["tools"].as_array().unwrap().clone();
    let inputs = |tool: &Value| {
        let properties = tool["inputSchema"]["properties"].as_object().unwrap();
        let names = properties.keys().map(String::as_str).filter(|name| *name != "request_id");
        format!("{}: {}", tool["name"].as_str().unwrap(), names.collect::<Vec<_>>().join(" "))
    };
    let known: Vec<_> = tools.iter().map(inputs).collect();
    let expected = [
        "vm_run: allow_host_compat command environment mem_mib network timeout_seconds ttl_seconds vcpu_count",
        "vm_list_environments: ",
        "vm_create: allow_host_compat environment mem_mib network ttl_seconds vcpu_count",
        "vm_start: vm_id",
        "vm_exec: command timeout_seconds vm_id",
        "vm_stop: vm_id",
        "vm_delete: vm_id",
        "vm_status: vm_id",
        "vm_network_info: vm_id",
        "vm_reap_expired: ",
        "workspace_create: allow_host_compat environment mem_mib network seed_path ttl_seconds vcpu_count",
        "workspace_sync_push: dest source_path workspace_id",
        "workspace_exec: command timeout_seconds workspace_id",
        "workspace_status: workspace_id",
        "workspace_logs: workspace_id",
        "workspace_delete: workspace_id",
        "shell_open: cols cwd rows workspace_id",
        "shell_read: cursor max_chars shell_id workspace_id",
        "shell_write: append_newline input shell_id workspace_id",
        "shell_signal: shell_id signal_name workspace_id",
        "shell_close: shell_id workspace_id",
    ];
    assert_eq!(known, expected);
    for tool in &tools {
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        assert_eq!(tool["outputSchema"]["type"], "object", "{tool}");
        assert!(
            tool["annotations"]["readOnlyHint"].is_boolean() && tool["description"].is_string(),
            "{tool}"
        );
    }
    let mut few = Client::start(&pyro, &["--profile", "vm-run"]);
    assert_eq!(few.ask("tools/list", json!({}))["tools"].as_array().map(Vec::len), Some(1));
}

/// Catches a tool that does not do what its daemon can, and a session that the log does not tell of.
#[test]
fn a_session_of_an_agent() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let id = client.workspace();
    let source = pyro.home().join("src");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "content").unwrap();
    let (pushed, _) = client
        .done("workspace_sync_push", &json!({"workspace_id": id, "source_path": source, "dest": "src"}));
    assert_eq!(pushed["workspace_sync"]["entry_count"], 1);
    let (ran, said) = client
        .done("workspace_exec", &json!({"workspace_id": id, "command": "cat src/f; echo no >&2; exit 3"}));
    assert_eq!(
        (&ran["exit_code"], &ran["stdout"], &ran["stderr"]),
        (&3.into(), &"content".into(), &"no\n".into())
    );
    assert!(said.starts_with("content\n[stderr]\nno\n[exit code 3, "), "{said}");

    let (shell, _) = client.done("shell_open", &json!({"workspace_id": id}));
    let shell = shell["shell_id"].as_str().unwrap().to_owned();
    let place = json!({"workspace_id": id, "shell_id": shell});
    client.done("shell_write", &json!({"workspace_id": id, "shell_id": shell, "input": "echo $((6 * 7))"}));
    while !client.done("shell_read", &place).1.contains("\n42\n") {}
    client.done("shell_signal", &place);
    assert_eq!(client.done("shell_close", &place).0["closed"], true);

    let (environments, _) = client.done("vm_list_environments", &json!({}));
    assert_eq!(environments["result"].as_array().map(Vec::len), Some(3));
    let run = json!({"environment": "debian:12", "command": "echo here", "allow_host_compat": "true"});
    assert_eq!(client.done("vm_run", &run).0["stdout"], "here\n");
    let (logs, _) = client.done("workspace_logs", &json!({"workspace_id": id}));
    assert_eq!(logs["count"], 1);
    client.done("workspace_delete", &json!({"workspace_id": id}));

    let asked = pyro.log().into_iter().filter(|event| event["actor"]["face"] == "mcp").collect::<Vec<_>>();
    assert!(
        asked.len() > 8 && asked.iter().all(|event| event["actor"]["client"] == "tester/7.1"),
        "{asked:?}"
    );
}

/// Catches an error that does not say what to do next, and one that ends the session.
#[test]
fn errors_say_what_to_do() {
    let pyro = Pyro::new().config(SANDBOX);
    let allowed = pyro.home().join("allowed");
    std::fs::create_dir(&allowed).unwrap();
    let mut client = Client::start(&pyro, &["--allow-path", allowed.to_str().unwrap()]);
    let id = client.workspace();
    for (tool, arguments, expected) in [
        ("workspace_exec", json!({"workspace_id": "nope", "command": "true"}), format!("existing: {id}")),
        ("workspace_exec", json!({"workspace_id": id, "comand": "x"}), "did you mean `command`?".to_owned()),
        ("workspace_exec", json!({"workspace_id": id}), "needs the argument `command`".to_owned()),
        ("workspace_exec", json!({"workspace_id": id, "command": 5}), "`command`: invalid type".to_owned()),
        ("vm_run", json!({"environment": "debian:99", "command": "true"}), "debian:12".to_owned()),
        (
            "workspace_sync_push",
            json!({"workspace_id": id, "source_path": "/etc"}),
            "--allow-path".to_owned(),
        ),
        ("nothing", json!({}), "Unknown tool: nothing".to_owned()),
    ] {
        let refusal = client.refused(tool, &arguments);
        assert!(refusal.contains(&expected), "{tool}: {refusal}");
    }
    client.input.as_mut().unwrap().write_all(b"{not json\n[1,2]\n\"x\"\n").unwrap();
    assert_eq!(
        client.done("workspace_exec", &json!({"workspace_id": id, "command": "true"})).0["exit_code"],
        0
    );
}

/// Catches a call that holds up others, progress that does not come, and a command that outlives its cancellation.
#[test]
fn calls_run_side_by_side_and_end_when_nobody_wants_them() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let id = client.workspace();
    let slow = json!({"workspace_id": id, "command": "echo working; until [ -e go ]; do sleep 0.05; done"});
    let params = json!({"name": "workspace_exec", "arguments": slow, "_meta": {"progressToken": "p"}});
    let slow = client.request("tools/call", params);
    let endless =
        client.begin("workspace_exec", &json!({"workspace_id": id, "command": "echo $$ > pid; sleep 1000"}));
    assert_eq!(client.ask("ping", json!({})), json!({}));
    let progress = loop {
        let message = client.next();
        if message["method"] == "notifications/progress" {
            break message;
        }
    };
    assert_eq!(
        (&progress["params"]["progressToken"], &progress["params"]["message"]),
        (&"p".into(), &"working".into())
    );
    client.send(&json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": endless, "reason": "enough"},
    }));
    let _canceled = pyro.wait_for("exec_cancel_requested");
    let ended = pyro.wait_for("exec_exited");
    assert_eq!(ended["data"]["exit_code"], 137);
    client.done("workspace_exec", &json!({"workspace_id": id, "command": "touch go"}));
    assert_eq!(client.answer(slow)["structuredContent"]["exit_code"], 0);

    let (large, said) = client.done("workspace_exec", &json!({"workspace_id": id, "command": "seq 100000"}));
    assert_eq!((&large["stdout_truncated"], &large["stdout_bytes"]), (&true.into(), &588_895.into()));
    assert!(said.len() < 40_000 && said.contains("bytes of stdout are left out"), "{}", said.len());
}
