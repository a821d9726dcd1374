//! What becomes of a complete import.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink as link_to};
use std::path::{Path, PathBuf};

use pyro_protocol::{HostFrame, ModifiedAt};

use super::{
    Guest, Seen, THEN, absent, begin, directory, failed, file, hard_link, import_into, imported, look, send,
    symlink, wait_until,
};
use crate::host::Agent;

const BUSY: i32 = 16;
const XDEV: i32 = 18;
const NOTDIR: i32 = 20;
const ISDIR: i32 = 21;
const NOSPC: i32 = 28;
const ROFS: i32 = 30;

/// Forgets what differs although it is the same file: an overlay shows another inode once it has copied.
fn without_inodes(seen: std::collections::BTreeMap<PathBuf, Seen>) -> Vec<(PathBuf, Seen)> {
    seen.into_iter().map(|(path, seen)| (path, Seen { inode: 0, ..seen })).collect()
}

#[test]
fn a_tree_arrives_as_it_was_sent() {
    let guest = Guest::new();
    let agent = guest.start();
    let large: Vec<u8> = (0..700_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let HostFrame::Entry(mut old) = file("old", "").remove(0) else { unreachable!() };
    old.modified = ModifiedAt { seconds: -5, nanoseconds: 7 };
    old.mode = 0o1400;
    let entries = [
        directory("", 0o711),
        directory("d", 0o1777),
        directory("d/closed", 0),
        file("d/closed/inside", &large),
        file("implied/deeper/f", "f"),
        vec![HostFrame::Entry(old)],
        symlink("d/link", "../../leads/nowhere"),
        hard_link("d/other", "implied/deeper/f"),
    ];
    let destination = guest.root().join("made/as/needed");
    assert_eq!(send(&agent, import_into(1, &destination), &entries), imported(8, 700_001));
    assert!(guest.has_no_stage());

    let seen = look(&destination);
    let then = (THEN.seconds, i64::from(THEN.nanoseconds));
    let facts = |path: &str| {
        let seen = &seen[Path::new(path)];
        (seen.mode, seen.modified)
    };
    assert_eq!(seen.len(), 10);
    assert_eq!(facts(""), (0o04_0711, then));
    assert_eq!(facts("d"), (0o04_1777, then));
    assert_eq!(facts("d/closed"), (0o04_0000, then));
    assert_eq!(facts("d/closed/inside"), (0o10_0644, then));
    assert_eq!(facts("implied/deeper").0, 0o04_0755);
    assert_eq!(facts("old"), (0o10_1400, (-5, 7)));
    assert_eq!(facts("d/link"), (0o12_0777, then));
    assert_eq!(seen[Path::new("d/closed/inside")].content, large);
    assert_eq!(seen[Path::new("d/link")].content, b"../../leads/nowhere");
    assert_eq!(seen[Path::new("d/other")].inode, seen[Path::new("implied/deeper/f")].inode);
    for parent in ["made", "made/as"] {
        assert_eq!(guest.root().join(parent).metadata().unwrap().mode(), 0o04_0755);
    }
}

#[test]
fn what_is_there_is_merged_replaced_or_removed() {
    let guest = Guest::new();
    for path in ["kept", "file", "d/kept", "d/file", "gone/deep/down", "turned/into", "single"] {
        guest.write(path, "old");
    }
    link_to("/nowhere", guest.path("link")).unwrap();
    link_to("d", guest.path("leads")).unwrap();
    fs::set_permissions(guest.path("d"), fs::Permissions::from_mode(0o700)).unwrap();
    let inode = guest.path("kept").metadata().unwrap().ino();
    let agent = guest.start();
    let entries = [
        file("file", "first"),
        file("file", "new"),
        directory("d", 0o750),
        file("d/file", "new"),
        file("d/made/f", "new"),
        file("link", "no link"),
        symlink("leads", "elsewhere"),
        symlink("single", "file"),
        absent("gone"),
        absent("never/was"),
        absent("turned"),
        file("turned", "a file"),
        file("taken/out", ""),
        absent("taken"),
    ];
    assert_eq!(send(&agent, guest.import(1), &entries), imported(14, 27));
    let seen = look(&guest.destination());
    let content = |path: &str| String::from_utf8(seen[Path::new(path)].content.clone()).unwrap();
    let found: Vec<_> = seen.keys().map(|path| path.to_str().unwrap()).collect();
    let expected = [
        "", "d", "d/file", "d/kept", "d/made", "d/made/f", "file", "kept", "leads", "link", "single",
        "turned",
    ];
    assert_eq!(found, expected);
    for (path, expected) in [
        ("kept", "old"),
        ("file", "new"),
        ("d/kept", "old"),
        ("d/file", "new"),
        ("link", "no link"),
        ("leads", "elsewhere"),
        ("single", "file"),
        ("turned", "a file"),
    ] {
        assert_eq!(content(path), expected, "{path}");
    }
    assert_eq!(seen[Path::new("kept")].inode, inode);
    assert_eq!(seen[Path::new("d")].mode, 0o04_0750);
    assert_eq!(seen[Path::new("d")].modified, (THEN.seconds, i64::from(THEN.nanoseconds)));
    assert!(guest.has_no_stage());
}

/// A directory that was removed and comes again holds what came, not what was.
#[test]
fn removals_come_before_what_the_same_import_brings() {
    let guest = Guest::new();
    guest.write("d/old", "");
    guest.write("d/e/old", "");
    let agent = guest.start();
    let entries = [absent("d"), directory("d", 0o755), file("d/new", ""), absent("d/e"), absent("d/e/old")];
    assert_eq!(send(&agent, guest.import(1), &entries), imported(5, 0));
    let found: Vec<_> = look(&guest.destination()).into_keys().collect();
    assert_eq!(found, ["", "d", "d/new"].map(PathBuf::from));
}

#[test]
fn a_conflict_is_refused_by_name_before_anything_moves() {
    let guest = Guest::new();
    guest.write("file", "old");
    guest.write("d/inside", "old");
    link_to("d", guest.path("link")).unwrap();
    link_to("file", guest.path("file-link")).unwrap();
    let agent = guest.start();
    let before = look(&guest.destination());
    let table = [
        (directory("file", 0o755), "file", NOTDIR),
        (directory("link", 0o755), "link", NOTDIR),
        (directory("file-link", 0o755), "file-link", NOTDIR),
        (file("file/x", ""), "file", NOTDIR),
        (file("link/x", ""), "link", NOTDIR),
        (file("d", ""), "d", ISDIR),
        (symlink("d", "x"), "d", ISDIR),
        (file("link", ""), "link", ISDIR),
        (absent("file/x"), "file/x", NOTDIR),
        (absent("link/inside"), "link/inside", NOTDIR),
    ];
    for (op, (conflict, path, errno)) in (0..).zip(table) {
        let entries = [file("a", ""), file("d/inside", "new"), conflict, absent("file"), file("z", "")];
        let entries = if path.starts_with("file") { &entries[..3] } else { &entries[..] };
        assert_eq!(failed(send(&agent, guest.import(op), entries)), (path.to_owned(), errno));
        assert_eq!(look(&guest.destination()), before, "{path}");
        assert!(guest.has_no_stage());
    }
    let all = [file("link", ""), file("d", ""), directory("file", 0o755)];
    assert_eq!(failed(send(&agent, guest.import(99), &all)), ("d".to_owned(), ISDIR));
}

/// A guest plants links in its workspace and waits for an import.
#[test]
fn planted_links_are_not_followed() {
    let guest = Guest::new();
    let outside = guest.root().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "kept").unwrap();
    link_to(&outside, guest.path("parent")).unwrap();
    link_to(outside.join("secret"), guest.path("final")).unwrap();
    link_to(outside.join("not yet"), guest.path("dangling")).unwrap();
    link_to(&outside, guest.path("removed")).unwrap();
    let agent = guest.start();
    let before = look(&outside);
    for (op, entries) in (1..).zip([
        file("parent/secret", "changed"),
        directory("parent", 0o777),
        symlink("parent/secret", "changed"),
        absent("parent/secret"),
    ]) {
        assert_eq!(failed(send(&agent, guest.import(op), &[entries])).1, NOTDIR);
    }
    let entries = [file("final", "new"), file("dangling", "new"), absent("removed")];
    assert_eq!(send(&agent, guest.import(9), &entries), imported(3, 6));
    assert_eq!(look(&outside), before);
    for path in ["final", "dangling"] {
        assert!(guest.path(path).symlink_metadata().unwrap().is_file(), "{path}");
    }
    assert!(guest.path("removed").symlink_metadata().is_err());
    assert!(guest.path("parent").symlink_metadata().unwrap().is_symlink());
}

