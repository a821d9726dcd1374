//! The torture run in small, and its checker against histories in which something is wrong.

use std::collections::BTreeMap;

use pyro_tests::torture::{
    Answer, Change, Guests, Operation, Payload, Received, Settings, Told, Violation, check, run,
};
use serde_json::{Value, json};

const ID: &str = "0123456789ab";
const SHELL: &str = "ba9876543210";

/// What clients were told, and the events of the log.
struct Case {
    told: Vec<Told>,
    events: Vec<Value>,
}

impl Case {
    /// Adds an event of the workspace; one without a request was observed.
    fn event(&mut self, kind: &str, request: &str, data: Value) {
        let cause = if request.is_empty() {
            json!({"type": "observation"})
        } else {
            json!({"type": "request", "request_id": request})
        };
        self.events.push(json!({"kind": kind, "workspace": ID, "cause": cause, "data": data}));
    }

    fn tell(&mut self, request: &str, operation: Operation, answer: Value) {
        let asked = u64::try_from(self.told.len()).expect("it is small") * 2;
        let (answered, request) = (asked + 1, request.to_owned());
        self.told.push(Told { asked, answered, request, operation, answer: Answer::Done(answer) });
    }

    /// A workspace with one of everything, from its creation to its end.
    fn good() -> Self {
        let mut case = Self { told: Vec::new(), events: Vec::new() };
        let (workspace, shell) = (ID.to_owned(), SHELL.to_owned());
        case.event("workspace_created", "r1", json!({}));
        case.event("workspace_starting", "r1", json!({"boot": 1}));
        case.event("workspace_started", "", json!({"pid": 7}));
        case.tell("r1", Operation::Create, json!({"workspace_id": ID}));

        case.event("exec_requested", "r2", json!({"exec": 1, "command": "echo a >>tokens"}));
        case.event("exec_started", "", json!({"exec": 1}));
        let ended = json!({"exec": 1, "exit_code": 3, "duration_ms": 9, "stdout": {"len_bytes": 11}});
        case.event("exec_exited", "", ended);
        let payload = Payload { token: "a".to_owned(), lines: 1 };
        let stdout = Received::compare(&payload.bytes(), &payload.bytes());
        let exec = Operation::Exec { workspace: workspace.clone(), payload, exit_code: 3, stdout };
        case.tell("r2", exec, json!({"sequence": 1, "exit_code": 3, "duration_ms": 9}));

        case.event("shell_requested", "r3", json!({"shell_id": SHELL}));
        case.event("shell_started", "", json!({"shell_id": SHELL}));
        case.tell("r3", Operation::Open { workspace: workspace.clone() }, json!({"shell_id": SHELL}));
        let input = |text: &str, offset: usize| json!({"shell_id": SHELL, "input": text, "offset": offset, "len_bytes": text.len()});
        case.event("shell_input", "r4", input("echo b >>tokens\n", 0));
        let typed =
            Operation::Type { workspace: workspace.clone(), shell: shell.clone(), token: "b".to_owned() };
        case.tell("r4", typed, json!({}));
        case.event("shell_input", "r5", input("exit 5\n", 16));
        case.event(
            "shell_exited",
            "",
            json!({"shell_id": SHELL, "exit_code": 5, "output": {"len_bytes": 4}}),
        );
        let output = Received::compare(b"text", b"text");
        case.tell("", Operation::Follow { workspace: workspace.clone(), shell, output }, json!({}));

        let brought = json!({"sync": 1, "entry_count": 2, "bytes_written": 8});
        case.event("sync_requested", "r6", json!({"sync": 1}));
        case.event("sync_finished", "", brought.clone());
        let (directory, listing) = ("push-c".to_owned(), "digest  ./f\n".to_owned());
        let push = Operation::Push {
            workspace: workspace.clone(),
            directory: directory.clone(),
            listing: listing.clone(),
        };
        case.tell("r6", push, json!({"workspace_sync": brought}));

        case.event("exec_requested", "r7", json!({"exec": 2, "command": "cat tokens"}));
        case.event("exec_exited", "", json!({"exec": 2, "exit_code": 0}));
        let tokens = vec!["a".to_owned(), "b".to_owned()];
        let listings = BTreeMap::from([(directory, listing)]);
        case.tell(
            "r7",
            Operation::Look { workspace: workspace.clone(), tokens, listings },
            json!({"exit_code": 0}),
        );
        case.tell("", Operation::List, json!({"workspaces": [{"workspace_id": ID}]}));

        case.event("workspace_stopping", "r8", json!({}));
        case.event("workspace_stopped", "", json!({}));
        let stop = Operation::Change { workspace: workspace.clone(), to: Change::Stop };
        case.tell("r8", stop, json!({"state": "stopped"}));
        case.event("workspace_deleting", "r9", json!({}));
        case.event("workspace_deleted", "", json!({}));
        case.tell("r9", Operation::Change { workspace, to: Change::Delete }, json!({"deleted": true}));
        case.tell("", Operation::List, json!({"workspaces": []}));
        case
    }

    fn check(mut self) -> Vec<Violation> {
        let numbered = self.events.iter_mut().zip(1..).map(|(event, seq)| {
            if event.get("seq").is_none() {
                event["seq"] = Value::from(seq);
            }
            format!("{event}\n")
        });
        let export: String = numbered.collect();
        check(&self.told, &export)
    }

    fn told(&mut self, request: &str) -> &mut Told {
        self.told.iter_mut().find(|told| told.request == request).expect("there is such a request")
    }

