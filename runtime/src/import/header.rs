//! The header of an archive's entry, read strictly.

use pyro_protocol::ModifiedAt;

use super::extended::Reason;

/// Where the magic number stands, with the version behind it.
const MAGIC: core::ops::Range<usize> = 257..265;
/// Where POSIX has the first part of long names and GNU has times and the map of a sparse file.
const PREFIX: core::ops::Range<usize> = 345..500;
/// Where the sum of all bytes stands.
const CHECKSUM: core::ops::Range<usize> = 148..156;

/// A header of 512 bytes, taken apart.
#[derive(Debug)]
pub(super) struct Header {
    /// What kind of entry it says it is.
    pub(super) type_flag: u8,
    /// Name, with the prefix before it.
    pub(super) name: Vec<u8>,
    /// Target of a link.
    pub(super) link: Vec<u8>,
    /// Length of what follows, in bytes.
    pub(super) size: u64,
    /// Permission bits, at most 0o7777.
    pub(super) mode: u32,
    /// Time of the last change.
    pub(super) modified: ModifiedAt,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Before there were magic numbers.
    Oldest,
    Gnu,
    Posix,
}

impl Header {
    /// Takes a header apart whose plain sum of bytes was found right.
    pub(super) fn parse(raw: &tar::Header) -> Result<Self, Reason> {
        let bytes = raw.as_bytes();
        let old = raw.as_old();
        let format = match &bytes[MAGIC] {
            b"ustar\x0000" => Format::Posix,
            b"ustar  \0" => Format::Gnu,
            b"\0\0\0\0\0\0\0\0" => Format::Oldest,
            _ => return Err("has a header of an unknown format".into()),
        };
        octal(&bytes[CHECKSUM]).ok_or("has a header with a malformed checksum")?;
        let mut name = Vec::new();
        if format == Format::Posix {
            name.extend_from_slice(terminated(&bytes[PREFIX]).ok_or("has bytes behind the end of its name")?);
        } else if bytes[PREFIX].iter().any(|byte| *byte != 0) {
            // Some would take it for a part of the name.
            return Err("has a prefix of its name that its format does not know".into());
        }
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(terminated(&old.name).ok_or("has bytes behind the end of its name")?);
        let type_flag = old.linkflag[0];
        let is_extension = matches!(type_flag, b'x' | b'g' | b'L' | b'K');
        if is_extension && format == Format::Oldest {
            return Err("is of a kind that its format does not know".into());
        }
        // Writers leave them empty where they mean nothing.
        let (mode, seconds) = if is_extension {
            (0, 0)
        } else {
            let mode = unsigned(&old.mode).ok_or("has a malformed mode")? & 0o7777;
            (mode, time(&old.mtime).ok_or("has a malformed mtime")?)
        };
        Ok(Self {
            type_flag,
            name,
            link: terminated(&old.linkname).ok_or("has bytes behind the end of its target")?.to_vec(),
            size: unsigned(&old.size).ok_or("has a malformed size")?,
            mode: u32::try_from(mode).map_err(|_| "has a malformed mode")?,
            modified: ModifiedAt { seconds, nanoseconds: 0 },
        })
    }
}

/// Returns the bytes before the first NUL, behind which there must be nothing else.
fn terminated(field: &[u8]) -> Option<&[u8]> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    field[end..].iter().all(|byte| *byte == 0).then_some(&field[..end])
}

/// Parses a time, which old writers leave empty for the epoch.
fn time(field: &[u8]) -> Option<i64> {
    let is_empty = field.iter().all(|byte| matches!(byte, b' ' | 0));
    if is_empty { Some(0) } else { signed(field) }
}

/// Parses a number that is not negative.
fn unsigned(field: &[u8]) -> Option<u64> {
    signed(field).and_then(|value| u64::try_from(value).ok())
}

/// Parses a number: octal digits, or GNU's binary form of it that begins with a byte of 0x80, or 0xff for a negative one.
fn signed(field: &[u8]) -> Option<i64> {
    let fill = match field[0] {
        0x80 => 0x00,
        0xff => 0xff,
        _ => return octal(field),
    };
    let (high, low) = field.split_at(field.len().saturating_sub(size_of::<i64>()).max(1));
    if high[1..].iter().any(|byte| *byte != fill) {
        return None;
    }
    let mut bytes = [fill; size_of::<i64>()];
    bytes[size_of::<i64>() - low.len()..].copy_from_slice(low);
    let value = i64::from_be_bytes(bytes);
    ((value < 0) == (fill == 0xff)).then_some(value)
}

/// Parses octal digits between blanks before and blanks or NULs behind.
fn octal(field: &[u8]) -> Option<i64> {
    let start = field.iter().position(|byte| *byte != b' ')?;
    let digits = &field[start..];
    let end = digits.iter().position(|byte| !(b'0'..=b'7').contains(byte)).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if digits.is_empty() || rest.iter().any(|byte| !matches!(byte, b' ' | 0)) {
        return None;
    }
    digits
        .iter()
        .try_fold(0_i64, |value, digit| value.checked_mul(8).map(|value| value | i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::{signed, terminated, unsigned};

    #[test]
    fn numbers_are_octal_or_binary_and_nothing_else() {
        let cases: [(&[u8], i64); 8] = [
            (b"0000644\0", 0o644),
            (b"  644 \0\0", 0o644),
            (b"77777777777\0", 0o77_777_777_777),
            (b"777777777777", 0o777_777_777_777),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\x02", 258),
            (b"\x80\0\0\0\0\x7f\xff\xff", 0x7f_ffff),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ];
        for (field, value) in cases {
            assert_eq!(signed(field), Some(value), "{}", field.escape_ascii());
            assert_eq!(unsigned(field), u64::try_from(value).ok(), "{}", field.escape_ascii());
        }
        let malformed: [&[u8]; 11] = [
            b"\0\0\0\0\0\0\0\0",
            b"        ",
            b"0000648\0",
            b"+000644\0",
            b"-000644\0",
            b"0x00644\0",
            b"644\0 644",
            b"64 4\0\0\0\0",
            b"\x80\0\0\x01\0\0\0\0\0\0\0\0",
            b"\x80\0\0\0\xff\0\0\0\0\0\0\0",
            b"\xc0\0\0\0\0\0\0\x01",
        ];
        for field in malformed {
            assert_eq!(signed(field), None, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn nothing_hides_behind_the_end_of_a_name() {
        assert_eq!(terminated(b"name"), Some(&b"name"[..]));
        assert_eq!(terminated(b"na\0\0"), Some(&b"na"[..]));
        assert_eq!(terminated(b"n\0e\0"), None);
    }
}
