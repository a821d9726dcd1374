//! Archives byte by byte, so that they can be wrong in every way.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Bytes of a header, and the unit in which archives are laid out.
pub(crate) const BLOCK: usize = 512;

/// Where the fields of a header stand.
pub(crate) const MODE: usize = 100;
pub(crate) const SIZE: usize = 124;
pub(crate) const MTIME: usize = 136;
pub(crate) const CHECKSUM: usize = 148;
pub(crate) const LINK: usize = 157;
pub(crate) const MAGIC: usize = 257;
pub(crate) const PREFIX: usize = 345;

/// A header of the POSIX format.
#[derive(Clone)]
pub(crate) struct Header([u8; BLOCK]);

impl Header {
    pub(crate) fn new(name: impl AsRef<[u8]>, flag: u8, size: u64) -> Self {
        let mut bytes = [0; BLOCK];
        bytes[..name.as_ref().len()].copy_from_slice(name.as_ref());
        bytes[156] = flag;
        let mode = if flag == b'5' { "0000755\0" } else { "0000644\0" };
        Self(bytes)
            .field(MODE, mode)
            .field(108, "0000000\0")
            .field(116, "0000000\0")
            .field(SIZE, format!("{size:011o}\0"))
            .field(MTIME, "07346545000\0")
            .field(MAGIC, "ustar\x0000")
    }

    /// Overwrites bytes, whatever they mean.
    pub(crate) fn field(mut self, at: usize, value: impl AsRef<[u8]>) -> Self {
        self.0[at..at + value.as_ref().len()].copy_from_slice(value.as_ref());
        self
    }

    /// Returns the bytes with their right sum.
    pub(crate) fn sealed(self) -> [u8; BLOCK] {
        let mut bytes = self.0;
        seal(&mut bytes);
        bytes
    }
}

/// Puts the right sum into a header.
pub(crate) fn seal(header: &mut [u8]) {
    header[CHECKSUM..CHECKSUM + 8].fill(b' ');
    let sum = header.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    header[CHECKSUM..CHECKSUM + 8].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// An archive under construction.
#[derive(Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    /// Adds a header and what follows it, filled up to a block.
    pub(crate) fn add(self, header: Header, body: impl AsRef<[u8]>) -> Self {
        let mut tar = self.raw(header.sealed()).raw(body);
        tar.0.resize(tar.0.len().next_multiple_of(BLOCK), 0);
        tar
    }

    pub(crate) fn entry(self, name: impl AsRef<[u8]>, flag: u8) -> Self {
        self.add(Header::new(name, flag, 0), "")
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        self.add(Header::new(name, b'0', body.as_ref().len() as u64), body)
    }

    pub(crate) fn directory(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(name, b'5')
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(Header::new(name, b'2', 0).field(LINK, target), "")
    }

    pub(crate) fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(Header::new(name, b'1', 0).field(LINK, target), "")
    }

    /// Adds an extended header with a body as it is.
    pub(crate) fn extended(self, flag: u8, body: impl AsRef<[u8]>) -> Self {
        self.add(Header::new("PaxHeaders/x", flag, body.as_ref().len() as u64), body)
    }

    /// Adds an extended header for the next entry.
    pub(crate) fn pax(self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.extended(b'x', record(key, value))
    }

    /// Adds a long name (`L`) or target (`K`) in GNU's format.
    pub(crate) fn long(self, flag: u8, text: impl AsRef<[u8]>) -> Self {
        let body = [text.as_ref(), b"\0"].concat();
        let header = Header::new("././@LongLink", flag, body.len() as u64).field(MAGIC, "ustar  \0");
        self.add(header, body)
    }

    /// Returns the archive without an end marker.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.raw([0; 2 * BLOCK]).cut()
    }
}

/// Returns a record of an extended header, with its length.
pub(crate) fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value.as_ref(), b"\n"].concat();
    let mut len = rest.len() + 1;
    while len != rest.len() + len.to_string().len() {
        len = rest.len() + len.to_string().len();
    }
    [len.to_string().into_bytes(), rest].concat()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
