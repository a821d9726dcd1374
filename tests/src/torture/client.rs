//! A client that asks for one thing after the other, dies now and then, and comes back for its answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::call::{Ending, Fate, call};
use super::chance::Chance;
use super::history::{Answer, Change, History, Operation};
use super::payload::{Payload, Received};
use crate::Pyro;

/// Most calls until a request is answered. Daemons that are killed soon after their start leave many calls without an answer,
/// each after several daemons; what is stuck finds its end here.
const CALLS_MAX: u32 = 200;
/// Workspaces that there are at least, and at most; some of those that are created come on top, unseen.
const WORKSPACES_MIN: usize = 3;
const WORKSPACES_MAX: usize = 6;
/// The file of a guest that tokens are appended to.
const TOKENS: &str = "/workspace/tokens";
/// Typed to end a shell with a code of its own.
const SHELL_EXIT: &str = "exit 5";
/// Prints the tokens and what the directories hold that were pushed.
const LOOK: &str = "cat tokens 2>/dev/null; for d in push-*; do [ -d \"$d\" ] || continue; echo \"= $d\"; \
                    (cd \"$d\" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum); done";
/// The same for one directory of the host.
const LISTING: &str = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";

/// What all clients work on.
#[derive(Debug)]
pub(super) struct World<'a> {
    /// The installation.
    pub pyro: &'a Pyro,
    /// What they were told.
    pub history: &'a History,
    /// Options of commands that create guests.
    pub options: &'a [&'static str],
    /// A directory of the host for files to push.
    pub scratch: &'a Path,
    /// Workspaces that everybody uses.
    pub workspaces: Mutex<Vec<String>>,
}

impl World<'_> {
    /// Returns the workspaces that everybody uses.
    pub(super) fn workspaces(&self) -> MutexGuard<'_, Vec<String>> {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client.
#[derive(Debug)]
pub(super) struct Client<'a> {
    world: &'a World<'a>,
    number: u64,
    count: u64,
    chance: Chance,
    /// Whether its processes are killed now and then.
    mortal: bool,
}

impl<'a> Client<'a> {
    /// Makes a client whose processes die now and then.
    #[must_use]
    pub(super) fn new(world: &'a World<'a>, number: u64, chance: &Chance) -> Self {
        Self { world, number, count: 0, chance: chance.split(number), mortal: true }
    }

    /// Makes a client that waits for every answer.
    #[must_use]
    pub(super) fn patient(world: &'a World<'a>, number: u64, chance: &Chance) -> Self {
        Self { mortal: false, ..Self::new(world, number, chance) }
    }

