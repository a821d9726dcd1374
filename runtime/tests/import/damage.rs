//! Archives that are damaged, cut off or followed by something.

use super::collected::collect_bytes;
use super::fate::{contained, refused, run};
use super::tar_bytes::{CHECKSUM, Header, Tar, gzip};

#[test]
fn headers_that_are_damaged() {
    let mut bad = Header::new("b", b'0', 0).sealed();
    bad[CHECKSUM + 1] ^= 1;
    let mut renamed = Header::new("b", b'0', 0).sealed();
    renamed[0] = b'c';
    // Right, but written as not everybody reads it.
    let mut signed = Header::new("b", b'0', 0).sealed();
    signed[CHECKSUM] = b'+';
    let damaged = r#"entry "a" is followed by a damaged header"#;
    let a = || Tar::new().file("a", "x");
    let first = "the archive does not begin with a header";
    run(vec![
        refused("sum", a().raw(bad), damaged),
        refused("name", a().raw(renamed), damaged),
        refused("sign", a().raw(signed), r#"entry "b" has a header with a malformed checksum"#),
        refused("the first", Tar::new().raw(bad), first),
        refused("no tar at all", Tar::new().raw([b'x'; 10240]), first),
        refused("text between", a().raw([b'\n'; 512]).file("b", ""), damaged),
        refused(
            "concatenated",
            Tar::new().raw(a().end()).raw(a().cut()),
            "the archive has something behind its end",
        ),
        refused(
            "one block of zeros",
            a().raw([0; 512]).file("b", ""),
            "the archive has something behind its end",
        ),
        refused(
            "garbage",
            Tar::new().raw(a().end()).raw("garbage"),
            "the archive has something behind its end",
        ),
        refused(
            "zeros without end",
            a().raw(vec![0; 5 << 20]),
            "the archive has more than 4 MiB of zeros behind its end",
        ),
        contained("nothing in it", Tar::new(), &[]),
        contained("a record filled up", a().raw([0; 8192]), &["a=x"]),
    ]);
}

#[test]
fn archives_that_end_too_early() {
    let whole = Tar::new()
        .directory("d")
        .pax("path", "d/long")
        .file("x", [b'x'; 1500])
        .long(b'L', "d/longer")
        .symlink("y", "long")
        .end();
    assert_eq!(collect_bytes(".tar", &whole).unwrap().entries.len(), 3);
    for end in (0..whole.len()).filter(|end| end % 128 == 0) {
        let error = collect_bytes(".tar", &whole[..end]).err().unwrap();
        assert!(error.is_refusal(), "{end}: {error}");
        let error = collect_bytes(".tgz", &gzip(&whole[..end])).err().unwrap();
        assert!(error.is_refusal(), "{end}: {error}");
    }
    let texts = [
        (0, "the archive has no end marker"),
        (100, "the archive ends too early"),
        (512, "the archive has no end marker"),
        (1700, r#"entry "d/long" is the last one of an archive that ends too early"#),
        (3400, r#"entry "d/long" is the last one of an archive that ends too early"#),
        (whole.len() - 1024, "the archive has no end marker"),
        (whole.len() - 512, "the archive ends within its end marker"),
    ];
    for (end, text) in texts {
        assert_eq!(collect_bytes(".tar", &whole[..end]).err().unwrap().to_string(), text, "{end}");
    }
}

#[test]
fn gzip_streams_that_are_damaged() {
    let tar = Tar::new().file("a", [b'x'; 3000]).end();
    let good = gzip(&tar);
    assert_eq!(collect_bytes(".TGZ", &good).unwrap().lines().len(), 1);
    let changed = |from_end: usize| {
        let mut bytes = good.clone();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        bytes
    };
    let early = "the archive has a gzip stream that ends too early";
    let damaged = "the archive has a damaged gzip stream";
    let cases = [
        ("checksum", changed(8), damaged),
        ("length", changed(4), damaged),
        ("method", [&good[..2], b"\x07", &good[3..]].concat(), damaged),
        ("garbage", [&good[..], &[b'x'; 100]].concat(), damaged),
        ("a little garbage", [&good[..], b"x"].concat(), early),
        ("cut trailer", good[..good.len() - 1].to_vec(), early),
        ("cut checksum", good[..good.len() - 7].to_vec(), early),
        ("no trailer", good[..good.len() - 8].to_vec(), early),
        ("cut stream", good[..good.len() / 2].to_vec(), early),
        ("cut header", good[..5].to_vec(), early),
        ("plain", tar.clone(), "the archive is not compressed with gzip, as its name says"),
        ("nothing", Vec::new(), "the archive is not compressed with gzip, as its name says"),
        ("twice", gzip(&good), "the archive ends too early"),
        ("twice the archive", [&good[..], &good[..]].concat(), "the archive has something behind its end"),
    ];
    for (label, bytes, text) in cases {
        let error = collect_bytes(".tar.gz", &bytes).err().unwrap();
        assert!(error.to_string() == text && error.is_refusal(), "{label}: {error}");
    }
    // A stream of several members is one file for gzip.
    let members = [gzip(&tar[..700]), gzip(&[]), gzip(&tar[700..])].concat();
    assert_eq!(collect_bytes(".tar.gz", &members).unwrap().lines().len(), 1);
    let error = collect_bytes(".tar", &good).err().unwrap();
    assert_eq!(error.to_string(), "the archive is compressed with gzip, but its name ends in .tar");
    assert!(error.is_refusal());
}
