//! Resources, subscriptions and prompts of the MCP server.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use pyro_tests::{Pyro, SANDBOX};
use serde_json::{Value, json};

use crate::mcp::Client;

const UPDATED: &str = "notifications/resources/updated";
const LIST_CHANGED: &str = "notifications/resources/list_changed";

impl Client {
    /// Waits for a message, which may have come before another one that was waited for.
    fn take(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(place) = self.told.iter().position(&is_wanted) {
            return self.told.remove(place);
        }
        loop {
            let message = self.next();
            if is_wanted(&message) {
                return message;
            }
            self.told.push(message);
        }
    }

    /// Waits for the parameters of the next notification of a kind.
    fn notification(&mut self, method: &str) -> Value {
        self.take(|message| message["method"] == method)["params"].clone()
    }

    /// Returns the notifications of a kind that came before what was waited for, and forgets them.
    fn notifications_so_far(&mut self, method: &str) -> Vec<Value> {
        let (wanted, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.told).into_iter().partition(|message| message["method"] == method);
        self.told = others;
        wanted.into_iter().map(|message| message["params"].clone()).collect()
    }

    /// Sends a request that fails, and returns the error.
    fn error(&mut self, method: &str, params: Value) -> Value {
        let number = self.request(method, params);
        let answer = self.take(|message| message["id"] == number);
        assert_eq!(answer["result"], Value::Null, "{answer}");
        answer["error"].clone()
    }

    /// Reads a resource and returns its text.
    fn read(&mut self, uri: &str) -> String {
        let read = self.ask("resources/read", json!({"uri": uri}));
        assert_eq!(read["contents"][0]["uri"], uri);
        read["contents"][0]["text"].as_str().unwrap().to_owned()
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn uris(page: &Value) -> Vec<&str> {
    page["resources"].as_array().unwrap().iter().map(|resource| resource["uri"].as_str().unwrap()).collect()
}

/// Subscribes, and has the server say that it has done so.
fn subscribe(client: &mut Client, uri: &str) {
    assert_eq!(client.ask("resources/subscribe", json!({"uri": uri})), json!({}));
}

/// Waits until the client is told of a resource.
fn told_of(client: &mut Client, uri: &str) {
    while client.notification(UPDATED)["uri"] != uri {}
}

/// Catches a resource that is not there, or says something else than the tools and the mount.
#[test]
fn resources_say_what_tools_say() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    assert_eq!(uris(&client.ask("resources/list", json!({}))), ["pyro://workspaces", "pyro://log"]);
    let id = client.workspace();
    let page = client.ask("resources/list", json!({}));
    let workspace = format!("pyro://workspaces/{id}");
    assert_eq!(uris(&page), ["pyro://workspaces", "pyro://log", &workspace]);

    client
        .done("workspace_exec", &json!({"workspace_id": id, "command": "echo out; printf 'e\\377\\n' >&2"}));
    let (status, _) = client.done("workspace_status", &json!({"workspace_id": id}));
    assert_eq!(parsed(&client.read(&workspace)), status);
    let all = parsed(&client.read("pyro://workspaces"));
    assert_eq!((&all["count"], &all["workspaces"]), (&json!(1), &json!([status])));
    assert_eq!(client.read(&format!("{workspace}/logs/1/stdout")), "out\n");
    assert_eq!(client.read(&format!("{workspace}/logs/1/stderr")), "e\u{fffd}\n");

    // What a command prints can be read while it runs.
    let running = json!({"workspace_id": id, "command": "echo early; until [ -e go ]; do sleep 0.05; done"});
    let early = format!("{workspace}/logs/2/stdout");
    subscribe(&mut client, &early);
    let running = client.begin("workspace_exec", &running);
    told_of(&mut client, &early);
    while client.read(&early) != "early\n" {}
    client.done("workspace_exec", &json!({"workspace_id": id, "command": "touch go"}));
    client.answer(running);

    let templates = client.ask("resources/templates/list", json!({}));
    assert_eq!(templates["resourceTemplates"].as_array().map(Vec::len), Some(5));

    let log = parsed(&client.read("pyro://log?since=1"));
    let events = log["events"].as_array().unwrap();
    let recorded = pyro.log();
    assert_eq!((events.len(), &events[..]), (recorded.len(), &recorded[..]));
    let next = format!("pyro://log?since={}", recorded.len() + 1);
    assert_eq!((&log["next"], &log["more"]), (&json!(next), &json!(0)));
    assert_eq!(parsed(&client.read(&next))["events"], json!([]));
}

/// Catches a screen that is not what a person sees.
#[test]
fn a_screen_is_what_a_person_sees() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let id = client.workspace();
    let (shell, _) = client.done("shell_open", &json!({"workspace_id": id, "cols": 40, "rows": 5}));
    let shell = shell["shell_id"].as_str().unwrap().to_owned();
    let screen = format!("pyro://workspaces/{id}/shells/{shell}/screen");
    subscribe(&mut client, &screen);
    let short = format!("pyro://workspaces/{id}/shells/{}/screen", &shell[..6]);
    // It is drawn over, and cleared: only the end of it is to be seen.
    let input = r"printf 'one\rtwo\n'; printf '\033[2J\033[Hlast\n'";
    client.done("shell_write", &json!({"workspace_id": id, "shell_id": shell, "input": input}));
    while !client.read(&screen).starts_with("last\n") {
        told_of(&mut client, &screen);
    }
    assert!(client.read(&short).starts_with("last\n"));
    client.done("shell_close", &json!({"workspace_id": id, "shell_id": shell}));
    let error = client.error("resources/read", json!({"uri": screen}));
    assert_eq!(error["code"], -32002, "{error}");
}

