//! The tree is that of a simple model after any history, seen without a kernel and through a mount.
//!
//! The model is a table of what was done. It knows nothing of events.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pyro_core::{Command, ExecNumber, ExitStatus, ShellId, WorkspaceId};
use pyro_store::outputs::{Stream, StreamId};

use crate::tree::{Look, Mounted, obstacle, walk};
use crate::world::{SIZE, World};
use pyro_fusefs::Visibility;

/// Something that happens. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Create { named: bool },
    Exec(usize),
    Print { exec: usize, stream: Stream, text: String },
    Exit { exec: usize, code: u8 },
    OpenShell(usize),
    Show { shell: usize, text: String },
    EndShell(usize),
    CloseShell(usize),
    Delete(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let chosen = 0_usize..1000;
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    prop_oneof![
        2 => any::<bool>().prop_map(|named| Step::Create { named }),
        6 => chosen.clone().prop_map(Step::Exec),
        8 => (chosen.clone(), stream, "[a-z\n]{1,300}")
            .prop_map(|(exec, stream, text)| Step::Print { exec, stream, text }),
        5 => (chosen.clone(), any::<u8>()).prop_map(|(exec, code)| Step::Exit { exec, code }),
        2 => chosen.clone().prop_map(Step::OpenShell),
        4 => (chosen.clone(), "[a-z]{1,50}").prop_map(|(shell, text)| Step::Show { shell, text }),
        1 => chosen.clone().prop_map(Step::EndShell),
        1 => chosen.clone().prop_map(Step::CloseShell),
        1 => chosen.prop_map(Step::Delete),
    ]
}

/// What was done.
#[derive(Debug, Default)]
struct Model {
    workspaces: BTreeMap<WorkspaceId, Made>,
    names: u32,
}

#[derive(Debug, Default)]
struct Made {
    name: Option<String>,
    execs: Vec<Ran>,
    shells: BTreeMap<ShellId, Shown>,
}

#[derive(Debug, Default)]
struct Ran {
    command: String,
    stdout: String,
    stderr: String,
    code: Option<u8>,
}

#[derive(Debug, Default)]
struct Shown {
    output: String,
    ended: bool,
}

fn pick<T>(from: impl Iterator<Item = T>, number: usize) -> Option<T> {
    let mut all: Vec<T> = from.collect();
    (!all.is_empty()).then(|| all.swap_remove(number % all.len()))
}

impl Model {
    fn workspace(&self, number: usize) -> Option<WorkspaceId> {
        pick(self.workspaces.keys().copied(), number)
    }

    fn running(&mut self, number: usize) -> Option<(WorkspaceId, ExecNumber, &mut Ran)> {
        let running = self.workspaces.iter_mut().flat_map(|(id, made)| {
            let numbered = (1..).map(ExecNumber).zip(&mut made.execs);
            numbered.filter(|(_, ran)| ran.code.is_none()).map(|(exec, ran)| (*id, exec, ran))
        });
        pick(running, number)
    }

    fn shell(&mut self, number: usize) -> Option<(WorkspaceId, ShellId)> {
        let shells = self.workspaces.iter().flat_map(|(id, made)| made.shells.keys().map(|at| (*id, *at)));
        pick(shells, number)
    }

    fn shown(&mut self, id: WorkspaceId, shell: ShellId) -> &mut Shown {
        self.workspaces.get_mut(&id).unwrap().shells.get_mut(&shell).unwrap()
    }

