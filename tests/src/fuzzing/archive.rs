//! Archives for seeds and syncs.

#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "it belongs to the tests of the runtime, which use all of it"
)]
#[path = "../../../runtime/tests/import/collected.rs"]
mod collected;
#[expect(clippy::unwrap_used, reason = "it belongs to the tests of the runtime")]
#[path = "../../../runtime/tests/import/tar_bytes.rs"]
mod tar_bytes;

use collected::collect_bytes;
use tar_bytes::{BLOCK, CHECKSUM, Header, LINK, MAGIC, MODE, MTIME, PREFIX, SIZE, Tar, gzip, record, seal};

pub(super) const WORDS: &[&[u8]] = &[
    b"0",
    b"1",
    b"2",
    b"5",
    b"x",
    b"L",
    b"\0",
    b"..\0",
    b"a/file\0",
    b"a/file/below\0",
    b"a/link\0",
    b"a/link/below\0",
    b"../../out\0",
    b"../",
    b"/",
    b"./",
    b"ustar\x0000",
    b"ustar  \0",
    b"00000000000\0",
    b"77777777777\0",
    b"\x80\0\0\0\0\0\0\0\0\0\x02\0",
    b"12 path=../e\n",
    b"11 size=512\n",
    b"17 linkpath=/etc\n",
    b"22 GNU.sparse.major=1\n",
    b"././@LongLink",
    b"\x1f\x8b\x08",
];

/// Where the kind of an entry stands in its header.
const KIND: usize = 156;

/// How gzip begins.
const GZIP: &[u8] = b"\x1f\x8b";

/// Reads the input as an archive, as it is and with right checksums in its headers. It is either refused, or what is
/// handed over keeps the rules of `docs/security.md`, which the sink checks, and so do both passes agree.
pub(super) fn run(input: &[u8]) {
    if input.starts_with(GZIP) {
        read(".tar.gz", input);
        return;
    }
    read(".tar", input);
    let sealed = sealed(input);
    if sealed != input {
        read(".tar", &sealed);
    }
}

fn read(ending: &str, bytes: &[u8]) {
    if let Err(error) = collect_bytes(ending, bytes) {
        assert!(error.is_refusal(), "{error}");
        assert!(!error.to_string().contains(char::is_control), "a name is not escaped: {error}");
    }
}

/// Returns the archive with right checksums wherever a header is, by the sizes before it.
fn sealed(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let mut place = 0;
    while let Some(header) = bytes.get_mut(place..place + BLOCK) {
        if header.iter().any(|byte| *byte != 0) {
            seal(header);
        }
        place += BLOCK + size(header).next_multiple_of(BLOCK);
    }
    bytes
}

/// Returns the size in a header, 0 for one that is not plainly octal.
fn size(header: &[u8]) -> usize {
    let field = header[SIZE..SIZE + 11].iter().take_while(|byte| byte.is_ascii_digit());
    let text: String = field.map(|byte| char::from(*byte)).collect();
    usize::from_str_radix(&text, 8).unwrap_or(0)
}

/// Returns where the fields of each block begin that may be a header.
pub(super) fn fields(input: &[u8]) -> Vec<usize> {
    let blocks = (0..input.len() / BLOCK).map(|block| block * BLOCK);
    blocks.flat_map(|block| [0, MODE, SIZE, MTIME, KIND, LINK, MAGIC, PREFIX].map(|at| block + at)).collect()
}

/// Returns archives with something of everything, some of it in each format, plain and compressed.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let plain = Tar::new()
        .directory("./")
        .directory("a/")
        .file("a/file", [b'x'; 700])
        .hard_link("a/hard", "a/file")
        .symlink("a/link", "../b/file")
        .end();
    let posix = Tar::new()
        .extended(b'g', record("comment", "0123456789"))
        .extended(b'x', [record("path", "b/file"), record("size", "3"), record("mtime", "5.25")].concat())
        .file("x", "abc")
        .pax("linkpath", "/usr/bin/python3")
        .symlink("python", "short")
        .end();
    let gnu = Tar::new()
        .long(b'L', "c/d/e/long")
        .add(Header::new("short", b'0', 1).field(MAGIC, "ustar  \0"), "y")
        .long(b'K', "../elsewhere")
        .add(Header::new("c/link", b'2', 0).field(MAGIC, "ustar  \0"), "")
        .end();
    let unsealed = Tar::new().raw(Header::new("n", b'0', 0).field(CHECKSUM, [0; 8]).sealed()).end();
    // One of them compressed: mutations rarely get behind the checksum of a gzip stream.
    vec![gzip(&gnu), plain, posix, gnu, unsealed, Tar::new().end()]
}
