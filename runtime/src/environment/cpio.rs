//! Writes cpio archives in the format `newc`, the one the kernel unpacks as its first root file system.
//!
//! Layout of a member (kernel documentation, "initramfs buffer format"): 110 bytes of ASCII, which are the magic
//! `070701` and thirteen numbers of eight hexadecimal digits; the name with a closing NUL, padded to a multiple
//! of four counted from the start of the member; the content, padded to a multiple of four. The archive ends with
//! a member called `TRAILER!!!`. Several archives may follow one another.

use std::io::{self, Write};

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFCHR: u32 = 0o020_000;

/// Name of the member that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// Writer of one archive. Owners are root and times are zero, so equal members make equal archives.
#[derive(Debug)]
pub(super) struct Archive<W> {
    to: W,
    next_inode: u32,
}

struct Member<'a> {
    path: &'a str,
    mode: u32,
    links: u32,
    content: &'a [u8],
    device: (u32, u32),
}

impl<W: Write> Archive<W> {
    pub(super) const fn new(to: W) -> Self {
        Self { to, next_inode: 1 }
    }

    /// Adds a directory. Parents must have been added before: the kernel does not make them.
    pub(super) fn directory(&mut self, path: &str, permissions: u32) -> io::Result<()> {
        self.member(&Member { path, mode: S_IFDIR | permissions, links: 2, content: &[], device: (0, 0) })
    }

    /// Adds a regular file.
    pub(super) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.member(&Member { path, mode: S_IFREG | permissions, links: 1, content, device: (0, 0) })
    }

    /// Adds the node of a character device.
    pub(super) fn character_device(
        &mut self,
        path: &str,
        permissions: u32,
        device: (u32, u32),
    ) -> io::Result<()> {
        self.member(&Member { path, mode: S_IFCHR | permissions, links: 1, content: &[], device })
    }

    /// Ends the archive and gives back what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.next_inode = 0;
        self.member(&Member { path: TRAILER, mode: 0, links: 1, content: &[], device: (0, 0) })?;
        Ok(self.to)
    }

    fn member(&mut self, member: &Member<'_>) -> io::Result<()> {
        assert!(!member.path.starts_with('/') && !member.path.is_empty(), "BUG: cpio paths are relative");
        let too_big = |_| io::Error::new(io::ErrorKind::FileTooLarge, "too big for an initramfs");
        let size = u32::try_from(member.content.len()).map_err(too_big)?;
        let name_size = u32::try_from(member.path.len() + 1).map_err(too_big)?;
        let numbers = [
            self.next_inode,
            member.mode,
            0, // owner
            0, // group
            member.links,
            0, // time of last change
            size,
            0, // device that holds the file: major
            0, // and minor
            member.device.0,
            member.device.1,
            name_size,
            0, // checksum, which this variant of the format does not use
        ];
        self.next_inode += 1;
        write!(self.to, "070701")?;
        for number in numbers {
            write!(self.to, "{number:08X}")?;
        }
        self.to.write_all(member.path.as_bytes())?;
        self.to.write_all(&[0])?;
        self.pad(6 + numbers.len() * 8 + member.path.len() + 1)?;
        self.to.write_all(member.content)?;
        self.pad(member.content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let padding = written.next_multiple_of(4) - written;
        self.to.write_all(&[0; 4][..padding])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::Archive;

    /// Name, mode and content.
    pub(in crate::environment) type Member = (String, u32, Vec<u8>);

    /// Reads one archive as the specification says, independently of the writer's arithmetic. Returns the
    /// members and what follows the archive.
    pub(in crate::environment) fn read(mut bytes: &[u8]) -> (Vec<Member>, &[u8]) {
        let mut found = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let number = |index: usize| {
                let digits = std::str::from_utf8(&bytes[6 + index * 8..14 + index * 8]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name_size) = (number(1), number(6) as usize, number(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            let start = (110 + name_size).div_ceil(4) * 4;
            if name == "TRAILER!!!" {
                return (found, &bytes[start..]);
            }
            found.push((name, mode, bytes[start..start + size].to_vec()));
            bytes = &bytes[start + size.div_ceil(4) * 4..];
        }
    }

    #[test]
    fn members_come_back_for_every_padding() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("d", 0o755).unwrap();
        archive.character_device("d/console", 0o600, (5, 1)).unwrap();
        for length in 0..9_usize {
            archive.file(&format!("d/{}", "n".repeat(length + 1)), 0o644, &vec![7; length]).unwrap();
        }
        let bytes = archive.finish().unwrap();
        let (found, rest) = read(&bytes);
        assert!(rest.is_empty());
        assert_eq!(found[0], ("d".to_owned(), 0o040_755, Vec::new()));
        assert_eq!(found[1], ("d/console".to_owned(), 0o020_600, Vec::new()));
        for length in 0..9_usize {
            let expected = (format!("d/{}", "n".repeat(length + 1)), 0o100_644, vec![7; length]);
            assert_eq!(found[length + 2], expected);
        }
    }

    #[test]
    fn a_device_carries_its_numbers() {
        let mut archive = Archive::new(Vec::new());
        archive.character_device("console", 0o600, (5, 1)).unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(&bytes[6 + 9 * 8..6 + 11 * 8], b"0000000500000001");
    }
}
