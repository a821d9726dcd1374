//! Text of a terminal without what steers the terminal: what a person would read off a screen of endless height.
//!
//! One line is kept as it would stand on the screen, so that a prompt that is edited and a progress bar that is drawn over
//! show what they came to. Moves to other lines are left out, and so are colours, titles and modes.

use unicode_width::UnicodeWidthChar as _;
use vte::{Params, Parser, Perform};

/// Longest part of a line that is still changed, in columns. What is before it stays as it is; this bounds the work for
/// one step back.
const LINE_COLUMNS_MAX: usize = 2048;

/// Most blanks that moves to the right add in all: a few bytes that move must not become a thousand that are sent.
const PADDING_MAX: usize = 256 * 1024;

/// Columns from one tab stop to the next.
const TAB_COLUMNS: usize = 8;

/// Returns the text and line ends only.
pub(crate) fn render(text: &str) -> String {
    let mut screen = Screen { text: String::new(), line: Vec::new(), column: 0, padding: PADDING_MAX };
    Parser::new().advance(&mut screen, text.as_bytes());
    screen.settle();
    screen.text
}

/// Finished lines, and the one that is being written.
struct Screen {
    text: String,
    line: Vec<Cell>,
    column: usize,
    /// How many blanks may still be added.
    padding: usize,
}

/// One column of a line.
#[derive(Clone, Debug)]
enum Cell {
    /// A character, and the marks that stand on it.
    Character(char, String),
    /// A further column of the character before.
    Continuation,
}

const BLANK: Cell = Cell::Character(' ', String::new());

impl Screen {
    /// Writes a character of so many columns over what is there.
    fn put(&mut self, character: char, columns: usize) {
        if self.column + columns > LINE_COLUMNS_MAX {
            self.settle();
        }
        let missing = self.column.saturating_sub(self.line.len()).min(self.padding);
        self.padding -= missing;
        self.column = self.column.min(self.line.len() + missing);
        self.line.resize(self.line.len().max(self.column), BLANK);
        let end = self.column + columns;
        self.break_up(self.column);
        self.break_up(end);
        self.line.resize(self.line.len().max(end), BLANK);
        self.line[self.column] = Cell::Character(character, String::new());
        self.line[self.column + 1..end].fill(Cell::Continuation);
        self.column = end;
    }

    /// Puts a mark on the character before the cursor.
    fn put_mark(&mut self, mark: char) {
        let before = self.line.get_mut(..self.column).unwrap_or_default();
        let character = before.iter_mut().rev().find_map(|cell| match cell {
            Cell::Character(_, marks) => Some(marks),
            Cell::Continuation => None,
        });
        if let Some(marks) = character {
            marks.push(mark);
        }
    }

    /// Makes blanks of a character that reaches from before a column into it.
    fn break_up(&mut self, column: usize) {
        if !matches!(self.line.get(column), Some(Cell::Continuation)) {
            return;
        }
        let is_continuation = |cell: &Cell| matches!(cell, Cell::Continuation);
        let start = self.line[..column].iter().rposition(|cell| !is_continuation(cell)).unwrap_or(0);
        let rest = self.line[column..].iter().take_while(|cell| is_continuation(cell)).count();
        self.line[start..column + rest].fill(BLANK);
    }

    fn tab(&mut self) {
        let columns = TAB_COLUMNS - self.column % TAB_COLUMNS;
        // Behind the text it is part of the text, within it it only moves.
        if self.column >= self.line.len() {
            self.put('\t', columns)
        } else {
            self.move_to(self.column + columns)
        }
    }

    fn move_to(&mut self, column: usize) {
        self.column = column.min(LINE_COLUMNS_MAX);
    }

    /// Erases so many columns from the cursor on.
    fn erase(&mut self, columns: usize) {
        let end = self.column.saturating_add(columns).min(self.line.len());
        self.break_up(self.column);
        self.break_up(end);
        if end == self.line.len() {
            self.line.truncate(self.column);
        } else if let Some(erased) = self.line.get_mut(self.column..end) {
            erased.fill(BLANK);
        }
    }

    fn erase_in_line(&mut self, part: u16) {
        match part {
            0 => self.erase(usize::MAX),
            1 => {
                let end = (self.column + 1).min(self.line.len());
                self.break_up(end);
                self.line[..end].fill(BLANK);
            }
            2 => self.line.clear(),
            _ => {}
        }
    }

    /// Takes so many columns out; what is behind them moves up.
    fn delete(&mut self, columns: usize) {
        let end = self.column.saturating_add(columns).min(self.line.len());
        self.break_up(self.column);
        self.break_up(end);
        if self.column < end {
            self.line.drain(self.column..end);
        }
    }

    /// Moves what is behind the cursor to the right.
    fn insert(&mut self, columns: usize) {
        if self.column >= self.line.len() {
            return;
        }
        self.break_up(self.column);
        let columns = columns.min(self.padding).min(LINE_COLUMNS_MAX.saturating_sub(self.line.len()));
        self.padding -= columns;
        self.line.splice(self.column..self.column, std::iter::repeat_n(BLANK, columns));
    }

    /// Takes the line over into the text; what follows is written behind it.
    fn settle(&mut self) {
        for cell in self.line.drain(..) {
            if let Cell::Character(character, marks) = cell {
                self.text.push(character);
                self.text.push_str(&marks);
            }
        }
        self.column = 0;
    }
}