/// An import that stops halfway leaves a workspace that nobody has ever seen.
#[test]
fn a_failed_move_takes_back_those_before_it() {
    let guest = Guest::new();
    for path in ["replaced", "merged/replaced", "gone/a/b", "mount/below"] {
        guest.write(path, "old");
    }
    fs::set_permissions(guest.path("merged"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(guest.path("sealed")).unwrap();
    let mount = format!(
        "cd {}; mount -t tmpfs none mount; mount -t tmpfs -o ro none sealed",
        guest.destination().display()
    );
    let agent = Agent::start_staging_behind(&mount, &guest.stages());
    let before = look(&guest.destination());
    let entries = [
        absent("gone"),
        file("replaced", "new"),
        file("fresh", "new"),
        file("whole/directory", "new"),
        directory("merged", 0o777),
        file("merged/replaced", "new"),
        file("mount/x", "new"),
    ];
    assert_eq!(failed(send(&agent, guest.import(1), &entries)), ("mount/x".to_owned(), XDEV));
    assert_eq!(look(&guest.destination()), before);

    let entries = [absent("gone"), absent("mount"), file("fresh", "new")];
    assert_eq!(failed(send(&agent, guest.import(2), &entries)), ("mount".to_owned(), BUSY));
    assert_eq!(look(&guest.destination()), before);

    let sealed = [directory("", 0o777), file("fresh", ""), absent("gone"), directory("sealed", 0o700)];
    assert_eq!(failed(send(&agent, guest.import(4), &sealed)), ("sealed".to_owned(), ROFS));
    assert_eq!(look(&guest.destination()), before);

    let below = guest.path("mount/made/deep");
    assert_eq!(failed(send(&agent, import_into(3, &below), &[file("x", "")])), ("x".to_owned(), XDEV));
    let mounted = format!("/proc/{}/root{}", agent.pid(), guest.path("mount").display());
    assert_eq!(fs::read_dir(mounted).unwrap().count(), 0);
    assert!(guest.has_no_stage());
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let guest = Guest::new();
    let mount = format!("mount -t tmpfs -o size=1m none {}", guest.destination().display());
    let agent = Agent::start_staging_behind(&mount, &guest.path("stages"));
    let destination = guest.path("workspace");
    let entries = [file("small", "new"), file("large", vec![1; 2 << 20])];
    assert_eq!(failed(send(&agent, import_into(1, &destination), &entries)), ("large".to_owned(), NOSPC));
    let seen = PathBuf::from(format!("/proc/{}/root{}", agent.pid(), guest.destination().display()));
    assert_eq!(look(&seen).into_keys().collect::<Vec<_>>(), [PathBuf::new(), PathBuf::from("stages")]);
    assert_eq!(
        send(&agent, import_into(2, &destination), &[file("fits", vec![1; 900_000])]),
        imported(1, 900_000)
    );
}

/// A guest's root is an overlay, which moves no directory of its lower layer and shows the same calls otherwise.
#[test]
fn what_an_environment_brought_is_merged_and_removed_as_well() {
    let guest = Guest::new();
    for path in ["gone/a", "gone/b/c", "merged/kept", "merged/replaced", "replaced", "mount/below"] {
        guest.write(&format!("lower/workspace/{path}"), "old");
    }
    fs::set_permissions(guest.path("lower/workspace/gone/b"), fs::Permissions::from_mode(0o750)).unwrap();
    for name in ["upper", "work", "root"] {
        fs::create_dir(guest.path(name)).unwrap();
    }
    let script = format!(
        "cd {} && mount -t overlay -o userxattr,lowerdir=lower,upperdir=upper,workdir=work overlay root && \
         mount -t tmpfs none root/workspace/mount",
        guest.destination().display()
    );
    let agent = Agent::start_staging_behind(&script, &guest.path("root/.pyro"));
    let destination = guest.path("root/workspace");
    // It answers once it is behind the script.
    drop(agent.connect());
    let root = PathBuf::from(format!("/proc/{}/root{}", agent.pid(), destination.display()));
    let before = without_inodes(look(&root));
    let entries = |last: &str| {
        [
            absent("gone"),
            file("replaced", "new"),
            directory("merged", 0o755),
            file("merged/replaced", "new"),
            file("merged/fresh/f", "new"),
            file(last, "new"),
        ]
    };
    let answer = send(&agent, import_into(1, &destination), &entries("mount/x"));
    assert_eq!(failed(answer), ("mount/x".to_owned(), XDEV));
    assert_eq!(without_inodes(look(&root)), before);

    assert_eq!(send(&agent, import_into(2, &destination), &entries("gone/x")), imported(6, 12));
    let seen = look(&root);
    let found: Vec<_> = seen.keys().map(|path| path.to_str().unwrap()).collect();
    let expected = [
        "",
        "gone",
        "gone/x",
        "merged",
        "merged/fresh",
        "merged/fresh/f",
        "merged/kept",
        "merged/replaced",
        "mount",
        "replaced",
    ];
    assert_eq!(found, expected);
    assert_eq!(seen[Path::new("merged/replaced")].content, b"new");
    assert_eq!(seen[Path::new("merged/kept")].content, b"old");
}

#[test]
fn imports_at_once_into_one_destination_are_all_in_place() {
    let guest = Guest::new();
    let agent = guest.start();
    let mut links: Vec<_> = (1..=4)
        .map(|op| {
            let name = format!("from-{op}");
            let shared = (0..200).map(|n| file(&format!("shared/{n}/{name}"), &name));
            begin(&agent, guest.import(op), &shared.chain([file("last", &name)]).collect::<Vec<_>>())
        })
        .collect();
    wait_until(&agent, || (1..=4).all(|op| guest.stages().join(format!("import-{op}/new/last")).exists()));
    for link in &mut links {
        link.send(&HostFrame::Commit);
    }
    for link in &mut links {
        assert_eq!(link.expect(), imported(201, 201 * 6));
    }
    assert_eq!(look(&guest.destination()).len(), 2 + 200 * 5 + 1);
}

/// Descriptors that stay open with each directory or import would end the agent on a large tree.
#[test]
fn twenty_thousand_files_arrive_with_few_descriptors() {
    let guest = Guest::new();
    let agent = guest.start();
    let deep = vec!["d"; 200].join("/");
    let entries: Vec<_> = (0..20_000)
        .map(|n| {
            file(&format!("{}/{n}", if n % 1000 == 0 { deep.clone() } else { format!("{}", n / 50) }), "x")
        })
        .collect();
    assert_eq!(send(&agent, guest.import(1), &entries), imported(20_000, 20_000));
    assert_eq!(send(&agent, guest.import(2), &entries), imported(20_000, 20_000));
    assert_eq!(look(&guest.destination()).values().filter(|seen| seen.content == b"x").count(), 20_000);
    assert!(guest.has_no_stage());
}
