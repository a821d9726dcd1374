//! The MCP server over HTTP, byte for byte, as somebody who writes requests by hand uses it.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;

use pyro_tests::{Pyro, SANDBOX};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Most memory that the server may take beyond what it takes when it does nothing, in KiB.
const MEMORY_MAX: u64 = 64 * 1024;

/// A server.
struct Server {
    process: Child,
    stderr: BufReader<ChildStderr>,
    port: u16,
    token: String,
}

impl Server {
    fn start(pyro: &Pyro, options: &[&str]) -> Self {
        let words = ["mcp", "serve", "--transport", "http", "--port", "0"];
        let mut process =
            pyro.command(&[&words[..], options].concat()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        stderr.read_line(&mut said).unwrap();
        let port =
            said.trim().strip_prefix("MCP server: http://127.0.0.1:").unwrap().strip_suffix("/mcp").unwrap();
        let token = std::fs::read_to_string(pyro.home().join("mcp-token")).unwrap().trim().to_owned();
        Self { port: port.parse().unwrap(), process, stderr, token }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }

    /// Sends bytes, and no more, and returns all that comes back until the server closes.
    fn rubbish(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // A server that has refused need not read the rest.
        let _refused = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _refused = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Sends a request with these lines of its head besides those that it needs, and returns the answer.
    fn send(&self, method: &str, lines: &[String], body: &str) -> String {
        let lines = lines.iter().fold(String::new(), |all, line| all + line + "\r\n");
        let head = format!(
            "{method} /mcp HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n{lines}\r\n",
            body.len()
        );
        self.raw(format!("{head}{body}").as_bytes())
    }

    fn host(&self) -> String {
        format!("Host: 127.0.0.1:{}", self.port)
    }

    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.token)
    }

    fn own(&self, session: &str) -> Vec<String> {
        vec![self.host(), self.bearer(), format!("Mcp-Session-Id: {session}")]
    }

    fn begin(&self, name: &str) -> Session<'_> {
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": name, "version": "1"},
        }});
        let answer = self.send("POST", &[self.host(), self.bearer()], &hello.to_string());
        let id = answer.lines().find_map(|line| line.strip_prefix("mcp-session-id: "));
        let id = id.unwrap_or_else(|| panic!("{answer}")).trim().to_owned();
        let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let answer = self.send("POST", &self.own(&id), &done.to_string());
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
        Session { server: self, id }
    }

    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _waited = self.process.wait();
    }
}

/// A session of one client.
struct Session<'a> {
    server: &'a Server,
    id: String,
}

impl Session<'_> {
    fn call(&self, tool: &str, arguments: &Value) -> Value {
        self.ask("tools/call", &json!({"name": tool, "arguments": arguments}))
    }

    fn ask(&self, method: &str, params: &Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self.server.send("POST", &self.server.own(&self.id), &request.to_string());
        let mut events = answer.lines().filter_map(|line| line.strip_prefix("data: "));
        let message = events.find(|event| event.contains("\"result\"")).unwrap_or_else(|| panic!("{answer}"));
        let mut message: Value = serde_json::from_str(message).unwrap();
        message["result"].take()
    }

    /// Returns what the server says of its own accord.
    fn listen(&self) -> BufReader<TcpStream> {
        let mut stream = self.server.connect();
        let lines = self.server.own(&self.id).join("\r\n");
        write!(stream, "GET /mcp HTTP/1.1\r\nAccept: text/event-stream\r\n{lines}\r\n\r\n").unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            stream.read_line(&mut head).unwrap();
        }
        assert_eq!(status(&head), "200", "{head}");
        stream
    }

    fn workspace(&self) -> String {
        let machine = json!({"environment": "debian:12", "allow_host_compat": true, "mem_mib": 256});
        let created = self.call("workspace_create", &machine);
        created["structuredContent"]["workspace_id"].as_str().unwrap().to_owned()
    }
}

fn status(answer: &str) -> &str {
    answer.get("HTTP/1.1 ".len().."HTTP/1.1 000".len()).unwrap_or("")
}