impl Perform for Screen {
    fn print(&mut self, character: char) {
        match character.width() {
            Some(0) => self.put_mark(character),
            Some(columns) => self.put(character, columns),
            // A control character beyond ASCII.
            None => {}
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' | b'\x0b' | b'\x0c' => {
                self.settle();
                self.text.push('\n');
            }
            b'\r' => self.column = 0,
            b'\x08' => self.column = self.column.saturating_sub(1),
            b'\t' => self.tab(),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if ignore || !intermediates.is_empty() {
            return;
        }
        let first = params.iter().next().and_then(|param| param.first().copied()).unwrap_or(0);
        let count = usize::from(first.max(1));
        match action {
            'C' | 'a' => self.move_to(self.column + count),
            'D' => self.column = self.column.saturating_sub(count),
            'G' | '`' => self.move_to(count - 1),
            'K' => self.erase_in_line(first),
            // What is below the line is not there.
            'J' if first == 0 => self.erase(usize::MAX),
            'X' => self.erase(count),
            'P' => self.delete(count),
            '@' => self.insert(count),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each case: what it is, what the terminal got, what is to be read.
    const CASES: &[(&str, &str, &str)] = &[
        ("text", "one\r\ntwo\ttabbed\r\n", "one\ntwo\ttabbed\n"),
        (
            "a prompt of bash with bracketed paste",
            "\x1b[?2004hpyro$ echo hi\r\n\x1b[?2004l\rhi\r\n\x1b[?2004hpyro$ ",
            "pyro$ echo hi\nhi\npyro$ ",
        ),
        ("a correction at the prompt", "pyro$ lx\x08\x1b[Ks\r\nfile\r\n", "pyro$ ls\nfile\n"),
        ("insertion in the middle", "pyro$ eho\x08\x08\x1b[1@c\r\n", "pyro$ echo\n"),
        ("deletion in the middle", "pyro$ ecccho\x08\x08\x08\x1b[1P\r\n", "pyro$ eccho\n"),
        ("a progress bar", " 10% [#   ]\r 50% [##  ]\r100% [####]\r\ndone\r\n", "100% [####]\ndone\n"),
        ("a shorter line over a longer one", "downloading\rdone\x1b[K\r\n", "done\n"),
        ("a line that is erased whole", "working\x1b[2K\rready\r\n", "ready\n"),
        ("erasure up to the cursor", "abcdef\x1b[3D\x1b[1K\r\n", "    ef\n"),
        ("erasure of some columns", "abcdef\r\x1b[C\x1b[2X\r\n", "a  def\n"),
        ("colours", "\x1b[1;31merror\x1b[0m: \x1b[38;2;1;2;3mbad\x1b[m\r\n", "error: bad\n"),
        ("ls --color", "\x1b[0m\x1b[01;34mbin\x1b[0m  \x1b[01;32mrun.sh\x1b[0m\r\n", "bin  run.sh\n"),
        ("titles", "\x1b]0;user@host: ~\x07$ \x1b]2;other\x1b\\ls\r\n", "$ ls\n"),
        ("device control", "a\x1bP1$r0m\x1b\\b", "ab"),
        ("moves by column", "\x1b[5Gx\x1b[1Gy\r\n", "y   x\n"),
        ("a table laid out with moves", "a\x1b[3Cb\x1b[10Gc", "a   b    c"),
        ("wide characters", "\u{65e5}\u{672c}\x08\x08x\r\n", "\u{65e5}x \n"),
        ("half of a wide character overwritten", "\u{65e5}\x08x", " x"),
        ("marks", "e\u{301}\u{308}a", "e\u{301}\u{308}a"),
        ("marks without a character", "\u{301}a", "a"),
        ("overwriting a tab", "a\tb\r\x1b[2Cx", "a x     b"),
        ("a tab within text", "abcdefghij\r\tX", "abcdefghXj"),
        ("other controls", "a\x07\x00\x0e\u{85}b", "ab"),
        ("backspace at the left edge", "\x08\x08ab", "ab"),
        ("an unfinished sequence", "ab\x1b[12", "ab"),
    ];

    #[test]
    fn what_is_read_is_what_a_person_sees() {
        for (what, shown, read) in CASES {
            assert_eq!(render(shown), *read, "{what}");
        }
    }

    /// Catches a reply that a guest blows up with moves, beyond what the socket carries.
    #[test]
    fn moves_add_a_bounded_number_of_blanks() {
        let moves = "\x1b[2000Gx\r\n".repeat(10_000);
        assert!(render(&moves).len() < PADDING_MAX + 30_000);
        let inserts = "x\r\x1b[9999@\r\n".repeat(10_000);
        assert!(render(&inserts).len() < PADDING_MAX + 30_000);
    }

    #[test]
    fn a_line_of_any_length_is_kept_whole() {
        let line = "0123456789".repeat(10_000);
        assert_eq!(render(&line), line);
        let wide = "\u{65e5}".repeat(10_000);
        assert_eq!(render(&wide), wide);
    }

    proptest! {
        /// Catches a sequence of a guest's that stops the daemon, or gets through to the terminal of whoever reads.
        #[test]
        fn nothing_that_steers_a_terminal_is_left(
            pieces in prop::collection::vec(
                prop_oneof![
                    "[ -~]{0,8}",
                    "\\PC{0,4}",
                    "\x1b\\[[0-9]{0,3}[@-~]",
                    "[\x00-\x1f\x7f\u{80}-\u{9f}]{0,4}",
                    "\x1b[\\]P_^X][ -~]{0,8}",
                ],
                0..40,
            ),
        ) {
            let text = render(&pieces.concat());
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{:?}", text);
        }
    }
}
