//! Programs that people use every day, on the live files of a workspace.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pyro_tests::{MountPoint, Pyro, SANDBOX, finish};

use super::seat::Seat;

/// A sandbox whose files are mounted.
struct Desk {
    pyro: Pyro,
    id: String,
    place: MountPoint,
}

impl Desk {
    fn new() -> Option<Self> {
        let place = MountPoint::new().inspect_err(|error| eprintln!("skipped: /dev/fuse: {error}")).ok()?;
        let pyro = Pyro::new().config(SANDBOX);
        let id = pyro.create(&["--allow-host-compat"]);
        assert_eq!(pyro.run(&["mount", &place.text()]).code, Some(0));
        Some(Self { pyro, id, place })
    }

    fn files(&self) -> PathBuf {
        self.place.path().join(&self.id).join("files")
    }

    /// Runs a script on this side, and returns what it printed.
    #[track_caller]
    fn here(&self, script: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(self.files()).env("HOME", self.pyro.home());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = finish(command.spawn().unwrap());
        assert_eq!(output.code, Some(0), "{script}: {}{}", output.out(), output.err());
        output.out()
    }

    /// Runs a script in the guest, and returns what it printed.
    #[track_caller]
    fn inside(&self, script: &str) -> String {
        let output = self.pyro.run(&["workspace", "exec", &self.id, "--", "sh", "-ec", script]);
        assert_eq!(output.code, Some(0), "{script}: {}{}", output.out(), output.err());
        output.out()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // The mount is in the way of the directory that it is in.
        let _taken_away = self.pyro.run(&["umount"]);
    }
}

fn write_tree(dir: &Path) {
    fs::create_dir_all(dir.join("deep/er")).unwrap();
    for (name, content) in [("a", "needle"), ("deep/b", "hay"), ("deep/er/c d", "needles\n")] {
        fs::write(dir.join(name), content.repeat(10_000)).unwrap();
    }
    std::os::unix::fs::symlink("deep/b", dir.join("link")).unwrap();
}

/// Catches times, modes or links that do not arrive as they were: everything would be sent again.
#[test]
fn rsync_copies_once_and_rg_finds() {
    let Some(desk) = Desk::new() else { return };
    let source = desk.pyro.home().join("tree");
    write_tree(&source);
    let push = format!("rsync -a --itemize-changes {}/ tree", source.display());
    assert_ne!(desk.here(&push), "");
    assert_eq!(desk.here(&push), "");
    let back = source.with_extension("back");
    desk.here(&format!("rsync -a tree/ {}", back.display()));
    desk.here(&format!("diff -r --no-dereference {} {}", source.display(), back.display()));
    assert_eq!(desk.here("rg --files-with-matches needle | sort"), "tree/a\ntree/deep/er/c d\n");
    assert_eq!(desk.inside("wc -c < tree/a; readlink tree/link"), "60000\ndeep/b\n");
    desk.inside("chmod 600 tree/a; echo more >> tree/deep/b");
    let pulled = desk.here(&format!("rsync -a --itemize-changes tree/ {}", back.display()));
    assert!(pulled.contains("p..... a\n") && pulled.contains(" deep/b\n"), "{pulled}");
}

/// Catches an index or a lock file that one side sees differently.
#[test]
fn git_works_on_both_sides() {
    let Some(desk) = Desk::new() else { return };
    let who = "git config --global --add safe.directory '*'; git config --global user.name t; \
               git config --global user.email t@example.org";
    desk.here(&format!("{who}; git init -q r; cd r; seq 1000 > f; git add .; git commit -qm one"));
    let inside = format!("export HOME=/workspace; {who}; cd r");
    assert_eq!(desk.inside(&format!("{inside}; git status --porcelain; git log --format=%s")), "one\n");
    desk.inside(&format!("{inside}; echo more >> f; git commit -qam two; echo even more >> f"));
    assert_eq!(desk.here("cd r; git log --format=%s; git status --porcelain"), "two\none\n M f\n");
    assert_eq!(desk.here("cd r; git diff --stat | tail -1"), " 1 file changed, 1 insertion(+)\n");
    desk.here("cd r; git stash -q; git checkout -q HEAD~1; git gc -q; git fsck --strict");
    assert_eq!(desk.inside("tail -n 1 r/f"), "1000\n");
}

/// Catches an editor's way to save that fails or loses the mode, and a pager that does not see what comes.
#[test]
fn an_editor_saves_and_a_pager_follows() {
    let Some(desk) = Desk::new() else { return };
    desk.inside("seq 5 > list; chmod 640 list");
    let mut editor = Command::new("vi");
    editor.arg(desk.files().join("list")).env("TERM", "xterm").env("HOME", desk.pyro.home());
    let mut seat = Seat::at(80, 24, &editor);
    seat.until("5");
    seat.type_in("ggOfirst\u{1b}:%s/3/three/\r:wq\r");
    assert_eq!(seat.end().1, Some(0));
    assert_eq!(desk.inside("cat list; stat -c %a list; ls -A"), "first\n1\n2\nthree\n4\n5\n640\nlist\n");

    let mut pager = Command::new("less");
    pager.arg("+F").arg(desk.files().join("list")).env("TERM", "xterm").env("HOME", desk.pyro.home());
    let mut seat = Seat::at(80, 24, &pager);
    seat.until("Waiting for data");
    desk.inside("echo what comes later >> list");
    seat.until("what comes later");
    // Ctrl-C ends the following, and q the pager.
    seat.type_in("\u{3}");
    seat.type_in("q");
    assert_eq!(seat.end().1, Some(0));
}
