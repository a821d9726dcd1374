//! `pyro demo ollama` against a scripted server: a model that says what the script has.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use pyro_tests::{Output, Pyro, SANDBOX};
use serde_json::{Value, json};

/// A server that gives one answer after the other, and the last one for ever.
struct Scripted {
    address: String,
    thread: Option<JoinHandle<Vec<Value>>>,
}

impl Scripted {
    fn new(script: Vec<(u16, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || serve(&listener, &script));
        Self { address, thread: Some(thread) }
    }

    /// Returns a server that says these messages of a model.
    fn saying(messages: &[Value]) -> Self {
        let answer = |message| json!({"choices": [{"message": message}]}).to_string().into_bytes();
        Self::new(messages.iter().map(|message| (200, answer(message))).collect())
    }

    fn demonstrate(&self, pyro: &Pyro) -> Output {
        let url = format!("http://{}/v1/", self.address);
        pyro.run(&["demo", "ollama", "-v", "--model", "m", "--base-url", &url])
    }

    /// Ends the server and returns what it was asked.
    fn asked(mut self) -> Vec<Value> {
        self.end().unwrap()
    }

    fn end(&mut self) -> Option<Vec<Value>> {
        let thread = self.thread.take()?;
        // Who connects and says nothing ends it.
        drop(TcpStream::connect(&self.address));
        Some(thread.join().unwrap())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _asked = self.end();
    }
}

fn serve(listener: &TcpListener, script: &[(u16, Vec<u8>)]) -> Vec<Value> {
    let mut asked = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        let mut reader = BufReader::new(&stream);
        let mut first = true;
        // The client keeps its connection as long as it likes.
        while let Some(request) = read_request(&mut reader) {
            first = false;
            let (status, body) = script.get(asked.len()).or(script.last()).unwrap();
            asked.push(request);
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
            // It may go before it has read everything.
            let _gone = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body));
        }
        if first {
            break;
        }
    }
    asked
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Value> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    assert_eq!(first, "POST /v1/chat/completions HTTP/1.1\r\n");
    let mut len_bytes = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => len_bytes = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; len_bytes];
    reader.read_exact(&mut body).unwrap();
    Some(serde_json::from_slice(&body).unwrap())
}

/// Returns a message that calls tools, with arguments as a text as servers send them.
fn calling(calls: &[(&str, &str)]) -> Value {
    let call = |(number, (name, arguments)): (usize, &(&str, &str))| json!({"id": format!("c{number}"), "type": "function", "function": {"name": name, "arguments": arguments}});
    json!({"role": "assistant", "content": null, "tool_calls": calls.iter().enumerate().map(call).collect::<Vec<_>>()})
}