/// Catches output that is too long for an answer, that is cut without a word, or that cannot be read on.
#[test]
fn long_output_is_read_in_parts() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let id = client.workspace();
    let (ran, said) = client.done("workspace_exec", &json!({"workspace_id": id, "command": "seq 30000"}));
    let whole = (1..=30_000).map(|number| format!("{number}\n")).collect::<String>();
    let uri = format!("pyro://workspaces/{id}/logs/1/stdout");
    assert!(said.contains(&format!("{uri}?offset=16384 goes on there")), "{said}");
    assert_eq!(ran["stdout_bytes"], whole.len());
    let (_, logs) = client.done("workspace_logs", &json!({"workspace_id": id}));
    assert!(logs.len() < 50_000 && logs.contains(&format!("{uri}?offset=16384")), "{}", logs.len());

    let excerpt = client.read(&uri);
    assert!(excerpt.len() < 40_000 && excerpt.starts_with("1\n2\n") && excerpt.ends_with("\n30000\n"));
    let (head, rest) = excerpt.split_once("\n[").unwrap();
    assert!(rest.contains(&format!("bytes are left out here; they begin at {uri}?offset=16384]")));
    let mut together = head.to_owned();
    let mut next = Some(format!("{uri}?offset={}", head.len()));
    while let Some(part) = next.take() {
        let text = client.read(&part);
        let more = text.rsplit_once("\n[").filter(|(_, more)| more.contains("more bytes follow; read "));
        together.push_str(more.map_or(text.as_str(), |(text, _)| text));
        let name = more.and_then(|(_, more)| more.split_once("; read "));
        next = name.map(|(_, name)| name.trim_end().trim_end_matches(']').to_owned());
    }
    assert!(together == whole, "{} bytes", together.len());
}

