//! The promises of `docs/semantics.md` about what is read. Each test quotes what it is about and holds for the view and for a
//! mount alike.

use std::collections::BTreeMap;

use pyro_core::{
    Command, DeleteReason, ExecFailed, ExecLost, ExecNumber, ExitStatus, ShellId, TerminalSize, WorkspaceId,
    WorkspaceKind,
};
use pyro_store::outputs::{Stream, StreamId};
use serde_json::Value;

use crate::tree::{Look, both, walk};
use crate::world::{SIZE, World};

fn log(workspace: WorkspaceId, exec: ExecNumber, file: &str) -> String {
    format!("{workspace}/logs/{exec}/{file}")
}

fn shell(workspace: WorkspaceId, shell: ShellId, file: &str) -> String {
    format!("{workspace}/shells/{shell}/{file}")
}

/// Waits until a file is gone.
fn goes(tree: &dyn Look, path: &str) {
    while tree.exists(path) {
        std::thread::yield_now();
    }
}

/// > Each workspace that is not deleted has a directory at the top, called by its id; VMs of `pyro run` have none.
#[test]
fn workspaces_are_at_the_top() {
    both(|world, tree| {
        let (one, two) = (world.create(None), world.create(None));
        let mut spec = world.state().workspace(one).unwrap().spec.clone();
        spec.mem_mib = 129;
        let vm = WorkspaceId::from_bytes([9; 6]);
        let (kind, lifetime) = (WorkspaceKind::Vm, pyro_core::Lifetime::Ttl);
        world.tell(Command::CreateWorkspace { workspace: vm, kind, lifetime, spec });
        let fixed = ["README", "by-name", "environments", "events.jsonl"].map(str::to_owned);
        let mut expected = [one.to_string(), two.to_string()].to_vec();
        expected.extend(fixed.clone());
        expected.sort();
        assert_eq!(tree.list("").unwrap(), expected);
        world.delete(one);
        expected.retain(|name| *name != one.to_string());
        assert_eq!(tree.list("").unwrap(), expected);
        goes(tree, &one.to_string());
        assert!(!tree.exists(&vm.to_string()));
        let inside =
            ["ctl", "events.jsonl", "exec", "files", "last_error", "logs", "logs.jsonl", "shells", "state"];
        assert_eq!(tree.list(&two.to_string()).unwrap(), [&inside[..], &["status.json"]].concat());
        assert!(tree.text("README").contains("events.follow"));
    });
}

/// > `by-name` has a symbolic link to each workspace that has a name.
#[test]
fn names_lead_to_workspaces() {
    both(|world, tree| {
        let (one, _) = (world.create(Some("web.1")), world.create(None));
        assert_eq!(tree.list("by-name").unwrap(), ["web.1"]);
        assert_eq!(tree.target("by-name/web.1").unwrap(), format!("../{one}"));
        assert_eq!(tree.text("by-name/web.1/state"), "started\n");
        world.delete(one);
        assert!(tree.list("by-name").unwrap().is_empty());
        goes(tree, "by-name/web.1");
        let again = world.create(Some("web.1"));
        assert_eq!(tree.target("by-name/web.1").unwrap(), format!("../{again}"));
    });
}

/// > `logs` has a directory for each command that was asked for, called by its number, and `latest` leads to the last one.
#[test]
fn commands_have_directories() {
    both(|world, tree| {
        let id = world.create(None);
        let logs = format!("{id}/logs");
        assert!(tree.list(&logs).unwrap().is_empty() && !tree.exists(&format!("{logs}/latest")));
        world.exec(id, "true");
        world.exec(id, "false");
        assert_eq!(tree.list(&logs).unwrap(), ["1", "2", "latest"]);
        assert_eq!(tree.target(&format!("{logs}/latest")).unwrap(), "2");
        assert_eq!(tree.text(&format!("{logs}/latest/command")), "false\n");
        for name in ["0", "3", "01", "+1", "1 "] {
            assert!(!tree.exists(&format!("{logs}/{name}")), "{name:?}");
        }
    });
}

