//! What the terminal of a shell shows, by all that it was sent.
//!
//! What comes here is hostile: it was printed in a guest.

use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use avt::{Cell, Color, Pen, Terminal};
use pyro_core::{TerminalSize, Timestamp};
use pyro_store::outputs::{OutputError, OutputReader, TimeEntry};

/// Widest and highest terminal that is drawn, in characters: a larger one would take gigabytes of memory.
const SIDE_MAX: u16 = 500;

/// How much is read from the file at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// A terminal that is fed with the output of a shell as it grows.
pub(crate) struct Emulator {
    terminal: Terminal,
    /// Position behind the last byte that was taken.
    fed: u64,
    /// Beginning of a character whose end is still to come.
    incomplete: Vec<u8>,
    /// How many of the terminal's sizes were told to it.
    sizes: usize,
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("fed", &self.fed).field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

/// Why a terminal cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScreenError {
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The output is more than the emulation can stand.
    #[error("the output cannot be drawn")]
    Terminal,
}

/// How a screen is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Text alone.
    Plain,
    /// With colours.
    Ansi,
}

impl Emulator {
    /// Returns a terminal that has shown nothing.
    pub(crate) fn new(size: TerminalSize) -> Result<Self, ScreenError> {
        let (columns, rows) = bounded(size);
        let terminal = Terminal::new(columns, rows).map_err(|_| ScreenError::Terminal)?;
        Ok(Self { terminal, fed: 0, incomplete: Vec::new(), sizes: 1 })
    }

    /// Takes what came since the last time, up to `len`, and the sizes that the terminal had meanwhile.
    pub(crate) fn catch_up(
        &mut self,
        output: &OutputReader,
        len: u64,
        times: &[TimeEntry],
        sizes: &[(Timestamp, TerminalSize)],
    ) -> Result<(), ScreenError> {
        for (at, size) in sizes.get(self.sizes..).unwrap_or_default() {
            self.feed(output, offset_at(times, *at).min(len))?;
            let (columns, rows) = bounded(*size);
            guarded(|| self.terminal.resize(columns, rows))?;
            self.sizes += 1;
        }
        self.feed(output, len)
    }

    fn feed(&mut self, output: &OutputReader, until: u64) -> Result<(), ScreenError> {
        let mut buffer = vec![0; PIECE_BYTES];
        while self.fed < until {
            let wanted = usize::try_from(until - self.fed).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let read = output.read_at(&mut buffer[..wanted], self.fed)?;
            if read == 0 {
                return Ok(());
            }
            self.fed += read as u64;
            let mut bytes = std::mem::take(&mut self.incomplete);
            bytes.extend_from_slice(&buffer[..read]);
            let whole = bytes.len() - incomplete_len(&bytes);
            self.incomplete = bytes.split_off(whole);
            let text = String::from_utf8_lossy(&bytes);
            guarded(|| self.terminal.feed(&*text))?;
        }
        Ok(())
    }

    /// Returns what it shows, without blanks at the ends of lines and without empty lines at the end.
    pub(crate) fn text(&self, style: Style) -> String {
        let mut text = String::new();
        let mut pending = 0;
        for line in self.terminal.screen().visible_lines() {
            let line = match style {
                Style::Plain => line.text().trim_end().to_owned(),
                Style::Ansi => ansi(line.cells()),
            };
            if !line.is_empty() {
                text.extend(std::iter::repeat_n('\n', std::mem::take(&mut pending)));
                text.push_str(&line);
            }
            pending += 1;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }
}

/// Runs a step of the emulation, whose author may not have thought of everything that a guest prints.
fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, ScreenError> {
    // A terminal whose step failed is thrown away by all callers.
    catch_unwind(AssertUnwindSafe(step)).map_err(|_| ScreenError::Terminal)
}

fn bounded(size: TerminalSize) -> (usize, usize) {
    (usize::from(size.columns.clamp(1, SIDE_MAX)), usize::from(size.rows.clamp(1, SIDE_MAX)))
}

/// Returns where the output stood at a time.
pub(crate) fn offset_at(times: &[TimeEntry], at: Timestamp) -> u64 {
    times.iter().find(|entry| entry.at > at).map_or(u64::MAX, |entry| entry.offset)
}

/// Returns the length of an unfinished character at the end, in bytes.
pub(crate) fn incomplete_len(bytes: &[u8]) -> usize {
    // A character is at most 4 bytes long, so an unfinished one at most 3.
    let end = &bytes[bytes.len().saturating_sub(3)..];
    let unfinished = |start: usize| {
        std::str::from_utf8(&end[start..])
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (0..end.len()).find(|start| unfinished(*start)).map_or(0, |start| end.len() - start)
}

/// Writes cells with the sequences that set their colours. The line ends with the colours as they were before.
fn ansi(cells: &[Cell]) -> String {
    let is_blank = |cell: &Cell| cell.char() == ' ' && cell.pen().is_default();
    let shown = cells.iter().rposition(|cell| !is_blank(cell)).map_or(0, |last| last + 1);
    let mut text = String::new();
    let default = Pen::default();
    let mut pen = &default;
    for cell in cells[..shown].iter().filter(|cell| cell.width() > 0) {
        if cell.pen() != pen {
            text.push_str(&sgr(cell.pen()));
            pen = cell.pen();
        }
        text.push(cell.char());
    }
    if *pen != default {
        text.push_str("\x1b[0m");
    }
    text
}

/// Returns the sequence that sets a pen from any other.
fn sgr(pen: &Pen) -> String {
    let mut sequence = "\x1b[0".to_owned();
    let styles = [
        (pen.is_bold(), 1),
        (pen.is_faint(), 2),
        (pen.is_italic(), 3),
        (pen.is_underline(), 4),
        (pen.is_blink(), 5),
        (pen.is_inverse(), 7),
        (pen.is_strikethrough(), 9),
    ];
    for (_, number) in styles.iter().filter(|(set, _)| *set) {
        // Writing into a `String` cannot fail.
        let _infallible = write!(sequence, ";{number}");
    }
    for (color, layer) in [(pen.foreground(), 38), (pen.background(), 48)] {
        let _infallible = match color {
            Some(Color::Indexed(number)) => write!(sequence, ";{layer};5;{number}"),
            Some(Color::RGB(color)) => {
                write!(sequence, ";{layer};2;{};{};{}", color.r, color.g, color.b)
            }
            None => Ok(()),
        };
    }
    sequence.push('m');
    sequence
}