    fn at(&self, kind: &str) -> usize {
        self.events.iter().position(|event| event["kind"] == kind).expect("there is such an event")
    }

    fn look(&mut self) -> (&mut Vec<String>, &mut BTreeMap<String, String>) {
        match &mut self.told("r7").operation {
            Operation::Look { tokens, listings, .. } => (tokens, listings),
            other => panic!("{other:?}"),
        }
    }
}

/// Takes the first event of a kind out of the log.
fn lose(kind: &'static str) -> impl FnOnce(&mut Case) {
    move |case| {
        let at = case.at(kind);
        case.events.remove(at);
    }
}

/// Writes the first event of a kind into the log twice.
fn double(kind: &'static str) -> impl FnOnce(&mut Case) {
    move |case| {
        let at = case.at(kind);
        case.events.insert(at, case.events[at].clone());
    }
}

/// Catches a checker that finds something where nothing is wrong.
#[test]
fn good_history_is_good() {
    assert_eq!(Case::good().check(), []);
}

/// Catches a checker that does not see what became of guests.
#[test]
fn violations_in_guests_are_found() {
    plant("twice", "a token that is there twice", |case| case.look().0.push("a".to_owned()));
    plant("lost effect", "a token that is gone", |case| case.look().0.retain(|token| token != "a"));
    plant("lost effect", "a typed token that is gone", |case| case.look().0.retain(|token| token != "b"));
    plant("unasked", "a token that nobody asked for", |case| case.look().0.push("z".to_owned()));
    plant("lost effect", "a file that is gone", |case| case.look().1.clear());
    plant("lost effect", "a file that is another one", |case| {
        case.look().1.insert("push-c".to_owned(), "other  ./f\n".to_owned());
    });
    plant("unrecorded", "a token of a command that failed", |case| {
        let at = case.at("exec_exited");
        case.events[at]["kind"] = "exec_failed".into();
    });
    plant("unrecorded", "files of a push that failed", |case| {
        let at = case.at("sync_finished");
        case.events[at]["kind"] = "sync_failed".into();
    });
}

/// Catches a checker that believes what clients were told.
#[test]
fn violations_in_answers_are_found() {
    plant("lost answer", "another exit code in the log", |case| {
        let at = case.at("exec_exited");
        case.events[at]["data"]["exit_code"] = 4.into();
    });
    plant("lost answer", "another number in the answer", |case| {
        case.told("r2").answer = Answer::Done(json!({"sequence": 2, "exit_code": 3, "duration_ms": 9}));
    });
    plant("lost answer", "a typed line that the log lacks", |case| {
        let at = case.at("shell_input");
        case.events[at]["data"]["input"] = "echo y >>tokens\n".into();
    });
    plant("lost answer", "a stop that never came", lose("workspace_stopped"));
    plant("output", "a missing byte", |case| {
        let Operation::Exec { stdout, .. } = &mut case.told("r2").operation else { panic!() };
        stdout.len_bytes -= 1;
    });
    plant("output", "a changed byte", |case| {
        let Operation::Exec { stdout, .. } = &mut case.told("r2").operation else { panic!() };
        stdout.wrong_at = Some(4);
    });
    plant("output", "a byte that a follower lost", |case| {
        for told in &mut case.told {
            if let Operation::Follow { output, .. } = &mut told.operation {
                output.len_bytes -= 1;
            }
        }
    });
}

/// Catches a checker that believes the log.
#[test]
fn violations_in_the_log_are_found() {
    plant("one end", "a command without an end", lose("exec_exited"));
    plant("one end", "a command with two ends", double("exec_exited"));
    plant("twice", "a command that is started twice", double("exec_started"));
    plant("twice", "a request that is carried out twice", double("exec_requested"));
    plant("input", "a gap in what was typed", lose("shell_input"));
    plant("unasked", "an end of something that nobody asked for", lose("sync_requested"));
    plant("left", "a workspace that stays", lose("workspace_deleted"));
    plant("resurrected", "an event behind the deletion", |case| {
        case.event("workspace_started", "", json!({"pid": 8}));
    });
    plant("resurrected", "a list with what was deleted", |case| {
        let list = json!({"workspaces": [{"workspace_id": ID}]});
        case.told.last_mut().expect("there is one").answer = Answer::Done(list);
    });
    plant("lost workspace", "a list that lacks one", |case| {
        let list = case.told.iter_mut().find(|told| told.operation == Operation::List);
        list.expect("there is one").answer = Answer::Done(json!({"workspaces": []}));
    });
    plant("dense", "a number that is left out", |case| case.events[3]["seq"] = 9.into());
    plant("refused", "a refused command that ran", |case| {
        case.told("r2").answer = Answer::Failed("invalid_state".to_owned());
    });
    plant("another answer", "a second answer that is not the first", |case| {
        let mut again = case.told("r3").clone();
        again.answer = Answer::Done(json!({"shell_id": "000000000000"}));
        case.told.push(again);
    });
}

#[track_caller]
fn plant(rule: &str, what: &str, change: impl FnOnce(&mut Case)) {
    let mut case = Case::good();
    change(&mut case);
    let found = case.check();
    assert!(found.iter().any(|violation| violation.rule == rule), "{what}: {found:?}");
}

/// Catches whatever a kill of the daemon, of a guest or of a client loses, doubles or leaves behind.
#[test]
fn nothing_is_lost_or_doubled_by_kills() {
    let settings = Settings { kills: 50, seed: 0x7079_726f, clients: 4, guests: Guests::Sandbox };
    let report = run(&settings, &mut |_, _| {});
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.deeds.kills >= 50, "{report}");
}
