//! Compares what clients were told with what the log says and what the guests hold. It calls nothing of pyro.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::history::{Answer, Change, Operation, Told, Violation};
use super::ledger::{Ledger, Place, Work};
use super::payload::Received;

/// Errors that refuse a request before anything happens.
const REFUSALS: [&str; 3] = ["unknown_workspace", "invalid_state", "limit_reached"];

/// The error of input that is on record and that its shell did not take.
const ENDED: &str = "shell_ended";

/// The code of a shell that ended by what was typed last.
const SHELL_EXIT_CODE: u64 = 5;

/// Returns every promise that is broken. The export must be of the end, when all workspaces are deleted.
#[must_use]
pub fn check(told: &[Told], export: &str) -> Vec<Violation> {
    let ledger = Ledger::read(export);
    let mut checker =
        Checker { found: ledger.violations.clone(), ledger: &ledger, told, asked: BTreeMap::new() };
    for one in told {
        checker.answer(one);
        checker.repetition(one);
    }
    checker.looks();
    checker.lists();
    checker.found
}

struct Checker<'a> {
    ledger: &'a Ledger,
    told: &'a [Told],
    found: Vec<Violation>,
    /// What was answered first to each request that was called before.
    asked: BTreeMap<&'a str, Option<&'a Value>>,
}

