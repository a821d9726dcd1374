//! The exported log, read by nobody's code but this.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::history::Violation;

/// What the log says of one command, shell or push.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    /// Sequence number of the event that asked for it.
    pub(super) asked_at: u64,
    /// Data of that event.
    pub(super) asked: Value,
    /// The events that end it, with their sequence numbers.
    pub(super) ends: Vec<(u64, String, Value)>,
    /// How often the guest was seen to begin it.
    pub(super) starts: u32,
}

/// Text typed into a shell.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) seq: u64,
    pub(super) text: String,
    pub(super) offset: u64,
    pub(super) len_bytes: u64,
}

/// A workspace and a number or shell in it.
pub(super) type Place = (String, String);

/// What the log says.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) execs: BTreeMap<Place, Work>,
    pub(super) shells: BTreeMap<Place, Work>,
    pub(super) pushes: BTreeMap<Place, Work>,
    pub(super) inputs: BTreeMap<Place, Vec<Input>>,
    /// Places of commands, shells and pushes, and inputs, by request id.
    pub(super) by_request: BTreeMap<(String, &'static str), Vec<Place>>,
    /// Sequence numbers of the events by which workspaces were seen to run or to be stopped.
    pub(super) reached: BTreeMap<(String, String), Vec<u64>>,
    pub(super) created: BTreeMap<String, u64>,
    pub(super) deleted: BTreeMap<String, u64>,
    pub(super) violations: Vec<Violation>,
}

impl Ledger {
    /// Reads the lines of an export.
    pub(super) fn read(export: &str) -> Self {
        let mut ledger = Self::default();
        let mut expected = 1;
        for line in export.lines() {
            let Ok(event) = serde_json::from_str::<Value>(line) else {
                ledger.broken("export", format!("not JSON: {line}"));
                continue;
            };
            let seq = event["seq"].as_u64().unwrap_or(0);
            if seq != expected {
                ledger.broken("dense", format!("event {seq} stands where {expected} should"));
            }
            expected = seq + 1;
            ledger.take(seq, &event);
        }
        ledger.check();
        ledger
    }

    fn broken(&mut self, rule: &'static str, what: String) {
        self.violations.push(Violation { rule, what });
    }

    fn take(&mut self, seq: u64, event: &Value) {
        let Some(workspace) = event["workspace"].as_str().map(str::to_owned) else { return };
        let (kind, data) = (event["kind"].as_str().unwrap_or_default(), &event["data"]);
        if let Some(deleted) = self.deleted.get(&workspace) {
            self.broken("resurrected", format!("{kind} {seq}: {workspace} was deleted by {deleted}"));
        }
        if kind == "workspace_created" {
            if self.created.insert(workspace.clone(), seq).is_some() {
                self.broken("twice", format!("{workspace} is created again by {seq}"));
            }
        } else if !self.created.contains_key(&workspace) {
            self.broken("resurrected", format!("{kind} {seq}: {workspace} was never created"));
        }
        if kind == "workspace_deleted" {
            self.deleted.insert(workspace.clone(), seq);
        }
        let (family, step) = kind.split_once('_').unwrap_or((kind, ""));
        let (key, works) = match family {
            "exec" => ("exec", &mut self.execs),
            "shell" => ("shell_id", &mut self.shells),
            "sync" => ("sync", &mut self.pushes),
            "workspace" => return self.take_life(seq, event, step, workspace),
            _ => return,
        };
        let number = data[key].as_str().map_or_else(|| data[key].to_string(), str::to_owned);
        let place = (workspace, number);
        match step {
            "requested" => {
                let work = Work { asked_at: seq, asked: data.clone(), ..Work::default() };
                if works.insert(place.clone(), work).is_some() {
                    self.broken("twice", format!("{place:?} is asked for again by {seq}"));
                }
                let family = ["exec", "shell", "sync"].into_iter().find(|one| *one == family);
                self.remember(event, family.unwrap_or_default(), place);
            }
            "input" => {
                let number = |key: &str| data[key].as_u64().unwrap_or(0);
                let text = data["input"].as_str().unwrap_or_default().to_owned();
                let input = Input { seq, text, offset: number("offset"), len_bytes: number("len_bytes") };
                self.inputs.entry(place.clone()).or_default().push(input);
                self.remember(event, "input", place);
            }
            "started" | "exited" | "failed" | "lost" | "finished" => match works.get_mut(&place) {
                None => self.broken("unasked", format!("{kind} {seq}: nobody asked for {place:?}")),
                Some(work) if step == "started" => work.starts += 1,
                Some(work) => work.ends.push((seq, step.to_owned(), data.clone())),
            },
            // They neither ask for anything nor end it.
            _ => {}
        }
    }

    fn take_life(&mut self, seq: u64, event: &Value, step: &str, workspace: String) {
        match step {
            "created" => self.remember(event, "workspace", (workspace, String::new())),
            "starting" => self.remember(event, "started", (workspace, seq.to_string())),
            "stopping" => self.remember(event, "stopped", (workspace, seq.to_string())),
            "started" | "stopped" => {
                self.reached.entry((workspace, step.to_owned())).or_default().push(seq);
            }
            // Names, and deletions, which are kept already.
            _ => {}
        }
    }

    fn remember(&mut self, event: &Value, family: &'static str, place: Place) {
        if let Some(request) = event["cause"]["request_id"].as_str() {
            self.by_request.entry((request.to_owned(), family)).or_default().push(place);
        }
    }

    /// Checks what the log says against itself.
    fn check(&mut self) {
        let mut found = Vec::new();
        for ((request, family), places) in &self.by_request {
            if places.len() > 1 {
                found.push(("twice", format!("request {request} led to {family} {places:?}")));
            }
        }
        let families = [("exec", &self.execs), ("shell", &self.shells), ("push", &self.pushes)];
        for (family, works) in families {
            for (place, work) in works {
                if work.starts > 1 {
                    found.push(("twice", format!("{family} {place:?} is started {} times", work.starts)));
                }
                let deleted = self.deleted.contains_key(&place.0);
                let open = work.ends.is_empty() && !(family == "shell" && deleted);
                if open || work.ends.len() > 1 {
                    let ends: BTreeSet<_> = work.ends.iter().map(|(_, kind, _)| kind).collect();
                    let count = work.ends.len();
                    found.push(("one end", format!("{family} {place:?} has {count}: {ends:?}")));
                }
            }
        }
        for (place, inputs) in &self.inputs {
            let mut offset = 0;
            for input in inputs {
                if input.offset != offset {
                    let what = format!("{place:?}: input {} at {}, not {offset}", input.seq, input.offset);
                    found.push(("input", what));
                }
                offset = input.offset + input.len_bytes;
            }
        }
        for workspace in self.created.keys().filter(|id| !self.deleted.contains_key(*id)) {
            found.push(("left", format!("{workspace} is not deleted in the log")));
        }
        self.violations.extend(found.into_iter().map(|(rule, what)| Violation { rule, what }));
    }

    /// Returns the one thing that a request led to.
    pub(super) fn place(&self, request: &str, family: &'static str) -> Option<&Place> {
        self.by_request.get(&(request.to_owned(), family))?.first()
    }
}
