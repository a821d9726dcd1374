//! What the agent takes from the host, up to the commit.

use std::fs;

use pyro_protocol::{EntryKind, Frame as _, GuestFrame, HostFrame, ImportFailed, ImportState, Imported};

use super::{
    Guest, absent, begin, directory, entry, failed, file, hard_link, import_into, imported, look, send,
    state, symlink, wait_until,
};

const AGAIN: i32 = 11;
const NOTDIR: i32 = 20;
const ISDIR: i32 = 21;
const INVAL: i32 = 22;
const ALREADY: i32 = 114;

#[test]
fn nothing_is_visible_before_the_commit() {
    let guest = Guest::new();
    let agent = guest.start();
    let before = look(&guest.destination());
    let mut link = begin(&agent, guest.import(1), &[file("a", "abc"), file("b/c", "")]);
    wait_until(&agent, || guest.stages().join("import-1/new/b/c").exists());
    assert_eq!(state(&agent, 1), ImportState::Running);
    assert_eq!(look(&guest.destination()), before);
    assert_eq!(link.ask(&HostFrame::Commit), imported(2, 3));
    assert_eq!(fs::read(guest.path("a")).unwrap(), b"abc");
}

/// Whatever a host that dies has sent, it has no effect; only the commit counts.
#[test]
fn a_cut_import_leaves_nothing_behind() {
    let guest = Guest::new();
    guest.write("a", "old");
    guest.write("gone", "old");
    let agent = guest.start();
    let before = look(&guest.destination());
    let entries = [
        directory("d", 0o755),
        file("d/f", "abc"),
        symlink("d/s", "f"),
        hard_link("d/h", "d/f"),
        file("a", "new"),
        absent("gone"),
        vec![HostFrame::Commit],
    ];
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for frame in [guest.import(7)].iter().chain(entries.iter().flatten()) {
        frame.encode(&mut bytes).unwrap();
        ends.push(bytes.len());
    }
    let last = ends.pop().unwrap();
    for end in ends.iter().flat_map(|end| [*end, end + 3]).chain([last - 1]) {
        let mut link = agent.connect();
        link.send_bytes(&bytes[..end]);
        link.finish();
        assert_eq!(link.next(), None);
        assert_eq!(state(&agent, 7), ImportState::Unknown);
        assert_eq!(look(&guest.destination()), before, "after {end} bytes");
        assert!(guest.has_no_stage());
    }
    let mut link = agent.connect();
    link.send_bytes(&bytes);
    link.finish();
    assert_eq!(link.next(), Some(imported(6, 6)));
}

/// A host that goes away after the commit has it carried out, and a new one learns so.
#[test]
fn behind_the_commit_the_connection_means_nothing() {
    let guest = Guest::new();
    let agent = guest.start();
    let mut link = begin(&agent, guest.import(3), &[file("a", "abc")]);
    link.send(&HostFrame::Commit);
    drop(link);
    wait_until(&agent, || state(&agent, 3) == ImportState::Imported(Imported { entries: 1, bytes: 3 }));
    assert_eq!(fs::read(guest.path("a")).unwrap(), b"abc");
}

#[test]
fn a_number_is_carried_out_once() {
    let guest = Guest::new();
    let agent = guest.start();
    assert_eq!(state(&agent, 1), ImportState::Unknown);
    assert_eq!(send(&agent, guest.import(1), &[file("a", "first")]), imported(1, 5));
    assert_eq!(send(&agent, guest.import(1), &[file("a", "second"), file("b", "")]), imported(1, 5));
    assert_eq!(look(&guest.destination()).len(), 2);
    assert_eq!(fs::read(guest.path("a")).unwrap(), b"first");

    let refused = send(&agent, guest.import(2), &[file("a/b", "")]);
    let GuestFrame::ImportFailed(failure) = &refused else { panic!("{refused:?}") };
    assert_eq!(state(&agent, 2), ImportState::Failed(failure.clone()));
    assert_eq!(send(&agent, guest.import(2), &[file("b", "")]), refused);
    assert!(!guest.path("b").exists());
}