/// > `exit_code` and `duration_ms` are there as soon as the command has ended with an exit code.
#[test]
fn an_exit_code_comes_with_the_end() {
    both(|world, tree| {
        let id = world.create(None);
        let execs = [1, 2, 3].map(|_| world.exec(id, "x"));
        let both = ["exit_code", "duration_ms"];
        assert!(both.iter().all(|file| !tree.exists(&log(id, execs[0], file))));
        world.exit(id, execs[0], ExitStatus::Signal(9));
        let reason = "gone".to_owned();
        world.tell(Command::RecordExecFailed(ExecFailed {
            workspace: id,
            exec: execs[1],
            reason: reason.clone(),
        }));
        let lost = ExecLost { workspace: id, exec: execs[2], reason, stdout: None, stderr: None };
        world.tell(Command::RecordExecLost(lost));
        assert_eq!(both.map(|file| tree.text(&log(id, execs[0], file))), ["137\n", "17\n"]);
        for exec in &execs[1..] {
            assert!(both.iter().all(|file| !tree.exists(&log(id, *exec, file))));
        }
        let listed = ["command", "cwd", "duration_ms", "exit_code", "status.json", "stderr", "stdout"];
        assert_eq!(tree.list(&format!("{id}/logs/1")).unwrap(), listed);
        assert_eq!(tree.list(&format!("{id}/logs/2")).unwrap().len(), listed.len() - 2);
    });
}

/// > `shells` has a directory for each shell that is not closed, called by its id.
#[test]
fn shells_have_directories() {
    both(|world, tree| {
        let id = world.create(None);
        let (one, two) = (world.open_shell(id, SIZE), world.open_shell(id, SIZE));
        let shells = format!("{id}/shells");
        let mut expected = vec![one.to_string(), two.to_string()];
        expected.sort();
        assert_eq!(tree.list(&shells).unwrap(), expected);
        world.end_shell(id, one);
        assert_eq!(tree.list(&shells).unwrap(), expected, "it can still be read");
        world.tell(Command::CloseShell { workspace: id, shell: one });
        assert_eq!(tree.list(&shells).unwrap(), [two.to_string()]);
        goes(tree, &shell(id, one, "output"));
        let files = ["cast", "ctl", "input", "output", "screen", "screen.ansi", "status.json"];
        assert_eq!(tree.list(&format!("{shells}/{two}")).unwrap(), files);
    });
}

/// > `environments` has a directory for each environment that was installed while this log was kept.
#[test]
fn environments_have_directories() {
    both(|world, tree| {
        assert!(tree.list("environments").unwrap().is_empty());
        world.install("debian:12");
        assert_eq!(tree.list("environments").unwrap(), ["debian:12"]);
        assert_eq!(tree.text("environments/debian:12/manifest.json"), "debian:12\n");
        assert!(!tree.exists("environments/debian:12-base"));
    });
}

/// > In a name, every byte but ASCII letters, digits, `.`, `_`, `-`, `+` and `:` is `%` and two hexadecimal digits, and so is
/// > a dot at the beginning.
#[test]
fn names_do_no_harm() {
    // What names may be is up to the rules, which let nothing harmful pass today; `escape.rs` tries all others.
    both(|world, tree| {
        let name = "A-z_0.9";
        world.create(Some(name));
        assert_eq!(tree.list("by-name").unwrap(), [name]);
        for other in ["%41-z_0.9", "a-z_0.9", "..", "%2e"] {
            assert!(tree.target(&format!("by-name/{other}")).is_err(), "{other}");
        }
    });
}

/// > `events.follow`, `logs/<n>/stdout.follow`, `logs/<n>/stderr.follow` and `shells/<id>/follow` can be opened, but no
/// > directory lists them.
///
/// > A walk through all directories that reads every listed regular file comes to its end, whatever runs meanwhile, if what guests keep in `files` has one.
#[test]
fn a_walk_ends() {
    both(|world, tree| {
        let id = world.create(Some("busy"));
        world.install("debian:12");
        let (exec, at) = (world.exec(id, "sleep 9"), world.open_shell(id, SIZE));
        let mut found = BTreeMap::new();
        walk(tree, "", &mut found).unwrap();
        assert_eq!(found[&format!("{id}/state")], b"started\n");
        assert!(!found.keys().any(|path| path.ends_with("follow")), "{:?}", found.keys());
        for path in [
            "events.follow".to_owned(),
            log(id, exec, "stdout.follow"),
            log(id, exec, "stderr.follow"),
            shell(id, at, "follow"),
        ] {
            assert!(tree.open(&path).is_ok(), "{path}");
        }
    });
}

