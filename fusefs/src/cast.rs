//! A recording of a shell that asciinema plays: asciicast, version 2.
//!
//! The lines follow from the output, the times of its bytes and the sizes of the terminal. They are not kept, only where
//! each of them stands.

use pyro_core::{Event, Seq, TerminalSize, Timestamp};
use pyro_store::Reader;
use pyro_store::outputs::{OutputError, OutputReader, TimeEntry};
use serde_json::json;

use crate::ledger::Ledger;
use crate::screen::offset_at;
use crate::view::ViewError;

/// Most output in one line, in bytes: bounds the memory that a read takes.
const PART_MAX: u64 = 64 * 1024;

/// What has a line of its own.
#[derive(Clone, Copy, Debug)]
enum Part {
    Header,
    Output { from: u64, to: u64, at: Timestamp },
    Resize { size: TerminalSize, at: Timestamp },
    Input { seq: Seq, at: Timestamp },
}

impl Part {
    const fn at(&self) -> Timestamp {
        match self {
            Self::Header => Timestamp(0),
            Self::Output { at, .. } | Self::Resize { at, .. } | Self::Input { at, .. } => *at,
        }
    }
}

/// What was typed, as far as a recording has it.
#[derive(Debug)]
pub(crate) struct Typed {
    pub(crate) reader: Reader,
    /// The events that say it, in their order.
    pub(crate) events: Vec<(Timestamp, Seq)>,
}

/// The recording as it was at one moment.
#[derive(Debug)]
pub(crate) struct Cast {
    output: OutputReader,
    reader: Reader,
    /// How much of the output it has; more may come while it is read.
    len: u64,
    parts: Vec<Part>,
    ledger: Ledger,
    began: Timestamp,
    size: TerminalSize,
}

impl Cast {
    /// Records the first `len` bytes of the output. `sizes` begins with the size that the terminal had at first.
    pub(crate) fn new(
        output: OutputReader,
        len: u64,
        sizes: &[(Timestamp, TerminalSize)],
        typed: Typed,
    ) -> Result<Self, ViewError> {
        let times = output.times()?;
        let (began, size) =
            sizes.first().copied().unwrap_or((Timestamp::default(), TerminalSize { columns: 80, rows: 24 }));
        let mut parts = vec![Part::Header];
        let resizes = sizes.iter().skip(1).map(|(at, size)| Part::Resize { size: *size, at: *at });
        let inputs = typed.events.iter().map(|(at, seq)| Part::Input { seq: *seq, at: *at });
        let mut others: Vec<Part> = resizes.chain(inputs).collect();
        others.sort_by_key(Part::at);
        let mut others = others.into_iter().peekable();
        // Bytes whose time was not kept, for want of space, are shown at the beginning.
        let known = times.first().map_or(len, |entry| entry.offset);
        let unknown = (known > 0).then_some(TimeEntry { offset: 0, at: began });
        let entries: Vec<TimeEntry> = unknown.into_iter().chain(times.iter().copied()).collect();
        for (position, entry) in entries.iter().enumerate() {
            while let Some(part) = others.next_if(|part| offset_at(&times, part.at()) <= entry.offset) {
                parts.push(part);
            }
            let end = entries.get(position + 1).map_or(len, |next| next.offset).min(len);
            let mut from = entry.offset;
            while from < end {
                let to = end.min(from + PART_MAX);
                parts.push(Part::Output { from, to, at: entry.at });
                from = to;
            }
        }
        parts.extend(others);
        let mut cast =
            Self { output, reader: typed.reader, len, parts, ledger: Ledger::from(0), began, size };
        let mut ledger = Ledger::from(0);
        for (number, part) in (0_u64..).zip(&cast.parts) {
            ledger.push(number, &cast.line(part)?);
        }
        cast.ledger = ledger;
        Ok(cast)
    }

    pub(crate) const fn len_bytes(&self) -> u64 {
        self.ledger.len_bytes()
    }

    pub(crate) fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, ViewError> {
        self.ledger.read(offset, size, |first| {
            let first = usize::try_from(first).unwrap_or(usize::MAX);
            self.parts.get(first..).unwrap_or_default().iter().map(|part| self.line(part))
        })
    }

    fn line(&self, part: &Part) -> Result<String, ViewError> {
        let line = match *part {
            Part::Header => json!({
                "version": 2, "width": self.size.columns, "height": self.size.rows,
                "timestamp": self.began.0 / 1_000_000,
            }),
            Part::Output { from, to, at } => json!([self.seconds(at), "o", self.text(from, to)?]),
            Part::Resize { size, at } => {
                json!([self.seconds(at), "r", format!("{}x{}", size.columns, size.rows)])
            }
            Part::Input { seq, at } => json!([self.seconds(at), "i", self.input(seq)?]),
        };
        Ok(line.to_string())
    }

    /// Returns the time since the beginning; a clock that was set back does not make it negative.
    fn seconds(&self, at: Timestamp) -> f64 {
        std::time::Duration::from_micros(at.0.saturating_sub(self.began.0)).as_secs_f64()
    }

    fn input(&self, seq: Seq) -> Result<String, ViewError> {
        let envelope = self.reader.read(seq).next().transpose()?;
        let Some(Event::ShellInput(input)) = envelope.map(|envelope| envelope.event) else {
            return Ok(String::new());
        };
        Ok(String::from_utf8_lossy(&input.data).into_owned())
    }

    /// Returns the characters that begin in a part of the output.
    fn text(&self, from: u64, to: u64) -> Result<String, OutputError> {
        /// Bytes of a character behind its first.
        const MORE_MAX: usize = 3;
        let len_of = |range: u64| usize::try_from(range).unwrap_or(usize::MAX);
        let wanted = len_of((to + MORE_MAX as u64).min(self.len) - from);
        let mut bytes = vec![0; wanted];
        let mut len = 0;
        while len < wanted {
            match self.output.read_at(&mut bytes[len..], from + len as u64)? {
                0 => break,
                read => len += read,
            }
        }
        bytes.truncate(len);
        let is_continuation = |byte: &&u8| **byte & 0xc0 == 0x80;
        let start =
            if from == 0 { 0 } else { bytes.iter().take(MORE_MAX).take_while(is_continuation).count() };
        let own = len_of(to - from).min(len);
        let behind = bytes[own..].iter().take(MORE_MAX).take_while(is_continuation).count();
        // What continues at the end belongs to a character of this part only if it begins in it.
        let text = bytes.get(start..own + behind).unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}