#[test]
fn an_import_under_way_is_not_begun_again() {
    let guest = Guest::new();
    let agent = guest.start();
    let mut first = begin(&agent, guest.import(1), &[file("a", "first")]);
    wait_until(&agent, || state(&agent, 1) == ImportState::Running);
    assert_eq!(failed(send(&agent, guest.import(1), &[file("a", "second")])), (String::new(), ALREADY));
    assert_eq!(first.ask(&HostFrame::Commit), imported(1, 5));
    assert_eq!(fs::read(guest.path("a")).unwrap(), b"first");
}

/// Without a limit, a host that opens imports and forgets them uses up threads and descriptors.
#[test]
fn imports_beyond_the_limit_are_refused_and_may_come_again() {
    let guest = Guest::new();
    let agent = guest.start();
    let mut links: Vec<_> =
        (0..8).map(|op| begin(&agent, guest.import(op), &[file(&format!("f{op}"), "")])).collect();
    wait_until(&agent, || (0..8).all(|op| state(&agent, op) == ImportState::Running));
    assert_eq!(failed(send(&agent, guest.import(8), &[file("f8", "")])), (String::new(), AGAIN));
    assert_eq!(state(&agent, 8), ImportState::Unknown);
    for link in &mut links {
        assert_eq!(link.ask(&HostFrame::Commit), imported(1, 0));
    }
    assert_eq!(send(&agent, guest.import(8), &[file("f8", "")]), imported(1, 0));
    assert_eq!(look(&guest.destination()).len(), 10);
}

#[test]
fn the_last_sixty_four_are_remembered() {
    let guest = Guest::new();
    let agent = guest.start();
    for op in 0..65 {
        assert_eq!(send(&agent, guest.import(op), &[file("a", "")]), imported(1, 0));
    }
    assert_eq!(state(&agent, 0), ImportState::Unknown);
    assert_eq!(state(&agent, 1), ImportState::Imported(Imported { entries: 1, bytes: 0 }));
}

/// The host checks all of it before; a bug there must not write outside of the destination.
#[test]
fn hostile_entries_are_refused_by_name() {
    let guest = Guest::new();
    let agent = guest.start();
    let before = look(&guest.root());
    let long = vec!["a"; 257].join("/");
    let name = "a".repeat(256);
    let link_to = |target: &str| vec![entry("x", EntryKind::Symlink { target: target.into() }, 0)];
    let time = {
        let HostFrame::Entry(mut late) = directory("x", 0).remove(0) else { unreachable!() };
        late.modified.nanoseconds = 1_000_000_000;
        vec![HostFrame::Entry(late)]
    };
    let mut table: Vec<(Vec<Vec<HostFrame>>, &str, i32)> =
        ["/etc/x", "../x", "a/../../x", "a/..", ".", "./a", "a//b", "a/", "/", "a\0b", &long, &name]
            .into_iter()
            .flat_map(|path| {
                [
                    file(path, ""),
                    directory(path, 0o755),
                    symlink(path, "t"),
                    absent(path),
                    hard_link(path, "f"),
                ]
                .map(|frames| (vec![file("f", ""), frames], path, INVAL))
            })
            .collect();
    table.extend([
        (vec![hard_link("x", "/etc/passwd")], "/etc/passwd", INVAL),
        (vec![hard_link("x", "../../etc/passwd")], "../../etc/passwd", INVAL),
        (vec![hard_link("x", "nothing")], "x", 2),
        (vec![hard_link("x", "x")], "x", 2),
        (vec![file("x", ""), hard_link("x", "x")], "x", INVAL),
        (vec![directory("d", 0o755), hard_link("x", "d")], "x", INVAL),
        (vec![symlink("s", "/etc/passwd"), hard_link("x", "s")], "x", INVAL),
        (vec![symlink("s", "/etc"), hard_link("x", "s/passwd")], "x", NOTDIR),
        (vec![symlink("s", "/tmp"), file("s/x", "")], "s/x", NOTDIR),
        (vec![symlink("s", "/tmp"), directory("s", 0o755)], "s", NOTDIR),
        (vec![symlink("s", "/tmp"), absent("s/x")], "s/x", NOTDIR),
        (vec![file("f", ""), file("f/x", "")], "f/x", NOTDIR),
        (vec![file("d/x", ""), file("d", "")], "d", ISDIR),
        (vec![file("", "")], "", ISDIR),
        (vec![absent("")], "", INVAL),
        (vec![link_to("")], "x", INVAL),
        (vec![link_to("a\0b")], "x", INVAL),
        (vec![directory("x", 0o4755)], "x", INVAL),
        (vec![directory("x", 0o10_0644)], "x", INVAL),
        (vec![time], "x", INVAL),
    ]);
    for (op, (entries, path, errno)) in (0..).zip(table) {
        let answer = send(&agent, guest.import(op), &entries);
        assert_eq!(failed(answer), (path.to_owned(), errno), "{entries:?}");
    }
    fs::remove_dir(guest.stages()).unwrap();
    assert_eq!(
        look(&guest.destination()),
        before
            .into_iter()
            .filter_map(|(path, seen)| { Some((path.strip_prefix("workspace").ok()?.to_owned(), seen)) })
            .collect()
    );
}