/// > What was acknowledged to anybody is seen by every call that begins later; only what is gone may be found a moment
/// > longer.
#[test]
fn what_was_acknowledged_is_seen() {
    both(|world, tree| {
        let id = world.create(None);
        for round in 1..20 {
            let exec = world.exec(id, "x");
            assert_eq!(tree.list(&format!("{id}/logs")).unwrap().len(), round + 1);
            world.stdout(id, exec, "x");
            assert_eq!(
                (tree.text(&log(id, exec, "stdout")), tree.stat(&log(id, exec, "stdout")).unwrap().0),
                ("x".to_owned(), 1)
            );
            world.exit(id, exec, ExitStatus::Code(0));
            assert_eq!(tree.text(&log(id, exec, "exit_code")), "0\n");
        }
        world.tell(Command::StopWorkspace { workspace: id });
        assert_eq!(tree.text(&format!("{id}/state")), "stopping\n");
    });
}

/// > `state`, `command`, `cwd`, `exit_code` and `duration_ms` hold one value and a line end.
#[test]
fn one_value_a_file() {
    both(|world, tree| {
        let id = world.create(None);
        let exec = world.exec(id, "echo 'a  b' |\nwc");
        world.exit(id, exec, ExitStatus::Code(3));
        let values = [
            ("command", "echo 'a  b' |\nwc\n"),
            ("cwd", "/workspace\n"),
            ("exit_code", "3\n"),
            ("duration_ms", "17\n"),
        ];
        for (file, value) in values {
            assert_eq!(tree.text(&log(id, exec, file)), value);
        }
        assert_eq!(tree.text(&format!("{id}/state")), "started\n");
    });
}

/// > A file with a value or an object says what was so when it was opened, until it is closed.
#[test]
fn values_are_fixed_at_the_opening() {
    both(|world, tree| {
        let id = world.create(None);
        let at = world.open_shell(id, SIZE);
        let paths = [format!("{id}/state"), format!("{id}/status.json"), shell(id, at, "screen")];
        let before = paths.each_ref().map(|path| tree.read(path).unwrap());
        let mut open = paths.each_ref().map(|path| tree.open(path).unwrap());
        assert_eq!(open[0].part(0, 3).unwrap(), b"sta");
        world.show(id, at, "hello");
        world.tell(Command::StopWorkspace { workspace: id });
        assert_eq!(open.each_mut().map(|open| open.part(0, usize::MAX).unwrap()), before);
        assert_ne!(paths.each_ref().map(|path| tree.read(path).unwrap()), before);
    });
}

/// > `stdout`, `stderr` and `output` hold what was printed, byte for byte; what is not kept of it any more can read as zeros.
#[test]
fn output_is_what_was_printed() {
    both(|world, tree| {
        let id = world.create(None);
        let (exec, at) = (world.exec(id, "x"), world.open_shell(id, SIZE));
        let bytes: Vec<u8> = (0..100_000_u32).map(|number| u8::try_from(number * 7 % 251).unwrap()).collect();
        let streams = [
            (log(id, exec, "stdout"), StreamId::Exec(exec, Stream::Stdout)),
            (log(id, exec, "stderr"), StreamId::Exec(exec, Stream::Stderr)),
            (shell(id, at, "output"), StreamId::Shell(at)),
        ];
        for (number, (path, stream)) in (1_usize..).zip(&streams) {
            assert_eq!(tree.read(path).unwrap(), b"");
            world.print(id, *stream, &bytes[number..]);
            assert!(tree.read(path).unwrap() == bytes[number..], "{path}");
            assert_eq!(tree.stat(path).unwrap().0, (bytes.len() - number) as u64);
            assert_eq!(tree.open(path).unwrap().part(70_000, 10).unwrap(), &bytes[number + 70_000..][..10]);
        }
        world.exit(id, exec, ExitStatus::Code(0));
        assert!(tree.read(&streams[0].0).unwrap() == bytes[1..]);
        let before = tree.stat(&streams[0].0).unwrap();
        let dropped = 16384..32768;
        world.drop_part(id, streams[0].1, dropped.start as u64..dropped.end as u64);
        let mut kept = bytes[1..].to_vec();
        kept[dropped].fill(0);
        let read = tree.read(&streams[0].0).unwrap();
        assert!(read == kept || read == bytes[1..]);
        assert_eq!(tree.stat(&streams[0].0).unwrap(), before);
    });
}