/// Catches an error that does not say what to do next, and a profile that shows too much.
#[test]
fn what_is_not_there_is_an_error_that_says_what_is() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let id = client.workspace();
    client.done("workspace_exec", &json!({"workspace_id": id, "command": "true"}));
    for method in ["resources/read", "resources/subscribe"] {
        for (uri, code, expected) in [
            ("pyro://workspace".to_owned(), -32002, "did you mean pyro://workspaces?"),
            ("pyro://workspaces/nope".to_owned(), -32002, id.as_str()),
            (format!("pyro://workspaces/{id}/shells/abcd/screen"), -32002, "existing: none; shell_open"),
            (format!("pyro://workspaces/{id}/../.."), -32002, "did you mean"),
            ("file:///etc/passwd".to_owned(), -32002, "there are pyro://workspaces"),
        ] {
            let error = client.error(method, json!({"uri": uri}));
            let message = error["message"].as_str().unwrap();
            assert!(error["code"] == code && message.contains(expected), "{method} {uri}: {error}");
        }
    }
    let error =
        client.error("resources/read", json!({"uri": format!("pyro://workspaces/{id}/logs/9/stdout")}));
    assert!(error["message"].as_str().unwrap().ends_with("there is in logs: 1"), "{error}");

    let mut few = Client::start(&pyro, &["--profile", "vm-run"]);
    assert_eq!(uris(&few.ask("resources/list", json!({}))), ["pyro://log"]);
    assert_eq!(few.error("resources/read", json!({"uri": "pyro://workspaces"}))["code"], -32002);
    assert_eq!(parsed(&few.read("pyro://log"))["more"], 0);
    let prompts =
        |client: &mut Client| client.ask("prompts/list", json!({}))["prompts"].as_array().map(Vec::len);
    assert_eq!((prompts(&mut few), prompts(&mut client)), (Some(1), Some(3)));
    let get = json!({"name": "validate-repository", "arguments": {"path": "/src"}});
    let prompt = client.ask("prompts/get", get.clone());
    assert!(
        prompt["messages"][0]["content"]["text"].as_str().unwrap().contains("seed_path /src"),
        "{prompt}"
    );
    assert_eq!(few.error("prompts/get", get)["code"], -32602);
}

/// Catches a page that is lost or comes twice.
#[test]
fn many_workspaces_come_in_pages() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let id = client.workspace();
    let behind = client.ask("resources/list", json!({"cursor": "0"}));
    assert_eq!(uris(&behind), [format!("pyro://workspaces/{id}")]);
    let end = client.ask("resources/list", json!({"cursor": id}));
    assert_eq!((uris(&end).len(), &end["nextCursor"]), (0, &Value::Null));
}

/// Catches a change that nobody hears of, one that somebody hears of who does not want to, and a flood.
#[test]
fn clients_are_told_of_what_they_want_to_know() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    client.ask("resources/list", json!({}));
    let id = client.workspace();
    client.notification(LIST_CHANGED);
    let other = client.workspace();
    let (mine, output) = (format!("pyro://workspaces/{id}"), format!("pyro://workspaces/{id}/logs/1/stdout"));
    subscribe(&mut client, &mine);
    subscribe(&mut client, &output);
    client.done("workspace_exec", &json!({"workspace_id": id, "command": "echo done"}));
    told_of(&mut client, &output);
    assert_eq!(client.read(&output), "done\n");

    // Of what nobody has asked for, or does not want any more, nothing is said.
    client.ask("resources/unsubscribe", json!({"uri": mine}));
    client.ask("resources/unsubscribe", json!({"uri": output}));
    client.notifications_so_far(UPDATED);
    for _ in 0..20 {
        client.done("workspace_exec", &json!({"workspace_id": id, "command": "true"}));
    }
    assert_eq!(client.notifications_so_far(UPDATED), Vec::<Value>::new());

    // A short name is as good as the whole id, and comes back as it was given.
    let short = format!("pyro://workspaces/{}", &other[..6]);
    subscribe(&mut client, &short);
    client.notifications_so_far(LIST_CHANGED);
    client.done("workspace_delete", &json!({"workspace_id": other}));
    told_of(&mut client, &short);
    client.notification(LIST_CHANGED);
}