#[test]
fn a_destination_is_an_absolute_path_without_links() {
    let guest = Guest::new();
    let agent = guest.start();
    fs::create_dir(guest.root().join("outside")).unwrap();
    std::os::unix::fs::symlink(guest.root().join("outside"), guest.path("link")).unwrap();
    guest.write("file", "");
    let before = look(&guest.root().join("outside"));
    for (op, path) in (0..).zip(["link", "link/x", "../workspace", "file", "file/x", "x/", "."]) {
        let destination = guest.destination().join(path);
        let answer = send(&agent, import_into(op, &destination), &[file("a", "")]);
        let GuestFrame::ImportFailed(ImportFailed { path: None, errno, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert!([NOTDIR, INVAL].contains(&errno), "{path}: {errno}");
    }
    let relative = send(&agent, import_into(100, std::path::Path::new("workspace")), &[file("a", "")]);
    assert_eq!(failed(relative), (String::new(), INVAL));
    assert_eq!(look(&guest.root().join("outside")), before);
    assert!(guest.has_no_stage());
}

/// Content belongs to the file before it, as much as that said.
#[test]
fn frames_out_of_order_end_the_connection() {
    let guest = Guest::new();
    let agent = guest.start();
    let claims = |len| vec![entry("a", EntryKind::File { len }, 0o644)];
    let content = |content: &'static str| vec![HostFrame::Content(content.as_bytes().to_vec().into())];
    for entries in [
        vec![claims(2), content("abc")],
        vec![claims(3), content("ab"), file("b", "")],
        vec![claims(3), content("ab"), vec![HostFrame::Commit]],
        vec![file("a", "abc"), content("d")],
        vec![directory("d", 0o755), content("d")],
        vec![vec![HostFrame::Ping]],
        vec![vec![guest.import(2)]],
    ] {
        let mut link = begin(&agent, guest.import(1), &entries);
        assert_eq!(link.next(), None, "{entries:?}");
        assert_eq!(state(&agent, 1), ImportState::Unknown);
        assert!(guest.has_no_stage());
    }
    for frame in [claims(0).remove(0), content("a").remove(0), HostFrame::Commit] {
        let mut link = agent.connect();
        link.send(&frame);
        assert_eq!(link.next(), None, "{frame:?}");
    }
    assert_eq!(look(&guest.destination()).len(), 1);
}

/// A host that streams does not look for an answer before it is done.
#[test]
fn a_failure_comes_at_once_and_what_follows_is_dropped() {
    let guest = Guest::new();
    let agent = guest.start();
    let mut link = begin(&agent, guest.import(1), &[file("../x", "")]);
    assert_eq!(failed(link.expect()), ("../x".to_owned(), INVAL));
    let mut bytes = Vec::new();
    for frame in file("large", vec![7; 8 << 20]) {
        frame.encode(&mut bytes).unwrap();
    }
    link.send_bytes(&bytes);
    link.send(&HostFrame::Commit);
    link.finish();
    assert_eq!(link.next(), None);
    assert_eq!(look(&guest.destination()).len(), 1);
}