/// > They keep their size when somebody shortens or deletes the files in the home that hold them, and reading what is missing
/// > fails.
#[test]
fn lost_output_does_not_read_as_the_end() {
    both(|world, tree| {
        let id = world.create(None);
        let (exec, at) = (world.exec(id, "x"), world.open_shell(id, SIZE));
        let bytes = vec![b'x'; 20_000];
        let streams = [
            (log(id, exec, "stdout"), StreamId::Exec(exec, Stream::Stdout)),
            (log(id, exec, "stderr"), StreamId::Exec(exec, Stream::Stderr)),
            (shell(id, at, "output"), StreamId::Shell(at)),
        ];
        streams.iter().for_each(|(_, stream)| world.print(id, *stream, &bytes));
        world.exit(id, exec, ExitStatus::Code(0));
        world.end_shell(id, at);
        world.lose(id, streams[0].1, 0);
        world.lose(id, streams[1].1, 10_000);
        world.lose(id, streams[2].1, 19_999);
        for (path, _) in &streams {
            assert_eq!(tree.stat(path).unwrap().0, bytes.len() as u64, "{path}");
            assert!(tree.read(path).is_err(), "{path}");
            assert!(tree.open(path).unwrap().part(19_000, 1_000).is_err(), "{path}");
        }
        assert_eq!(tree.open(&streams[1].0).unwrap().part(0, 4_096).unwrap(), &bytes[..4_096]);
    });
}

/// > The bytes that a reader of an open `stdout`, `stderr`, `output`, `events.jsonl` or `logs.jsonl` has seen never change,
/// > unless they are not kept any more; there can only come more behind them.
#[test]
fn files_that_grow_keep_what_they_had() {
    both(|world, tree| {
        let id = world.create(None);
        let (exec, at) = (world.exec(id, "x"), world.open_shell(id, SIZE));
        let paths = [
            log(id, exec, "stdout"),
            shell(id, at, "output"),
            "events.jsonl".to_owned(),
            format!("{id}/events.jsonl"),
            format!("{id}/logs.jsonl"),
        ];
        let mut open = paths.each_ref().map(|path| tree.open(path).unwrap());
        let mut seen = paths.each_ref().map(|_| Vec::new());
        for round in 0..150 {
            world.stdout(id, exec, "some words ");
            world.show(id, at, "others");
            let other = world.exec(id, "y");
            world.exit(id, other, ExitStatus::Code(round));
            for (open, seen) in open.iter_mut().zip(&mut seen) {
                let before = seen.len();
                seen.extend(open.part(before as u64, usize::MAX).unwrap());
                assert!(seen.len() > before);
            }
        }
        for (path, seen) in paths.iter().zip(&seen) {
            assert!(tree.read(path).unwrap() == *seen, "{path}");
        }
    });
}

