//! What an agent finds that died in the midst of an import. The stages are built by hand, as an agent leaves them.

use std::fs;
use std::path::Path;

use pyro_protocol::{Frame as _, HostFrame, ImportState};
use rustix::process::Signal;

use super::{Guest, absent, begin, directory, file, imported, look, send, state, wait_until};

impl Guest {
    /// Puts a file into the stage of the import.
    fn stage(&self, op: u64, path: &str, content: &str) {
        let stage = self.stages().join(format!("import-{op}"));
        let path = stage.join("new").join(path);
        fs::create_dir_all(path.parent().expect("the test's own files")).expect("the test's own files");
        fs::create_dir_all(stage.join("old")).expect("the test's own files");
        fs::write(path, content).expect("the test's own files");
    }

    /// Writes the marker of the import.
    fn mark(&self, op: u64, name: &str, entries: &[Vec<HostFrame>], end: Option<HostFrame>) {
        let mut bytes = Vec::new();
        for frame in [self.import(op)].iter().chain(entries.iter().flatten()).chain(&end) {
            frame.encode(&mut bytes).expect("the test's own files");
        }
        fs::write(self.stages().join(format!("import-{op}")).join(name), bytes)
            .expect("the test's own files");
    }

    fn found(&self) -> Vec<String> {
        let seen = look(&self.destination());
        let name = |path: &Path| path.to_str().expect("the test's own files").to_owned();
        seen.iter()
            .map(|(path, seen)| format!("{}={}", name(path), String::from_utf8_lossy(&seen.content)))
            .collect()
    }
}

#[test]
fn an_import_that_was_being_moved_in_is_finished() {
    let guest = Guest::new();
    guest.write("d/replaced", "old");
    guest.write("d/was moved", "new");
    guest.write("conflict/x", "old");
    guest.stage(1, "d/replaced", "new");
    guest.stage(1, "d/fresh/f", "new");
    guest.stage(1, "conflict", "new");
    guest.stage(1, "z", "new");
    fs::write(guest.stages().join("import-1/old/replaced-0"), "left").unwrap();
    // The removal was made before: what is there now has been moved in since.
    let entries = [absent("d/was moved"), directory("d", 0o705)];
    guest.mark(1, "moving", &entries, Some(HostFrame::Commit));

    let agent = guest.start();
    assert_eq!(state(&agent, 1), ImportState::Unknown);
    let expected = [
        "=",
        "conflict=",
        "conflict/x=old",
        "d=",
        "d/fresh=",
        "d/fresh/f=new",
        "d/replaced=new",
        "d/was moved=new",
        "z=new",
    ];
    assert_eq!(guest.found(), expected);
    assert_eq!(look(&guest.destination())[Path::new("d")].mode, 0o04_0705);
    assert!(guest.has_no_stage());
}

#[test]
fn removals_that_were_under_way_are_finished_first() {
    let guest = Guest::new();
    guest.write("turned/into", "old");
    guest.stage(1, "turned", "a file");
    guest.mark(1, "removing", &[absent("turned"), absent("was removed")], Some(HostFrame::Commit));
    let agent = guest.start();
    assert_eq!(state(&agent, 1), ImportState::Unknown);
    assert_eq!(guest.found(), ["=", "turned=a file"]);
    assert!(guest.has_no_stage());
}

/// A stage without a whole marker is one of which nothing was moved, and nothing may be.
#[test]
fn an_import_that_was_not_decided_is_removed() {
    let guest = Guest::new();
    for op in 1..=4 {
        guest.stage(op, "a", "new");
    }
    guest.mark(2, "moving", &[directory("d", 0o755)], None);
    fs::write(guest.stages().join("import-3/removing"), b"no frames").unwrap();
    guest.mark(4, "moving", &[directory("../d", 0o755)], Some(HostFrame::Commit));
    fs::create_dir(guest.stages().join("somebody's")).unwrap();
    let agent = guest.start();
    assert_eq!(send(&agent, guest.import(1), &[]), imported(0, 0));
    assert_eq!(guest.found(), ["="]);
    let left: Vec<_> = fs::read_dir(guest.stages()).unwrap().map(|left| left.unwrap().file_name()).collect();
    assert_eq!(left, ["somebody's"]);
}

/// A guest has root and can write what it wants where stages are.
#[test]
fn a_forged_stage_does_not_keep_the_agent_from_starting() {
    let guest = Guest::new();
    let outside = guest.root().join("outside");
    fs::create_dir_all(outside.join("new")).unwrap();
    fs::write(outside.join("new/a"), "kept").unwrap();
    fs::create_dir(guest.stages()).unwrap();
    std::os::unix::fs::symlink(&outside, guest.stages().join("import-1")).unwrap();
    guest.stage(2, "a", "new");
    fs::remove_dir_all(guest.stages().join("import-2/new")).unwrap();
    std::os::unix::fs::symlink(&outside, guest.stages().join("import-2/new")).unwrap();
    guest.mark(2, "moving", &[], Some(HostFrame::Commit));
    let agent = guest.start();
    assert_eq!(send(&agent, guest.import(1), &[file("b", "")]), imported(1, 0));
    assert_eq!(guest.found(), ["=", "b="]);
    assert_eq!(fs::read(outside.join("new/a")).unwrap(), b"kept");
}

#[test]
fn a_killed_agent_leaves_nothing_of_an_import_without_commit() {
    let guest = Guest::new();
    let mut agent = guest.start();
    let _link = begin(&agent, guest.import(1), &[file("a", "abc")]);
    wait_until(&agent, || guest.stages().join("import-1/new/a").exists());
    rustix::process::kill_process(agent.pid(), Signal::KILL).unwrap();
    agent.wait();
    assert!(!guest.has_no_stage());
    let next = guest.start();
    assert_eq!(state(&next, 1), ImportState::Unknown);
    assert!(guest.has_no_stage());
    assert_eq!(guest.found(), ["="]);
}

/// Wherever in its work the kill meets the agent, the next one leaves all of the import or nothing.
#[test]
fn a_killed_agent_leaves_all_or_nothing_of_a_committed_import() {
    for trigger in ["old", "removing", "old/removed-0", "moving", "old/replaced-0", "old/replaced-99"] {
        let guest = Guest::new();
        for n in 0..100 {
            guest.write(&format!("file{n}"), "old");
        }
        guest.write("gone/x", "old");
        let before = guest.found();
        let entries: Vec<_> = (0..100)
            .map(|n| file(&format!("file{n}"), "new"))
            .chain([absent("gone"), file("gone", "")])
            .collect();
        let mut agent = guest.start();
        let mut link = begin(&agent, guest.import(1), &entries);
        let stage = guest.stages().join("import-1");
        wait_until(&agent, || stage.exists());
        link.send(&HostFrame::Commit);
        // It may be too fast to be met at this point; what it leaves has to be right all the same.
        while stage.exists() && !stage.join(trigger).exists() {
            std::thread::yield_now();
        }
        rustix::process::kill_process(agent.pid(), Signal::KILL).unwrap();
        agent.wait();

        let _next = guest.start().connect();
        assert!(guest.has_no_stage());
        let found = guest.found();
        if found != before {
            assert_eq!(
                found.iter().filter(|found| found.ends_with("=new")).count(),
                100,
                "{trigger}: {found:?}"
            );
            assert!(found.contains(&"gone=".to_owned()) && found.len() == 102, "{trigger}: {found:?}");
        }
    }
}
