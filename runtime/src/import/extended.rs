//! Extended headers of the pax format: what an archive says of an entry beyond its header.
//!
//! A record is its own length in decimal digits, a blank, a key, `=`, a value and a newline. Parsers differ on
//! whatever departs from that, on keys that come twice and on empty values, so all of these are refused.

use std::borrow::Cow;
use std::collections::HashSet;

use pyro_protocol::ModifiedAt;

/// Keys that say nothing about what is imported.
const IGNORED: [&[u8]; 12] = [
    b"atime",
    b"ctime",
    b"uid",
    b"gid",
    b"uname",
    b"gname",
    b"comment",
    b"SCHILY.dev",
    b"SCHILY.ino",
    b"SCHILY.nlink",
    b"SCHILY.fflags",
    b"RHT.security.selinux",
];

/// Beginnings of such keys.
const IGNORED_STARTS: [&[u8]; 3] = [b"SCHILY.xattr.", b"SCHILY.acl.", b"LIBARCHIVE."];

/// Decimal digits of a nanosecond's place.
const NANOSECOND_DIGITS: usize = 9;

/// Why a header is refused.
pub(super) type Reason = Cow<'static, str>;

/// What an extended header says of the entry behind it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) modified: Option<ModifiedAt>,
}

impl Extended {
    /// Parses the extended header of one entry.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let mut found = Self::default();
        for (key, value) in records(bytes)? {
            match key {
                b"path" => found.path = Some(text(key, value)?.to_vec()),
                b"linkpath" => found.link = Some(text(key, value)?.to_vec()),
                b"size" => found.size = Some(decimal(value).ok_or("has an extended size that is no number")?),
                b"mtime" => {
                    found.modified = Some(time(value).ok_or("has an extended mtime that is no time")?)
                }
                _ => ignore(key, value)?,
            }
        }
        Ok(found)
    }
}

/// Looks at an extended header for all entries behind it, which may only hold what is ignored.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), Reason> {
    for (key, value) in records(bytes)? {
        match key {
            b"path" | b"linkpath" | b"size" | b"mtime" => {
                return Err(format!("has a global extended header with {}", key.escape_ascii()).into());
            }
            _ => ignore(key, value)?,
        }
    }
    Ok(())
}

fn ignore(key: &[u8], value: &[u8]) -> Result<(), Reason> {
    if key.starts_with(b"GNU.sparse.") {
        return Err("is a sparse file".into());
    }
    if key == b"hdrcharset" {
        let known = value == b"BINARY" || value == b"ISO-IR 10646 2000 UTF-8";
        return if known { Ok(()) } else { Err("has names in an unknown character set".into()) };
    }
    if IGNORED_STARTS.iter().any(|start| key.starts_with(start)) {
        return Ok(());
    }
    if IGNORED.contains(&key) {
        return if value.contains(&0) { Err(nul(key)) } else { Ok(()) };
    }
    let shown = &key[..key.len().min(64)];
    Err(format!("has an unknown extended attribute \"{}\"", shown.escape_ascii()).into())
}

fn text<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Reason> {
    if value.is_empty() {
        return Err(format!("has an empty extended {}", key.escape_ascii()).into());
    }
    if value.contains(&0) {
        return Err(nul(key));
    }
    Ok(value)
}

fn nul(key: &[u8]) -> Reason {
    format!("has a NUL in its extended {}", key.escape_ascii()).into()
}

/// A key and its value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// Returns the keys and values in their order.
fn records(mut bytes: &[u8]) -> Result<Vec<Record<'_>>, Reason> {
    let mut records = Vec::new();
    let mut keys = HashSet::new();
    while !bytes.is_empty() {
        let ((key, value), rest) = record(bytes).ok_or("has a malformed extended header")?;
        if !keys.insert(key) {
            let shown = &key[..key.len().min(64)];
            let reason = format!("has the extended attribute \"{}\" twice", shown.escape_ascii());
            return Err(reason.into());
        }
        records.push((key, value));
        bytes = rest;
    }
    Ok(records)
}

/// Splits off the first record.
fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let blank = bytes.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let body = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    (!key.is_empty() && !key.contains(&0)).then_some(((key, value), rest))
}

/// Parses decimal digits without a sign or a leading zero.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    number(digits)
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Parses seconds with an optional sign and an optional fraction, of which what is below a nanosecond is cut.
fn time(value: &[u8]) -> Option<ModifiedAt> {
    let unsigned = value.strip_prefix(b"-").unwrap_or(value);
    let dot = unsigned.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = dot.map_or((unsigned, &b""[..]), |dot| (&unsigned[..dot], &unsigned[dot + 1..]));
    let seconds = decimal(whole).and_then(|seconds| i64::try_from(seconds).ok())?;
    if dot.is_some() && (fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit)) {
        return None;
    }
    let mut digits = [b'0'; NANOSECOND_DIGITS];
    let kept = fraction.len().min(NANOSECOND_DIGITS);
    digits[..kept].copy_from_slice(&fraction[..kept]);
    let nanoseconds = number(&digits).and_then(|value| u32::try_from(value).ok())?;
    Some(match (unsigned.len() < value.len(), nanoseconds) {
        (false, _) => ModifiedAt { seconds, nanoseconds },
        (true, 0) => ModifiedAt { seconds: -seconds, nanoseconds },
        // The nanoseconds always count forwards.
        (true, _) => ModifiedAt { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::{Extended, check_global, time};
    use pyro_protocol::ModifiedAt;

    #[test]
    fn records_that_follow_the_format_are_taken() {
        let parsed = Extended::parse(b"9 path=a\n").unwrap();
        assert_eq!(parsed.path.as_deref(), Some(&b"a"[..]));
        let bytes = b"16 path=a=b\nc=d\n23 SCHILY.xattr.u.x=\0\n\n8 uid=5\n19 mtime=1.5000001\n";
        let parsed = Extended::parse(bytes).unwrap();
        assert_eq!(parsed.path.as_deref(), Some(&b"a=b\nc=d"[..]));
        assert_eq!(parsed.modified, Some(ModifiedAt { seconds: 1, nanoseconds: 500_000_100 }));
        assert_eq!(Extended::parse(b"").unwrap(), Extended::default());
        check_global(b"60 comment=0123456789012345678901234567890123456789abcdefgh\n").unwrap();
    }

    #[test]
    fn times_are_exact_on_both_sides_of_the_epoch() {
        let cases: [(&str, i64, u32); 8] = [
            ("0", 0, 0),
            ("1700000000.123456789", 1_700_000_000, 123_456_789),
            ("5.0000000019", 5, 1),
            ("-1", -1, 0),
            ("-1.25", -2, 750_000_000),
            ("-0.5", -1, 500_000_000),
            ("-5.0", -5, 0),
            ("9223372036854775807", i64::MAX, 0),
        ];
        for (text, seconds, nanoseconds) in cases {
            assert_eq!(time(text.as_bytes()), Some(ModifiedAt { seconds, nanoseconds }), "{text}");
        }
        for text in
            ["", "-", "+1", "1.", ".5", "1e5", "--1", "1.5.5", "01", "9223372036854775808", " 1", "1.-5"]
        {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }
}