fn saying(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

/// Returns what the model was told of its calls, in their order.
fn told(asked: &[Value]) -> Vec<Value> {
    let messages = asked.last().unwrap()["messages"].as_array().unwrap();
    let told = messages.iter().filter(|message| message["role"] == "tool");
    told.map(|message| serde_json::from_str(message["content"].as_str().unwrap()).unwrap()).collect()
}

const RUN: &str =
    r#"{"environment":"debian:12","command":"git --version","mem_mib":"256","allow_host_compat":true}"#;

/// Catches a demonstration that cannot succeed, or shows it in another way than the contract has it.
#[test]
fn a_model_that_does_what_it_is_told_succeeds() {
    let pyro = Pyro::new().config(SANDBOX);
    let model = Scripted::saying(&[calling(&[("vm_run", RUN)]), saying("It is\n[summary] \u{1b}[31mgit.")]);
    let output = model.demonstrate(&pyro);
    assert_eq!((output.code, output.err().as_str()), (Some(0), ""), "{}", output.out());
    let out = output.out();
    let tags: Vec<_> = out.lines().map(|line| line.split_inclusive(']').next().unwrap()).collect();
    let expected =
        ["[ollama]", "[model]", "[model]", "[tool]", "[tool]", "[model]", "[done]", "[summary]", "[summary]"];
    assert_eq!(tags, expected, "{out}");
    assert!(
        out.contains("\n[summary] exit_code=0 fallback_used=False execution_mode=host_compat\n"),
        "{out}"
    );
    assert!(out.contains("\n[summary] stdout=git version 2"), "{out}");
    let asked = model.asked();
    assert_eq!(
        (&asked[0]["model"], &asked[0]["temperature"], &asked[0]["tool_choice"]),
        (&"m".into(), &0.into(), &"auto".into())
    );
    let tools = asked[0]["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["vm_run", "vm_list_environments", "vm_create", "vm_start", "vm_exec", "vm_status"]);
    let ran = pyro.log().into_iter().find(|event| event["kind"] == "exec_requested").unwrap();
    assert_eq!(ran["actor"]["client"], concat!("pyro-demo-ollama/", env!("CARGO_PKG_VERSION")));
}

/// Catches a small model's habits that end the demonstration, and machines that it leaves behind.
#[test]
fn a_model_that_muddles_through_succeeds() {
    let pyro = Pyro::new().config(SANDBOX);
    let other = pyro.create(&["--allow-host-compat"]);
    let create = r#"{"profile":"debian:12","mem_mib":256,"allow_host_compat":true}"#;
    let model = Scripted::saying(&[
        saying("I would run git --version."),
        calling(&[
            ("git", "{}"),
            ("vm_exec", r#"{"vm_id": "#),
            ("vm_exec", r#"{"vm_id":"<vm_id>","command":"true"}"#),
        ]),
        calling(&[("vm_create", create), ("vm_create", create)]),
        calling(&[("vm_status", &format!(r#"{{"vm_id":"{other}"}}"#)), ("vm_run", r#"{"comand":"x"}"#)]),
        calling(&[(
            "vm_exec",
            r#"{"vm_id":"<the id>","command":"git --version","timeout_seconds":"1000000"}"#,
        )]),
        saying("Done."),
    ]);
    let output = model.demonstrate(&pyro);
    assert_eq!(output.code, Some(0), "{}", output.out());
    let told = told(&model.asked());
    let kinds: Vec<_> = told.iter().map(|told| told["error_type"].as_str().unwrap_or("none")).collect();
    let expected =
        ["unknown_tool", "invalid_arguments", "unknown_vm", "none", "none", "none", "tool_error", "none"];
    assert_eq!(kinds, expected, "{told:?}");
    assert_eq!((&told[0]["ok"], &told[0]["tool_name"]), (&false.into(), &"git".into()));
    assert!(told[6]["error"].as_str().unwrap().contains("comand") && told[1]["hint"].is_string(), "{told:?}");
    assert_eq!(told[5]["vm_id"], told[4]["vm_id"], "another machine was meant than the last one");
    assert!(told[7]["stdout"].as_str().unwrap().starts_with("git version 2"), "{told:?}");
    let left = pyro.run(&["workspace", "list", "--json"]).json();
    let deleted = pyro.log().into_iter().filter(|event| event["kind"] == "workspace_deleting").count();
    assert_eq!((deleted, left["count"].as_u64()), (2, Some(1)), "{left}");
}

/// Catches a model that keeps the demonstration going, or is taken at its word.
#[test]
fn a_model_that_runs_nothing_fails() {
    let pyro = Pyro::new().config(SANDBOX);
    let failing = RUN.replace("git --version", "exit 3");
    for (messages, rounds, expected) in [
        (vec![saying("I cannot help with that.")], 2, "called no tool, but said: I cannot help with that."),
        (vec![json!({"refusal": "No."})], 2, "said: No."),
        (vec![calling(&[("vm_list_environments", "{}")])], 12, "in 12 rounds"),
        (vec![calling(&[("rm -rf /", "[]"); 1000])], 12, "in 12 rounds"),
        (vec![calling(&[("vm_run", &failing)]), saying("It is 2.39.")], 3, "said: It is 2.39."),
    ] {
        let model = Scripted::saying(&messages);
        let output = model.demonstrate(&pyro);
        let last = output.out().lines().last().unwrap().to_owned();
        assert_eq!(output.code, Some(1), "{last}");
        assert!(last.starts_with("[error] the model ") && last.contains(expected), "{last}");
        assert_eq!(model.asked().len(), rounds, "{last}");
    }
}

/// Catches a server that hangs or fills the client, and an error that does not say what to do.
#[test]
fn servers_that_are_no_models_are_told_of() {
    let pyro = Pyro::new().config(SANDBOX);
    let missing = json!({"error": {"message": "model 'm' not found"}}).to_string().into_bytes();
    for (status, body, expected) in [
        (200, b"{\"choices\": [".to_vec(), "something else than a chat completion: {\"choices\": ["),
        (200, b"<html>\x1b[2J</html>".to_vec(), "something else than a chat completion"),
        (200, vec![b' '; 3 << 20], "it is larger than 1048576 bytes"),
        (404, missing, "model 'm' not found; `ollama pull m` loads it"),
        (500, b"overload".to_vec(), "answered with status 500: overload"),
    ] {
        let model = Scripted::new(vec![(status, body)]);
        let output = model.demonstrate(&pyro);
        let last = output.out().lines().last().unwrap().to_owned();
        assert_eq!(output.code, Some(1), "{last}");
        assert!(
            last.starts_with("[error] ") && last.contains(expected) && !last.contains('\u{1b}'),
            "{last}"
        );
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}/v1");
    for (url, expected) in
        [(url.as_str(), "`ollama serve` starts Ollama"), ("https://x/v1", "must begin with http://")]
    {
        let output = pyro.run(&["demo", "ollama", "--base-url", url]);
        let last = output.out().lines().last().unwrap().to_owned();
        assert_eq!(output.code, Some(1), "{last}");
        assert!(last.starts_with("[error] ") && last.contains(expected), "{last}");
    }
}