    /// Does a step in the world and takes note of it.
    fn take(&mut self, world: &World, step: Step) {
        match step {
            Step::Create { named } => {
                self.names += 1;
                let name = named.then(|| format!("name{}", self.names));
                let id = world.create(name.as_deref());
                self.workspaces.insert(id, Made { name, ..Made::default() });
            }
            Step::Exec(number) => {
                let Some(id) = self.workspace(number) else { return };
                let execs = &mut self.workspaces.get_mut(&id).unwrap().execs;
                let command = format!("command {}", execs.len());
                world.exec(id, &command);
                execs.push(Ran { command, ..Ran::default() });
            }
            Step::Print { exec, stream, text } => {
                let Some((id, exec, ran)) = self.running(exec) else { return };
                world.print(id, StreamId::Exec(exec, stream), text.as_bytes());
                match stream {
                    Stream::Stdout => ran.stdout.push_str(&text),
                    Stream::Stderr => ran.stderr.push_str(&text),
                }
            }
            Step::Exit { exec, code } => {
                let Some((id, exec, ran)) = self.running(exec) else { return };
                world.exit(id, exec, ExitStatus::Code(code));
                ran.code = Some(code);
            }
            Step::OpenShell(number) => {
                let Some(id) = self.workspace(number) else { return };
                let shell = world.open_shell(id, SIZE);
                self.workspaces.get_mut(&id).unwrap().shells.insert(shell, Shown::default());
            }
            Step::Show { shell, text } => {
                let Some((id, shell)) = self.shell(shell) else { return };
                let shown = self.shown(id, shell);
                if !shown.ended {
                    world.show(id, shell, &text);
                    shown.output.push_str(&text);
                }
            }
            Step::EndShell(number) => {
                let Some((id, shell)) = self.shell(number) else { return };
                let shown = self.shown(id, shell);
                if !std::mem::replace(&mut shown.ended, true) {
                    world.end_shell(id, shell);
                }
            }
            Step::CloseShell(number) => {
                let Some((id, shell)) = self.shell(number) else { return };
                if self.shown(id, shell).ended {
                    world.tell(Command::CloseShell { workspace: id, shell });
                    self.workspaces.get_mut(&id).unwrap().shells.remove(&shell);
                }
            }
            Step::Delete(number) => {
                let Some(id) = self.workspace(number) else { return };
                world.delete(id);
                self.workspaces.remove(&id);
            }
        }
    }

    /// Returns all paths of the tree, with the content of those that the model knows it of.
    fn expected(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let mut paths = BTreeMap::new();
        let fixed = ["README", "by-name", "environments", "events.jsonl"];
        paths.extend(fixed.map(|path| (path.to_owned(), None)));
        let text = |text: &str| Some(text.as_bytes().to_vec());
        for (id, made) in &self.workspaces {
            if let Some(name) = &made.name {
                paths.insert(format!("by-name/{name}"), text(&format!("../{id}")));
            }
            let files = [
                "ctl",
                "events.jsonl",
                "exec",
                "exec/clone",
                "files",
                "last_error",
                "logs",
                "logs.jsonl",
                "shells",
                "status.json",
            ];
            paths.insert(id.to_string(), None);
            paths.extend(files.map(|file| (format!("{id}/{file}"), None)));
            paths.insert(format!("{id}/state"), text("started\n"));
            if !made.execs.is_empty() {
                paths.insert(format!("{id}/logs/latest"), text(&made.execs.len().to_string()));
            }
            for (number, ran) in (1..).zip(&made.execs) {
                let place = format!("{id}/logs/{number}");
                paths.insert(place.clone(), None);
                paths.insert(format!("{place}/status.json"), None);
                paths.insert(format!("{place}/command"), text(&format!("{}\n", ran.command)));
                paths.insert(format!("{place}/cwd"), text("/workspace\n"));
                paths.insert(format!("{place}/stdout"), text(&ran.stdout));
                paths.insert(format!("{place}/stderr"), text(&ran.stderr));
                if let Some(code) = ran.code {
                    paths.insert(format!("{place}/exit_code"), text(&format!("{code}\n")));
                    paths.insert(format!("{place}/duration_ms"), text("17\n"));
                }
            }
            for (shell, shown) in &made.shells {
                let place = format!("{id}/shells/{shell}");
                paths.insert(place.clone(), None);
                let files = ["cast", "ctl", "input", "screen", "screen.ansi", "status.json"];
                paths.extend(files.map(|file| (format!("{place}/{file}"), None)));
                paths.insert(format!("{place}/output"), text(&shown.output));
            }
        }
        paths
    }

    fn check(&self, tree: &dyn Look) {
        let mut found = BTreeMap::new();
        walk(tree, "", &mut found).unwrap();
        let expected = self.expected();
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (path, content) in expected {
            if let Some(content) = content {
                assert_eq!(
                    String::from_utf8_lossy(&found[&path]),
                    String::from_utf8_lossy(&content),
                    "{path}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Catches a file that is missing, left over or another one's, after any history.
    #[test]
    fn the_view_is_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let world = World::new();
        let (view, mut model) = (world.view(), Model::default());
        for step in steps {
            model.take(&world, step);
            model.check(&view);
        }
        // Whoever comes later sees the same.
        model.check(&world.view());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// Catches what the kernel keeps although it has changed.
    #[test]
    fn the_mount_is_the_model(steps in prop::collection::vec(step(), 1..60)) {
        if let Some(obstacle) = obstacle() {
            eprintln!("{obstacle}");
            return Ok(());
        }
        let world = World::new();
        let mount = world.mount(Visibility::Owner);
        let (tree, mut model) = (Mounted(mount.path().to_owned()), Model::default());
        for step in steps {
            model.take(&world, step);
            model.check(&tree);
        }
    }
}
