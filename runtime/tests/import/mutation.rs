//! Archives with random damage, some of it behind a right checksum: whatever is handed over is harmless.

use proptest::prelude::*;

use super::collected::collect_bytes;
use super::tar_bytes::{BLOCK, Header, MAGIC, Tar, gzip, record, seal};

/// One damage.
#[derive(Clone, Debug)]
enum Damage {
    /// Bytes are overwritten.
    Overwrite { at: usize, bytes: Vec<u8> },
    /// Bytes of a block are overwritten, and its checksum is put right.
    Forge { block: usize, at: usize, bytes: Vec<u8> },
    /// A block comes again somewhere else.
    Copy { from: usize, to: usize },
    /// A block goes.
    Remove { block: usize },
    /// The end goes.
    Cut { len: usize },
}

/// Fields in which a forger is interested: names, mode, size, time, kind, target, magic, prefix.
const FIELDS: [usize; 10] = [0, 1, 100, 124, 135, 136, 156, 157, 257, 345];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let fragments =
        ["../", "/", "..", "./", "\0", "a/b", "link", "file", "7777777", "0000000001\0", "\u{80}"];
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..4),
        proptest::sample::select(&b"01234567xgLKSDMV\0"[..]).prop_map(|flag| vec![flag]),
        proptest::sample::select(fragments.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        Just(b"\x80\0\0\0\0\0\0\0\0\0\x02\0".to_vec()),
        Just(record("path", "../evil")),
        Just(record("size", "512")),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = prop_oneof![0..BLOCK, proptest::sample::select(FIELDS.to_vec())];
    prop_oneof![
        (any::<usize>(), bytes()).prop_map(|(at, bytes)| Damage::Overwrite { at, bytes }),
        (any::<usize>(), at, bytes()).prop_map(|(block, at, bytes)| Damage::Forge { block, at, bytes }),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Damage::Copy { from, to }),
        any::<usize>().prop_map(|block| Damage::Remove { block }),
        any::<usize>().prop_map(|len| Damage::Cut { len }),
    ]
}

fn apply(archive: &mut Vec<u8>, damage: &Damage) {
    let blocks = archive.len() / BLOCK;
    if blocks == 0 {
        return;
    }
    let range = |block: usize| block % blocks * BLOCK..(block % blocks + 1) * BLOCK;
    let overwrite = |target: &mut [u8], at: usize, bytes: &[u8]| {
        let at = at % target.len();
        let len = bytes.len().min(target.len() - at);
        target[at..at + len].copy_from_slice(&bytes[..len]);
    };
    match damage {
        Damage::Overwrite { at, bytes } => overwrite(archive, *at, bytes),
        Damage::Forge { block, at, bytes } => {
            let header = &mut archive[range(*block)];
            overwrite(header, *at, bytes);
            seal(header);
        }
        Damage::Copy { from, to } => {
            let copy = archive[range(*from)].to_vec();
            let to = range(*to).start;
            archive.splice(to..to, copy);
        }
        Damage::Remove { block } => drop(archive.drain(range(*block))),
        Damage::Cut { len } => archive.truncate(len % archive.len()),
    }
}

/// An archive with something of everything.
fn valid() -> Vec<u8> {
    Tar::new()
        .extended(b'g', record("comment", "0123456789"))
        .directory("./")
        .directory("a/")
        .file("a/file", [b'x'; 700])
        .hard_link("a/hard", "a/file")
        .symlink("a/link", "../b/file")
        .extended(b'x', [record("path", "b/file"), record("size", "3"), record("mtime", "5.25")].concat())
        .file("x", "abc")
        .long(b'L', "c/d/e/long")
        .add(Header::new("short", b'0', 1).field(MAGIC, "ustar  \0"), "y")
        .pax("linkpath", "/usr/bin/python3")
        .symlink("python", "short")
        .end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    /// The sink asserts what must never come; the two passes must not differ; nothing panics.
    #[test]
    fn damaged_archives_are_refused_or_contained(damages in proptest::collection::vec(damage(), 1..6)) {
        let mut archive = valid();
        for damage in &damages {
            apply(&mut archive, damage);
        }
        if let Err(error) = collect_bytes(".tar", &archive) {
            prop_assert!(error.is_refusal(), "{error}");
        }
    }

    #[test]
    fn damaged_streams_are_refused_or_mean_the_same(at in any::<usize>(), bit in 0..8_u32) {
        let mut stream = gzip(&valid());
        let at = at % stream.len();
        stream[at] ^= 1 << bit;
        match collect_bytes(".tar.gz", &stream) {
            Err(error) => prop_assert!(error.is_refusal(), "{error}"),
            // Some bits mean nothing: those for the time, the operating system, and between the data and its checksum.
            Ok(collected) => {
                prop_assert_eq!(collected.lines(), collect_bytes(".tar", &valid()).unwrap().lines());
            }
        }
    }
}

#[test]
fn the_archive_is_valid_before() {
    assert_eq!(collect_bytes(".tar", &valid()).unwrap().entries.len(), 7);
}
