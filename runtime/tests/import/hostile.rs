//! Entries that are to land elsewhere or to be what they must not be.

use super::collected::collect_bytes;
use super::fate::{contained, refused, run};
use super::tar_bytes::{Header, LINK, MAGIC, PREFIX, Tar};

#[test]
fn names_that_lead_elsewhere() {
    let name = |name: &[u8], text: &str| (name.to_vec(), text.to_owned());
    let names = [
        name(b"../a", r#"entry "../a" has a name with a .. component"#),
        name(b"a/../../b", r#"entry "a/../../b" has a name with a .. component"#),
        name(b"a/..", r#"entry "a/.." has a name with a .. component"#),
        name(b"./../a", r#"entry "./../a" has a name with a .. component"#),
        name(b"/", r#"entry "/" has an absolute name"#),
        name(b"/etc/passwd", r#"entry "/etc/passwd" has an absolute name"#),
        name(b"//etc/passwd", r#"entry "//etc/passwd" has an absolute name"#),
        name(b"", r#"entry "" has an empty name"#),
        name(b"x/", r#"entry "x/" has a directory's name but is none"#),
        name(b"x/.", r#"entry "x/." has a directory's name but is none"#),
        name(b".", r#"entry "." has a directory's name but is none"#),
        name(b"./", r#"entry "./" has a directory's name but is none"#),
        name(b"a\0b", r#"entry "a" has bytes behind the end of its name"#),
        name(b"\x1b[2J/..", r#"entry "\u{1b}[2J/.." has a name with a .. component"#),
    ];
    let mut cases = Vec::new();
    for (name, text) in &names {
        cases.push(refused("file", Tar::new().file("first", "1").file(name, "x"), text));
    }
    for climb in ["..", "a/../..", "../", "/a/"] {
        let text = if climb.starts_with('/') { "an absolute name" } else { "a name with a .. component" };
        cases.push(refused("directory", Tar::new().directory(climb), format!("entry {climb:?} has {text}")));
        let pax = Tar::new().pax("path", climb).file("innocent", "x");
        cases.push(refused("pax path", pax, format!("entry {climb:?} has {text}")));
        let gnu = Tar::new().long(b'L', climb).file("innocent", "x");
        cases.push(refused("GNU name", gnu, format!("entry {climb:?} has {text}")));
    }
    let prefixed = |prefix: &str| Tar::new().add(Header::new("a", b'0', 0).field(PREFIX, prefix), "");
    cases.push(refused("prefix", prefixed(".."), r#"entry "../a" has a name with a .. component"#));
    cases.push(refused("prefix", prefixed("/etc"), r#"entry "/etc/a" has an absolute name"#));
    cases.push(refused("prefix", prefixed("d\0e"), r#"entry "d/a" has bytes behind the end of its name"#));
    cases.push(contained("prefix", prefixed("d/e"), &["d/e/a="]));
    let gnu = Header::new("a", b'0', 0).field(MAGIC, "ustar  \0").field(PREFIX, "..");
    let text = r#"entry "a" has a prefix of its name that its format does not know"#;
    cases.push(refused("prefix of GNU", Tar::new().add(gnu, ""), text));
    let oldest = Header::new("a", b'0', 0).field(MAGIC, [0; 8]).field(PREFIX, "d");
    cases.push(refused("prefix of old", Tar::new().add(oldest, ""), text));
    let backslash = Tar::new().file("..\\..\\a", "x").file("C:\\a", "y");
    cases.push(contained("backslashes", backslash, &["..\\\\..\\\\a=x", "C:\\\\a=y"]));
    let dots = Tar::new().directory("./").directory(".").file("././a//./b", "x").directory("a/./c//");
    cases.push(contained("dots", dots, &["a/b=x", "a/c/"]));
    cases.push(contained("three dots", Tar::new().file(".../a", "x"), &[".../a=x"]));
    run(cases);
}

#[test]
fn names_without_measure() {
    let deep = |count: usize| vec!["d"; count].join("/");
    let long = "n".repeat(256);
    let way = [vec!["n".repeat(200); 20].join("/"), "m".repeat(77)].join("/");
    let cut = |text: &str| format!("{:?} and so on", &text[..256]);
    let pax = |name: &str| Tar::new().pax("path", name).file("x", "");
    let gnu = |name: &str| Tar::new().long(b'L', name).file("x", "");
    let mut cases = Vec::new();
    for make in [pax, gnu] {
        let text = format!("entry {} has a name of more than 256 components", cut(&deep(257)));
        cases.push(refused("257 components", make(&deep(257)), text));
        let text = format!("entry {} has a name of more than 4096 bytes", cut(&deep(2500)));
        cases.push(refused("2,500 components", make(&deep(2500)), text));
        let text = format!("entry {long:?} has a name with a component of more than 255 bytes");
        cases.push(refused("256 bytes", make(&long), text));
        let text = format!("entry {} has a name of more than 4096 bytes", cut(&way));
        cases.push(refused("4,097 bytes", make(&way), text));
        let text = format!("entry {} has a name of more than 4096 bytes", cut(&"./".repeat(3000)));
        cases.push(refused("many dots", make(&"./".repeat(3000)), text));
    }
    assert_eq!(way.len(), 4097);
    cases.push(refused("NUL", pax("a\0b"), r#"entry "PaxHeaders/x" has a NUL in its extended path"#));
    cases.push(refused("NUL", gnu("a\0b"), r#"entry "././@LongLink" has a malformed long name"#));
    let fits = |name: &str| [pax(name).end(), gnu(name).end()];
    for bytes in [fits(&deep(256)), fits(&way[1..])].concat() {
        assert_eq!(collect_bytes(".tar", &bytes).unwrap().entries.len(), 1);
    }
    run(cases);
}

#[test]
fn symbolic_links_that_lead_elsewhere() {
    let escapes = "is a link that leads out of the workspace";
    run(vec![
        refused("up", Tar::new().symlink("a", ".."), format!(r#"entry "a" {escapes}"#)),
        refused("up", Tar::new().symlink("a", "../etc"), format!(r#"entry "a" {escapes}"#)),
        refused("up", Tar::new().symlink("d/a", "../../x"), format!(r#"entry "d/a" {escapes}"#)),
        refused("up", Tar::new().symlink("d/a", "x/../../../d/x"), format!(r#"entry "d/a" {escapes}"#)),
        refused("pax", Tar::new().pax("linkpath", "..").symlink("a", "b"), format!(r#"entry "a" {escapes}"#)),
        refused("GNU", Tar::new().long(b'K', "../b").symlink("a", "b"), format!(r#"entry "a" {escapes}"#)),
        refused("no target", Tar::new().symlink("a", ""), r#"entry "a" is a link without a target"#),
        refused(
            "NUL",
            Tar::new().symlink("a", "b\0c"),
            r#"entry "a" has bytes behind the end of its target"#,
        ),
        refused(
            "long target",
            Tar::new().pax("linkpath", "t".repeat(4097)).symlink("a", "b"),
            r#"entry "a" is a link with a target of more than 4096 bytes"#,
        ),
        refused(
            "through a link",
            Tar::new().symlink("d", "/etc").file("d/passwd", "x"),
            r#"entry "d/passwd" lies below a link of the same archive"#,
        ),
        refused(
            "through a link below",
            Tar::new().directory("a").symlink("a/d", "b").file("a/./d//x/passwd", "x"),
            r#"entry "a/./d//x/passwd" lies below a link of the same archive"#,
        ),
        refused(
            "a directory through a link",
            Tar::new().symlink("d", "e").directory("d/f"),
            r#"entry "d/f" lies below a link of the same archive"#,
        ),
        refused(
            "a directory over a link",
            Tar::new().symlink("d", "/etc").directory("d/"),
            r#"entry "d/" is given twice, as different things"#,
        ),
        refused(
            "below a file",
            Tar::new().file("f", "1").file("f/g", "2"),
            r#"entry "f/g" lies below a file of the same archive"#,
        ),
        refused(
            "below a hard link",
            Tar::new().file("f", "1").hard_link("h", "f").file("h/g", "2"),
            r#"entry "h/g" lies below a file of the same archive"#,
        ),
        contained(
            "absolute",
            Tar::new().symlink("python", "/usr/bin/python3"),
            &["python->/usr/bin/python3"],
        ),
        contained("inside", Tar::new().symlink("m/.bin/x", "../x/cli.js"), &["m/.bin/x->../x/cli.js"]),
        contained("to itself", Tar::new().symlink("a", "a"), &["a->a"]),
    ]);
}

#[test]
fn hard_links_that_lead_elsewhere() {
    let missing = "is a hard link to what does not stand before it";
    let hard = |target: &str| Tar::new().file("f", "1").hard_link("h", target);
    let h = |reason: &str| format!(r#"entry "h" {reason}"#);
    run(vec![
        refused("outside", hard("../f"), h("is a hard link to what has a name with a .. component")),
        refused("absolute", hard("/etc/passwd"), h("is a hard link to what has an absolute name")),
        refused("nothing", hard(""), h("is a hard link to what has an empty name")),
        refused("to itself", hard("h"), h(missing)),
        refused("to what is not there", hard("g"), h(missing)),
        refused("to a directory", hard("f/"), h("is a hard link to a directory")),
        refused("to the top", hard("."), h("is a hard link to a directory")),
        refused("forwards", Tar::new().hard_link("h", "g").file("g", "1"), h(missing)),
        refused(
            "to a parent",
            Tar::new().file("d/f", "").hard_link("h", "d"),
            h("is a hard link to a directory"),
        ),
        refused(
            "to a link",
            Tar::new().symlink("s", "/etc/passwd").hard_link("h", "s"),
            h("is a hard link to a link"),
        ),
        refused("through a link", Tar::new().symlink("s", "/etc").hard_link("h", "s/passwd"), h(missing)),
        refused(
            "to a hard link",
            Tar::new().file("f", "1").hard_link("g", "f").hard_link("h", "g"),
            h("is a hard link to a link"),
        ),
        refused(
            "with content",
            Tar::new().file("f", "1").add(Header::new("h", b'1', 3).field(LINK, "f"), "new"),
            h("has content but is no file"),
        ),
        refused(
            "symlink with content",
            Tar::new().add(Header::new("s", b'2', 3).field(LINK, "f"), "new"),
            r#"entry "s" has content but is no file"#,
        ),
        contained("a good one", hard("./f"), &["f=1", "h=>f"]),
    ]);
}

#[test]
fn kinds_that_are_no_files() {
    let plain = [
        (b'3', "is a character device"),
        (b'4', "is a block device"),
        (b'6', "is a FIFO"),
        (b'S', "is a sparse file"),
        (b'D', "is the listing of a directory in an incremental archive"),
        (b'M', "is the continuation of a file from another volume"),
        (b'V', "is the label of a volume"),
        (b'N', "is of the unknown kind 'N'"),
        (b'X', "is of the unknown kind 'X'"),
        (b'A', "is of the unknown kind 'A'"),
        (b'8', "is of the unknown kind '8'"),
        (0xff, r"is of the unknown kind '\xff'"),
        (b'\n', r"is of the unknown kind '\n'"),
    ];
    let mut cases = Vec::new();
    for (flag, reason) in plain {
        let text = format!(r#"entry "dev/x" {reason}"#);
        cases.push(refused("kind", Tar::new().directory("dev").entry("dev/x", flag), text));
    }
    let sparse = |key: &str| Tar::new().pax(key, "1").file("a", "x");
    for key in ["GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.realsize", "GNU.sparse.name"] {
        cases.push(refused("sparse", sparse(key), r#"entry "PaxHeaders/x" is a sparse file"#));
    }
    let text = r#"entry "PaxHeaders/x" has an unknown extended attribute "SCHILY.realsize""#;
    cases.push(refused("sparse", sparse("SCHILY.realsize"), text));
    let listing = Tar::new().add(Header::new("d", b'5', 512), [b'x'; 512]);
    cases.push(refused("directory", listing, r#"entry "d" has content but is no file"#));
    for flag in *b"xgLK" {
        let header = Header::new("a", flag, 10).field(MAGIC, [0; 8]);
        let tar = Tar::new().add(header, "10 path=b\n");
        cases.push(refused("old", tar, r#"entry "a" is of a kind that its format does not know"#));
    }
    let magic = Header::new("a", b'0', 0).field(MAGIC, "ustar\0xx");
    cases.push(refused("magic", Tar::new().add(magic, ""), r#"entry "a" has a header of an unknown format"#));
    let oldest = Header::new("a", 0, 1).field(MAGIC, [0; 8]);
    cases.push(contained("old", Tar::new().add(oldest, "x").entry("b", b'7'), &["a=x", "b="]));
    run(cases);
}

#[test]
fn names_that_come_again() {
    let twice = |name: &str| format!(r#"entry "{name}" is given twice, as different things"#);
    run(vec![
        contained("file", Tar::new().file("a", "1").file("./a", "22"), &["a=1", "a=22"]),
        contained(
            "directory",
            Tar::new().directory("d/").file("d/a", "").directory("d"),
            &["d/", "d/a=", "d/"],
        ),
        contained("parent", Tar::new().file("d/a", "").directory("d"), &["d/a=", "d/"]),
        refused("directory, file", Tar::new().directory("a").file("a", "1"), twice("a")),
        refused("file, directory", Tar::new().file("a", "1").directory("a"), twice("a")),
        refused("parent, file", Tar::new().file("a/b", "1").file("a", "1"), twice("a")),
        refused("parent, link", Tar::new().file("a/b", "1").symlink("a", "c"), twice("a")),
        refused("file, link", Tar::new().file("a", "1").symlink("a", "b"), twice("a")),
        refused("link, file", Tar::new().symlink("a", "/etc/passwd").file("a", "1"), twice("a")),
        refused(
            "link, link",
            Tar::new().symlink("a", "b").symlink("a", "c"),
            r#"entry "a" is a link given twice"#,
        ),
        refused("file, hard link", Tar::new().file("a", "1").file("b", "").hard_link("b", "a"), twice("b")),
        refused("hard link, file", Tar::new().file("a", "1").hard_link("b", "a").file("b", ""), twice("b")),
        refused(
            "hard link, hard link",
            Tar::new().file("a", "1").hard_link("b", "a").hard_link("b", "a"),
            r#"entry "b" is a link given twice"#,
        ),
        refused("case of dots", Tar::new().file("x/a", "1").directory("./x//a/"), twice("./x//a/")),
    ]);
}