    /// Asks for one thing after the other until the work is over.
    pub(super) fn work(&mut self) {
        while !self.world.history.is_over() {
            let workspaces = self.world.workspaces().clone();
            let Some(workspace) = self.chance.pick(&workspaces).cloned() else {
                self.create();
                continue;
            };
            match self.chance.below(100) {
                0..40 => self.exec(&workspace, Style::Quiet),
                40..54 => self.exec(&workspace, Style::Loud),
                54..64 => self.exec(&workspace, Style::Slow),
                64..72 => self.shell(&workspace),
                72..82 => self.push(&workspace),
                82..86 => self.run(),
                86..91 => self.list(),
                91..94 => self.change(&workspace, Change::Stop),
                94..97 if workspaces.len() < WORKSPACES_MAX => self.create(),
                _ if workspaces.len() > WORKSPACES_MIN => self.remove(&workspace),
                _ => self.change(&workspace, Change::Start),
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn token(&mut self) -> String {
        let count = self.next();
        format!("t{}x{count}", self.number)
    }

    /// Returns a UUID that no other request of this home has.
    fn request_id(&mut self) -> String {
        let count = self.next();
        format!("{:08x}-0000-4000-8000-{count:012x}", self.number)
    }

    /// Asks until it is told something, or does not come back. Only the first calls are cut short.
    fn ask(
        &mut self,
        arguments: &[&str],
        command: &[&str],
        tell: impl Fn(&Ending) -> (Operation, Answer),
    ) -> Option<Value> {
        let request = self.request_id();
        let arguments = [arguments, &["--request-id", &request], command].concat();
        let mut answers = Vec::new();
        for attempt in 1..=CALLS_MAX {
            let dies = self.mortal && attempt <= 2 && self.chance.one_in(6);
            let fate =
                if dies { Fate::Dies(Duration::from_millis(self.chance.below(60))) } else { Fate::Waits };
            let asked = self.world.history.moment();
            let ending = call(self.world.pyro, self.world.history, &arguments, fate);
            let (operation, answer) = tell(&ending);
            let again = match &answer {
                // The answer to a request that is repeated is the first one.
                Answer::Done(_) => self.mortal && attempt == 1 && self.chance.one_in(10),
                Answer::Failed(code) => is_unavailable(code),
                Answer::Cut => !self.chance.one_in(3),
            };
            self.world.history.tell(asked, &request, operation, answer.clone());
            if answer == Answer::Failed("unknown_workspace".to_owned()) {
                self.world.workspaces().retain(|id| !arguments.contains(&id.as_str()));
            }
            match answer {
                Answer::Done(value) if !again => return Some(value),
                answer if again => answers.push(answer),
                Answer::Done(_) | Answer::Failed(_) | Answer::Cut => return None,
            }
        }
        self.world.history.violation("no answer", format!("{arguments:?} {answers:?}"));
        None
    }

    /// Asks for something that a workspace can only do while it runs; starts one that does not.
    fn ask_running(
        &mut self,
        workspace: &str,
        arguments: &[&str],
        command: &[&str],
        tell: impl Fn(&Ending) -> (Operation, Answer),
    ) -> Option<Value> {
        let told = self.ask(arguments, command, tell);
        if told.is_none() {
            self.change(workspace, Change::Start);
        }
        told
    }

    fn exec(&mut self, workspace: &str, style: Style) {
        let lines = match style {
            Style::Quiet => 1,
            Style::Loud => u32::try_from(1 + self.chance.below(20_000)).expect("it is small"),
            Style::Slow => 60,
        };
        let payload = Payload { token: self.token(), lines };
        let exit_code = *self.chance.pick(&[0, 3, 42]).expect("there are some");
        let printing = if style == Style::Slow { payload.script_in_pieces() } else { payload.script() };
        let script = format!("echo {} >>{TOKENS}; {printing}; exit {exit_code}", payload.token);
        let arguments = ["workspace", "exec", workspace, "--timeout-seconds", "80"];
        let json: &[&str] = if style == Style::Quiet { &["--json"] } else { &[] };
        let told = |ending: &Ending| {
            let (answer, stdout) = match style {
                Style::Quiet => {
                    let answer = ending.answer();
                    let text = match &answer {
                        Answer::Done(value) => value["stdout"].as_str().unwrap_or_default().to_owned(),
                        Answer::Failed(_) | Answer::Cut => String::new(),
                    };
                    (answer, text.into_bytes())
                }
                Style::Loud | Style::Slow => (ending.streamed_answer(), ending.stdout.clone()),
            };
            let stdout = Received::compare(&stdout, &payload.bytes());
            let (workspace, payload) = (workspace.to_owned(), payload.clone());
            (Operation::Exec { workspace, payload, exit_code, stdout }, answer)
        };
        let _told =
            self.ask_running(workspace, &[&arguments, json].concat(), &["--", "sh", "-c", &script], told);
    }

    fn run(&mut self) {
        let payload = Payload { token: self.token(), lines: 500 };
        let script = format!("{}; exit 3", payload.script());
        let arguments = [&["run", "--mem-mib", "128"], self.world.options].concat();
        let told = |ending: &Ending| {
            let stdout = Received::compare(&ending.stdout, &payload.bytes());
            (Operation::Run { payload: payload.clone(), exit_code: 3, stdout }, ending.streamed_answer())
        };
        let _told = self.ask(&arguments, &["debian:12", "--", "sh", "-c", &script], told);
    }

    /// Creates a workspace that everybody uses from now on.
    pub(super) fn create(&mut self) {
        let arguments =
            ["workspace", "create", "debian:12", "--json", "--mem-mib", "128", "--ttl-seconds", "0"];
        let told = |ending: &Ending| (Operation::Create, ending.answer());
        let created = self.ask(&[&arguments, self.world.options].concat(), &[], told);
        if let Some(id) = created.as_ref().and_then(|created| created["workspace_id"].as_str()) {
            self.world.workspaces().push(id.to_owned());
        }
    }

    /// Brings a workspace into another state.
    pub(super) fn change(&mut self, workspace: &str, to: Change) {
        let word = match to {
            Change::Start => "start",
            Change::Stop => "stop",
            Change::Delete => "delete",
        };
        let told =
            |ending: &Ending| (Operation::Change { workspace: workspace.to_owned(), to }, ending.answer());
        let _told = self.ask(&["workspace", word, workspace, "--json"], &[], told);
    }

    /// Looks into a workspace and deletes it.
    pub(super) fn remove(&mut self, workspace: &str) {
        self.world.workspaces().retain(|other| other != workspace);
        self.look(workspace);
        self.change(workspace, Change::Delete);
    }

    fn list(&mut self) {
        let told = |asked, ending: &Ending| {
            self.world.history.tell(asked, "", Operation::List, ending.answer());
        };
        let asked = self.world.history.moment();
        let ending = call(self.world.pyro, self.world.history, &["workspace", "list", "--json"], Fate::Waits);
        told(asked, &ending);
    }

    /// Looks into a workspace.
    pub(super) fn look(&mut self, workspace: &str) {
        let told = |ending: &Ending| {
            let (tokens, listings) = seen(&String::from_utf8_lossy(&ending.stdout));
            (Operation::Look { workspace: workspace.to_owned(), tokens, listings }, ending.streamed_answer())
        };
        let arguments = ["workspace", "exec", workspace, "--timeout-seconds", "80"];
        let _told = self.ask(&arguments, &["--", "sh", "-c", LOOK], told);
    }

    fn push(&mut self, workspace: &str) {
        let directory = format!("push-{}", self.token());
        let source = self.world.scratch.join(&directory);
        for number in 0..=self.chance.below(8) {
            let path = source.join(format!("d{}/f{number}", number % 3));
            let text = format!("{directory} {number}\n").repeat(1 + number_of(self.chance.below(2000)));
            std::fs::create_dir_all(path.parent().expect("it is in a directory"))
                .and_then(|()| std::fs::write(&path, text))
                .expect("a temporary directory can be written");
        }
        let listing = Command::new("sh").args(["-c", LISTING]).current_dir(&source).output();
        let listing = listing.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let listing = listing.expect("the shell runs");
        let destination = format!("/workspace/{directory}");
        let path = source.to_str().expect("the path is text");
        let arguments = ["workspace", "sync", "push", workspace, path, "--dest", &destination, "--json"];
        let told = |ending: &Ending| {
            let (workspace, directory) = (workspace.to_owned(), directory.clone());
            (Operation::Push { workspace, directory, listing: listing.clone() }, ending.answer())
        };
        let _told = self.ask_running(workspace, &arguments, &[], told);
        std::fs::remove_dir_all(&source).expect("a temporary directory can be removed");
    }

    /// Opens a shell, types into it while somebody follows, and ends it in one of two ways.
    fn shell(&mut self, workspace: &str) {
        let opening =
            |ending: &Ending| (Operation::Open { workspace: workspace.to_owned() }, ending.answer());
        let opened =
            self.ask_running(workspace, &["workspace", "shell", "open", workspace, "--json"], &[], opening);
        let Some(shell) = opened.as_ref().and_then(|opened| opened["shell_id"].as_str()) else { return };
        let follow = ["workspace", "shell", "read", workspace, shell, "--follow"];
        let World { pyro, history, .. } = self.world;
        let asked = history.moment();
        let followed = std::thread::scope(|scope| {
            let follower = scope.spawn(|| call(pyro, history, &follow, Fate::Waits));
            for _ in 0..=self.chance.below(4) {
                self.type_token(workspace, shell);
            }
            self.end_shell(workspace, shell);
            follower.join().expect("the follower does not panic")
        });
        let read = ["workspace", "shell", "read", workspace, shell, "--max-chars", "10000000", "--json"];
        if let Answer::Done(value) = call(pyro, history, &read, Fate::Waits).answer() {
            let output = value["output"].as_str().unwrap_or_default();
            let output = Received::compare(&followed.stdout, output.as_bytes());
            let whole = followed.code == Some(0);
            let answer = if whole { Answer::Done(value) } else { Answer::Failed(followed.stderr) };
            let (workspace, shell) = (workspace.to_owned(), shell.to_owned());
            history.tell(asked, "", Operation::Follow { workspace, shell, output }, answer);
        }
        let closing = |ending: &Ending| {
            let (workspace, shell) = (workspace.to_owned(), shell.to_owned());
            (Operation::Close { workspace, shell }, ending.answer())
        };
        let _told = self.ask(&["workspace", "shell", "close", workspace, shell, "--json"], &[], closing);
    }

    /// Lets a shell end by itself or by a signal; it is not there any more when nobody can be asked for that.
    fn end_shell(&mut self, workspace: &str, shell: &str) {
        let request = self.request_id();
        let (word, end) = if self.chance.one_in(3) {
            ("signal", ["--signal", "KILL"])
        } else {
            ("write", ["--input", SHELL_EXIT])
        };
        let arguments =
            [&["workspace", "shell", word, workspace, shell, "--json", "--request-id", &request], &end[..]];
        for _ in 0..CALLS_MAX {
            let answer = call(self.world.pyro, self.world.history, &arguments.concat(), Fate::Waits).answer();
            if !matches!(answer, Answer::Failed(code) if is_unavailable(&code)) {
                return;
            }
        }
        self.world.history.violation("no answer", format!("{CALLS_MAX} calls to end a shell"));
    }

    fn type_token(&mut self, workspace: &str, shell: &str) {
        let token = self.token();
        let line = format!("echo {token} >>{TOKENS}");
        let typed = |ending: &Ending| {
            let (workspace, shell, token) = (workspace.to_owned(), shell.to_owned(), token.clone());
            (Operation::Type { workspace, shell, token }, ending.answer())
        };
        let arguments = ["workspace", "shell", "write", workspace, shell, "--input", &line, "--json"];
        let _told = self.ask(&arguments, &[], typed);
    }
}

/// How a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// One line, as part of a JSON result.
    Quiet,
    /// Much, at once.
    Loud,
    /// A few lines at a time.
    Slow,
}

fn number_of(number: u64) -> usize {
    usize::try_from(number).expect("it is small")
}

/// Tells whether nobody answered: the request may have been carried out.
pub(super) fn is_unavailable(code: &str) -> bool {
    ["daemon_unavailable", "daemon_stopping"].contains(&code)
        || [
            "connection to the daemon is lost",
            "the daemon ended while it started",
            "the daemon was not ready",
        ]
        .iter()
        .any(|text| code.contains(text))
}

/// Takes apart what a look printed.
fn seen(text: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let mut parts = text.split("= push-");
    let tokens = parts.next().unwrap_or_default().lines().map(str::to_owned).collect();
    let listings = parts.filter_map(|part| {
        let (name, listing) = part.split_once('\n')?;
        Some((format!("push-{name}"), listing.to_owned()))
    });
    (tokens, listings.collect())
}
