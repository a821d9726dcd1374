//! Headers that one parser reads as this and another as that.

use super::collected::collect_bytes;
use super::fate::{contained, refused, run};
use super::tar_bytes::{Header, MAGIC, MODE, MTIME, SIZE, Tar, record};

#[test]
fn extended_headers_that_parsers_read_differently() {
    let x = |text: &str| format!(r#"entry "PaxHeaders/x" {text}"#);
    let body = |body: &[u8]| Tar::new().extended(b'x', body).file("a", "x");
    let mut cases = Vec::new();
    let malformed: [&[u8]; 17] = [
        b"path=b\n",
        b"09 path=b\n",
        b" 9 path=b\n",
        b"+9 path=b\n",
        b"-9 path=b\n",
        b"8 path=b\n",
        b"9 path=b",
        b"11 path=b\n",
        b"99999999999999999999 path=b\n",
        b"0 path=b\n",
        b"9\tpath=b\n",
        b"7 path\n",
        b"5 =b\n",
        b"11 pa\0th=b\n",
        b"9 path=b\n\0\0\0",
        b"9 path=b\n\n",
        b"9 path=b\n9 path=",
    ];
    for bytes in malformed {
        cases.push(refused("malformed", body(bytes), x("has a malformed extended header")));
    }
    let both = [record("path", "b"), record("path", "c")].concat();
    cases.push(refused("twice", body(&both), x(r#"has the extended attribute "path" twice"#)));
    let unknown = Tar::new().pax("VENDOR.thing", "1").file("a", "x");
    cases.push(refused("unknown", unknown, x(r#"has an unknown extended attribute "VENDOR.thing""#)));
    for (key, value, text) in [
        ("path", "", "has an empty extended path"),
        ("linkpath", "", "has an empty extended linkpath"),
        ("path", "a\0b", "has a NUL in its extended path"),
        ("uname", "a\0b", "has a NUL in its extended uname"),
        ("size", "", "has an extended size that is no number"),
        ("size", "01", "has an extended size that is no number"),
        ("size", "-1", "has an extended size that is no number"),
        ("size", "1e3", "has an extended size that is no number"),
        ("size", "18446744073709551616", "has an extended size that is no number"),
        ("mtime", "nan", "has an extended mtime that is no time"),
        ("mtime", "1e300", "has an extended mtime that is no time"),
        ("hdrcharset", "ISO-8859-1", "has names in an unknown character set"),
    ] {
        cases.push(refused("value", Tar::new().pax(key, value).file("a", "x"), x(text)));
    }
    let bare = Header::new("x", b'x', 9).field(MODE, [0; 8]).field(MTIME, [0; 12]);
    cases.push(contained("bare", Tar::new().add(bare, "9 path=b\n").file("a", "x"), &["b=x"]));
    let long = Tar::new().add(Header::new("x", b'x', (1 << 20) + 1), vec![b'x'; (1 << 20) + 1]);
    cases.push(refused(
        "1 MiB",
        long.file("a", ""),
        r#"entry "x" has an extended header of more than 1 MiB"#,
    ));
    let xattr = record("SCHILY.xattr.user.x", "v".repeat((1 << 20) - 60));
    cases.push(contained("an attribute", body(&xattr), &["a=x"]));
    let ignored = [
        record("hdrcharset", "BINARY"),
        record("SCHILY.xattr.security.capability", "\0\0\n"),
        record("LIBARCHIVE.creationtime", "1"),
        record("uid", "4294967296"),
        record("path", "caf\u{e9}"),
    ];
    cases.push(contained("ignored", body(&ignored.concat()), &[r"caf\xc3\xa9=x"]));
    run(cases);
}

#[test]
fn extended_sizes_that_differ_from_the_header() {
    let mut cases = Vec::new();
    let size = "has an extended size that differs from the one in its header";
    for value in ["0", "2", "512", "8589934592"] {
        let tar = Tar::new().pax("size", value).file("a", "x").file("hidden", "y");
        cases.push(refused("size", tar, format!(r#"entry "a" {size}"#)));
    }
    // What hides a header in the content of a file for all who ignore the size.
    let hidden = Tar::new().file("../evil", "x").cut();
    let zero = Tar::new().pax("size", "1024").add(Header::new("a", b'0', 0), "").raw(hidden);
    cases.push(refused("size zero", zero, format!(r#"entry "a" {size}"#)));
    cases.push(contained("size", Tar::new().pax("size", "1").file("a", "x"), &["a=x"]));
    run(cases);
}

#[test]
fn extended_headers_out_of_place() {
    let l = "././@LongLink";
    run(vec![
        refused(
            "x, x",
            Tar::new().pax("path", "b").pax("uid", "1").file("a", ""),
            r#"entry "b" has two extended headers of one kind"#,
        ),
        refused(
            "L, L",
            Tar::new().long(b'L', "b").long(b'L', "c").file("a", ""),
            r#"entry "b" has two extended headers of one kind"#,
        ),
        refused(
            "K, K",
            Tar::new().long(b'K', "b").long(b'K', "c").symlink("a", "d"),
            format!(r#"entry "{l}" has two extended headers of one kind"#),
        ),
        refused(
            "L and path",
            Tar::new().long(b'L', "b").pax("path", "c").file("a", ""),
            r#"entry "c" has a long name in two formats"#,
        ),
        refused(
            "path and L",
            Tar::new().pax("path", "c").long(b'L', "b").file("a", ""),
            r#"entry "c" has a long name in two formats"#,
        ),
        refused(
            "K and linkpath",
            Tar::new().long(b'K', "b").pax("linkpath", "c").symlink("a", "d"),
            r#"entry "a" has a long name in two formats"#,
        ),
        refused("x at the end", Tar::new().file("a", "").pax("path", "b"), BELONGS_TO_NONE),
        refused("L at the end", Tar::new().long(b'L', "b"), BELONGS_TO_NONE),
        refused(
            "x, g",
            Tar::new().pax("path", "b").extended(b'g', record("comment", "c")).file("a", ""),
            r#"entry "b" is a global header where an entry has to be"#,
        ),
        refused("L empty", Tar::new().long(b'L', "").file("a", ""), LONG_MALFORMED),
        refused("L without NUL", unterminated(), LONG_MALFORMED),
        refused(
            "L and x of another size",
            Tar::new().pax("size", "700").long(b'L', "b").file("a", "x"),
            r#"entry "b" has an extended size that differs from the one in its header"#,
        ),
        refused("global path", global("path", "b"), global_text("path")),
        refused("global linkpath", global("linkpath", "b"), global_text("linkpath")),
        refused("global size", global("size", "1"), global_text("size")),
        refused("global mtime", global("mtime", "1"), global_text("mtime")),
        refused("global sparse", global("GNU.sparse.major", "1"), r#"entry "PaxHeaders/x" is a sparse file"#),
        contained("of git", global("comment", "0123456789abcdef"), &["a=x"]),
        contained(
            "long name and target",
            Tar::new().long(b'K', "../t").long(b'L', "d/b").symlink("a", "c").file("a", "x"),
            &["d/b->../t", "a=x"],
        ),
    ]);
}

const BELONGS_TO_NONE: &str = "the archive ends with an extended header that belongs to no entry";
const LONG_MALFORMED: &str = r#"entry "././@LongLink" has a malformed long name"#;

fn unterminated() -> Tar {
    Tar::new().add(Header::new("././@LongLink", b'L', 1).field(MAGIC, "ustar  \0"), "b").file("a", "")
}

fn global(key: &str, value: &str) -> Tar {
    Tar::new().extended(b'g', record(key, value)).file("a", "x")
}

fn global_text(key: &str) -> String {
    format!(r#"entry "PaxHeaders/x" has a global extended header with {key}"#)
}

#[test]
fn numbers_that_parsers_read_differently() {
    let with = |at: usize, value: &[u8]| {
        Tar::new().file("first", "").add(Header::new("a", b'0', 1).field(at, value), "x")
    };
    let a = |text: &str| format!(r#"entry "a" {text}"#);
    let damaged = r#"entry "first" is followed by a damaged header"#;
    let mut cases = vec![
        refused("binary and negative", with(SIZE, &[0xff; 12]), damaged),
        refused("binary, bit 62", with(SIZE, b"\xc0\0\0\0\0\0\0\0\0\0\0\x01"), a("has a malformed size")),
        refused("binary, bit 64", with(SIZE, b"\x80\0\0\x01\0\0\0\0\0\0\0\x01"), a("has a malformed size")),
        refused("plus", with(SIZE, b"+0000000001\0"), a("has a malformed size")),
        refused("minus", with(SIZE, b"-0000000001\0"), damaged),
        refused("hexadecimal", with(SIZE, b"0x000000001\0"), damaged),
        refused("digits behind", with(SIZE, b"1\x000000000000"), a("has a malformed size")),
        refused("letters behind", with(SIZE, b"1 x\0\0\0\0\0\0\0\0\0"), damaged),
        refused("tabs", with(SIZE, b"\t\t1\0\0\0\0\0\0\0\0\0"), a("has a malformed size")),
        refused("no size", with(SIZE, &[0; 12]), damaged),
        refused("mode", with(MODE, b"00009xx\0"), a("has a malformed mode")),
        refused("negative mode", with(MODE, &[0xff; 8]), a("has a malformed mode")),
        refused("mtime", with(MTIME, b"yesterday\0\0\0"), a("has a malformed mtime")),
        refused("binary mtime", with(MTIME, b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), a("has a malformed mtime")),
        contained("binary", with(SIZE, b"\x80\0\0\0\0\0\0\0\0\0\0\x01"), &["first=", "a=x"]),
        contained("no mtime", with(MTIME, &[0; 12]), &["first=", "a=x"]),
        refused("no mode", with(MODE, &[0; 8]), a("has a malformed mode")),
        contained("blanks", with(SIZE, b"         1 \0"), &["first=", "a=x"]),
        contained("mode with more bits", with(MODE, b"0107777\0"), &["first=", "a=x"]),
    ];
    let huge = |size: &[u8]| Tar::new().add(Header::new("a", b'0', 0).field(SIZE, size), "");
    let text = a("brings the content above the limit of 4096 MiB");
    cases.push(refused("4 GiB and 1", huge(b"40000000001\0"), text.clone()));
    cases.push(refused("8 EiB", huge(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xf0\0"), text));
    let wraps = huge(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    cases.push(refused("wraps", wraps, "the archive does not begin with a header"));
    run(cases);
}

#[test]
fn set_id_bits_are_dropped() {
    let with = |flag: u8, mode: &str| Header::new("a", flag, 0).field(MODE, mode);
    for (flag, mode, kept) in [
        (b'0', "0006755\0", 0o755),
        (b'0', "0001777\0", 0o777),
        (b'5', "0007777\0", 0o1777),
        (b'5', "0042770\0", 0o770),
        (b'0', "0000000\0", 0),
    ] {
        let collected = collect_bytes(".tar", &Tar::new().add(with(flag, mode), "").end()).unwrap();
        assert_eq!(collected.get("a").0.mode, kept, "{mode}");
    }
}