fn kinds(text: &str) -> Vec<String> {
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

/// > `events.jsonl` has the lines that `pyro log --json` prints, at the top for all events and in a workspace for its own.
#[test]
fn events_are_lines() {
    both(|world, tree| {
        let (one, two) = (world.create(None), world.create(None));
        world.exec(one, "x");
        let created = ["workspace_created", "workspace_starting", "workspace_started"];
        assert_eq!(kinds(&tree.text("events.jsonl")), [&created[..], &created, &["exec_requested"]].concat());
        assert_eq!(kinds(&tree.text(&format!("{two}/events.jsonl"))), created);
        assert_eq!(kinds(&tree.text(&format!("{one}/events.jsonl"))).len(), 4);
    });
}

/// > `logs.jsonl` has a line for each command that has ended, in the order in which they ended; the line is the
/// > `status.json` of the command.
#[test]
fn ended_commands_are_lines() {
    both(|world, tree| {
        let id = world.create(None);
        let execs: Vec<ExecNumber> = (0..4).map(|_| world.exec(id, "x")).collect();
        for number in [2, 0, 3] {
            world.exit(id, execs[number], ExitStatus::Code(u8::try_from(number).unwrap()));
        }
        let expected: String =
            [2, 0, 3].map(|number| tree.text(&log(id, execs[number], "status.json"))).concat();
        assert_eq!(tree.text(&format!("{id}/logs.jsonl")), expected);
    });
}

/// > The size that `stat` tells is that of the content at that moment.
#[test]
fn sizes_are_true() {
    both(|world, tree| {
        let id = world.create(Some("name"));
        world.install("debian:12");
        let (exec, at) = (world.exec(id, "x"), world.open_shell(id, SIZE));
        for _ in 0..3 {
            world.stdout(id, exec, "one\n");
            world.show(id, at, "two\r\n\x1b[1mthree");
            world.wait_a_second();
            let mut found = BTreeMap::new();
            walk(tree, "", &mut found).unwrap();
            for (path, content) in found.iter().filter(|(_, content)| !content.is_empty()) {
                assert_eq!(tree.stat(path).unwrap().0, content.len() as u64, "{path}");
            }
            let ended = world.exec(id, "y");
            world.exit(id, ended, ExitStatus::Code(0));
        }
    });
}

/// > The time of a file is that of the event which made it what it is, or of the last byte that was printed; that of a
/// > workspace's directories is its creation.
#[test]
fn times_are_those_of_events() {
    both(|world, tree| {
        let id = world.create(None);
        let at = |path: &str| tree.stat(path).unwrap().1;
        let event = |kind: &str| {
            let envelopes = world.reader().read(pyro_core::Seq(1)).map(Result::unwrap);
            envelopes.filter(|envelope| envelope.event.kind() == kind).last().unwrap().at.0
        };
        let exec = world.exec(id, "x");
        let requested = event("exec_requested");
        assert_eq!([at(&log(id, exec, "command")), at(&log(id, exec, "status.json"))], [requested; 2]);
        world.exit(id, exec, ExitStatus::Code(0));
        let exited = event("exec_exited");
        assert_eq!([at(&log(id, exec, "exit_code")), at(&log(id, exec, "status.json"))], [exited; 2]);
        assert_eq!(at(&log(id, exec, "command")), requested);
        world.exec(id, "y");
        assert_eq!([at(""), at("events.jsonl"), at(&format!("{id}/state"))], [event("exec_requested"); 3]);
        let directories = ["", "/logs", "/shells", "/exec"].map(|name| at(&format!("{id}{name}")));
        assert_eq!(directories, [event("workspace_created"); 4]);
    });
}

/// > What was opened stays readable when its workspace is deleted or its shell is closed.
#[test]
fn what_is_open_outlives_its_workspace() {
    both(|world, tree| {
        let id = world.create(None);
        let (exec, at) = (world.exec(id, "x"), world.open_shell(id, SIZE));
        world.stdout(id, exec, "printed");
        world.show(id, at, "shown");
        let paths = [
            log(id, exec, "stdout"),
            log(id, exec, "command"),
            shell(id, at, "output"),
            shell(id, at, "screen"),
            shell(id, at, "cast"),
            format!("{id}/status.json"),
        ];
        let before = paths.each_ref().map(|path| tree.read(path).unwrap());
        let mut open = paths.each_ref().map(|path| tree.open(path).unwrap());
        let mut logs = tree.open(&format!("{id}/logs.jsonl")).unwrap();
        let mut events = tree.open(&format!("{id}/events.jsonl")).unwrap();
        world.delete(id);
        assert_eq!(open.each_mut().map(|open| open.part(0, usize::MAX).unwrap()), before);
        let events = String::from_utf8(events.part(0, usize::MAX).unwrap()).unwrap();
        assert_eq!(kinds(&events).last().unwrap(), "workspace_deleted");
        assert_eq!(
            logs.part(0, usize::MAX).unwrap().split(|byte| *byte == b'\n').count(),
            2,
            "it ended with its workspace"
        );
        paths.iter().for_each(|path| goes(tree, path));
    });
}

/// > `screen` is the text that a person would see on the terminal, without blanks at the ends of lines and without empty
/// > lines at the end.
///
/// > `screen.ansi` is the same with its colours.
#[test]
fn screens_are_drawn() {
    both(|world, tree| {
        let id = world.create(None);
        let at = world.open_shell(id, TerminalSize { columns: 20, rows: 3 });
        assert_eq!(tree.text(&shell(id, at, "screen")), "");
        world.show(id, at, "one\r\ntwo  \r\n\x1b[31mthr");
        world.show(id, at, "ee\x1b[0m\r\nfour\x1b[1;1Hx");
        assert_eq!(tree.text(&shell(id, at, "screen")), "xwo\nthree\nfour\n");
        assert_eq!(tree.text(&shell(id, at, "screen.ansi")), "xwo\n\x1b[0;38;5;1mthree\x1b[0m\nfour\n");
        // A character whose bytes come one by one, and what a guest prints to do harm.
        world.show(id, at, "\x1b[2J\x1b[H");
        for byte in "é日".bytes() {
            world.print(id, StreamId::Shell(at), &[byte]);
            assert!(tree.read(&shell(id, at, "screen")).is_ok());
        }
        world.print(id, StreamId::Shell(at), b"\xff\x1b[999999999;999999999H\x1b[99999999L\x1b]0;");
        assert_eq!(tree.text(&shell(id, at, "screen")).lines().next(), Some("é日\u{fffd}"));
        // The terminal has another size from here on.
        world.show(id, at, "\x07\x1b[2J\x1b[H");
        world.wait_a_second();
        world.tell(Command::ResizeShell {
            workspace: id,
            shell: at,
            size: TerminalSize { columns: 4, rows: 2 },
        });
        world.wait_a_second();
        world.show(id, at, "abcdef");
        assert_eq!(tree.text(&shell(id, at, "screen")), "abcd\nef\n");
    });
}

/// > `cast` is an asciicast of version 2 with what was printed, when, and the changes of the size, and what was typed only where
/// > `cast_input` in `config.toml` wants it.
#[test]
fn casts_are_recordings() {
    both(|world, tree| {
        let id = world.create(None);
        let at = world.open_shell(id, SIZE);
        world.wait_a_second();
        world.tell(Command::TypeInput { workspace: id, shell: at, data: b"secret".to_vec() });
        world.print(id, StreamId::Shell(at), b"a\xe6\x97");
        world.wait_a_second();
        world.print(id, StreamId::Shell(at), b"\xa5b\r\n\xff");
        world.tell(Command::ResizeShell {
            workspace: id,
            shell: at,
            size: TerminalSize { columns: 90, rows: 30 },
        });
        world.wait_a_second();
        world.show(id, at, "c");
        let cast = tree.text(&shell(id, at, "cast"));
        let lines: Vec<Value> = cast.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (&lines[0]["version"], &lines[0]["width"], &lines[0]["height"]),
            (&2.into(), &80.into(), &24.into())
        );
        let told: Vec<(f64, &str, &str)> = lines[1..]
            .iter()
            .map(|line| (line[0].as_f64().unwrap(), line[1].as_str().unwrap(), line[2].as_str().unwrap()))
            .collect();
        let whole: Vec<(&str, &str)> = told.iter().map(|(_, kind, data)| (*kind, *data)).collect();
        assert_eq!(whole, [("o", "a日"), ("o", "b\r\n\u{fffd}"), ("r", "90x30"), ("o", "c")]);
        assert!(told.is_sorted_by(|one, next| one.0 <= next.0) && told[0].0 >= 1.0, "{told:?}");
        assert!(!cast.contains("secret"));
        let cast = world.view().casting_input(true);
        let cast = cast.text(&shell(id, at, "cast"));
        let typed = cast.lines().find(|line| line.contains("\"i\"")).unwrap();
        assert!(typed.ends_with(",\"i\",\"secret\"]"), "{typed}");
        assert_eq!(cast.replace(&format!("{typed}\n"), ""), tree.text(&shell(id, at, "cast")));
    });
}

