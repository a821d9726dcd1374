//! Output of a command, kept for a JSON result.

use std::collections::VecDeque;

use crate::frame::Stream;
use crate::response::OutputText;

/// How much of the beginning of a stream a result holds, in bytes.
pub const CAPTURED_HEAD_BYTES: usize = 512 * 1024;

/// How much of the end of a stream a result holds, in bytes.
pub const CAPTURED_TAIL_BYTES: usize = 512 * 1024;

/// Takes a stream of any length and keeps its beginning and its end, in bounded memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedStream {
    head_max: usize,
    tail_max: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    len_bytes: u64,
    /// What comes next does not follow on the head.
    broken: bool,
}

/// A captured stream as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedText {
    /// Beginning and end, joined; invalid UTF-8 is replaced by U+FFFD.
    pub text: String,
    /// Length of the whole stream, in bytes.
    pub len_bytes: u64,
    /// Whether bytes between beginning and end are missing.
    pub truncated: bool,
    /// Whether something was replaced.
    pub lossy: bool,
}

impl CapturedStream {
    /// Returns a stream without bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::keeping(CAPTURED_HEAD_BYTES, CAPTURED_TAIL_BYTES)
    }

    /// Returns a stream without bytes, of which other lengths are kept.
    #[must_use]
    pub const fn keeping(head_bytes: usize, tail_bytes: usize) -> Self {
        Self {
            head_max: head_bytes,
            tail_max: tail_bytes,
            head: Vec::new(),
            tail: VecDeque::new(),
            len_bytes: 0,
            broken: false,
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.len_bytes += u64::try_from(bytes.len()).expect("a slice is shorter than 2^64");
        let room = if self.broken { 0 } else { self.head_max - self.head.len() };
        let to_head = bytes.len().min(room);
        let (head, rest) = bytes.split_at(to_head);
        self.head.extend_from_slice(head);
        // Of more than a whole tail, only the last part can stay.
        let rest = &rest[rest.len().saturating_sub(self.tail_max)..];
        let surplus = (self.tail.len() + rest.len()).saturating_sub(self.tail_max);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
    }

    /// Takes note of bytes that cannot be had any more. What is kept in the end is the part before the first of them and
    /// the part behind the last.
    pub fn skip(&mut self, len_bytes: u64) {
        self.len_bytes += len_bytes;
        self.broken = true;
        self.tail.clear();
    }

    /// Returns the length of the whole stream so far, in bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Returns what was kept, as text. Characters that the cut between beginning and end went through are left out.
    #[must_use]
    pub fn into_text(self) -> CapturedText {
        let kept = self.head.len() + self.tail.len();
        let truncated = u64::try_from(kept).is_ok_and(|kept| kept < self.len_bytes);
        let (mut bytes, tail) = (self.head, Vec::from(self.tail));
        if truncated {
            bytes.truncate(bytes.len() - cut_character_len(&bytes));
            bytes.extend_from_slice(&tail[continuation_len(&tail)..]);
        } else {
            bytes.extend_from_slice(&tail);
        }
        let (text, lossy) = match String::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), true),
        };
        CapturedText { text, len_bytes: self.len_bytes, truncated, lossy }
    }
}

impl Default for CapturedStream {
    fn default() -> Self {
        Self::new()
    }
}

/// Both streams of a command, kept for a JSON result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedOutput {
    stdout: CapturedStream,
    stderr: CapturedStream,
}

impl CapturedOutput {
    /// Returns streams without bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns streams without bytes, of which other lengths are kept.
    #[must_use]
    pub const fn keeping(head_bytes: usize, tail_bytes: usize) -> Self {
        let stream = CapturedStream::keeping(head_bytes, tail_bytes);
        let stderr = CapturedStream::keeping(head_bytes, tail_bytes);
        Self { stdout: stream, stderr }
    }

    /// Takes the next bytes of a stream.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        self.of(stream).push(bytes);
    }

    /// Takes note of bytes of a stream that cannot be had any more.
    pub fn skip(&mut self, stream: Stream, len_bytes: u64) {
        self.of(stream).skip(len_bytes);
    }

    /// Returns what was kept, as text.
    #[must_use]
    pub fn into_text(self) -> OutputText {
        OutputText::new(self.stdout, self.stderr)
    }

    const fn of(&mut self, stream: Stream) -> &mut CapturedStream {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

/// Returns the length of an unfinished character at the end, in bytes.
fn cut_character_len(bytes: &[u8]) -> usize {
    // A character is at most 4 bytes long, so an unfinished one at most 3.
    let end = &bytes[bytes.len().saturating_sub(3)..];
    let unfinished = |start: usize| {
        std::str::from_utf8(&end[start..])
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (0..end.len()).find(|start| unfinished(*start)).map_or(0, |start| end.len() - start)
}

/// Returns how many bytes at the beginning can only be the end of a character, at most 3.
fn continuation_len(bytes: &[u8]) -> usize {
    bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count()
}