/// Catches a subscription that ends with the daemon, misses what happened meanwhile, or begins anew with the next one.
#[test]
fn subscriptions_outlive_the_daemon() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let id = client.workspace();
    let output = |number: u32| format!("pyro://workspaces/{id}/logs/{number}/stdout");
    subscribe(&mut client, &output(2));
    subscribe(&mut client, &output(3));
    for _ in 0..2 {
        client.done("workspace_exec", &json!({"workspace_id": id, "command": "true"}));
    }
    // Events come in their order: all of the first command have come.
    told_of(&mut client, &output(2));
    let past = format!("{}?offset=1", output(1));
    subscribe(&mut client, &past);
    assert_eq!(pyro.run(&["daemon", "stop"]).code, Some(0));
    // The command ends before anybody follows the new daemon, or after: it is told of in any case.
    assert_eq!(pyro.run(&["workspace", "exec", &id, "--", "echo", "back"]).code, Some(0));
    let mut told = Value::Null;
    while told != output(3) {
        told = client.notification(UPDATED)["uri"].clone();
        assert_ne!(told, past);
    }
    assert_eq!(client.read(&output(3)), "back\n");
}

/// Returns how many connections the daemon has besides the one that asks.
fn connections(pyro: &Pyro) -> u64 {
    let status = parsed(&pyro.run(&["daemon", "status", "--json"]).out());
    status["clients"].as_u64().unwrap() - 1
}

/// Catches a client that can have everything watched, more than one who watches the log, and one who outlives all wishes.
#[test]
fn subscriptions_are_bounded() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::start(&pyro, &[]);
    let mut another = Client::start(&pyro, &[]);
    subscribe(&mut another, "pyro://log");
    for since in 0..64 {
        subscribe(&mut client, &format!("pyro://log?since={since}"));
    }
    // One that is there already is not another one.
    subscribe(&mut client, "pyro://log?since=0");
    let error = client.error("resources/subscribe", json!({"uri": "pyro://log"}));
    assert!(error["message"].as_str().unwrap().contains("64 resources at most"), "{error}");
    while connections(&pyro) != 2 {}
    for since in 0..64 {
        client.ask("resources/unsubscribe", json!({"uri": format!("pyro://log?since={since}")}));
    }
    while connections(&pyro) != 1 {}
    subscribe(&mut client, "pyro://log");
    drop((client, another));
    while connections(&pyro) != 0 {}
}

/// Catches a client of the newer protocol that is not told of anything.
#[test]
fn a_request_that_stays_open_tells_of_changes() {
    let pyro = Pyro::new().config(SANDBOX);
    let mut client = Client::open(&pyro, &[]);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "tester", "version": "8.0"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let discovered = client.ask("server/discover", json!({"_meta": meta}));
    assert_eq!(discovered["capabilities"]["resources"], json!({"subscribe": true, "listChanged": true}));
    let machine = json!({"environment": "debian:12", "allow_host_compat": true});
    let wanted =
        json!({"resourcesListChanged": true, "resourceSubscriptions": ["pyro://log", "pyro://nothing"]});
    let open = client.request("subscriptions/listen", json!({"_meta": meta, "notifications": wanted}));
    let accepted = client.notification("notifications/subscriptions/acknowledged");
    assert_eq!(accepted["notifications"]["resourceSubscriptions"], json!(["pyro://log"]));
    // What has happened before it was watched may have been missed, so it is told of all at first.
    client.notification(UPDATED);
    client.notification(LIST_CHANGED);
    let create = json!({"_meta": meta, "name": "workspace_create", "arguments": machine});
    let id = client.ask("tools/call", create)["structuredContent"]["workspace_id"].clone();
    let told = client.notification(UPDATED);
    assert_eq!(told["_meta"]["io.modelcontextprotocol/subscriptionId"], open, "{told}");
    client.notification(LIST_CHANGED);

    client.send(&json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"_meta": meta, "requestId": open},
    }));
    let delete = json!({"_meta": meta, "name": "workspace_delete", "arguments": {"workspace_id": id}});
    assert_eq!(client.ask("tools/call", delete)["structuredContent"]["deleted"], true);
    let error = client.error("resources/read", json!({"_meta": meta, "uri": "pyro://nothing"}));
    assert_eq!(error["code"], -32602, "{error}");
}