/// > The inode number of a file stays the same as long as the file is there.
#[test]
fn inode_numbers_stay() {
    use std::os::unix::fs::MetadataExt as _;
    crate::tree::with_mount(|world, top| {
        let id = world.create(None);
        let exec = world.exec(id, "x");
        let paths = [top.join(id.to_string()), top.join(log(id, exec, "stdout")), top.join("events.jsonl")];
        let numbers = || paths.each_ref().map(|path| path.metadata().unwrap().ino());
        let before = numbers();
        world.exit(id, exec, ExitStatus::Code(0));
        for _ in 0..100 {
            world.exec(id, "y");
        }
        let mut listed = std::fs::read_dir(top).unwrap().map(Result::unwrap);
        use std::os::unix::fs::DirEntryExt as _;
        let listed = listed.find(|entry| entry.file_name() == *id.to_string()).unwrap().ino();
        assert_eq!((numbers(), listed), (before, before[0]));
    });
}

/// Catches a delete that hides the workspace from the tree before its time is over.
#[test]
fn a_workspace_is_there_until_it_is_deleted() {
    both(|world: &World, tree: &dyn Look| {
        let id = world.create(None);
        world.tell(Command::DeleteWorkspace { workspace: id, reason: DeleteReason::Explicit });
        assert_eq!(tree.text(&format!("{id}/state")), "deleting\n");
    });
}