impl<'a> Checker<'a> {
    fn expect(&mut self, holds: bool, rule: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.found.push(Violation { rule, what: what() });
        }
    }

    /// Compares one answer with the log.
    fn answer(&mut self, told: &Told) {
        match &told.operation {
            Operation::Exec { exit_code, stdout, payload, .. } => {
                self.command(told, *exit_code, *stdout, &payload.token);
            }
            Operation::Run { exit_code, stdout, payload } => {
                self.command(told, *exit_code, *stdout, &payload.token);
            }
            Operation::Create => self.creation(told),
            Operation::Change { workspace, to } => self.change(told, workspace, *to),
            Operation::Open { .. } => self.opening(told),
            Operation::Type { token, .. } => self.typing(told, token),
            Operation::Follow { workspace, shell, output } => {
                self.following(told, &(workspace.clone(), shell.clone()), *output);
            }
            Operation::Close { .. } | Operation::List | Operation::Look { .. } => {}
            Operation::Push { .. } => self.push(told),
        }
    }

    /// A request that was refused has no effect, unless it was carried out by an earlier call.
    fn refusal(&mut self, told: &Told, code: &str, family: &'static str) {
        if REFUSALS.contains(&code) && !self.asked.contains_key(told.request.as_str()) {
            let place = self.ledger.place(&told.request, family);
            self.expect(place.is_none(), "refused", || format!("{code}, but {place:?} exists: {told:?}"));
        }
    }

    fn command(&mut self, told: &Told, expected: u8, stdout: Received, token: &str) {
        self.expect(stdout.wrong_at.is_none(), "output", || format!("a wrong byte: {told:?}"));
        let value = match &told.answer {
            Answer::Done(value) => value,
            Answer::Failed(code) => return self.refusal(told, code, "exec"),
            Answer::Cut => return,
        };
        let work = self.ledger.place(&told.request, "exec").and_then(|place| {
            let number = value.get("sequence").map(ToString::to_string);
            number.is_none_or(|number| number == place.1).then(|| &self.ledger.execs[place])
        });
        let Some(Work { asked, ends, .. }) = work else {
            return self.expect(false, "lost answer", || format!("the log has no such command: {told:?}"));
        };
        let of_this = asked["command"].as_str().is_some_and(|text| text.contains(token));
        self.expect(of_this, "lost answer", || format!("the log has another command: {asked} {told:?}"));
        let exited = ends.iter().find(|(_, kind, _)| kind == "exited").map(|(_, _, data)| data);
        let same = exited.is_some_and(|data| {
            let keys = ["exit_code", "duration_ms"];
            keys.iter().all(|key| value.get(*key).is_none_or(|told| data[*key] == *told))
        });
        self.expect(same, "lost answer", || format!("the log says {ends:?}: {told:?}"));
        if value["exit_code"] == u64::from(expected) {
            self.expect(stdout.is_whole(), "output", || format!("bytes are missing: {told:?}"));
        }
        let len_bytes = exited.and_then(|data| data["stdout"]["len_bytes"].as_u64());
        self.expect(len_bytes == Some(stdout.len_bytes), "output", || {
            format!("the log has {len_bytes:?} bytes: {told:?}")
        });
    }

    fn creation(&mut self, told: &Told) {
        match &told.answer {
            Answer::Done(value) => {
                let id = value["workspace_id"].as_str().unwrap_or_default();
                let place = self.ledger.place(&told.request, "workspace");
                let same = place.is_some_and(|(workspace, _)| workspace == id);
                self.expect(same, "lost answer", || format!("the log created {place:?}: {told:?}"));
            }
            Answer::Failed(code) => self.refusal(told, code, "workspace"),
            Answer::Cut => {}
        }
    }

    fn change(&mut self, told: &Told, workspace: &str, to: Change) {
        let Answer::Done(value) = &told.answer else { return };
        let (on_the_way, state) = match to {
            Change::Start => ("starting", "started"),
            Change::Stop => ("stopping", "stopped"),
            Change::Delete => {
                let deleted = self.ledger.deleted.contains_key(workspace);
                return self.expect(deleted, "lost answer", || format!("it is not deleted: {told:?}"));
            }
        };
        // Others may have changed the state since; what was asked for must have been reached before.
        let holds = match self.ledger.place(&told.request, state) {
            Some((_, seq)) => {
                let asked = seq.parse().unwrap_or(u64::MAX);
                let reached = self.ledger.reached.get(&(workspace.to_owned(), state.to_owned()));
                reached.is_some_and(|reached| reached.iter().any(|seq| *seq > asked))
            }
            None => value["state"] != on_the_way,
        };
        self.expect(holds, "lost answer", || format!("it was not {state}: {told:?}"));
    }

    fn opening(&mut self, told: &Told) {
        match &told.answer {
            Answer::Done(value) => {
                let place = self.ledger.place(&told.request, "shell");
                let same = place.is_some_and(|(_, shell)| value["shell_id"] == shell.as_str());
                self.expect(same, "lost answer", || format!("the log opened {place:?}: {told:?}"));
            }
            Answer::Failed(code) => self.refusal(told, code, "shell"),
            Answer::Cut => {}
        }
    }

    fn typing(&mut self, told: &Told, token: &str) {
        match &told.answer {
            Answer::Failed(code) if code != ENDED => self.refusal(told, code, "input"),
            Answer::Done(_) | Answer::Failed(_) => {
                let place = self.ledger.place(&told.request, "input");
                let inputs =
                    place.and_then(|place| self.ledger.inputs.get(place)).map_or(&[][..], Vec::as_slice);
                let count = inputs.iter().filter(|input| types(&input.text, token)).count();
                self.expect(count == 1, "lost answer", || format!("typed {count} times: {told:?}"));
            }
            Answer::Cut => {}
        }
    }

    fn following(&mut self, told: &Told, place: &Place, output: Received) {
        self.expect(output.wrong_at.is_none(), "output", || format!("a wrong byte: {told:?}"));
        if !matches!(told.answer, Answer::Done(_)) {
            return;
        }
        self.expect(output.is_whole(), "output", || format!("bytes are missing: {told:?}"));
        let ends = self.ledger.shells.get(place).map_or(&[][..], |work| &work.ends);
        let len_bytes = ends.iter().find_map(|(_, _, data)| data["output"]["len_bytes"].as_u64());
        // A shell that is lost may have no summary.
        self.expect(len_bytes.is_none_or(|len| len == output.len_bytes), "output", || {
            format!("the log has {len_bytes:?} bytes: {told:?}")
        });
    }

    fn push(&mut self, told: &Told) {
        match &told.answer {
            Answer::Done(value) => {
                let place = self.ledger.place(&told.request, "sync");
                let ends = place.map_or(&[][..], |place| &self.ledger.pushes[place].ends);
                let finished = ends.iter().find(|(_, kind, _)| kind == "finished").map(|(_, _, data)| data);
                let sync = &value["workspace_sync"];
                let same = finished.is_some_and(|data| {
                    ["entry_count", "bytes_written"].iter().all(|key| data[*key] == sync[*key])
                });
                self.expect(same, "lost answer", || format!("the log says {ends:?}: {told:?}"));
            }
            Answer::Failed(code) => self.refusal(told, code, "sync"),
            Answer::Cut => {}
        }
    }

    /// Whoever repeats a request gets the first answer.
    fn repetition(&mut self, told: &'a Told) {
        if told.request.is_empty() {
            return;
        }
        let first = self.asked.get(told.request.as_str()).copied().flatten();
        let now = match &told.answer {
            Answer::Done(value) => Some(value),
            Answer::Failed(_) | Answer::Cut => None,
        };
        if let (Some(first), Some(now)) = (first, now) {
            let identity = ["workspace_id", "vm_id", "shell_id", "sequence", "exit_code", "duration_ms"];
            let same = identity.iter().all(|key| first.get(*key) == now.get(*key));
            self.expect(same, "another answer", || format!("first {first}, then {now}: {told:?}"));
        }
        self.asked.insert(&told.request, first.or(now));
    }

    /// Compares what the guests hold with what was promised to be in them.
    fn looks(&mut self) {
        // A look that was ended before its time saw only a part.
        let done = |told: &&Told| matches!(&told.answer, Answer::Done(value) if value["exit_code"] == 0);
        for look in self.told.iter().filter(done) {
            let Operation::Look { workspace, tokens, listings } = &look.operation else { continue };
            let Some(place) = self.ledger.place(&look.request, "exec") else { continue };
            let since = self.ledger.execs[place].asked_at;
            let view = View { workspace, since, asked: look.asked };
            let seen: BTreeSet<_> = tokens.iter().map(String::as_str).collect();
            self.expect(seen.len() == tokens.len(), "twice", || {
                let mut sorted = tokens.clone();
                sorted.sort();
                let twice: Vec<_> =
                    sorted.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
                format!("{workspace} has tokens more than once: {twice:?}")
            });
            self.look(&view, &seen, listings);
        }
    }

    fn look(&mut self, view: &View<'_>, seen: &BTreeSet<&str>, listings: &BTreeMap<String, String>) {
        let mut known = BTreeSet::new();
        for told in self.told {
            match &told.operation {
                Operation::Exec { workspace, payload, exit_code, .. } if workspace == view.workspace => {
                    let token = payload.token.as_str();
                    known.insert(token);
                    self.token_of_exec(view, told, token, *exit_code, seen.contains(token));
                }
                Operation::Type { workspace, shell, token } if workspace == view.workspace => {
                    known.insert(token);
                    let place = (workspace.clone(), shell.clone());
                    self.token_of_shell(view, told, &place, token, seen.contains(token.as_str()));
                }
                Operation::Push { workspace, directory, listing } if workspace == view.workspace => {
                    self.pushed(view, told, listings.get(directory), listing);
                }
                Operation::Exec { .. }
                | Operation::Type { .. }
                | Operation::Push { .. }
                | Operation::Run { .. }
                | Operation::Create
                | Operation::Change { .. }
                | Operation::Open { .. }
                | Operation::Follow { .. }
                | Operation::Close { .. }
                | Operation::List
                | Operation::Look { .. } => {}
            }
        }
        let strange: Vec<_> = seen.difference(&known).collect();
        self.expect(strange.is_empty(), "unasked", || format!("{}: tokens {strange:?}", view.workspace));
    }

    fn token_of_exec(&mut self, view: &View<'_>, told: &Told, token: &str, exit_code: u8, is_there: bool) {
        let work = self.ledger.place(&told.request, "exec").map(|place| &self.ledger.execs[place]);
        let Some(work) = work else {
            return self.expect(!is_there, "unrecorded", || format!("{token} is there: {told:?}"));
        };
        let ended = |(seq, kind, data): &(u64, String, Value)| {
            *seq < view.since && kind == "exited" && data["exit_code"] == u64::from(exit_code)
        };
        let told_so =
            matches!(&told.answer, Answer::Done(value) if value["exit_code"] == u64::from(exit_code));
        if work.ends.iter().any(ended) || (told_so && told.answered < view.asked) {
            self.expect(is_there, "lost effect", || format!("{token} is not there: {told:?}"));
        }
        let failed = work.ends.iter().any(|(_, kind, _)| kind == "failed");
        self.expect(!failed || !is_there, "unrecorded", || format!("{token} is there, but failed: {told:?}"));
    }

    fn token_of_shell(&mut self, view: &View<'_>, told: &Told, place: &Place, token: &str, is_there: bool) {
        let inputs = self.ledger.inputs.get(place).map_or(&[][..], Vec::as_slice);
        let typed = inputs.iter().any(|input| types(&input.text, token));
        self.expect(typed || !is_there, "unrecorded", || format!("{token} is there: {told:?}"));
        let ends = self.ledger.shells.get(place).map_or(&[][..], |work| &work.ends);
        let read_all = ends.iter().any(|(seq, kind, data)| {
            *seq < view.since && kind == "exited" && data["exit_code"] == SHELL_EXIT_CODE
        });
        if typed && read_all {
            self.expect(is_there, "lost effect", || format!("{token} is not there: {told:?}"));
        }
    }

    fn pushed(&mut self, view: &View<'_>, told: &Told, seen: Option<&String>, whole: &str) {
        let Some(place) = self.ledger.place(&told.request, "sync") else {
            return self.expect(seen.is_none(), "unrecorded", || format!("files are there: {told:?}"));
        };
        let Some((seq, kind, _)) = self.ledger.pushes[place].ends.first() else { return };
        if *seq >= view.since {
            return;
        }
        match kind.as_str() {
            "finished" => {
                let same = seen.is_some_and(|seen| seen == whole);
                self.expect(same, "lost effect", || format!("the guest has {seen:?}: {told:?}"));
            }
            "failed" => {
                let nothing = seen.is_none_or(String::is_empty);
                self.expect(nothing, "unrecorded", || format!("the guest has {seen:?}: {told:?}"));
            }
            // Whether they are in place cannot be known, and the log says so.
            _ => {}
        }
    }

    /// Compares each list with the workspaces that must be in it, and those that must not.
    fn lists(&mut self) {
        let of_change = |told: &'a Told| match &told.operation {
            Operation::Change { workspace, to: Change::Delete } => Some((workspace.as_str(), told)),
            _ => None,
        };
        let deletes: Vec<_> = self.told.iter().filter_map(of_change).collect();
        for list in self.told.iter().filter(|told| told.operation == Operation::List) {
            let Answer::Done(value) = &list.answer else { continue };
            let listed: BTreeSet<_> = value["workspaces"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|workspace| workspace["workspace_id"].as_str())
                .collect();
            for (workspace, told) in &deletes {
                let gone = matches!(told.answer, Answer::Done(_)) && told.answered < list.asked;
                self.expect(!gone || !listed.contains(workspace), "resurrected", || {
                    format!("{workspace} is listed after {told:?}")
                });
            }
            for told in self.told.iter().filter(|told| told.operation == Operation::Create) {
                let Answer::Done(created) = &told.answer else { continue };
                let id = created["workspace_id"].as_str().unwrap_or_default();
                let deleted = deletes.iter().any(|(other, told)| *other == id && told.asked < list.answered);
                let must = told.answered < list.asked && !deleted;
                self.expect(!must || listed.contains(id), "lost workspace", || {
                    format!("{id} is not in {list:?}")
                });
            }
        }
    }
}

/// A look into a guest.
struct View<'a> {
    workspace: &'a str,
    /// Sequence number of the event that asked for it.
    since: u64,
    /// Moment at which it was asked for.
    asked: u64,
}

/// Tells whether a typed line appends this token, and not one that begins with it.
fn types(text: &str, token: &str) -> bool {
    text.contains(&format!("echo {token} "))
}