/// Catches two clients who are taken for one, and a session that goes on after its end.
#[test]
fn several_clients_have_sessions_of_their_own() {
    let pyro = Pyro::new().config(SANDBOX);
    let server = Server::start(&pyro, &[]);
    let (one, two) = (server.begin("one"), server.begin("two"));
    let id = one.workspace();
    thread::scope(|scope| {
        let begun = scope.spawn(|| {
            one.call(
                "workspace_exec",
                &json!({"workspace_id": id, "command": "until [ -e go ]; do sleep 0.05; done"}),
            )
        });
        let ran = two.call("workspace_exec", &json!({"workspace_id": id, "command": "touch go; echo 2"}));
        assert_eq!(ran["structuredContent"]["stdout"], "2\n");
        assert_eq!(begun.join().unwrap()["structuredContent"]["exit_code"], 0);
    });
    let clients = |kind: &str| {
        let events = pyro.log().into_iter().filter(|event| event["kind"] == kind).collect::<Vec<_>>();
        events
            .into_iter()
            .map(|event| event["actor"]["client"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let mut asked = clients("exec_requested");
    asked.sort();
    assert!(asked[0].starts_with("one/1 session=") && asked[1].starts_with("two/1 session="), "{asked:?}");
    assert_eq!(clients("workspace_created"), asked[..1]);
    assert!(asked.iter().all(|client| !client.contains(&one.id) && !client.contains(&two.id)));

    let ended = server.send("DELETE", &server.own(&one.id), "");
    assert!(["200", "202", "204"].contains(&status(&ended)), "{ended}");
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    assert_eq!(status(&server.send("POST", &server.own(&one.id), &list)), "404");
    assert_eq!(status(&server.send("POST", &server.own("0"), &list)), "404");
    assert_eq!(status(&server.send("POST", &server.own(&two.id), &list)), "200");
}

/// Waits until the server says of its own accord that a resource has changed, and returns which.
fn updated(stream: &mut BufReader<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the server said nothing more");
        let Some(Ok(said)) = line.strip_prefix("data: ").map(serde_json::from_str::<Value>) else { continue };
        if said["method"] == "notifications/resources/updated" {
            return said["params"]["uri"].as_str().unwrap().to_owned();
        }
    }
}

/// Catches a client that is told of what another one wants to know, one who watches for each of them, and one who goes on
/// watching when they are gone.
#[test]
fn clients_are_told_of_their_own_subscriptions() {
    let pyro = Pyro::new().config(SANDBOX);
    let server = Server::start(&pyro, &[]);
    let connections = || {
        let status = pyro.run(&["daemon", "status", "--json"]).out();
        serde_json::from_str::<Value>(&status).unwrap()["clients"].as_u64().unwrap() - 1
    };
    let (one, two) = (server.begin("one"), server.begin("two"));
    let id = one.workspace();
    let own = format!("pyro://workspaces/{id}");
    one.ask("resources/subscribe", &json!({"uri": own}));
    two.ask("resources/subscribe", &json!({"uri": "pyro://log"}));
    while connections() != 1 {}
    let (mut to_one, mut to_two) = (one.listen(), two.listen());
    for _ in 0..3 {
        one.call("workspace_exec", &json!({"workspace_id": id, "command": "true"}));
        assert_eq!((updated(&mut to_one), updated(&mut to_two)), (own.clone(), "pyro://log".to_owned()));
    }
    for session in [&one, &two] {
        let ended = server.send("DELETE", &server.own(&session.id), "");
        assert!(["200", "202", "204"].contains(&status(&ended)), "{ended}");
    }
    while connections() != 0 {}
}

/// Catches a stranger who is let in, and one of whom there is no record.
#[test]
fn strangers_are_refused_and_recorded() {
    let pyro = Pyro::new().config(SANDBOX);
    let server = Server::start(&pyro, &["--allow-origin", "https://app.example"]);
    let (host, bearer) = (server.host(), server.bearer());
    let line = |text: &str| text.to_owned();
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    for (lines, expected) in [
        (vec![host.clone()], "401"),
        (vec![host.clone(), line("Authorization: Bearer 00000000000000000000000000000000")], "401"),
        (vec![host.clone(), bearer.clone(), line("Origin: http://evil.example")], "403"),
        (vec![host.clone(), bearer.clone(), line("Origin: null")], "403"),
        (vec![format!("Host: evil.example:{}", server.port), bearer.clone()], "403"),
        (vec![bearer.clone()], "400"),
    ] {
        // The one without a host is for the parser to refuse or for the gate.
        let answer = server.send("POST", &lines, &list);
        let got = status(&answer);
        assert!(got == expected || (expected == "400" && got == "403"), "{lines:?}: {answer}");
        assert!(!answer.contains("workspace_exec"), "{answer}");
    }
    let nobody = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg(format!("http://127.0.0.1:{}/mcp", server.port))
        .output();
    let is_root = rustix::process::geteuid().is_root();
    if let Some(nobody) = nobody.ok().filter(|output| is_root && output.status.success()) {
        assert_eq!(nobody.stdout, b"401");
        let recorded = || pyro.log().into_iter().any(|event| event["data"]["peer_uid"] == 65534);
        while !recorded() {}
    }
    let refused = || {
        let events = pyro.log().into_iter().filter(|event| event["kind"] == "access_refused");
        events.map(|event| event["data"].clone()).collect::<Vec<_>>()
    };
    while refused().len() < 5 {}
    let told = refused();
    let reasons: Vec<_> = told.iter().map(|data| data["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons[..5], ["token", "token", "origin", "origin", "host"]);
    assert_eq!(told[2]["claimed"], "http://evil.example");
    assert_eq!(told[0]["peer_uid"], rustix::process::getuid().as_raw());
    assert!(!told.iter().any(|data| data.to_string().contains("00000000000000000000000000000000")));

    let allowed = server.send("POST", &[host, bearer, line("Origin: https://app.example")], &list);
    assert_ne!(status(&allowed), "403", "{allowed}");
}

/// Catches a request that is taken for another one, costs too much, or ends the server.
#[test]
fn rubbish_is_survived() {
    let pyro = Pyro::new().config(SANDBOX);
    let server = Server::start(&pyro, &[]);
    let session = server.begin("one");
    let idle = server.memory();
    let (host, bearer) = (server.host(), server.bearer());
    let head =
        |lines: &str| format!("POST /mcp HTTP/1.1\r\n{host}\r\n{bearer}\r\nConnection: close\r\n{lines}\r\n");
    for (bytes, expected) in [
        (b"\x16\x03\x01\x02\x00".to_vec(), ["", "400"]),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec(), ["403", "400"]),
        (
            format!("GET /other HTTP/1.1\r\n{host}\r\n{bearer}\r\nConnection: close\r\n\r\n").into_bytes(),
            ["404", ""],
        ),
        (
            format!("PUT /mcp HTTP/1.1\r\n{host}\r\n{bearer}\r\nConnection: close\r\n\r\n").into_bytes(),
            ["405", ""],
        ),
        (head("Content-Length: 5\r\nContent-Length: 6\r\n").into_bytes(), ["400", ""]),
        (head("Content-Length: -1\r\n").into_bytes(), ["400", ""]),
        (head(&format!("X: {}\r\n", "x".repeat(200_000))).into_bytes(), ["431", ""]),
        (head(&"X: x\r\n".repeat(2_000)).into_bytes(), ["431", ""]),
        ([head("Content-Length: 20000000\r\n").into_bytes(), vec![b' '; 20_000_000]].concat(), ["413", ""]),
    ] {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let is_head = bytes.windows(4).any(|end| end == b"\r\n\r\n");
        let answer = if is_head { server.raw(&bytes) } else { server.rubbish(&bytes) };
        assert!(expected.contains(&status(&answer)), "{start}: {answer}");
    }
    for body in
        ["", "{", "[]", "null", "\"initialize\"", &"[".repeat(100_000), r#"{"jsonrpc":"2.0","id":{}}"#]
    {
        let answer = server.send("POST", &server.own(&session.id), body);
        assert!(status(&answer).starts_with('4'), "{}: {answer}", &body[..body.len().min(40)]);
    }
    let large =
        session.call("workspace_exec", &json!({"workspace_id": "w", "command": "x".repeat(10_000_000)}));
    assert_eq!(large["isError"], true);
    // Those who begin and never end hold up nobody.
    let slow: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"POST /mcp HTTP/1.1\r\nHost: 127").unwrap();
            stream
        })
        .collect();
    assert!(session.call("vm_list_environments", &json!({}))["isError"] == false);
    drop(slow);
    assert!(server.memory() < idle + MEMORY_MAX, "{} {idle}", server.memory());
}

/// Catches sessions without a bound, and a client that finds no room for ever.
#[test]
fn sessions_are_bounded() {
    let pyro = Pyro::new().config(SANDBOX);
    let server = Server::start(&pyro, &[]);
    let sessions: Vec<_> = (0..64).map(|number| server.begin(&number.to_string())).collect();
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    let full = server.send("POST", &[server.host(), server.bearer()], &hello);
    assert_eq!(status(&full), "503", "{full}");
    assert!(full.contains("retry-after: "), "{full}");
    server.send("DELETE", &server.own(&sessions[0].id), "");
    server.begin("another");
}

/// Catches a server that ends at once and leaves commands running, and one that does not end.
#[test]
fn a_signal_ends_calls_and_server() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut server = Server::start(&pyro, &[]);
    let session = server.begin("one");
    let id = session.workspace();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "workspace_exec",
        "arguments": {"workspace_id": id, "command": "sleep 1000"}}})
    .to_string();
    let lines = server.own(&session.id).join("\r\n");
    let mut stream = server.connect();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{lines}\r\n\
         Content-Length: {}\r\n\r\n{call}",
        call.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let _running = pyro.wait_for("exec_started");
    pyro_tests::signal(i32::try_from(server.process.id()).unwrap(), Signal::TERM);
    assert!(server.process.wait().unwrap().success());
    let _canceled = pyro.wait_for("exec_cancel_requested");
    let mut said = String::new();
    server.stderr.read_to_string(&mut said).unwrap();
    assert_eq!(
        said,
        format!("Token: in {}\n", pyro.home().join("mcp-token").display()),
        "and not the token itself"
    );
}
