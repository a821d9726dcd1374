//! What a guest has switched on at a terminal that it could use freely, and what switches it off again.
//!
//! A client that leaves in the middle of `vim` must not leave the person with the alternate screen, without a cursor, or
//! with a mouse that types. Only what is on is switched off: a reset of everything would clear the screen, scroll regions
//! and settings of the person's own. What is not followed (colours of the palette, tab stops, the title) either does no harm
//! or cannot be known.

/// Longest sequence that is followed, in bytes: none of those in question comes near.
const SEQUENCE_LEN_MAX: usize = 64;

/// Private modes that are off at first, and what must be off before the rest of what is printed: the alternate screen
/// comes first, since it restores the cursor.
const OFF_AT_FIRST: [u16; 14] = [1049, 1047, 47, 2026, 1, 9, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 2004];

/// Private modes that are on at first: lines wrap and the cursor is shown.
const ON_AT_FIRST: [u16; 2] = [7, 25];

/// Follows one terminal.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScreenDebts {
    state: State,
    /// Which of [`OFF_AT_FIRST`] are on.
    on: [bool; OFF_AT_FIRST.len()],
    /// Which of [`ON_AT_FIRST`] are off.
    off: [bool; ON_AT_FIRST.len()],
    colored: bool,
    keypad: bool,
    line_drawing: bool,
    scroll_region: bool,
    cursor_shape: bool,
    /// How many times the keys of the kitty protocol were switched on.
    kitty_keys: u16,
    /// Whether keys with modifiers are sent as xterm's sequences.
    modified_keys: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// Behind ESC, with the intermediates.
    Escape(Vec<u8>),
    /// In a control sequence, with its parameters and intermediates.
    Csi(Vec<u8>),
    /// In a command string; the flag tells whether an ESC was just seen.
    String { escape: bool },
}

impl ScreenDebts {
    /// Takes what goes to the terminal.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.take(*byte);
        }
    }

    /// Returns what switches off all that is on; nothing when nothing is.
    pub(crate) fn settle(self) -> Vec<u8> {
        let mut text = String::new();
        // CAN ends a sequence that was cut.
        if self.state != State::Ground {
            text.push('\u{18}');
        }
        for (mode, _) in OFF_AT_FIRST.iter().zip(self.on).filter(|(_, on)| *on) {
            text.push_str(&format!("\x1b[?{mode}l"));
        }
        for (mode, _) in ON_AT_FIRST.iter().zip(self.off).filter(|(_, off)| *off) {
            text.push_str(&format!("\x1b[?{mode}h"));
        }
        if self.kitty_keys > 0 {
            text.push_str(&format!("\x1b[<{}u", self.kitty_keys));
        }
        let others = [
            (self.modified_keys, "\x1b[>4m"),
            (self.keypad, "\x1b>"),
            (self.line_drawing, "\x1b(B\x0f"),
            // It moves the cursor, which is put back.
            (self.scroll_region, "\x1b7\x1b[r\x1b8"),
            (self.cursor_shape, "\x1b[0 q"),
            (self.colored, "\x1b[0m"),
        ];
        text.extend(others.iter().filter(|(on, _)| *on).map(|(_, off)| *off));
        text.into_bytes()
    }

    fn take(&mut self, byte: u8) {
        match (&mut self.state, byte) {
            (State::String { escape: true }, b'\\') | (State::String { .. }, 0x07 | 0x18 | 0x1a) => {
                self.state = State::Ground;
            }
            (State::String { escape: false }, 0x1b) => self.state = State::String { escape: true },
            (State::String { escape: true }, _) => {
                self.state = State::Escape(Vec::new());
                self.take(byte);
            }
            (State::String { escape: false }, _) => {}
            (_, 0x1b) => self.state = State::Escape(Vec::new()),
            (_, 0x18 | 0x1a) => self.state = State::Ground,
            (_, 0x0e) => self.line_drawing = true,
            (_, 0x0f) => self.line_drawing = false,
            (State::Ground, _) => {}
            (State::Escape(seen), b'[') if seen.is_empty() => self.state = State::Csi(Vec::new()),
            (State::Escape(seen), b']' | b'P' | b'X' | b'^' | b'_') if seen.is_empty() => {
                self.state = State::String { escape: false };
            }
            (State::Escape(seen), b' '..=b'/') => push_bounded(seen, byte),
            (State::Escape(seen), b'0'..=b'~') => {
                let seen = std::mem::take(seen);
                self.state = State::Ground;
                self.escape(&seen, byte);
            }
            (State::Csi(seen), b' '..=b'?') => push_bounded(seen, byte),
            (State::Csi(seen), b'@'..=b'~') => {
                let seen = std::mem::take(seen);
                self.state = State::Ground;
                self.control(&seen, byte);
            }
            // Controls are acted upon in the middle of a sequence; bytes of other characters do not belong there.
            (State::Escape(_) | State::Csi(_), _) => {}
        }
    }

    fn escape(&mut self, seen: &[u8], end: u8) {
        match (seen, end) {
            // A full reset.
            ([], b'c') => *self = Self::default(),
            ([], b'=') => self.keypad = true,
            ([], b'>') => self.keypad = false,
            ([b'('], _) => self.line_drawing = end != b'B',
            _ => {}
        }
    }

    fn control(&mut self, seen: &[u8], end: u8) {
        match (seen, end) {
            ([b'?', modes @ ..], b'h' | b'l') => {
                modes.split(|byte| *byte == b';').for_each(|mode| self.set_mode(mode, end == b'h'));
            }
            ([b'>', b'4', b';', level @ ..], b'm') => self.modified_keys = !matches!(level, [] | b"0"),
            ([b'>', b'4'] | [b'>'], b'm') => self.modified_keys = false,
            ([b'>', ..], b'u') => self.kitty_keys = self.kitty_keys.saturating_add(1),
            ([b'<', count @ ..], b'u') => {
                self.kitty_keys = self.kitty_keys.saturating_sub(number(count).unwrap_or(1));
            }
            ([b'0'..=b'9' | b';' | b':', ..] | [], b'm') => {
                self.colored = !matches!(seen, b"" | b"0");
            }
            ([], b'r') => self.scroll_region = false,
            ([b'0'..=b'9' | b';', ..], b'r') => self.scroll_region = true,
            ([shape @ .., b' '], b'q') => self.cursor_shape = !matches!(shape, [] | b"0"),
            // A soft reset.
            (b"!", b'p') => {
                self.off = [false; ON_AT_FIRST.len()];
                (self.colored, self.keypad, self.scroll_region) = (false, false, false);
            }
            _ => {}
        }
    }

    fn set_mode(&mut self, mode: &[u8], on: bool) {
        let Some(mode) = number(mode) else { return };
        if let Some(index) = OFF_AT_FIRST.iter().position(|known| *known == mode) {
            self.on[index] = on;
        }
        if let Some(index) = ON_AT_FIRST.iter().position(|known| *known == mode) {
            self.off[index] = !on;
        }
    }
}

/// A sequence that is too long is none of those in question, so its end counts for nothing.
fn push_bounded(seen: &mut Vec<u8>, byte: u8) {
    if seen.len() < SEQUENCE_LEN_MAX {
        seen.push(byte);
    } else {
        seen.clear();
        seen.extend_from_slice(&[b'!'; SEQUENCE_LEN_MAX]);
    }
}

fn number(digits: &[u8]) -> Option<u16> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settled(printed: &[u8]) -> String {
        let mut debts = ScreenDebts::default();
        debts.push(printed);
        String::from_utf8(debts.settle()).unwrap()
    }

    #[test]
    fn only_what_is_on_is_switched_off() {
        let table: [(&[u8], &str); 20] = [
            (b"plain text\r\n", ""),
            (b"\x1b[?2004hpyro$ ", "\x1b[?2004l"),
            (b"\x1b[?2004h\x1b[?2004l", ""),
            (b"\x1b[?1049h\x1b[?25l\x1b[?1;1000;1006h", "\x1b[?1049l\x1b[?1l\x1b[?1000l\x1b[?1006l\x1b[?25h"),
            (b"\x1b[31mred", "\x1b[0m"),
            (b"\x1b[31mred\x1b[0m", ""),
            (b"\x1b[1;31mred\x1b[m", ""),
            (b"\x1b[0;32m", "\x1b[0m"),
            (b"\x1b[>4;2m", "\x1b[>4m"),
            (b"\x1b[>4;2m\x1b[>4;m", ""),
            (b"\x1b[>1u\x1b[>5u\x1b[<u", "\x1b[<1u"),
            (b"\x1b=\x1b(0", "\x1b>\x1b(B\x0f"),
            (b"\x0eqqq\x0f", ""),
            (b"\x1b[2;10r", "\x1b7\x1b[r\x1b8"),
            (b"\x1b[2;10r\x1b[r", ""),
            (b"\x1b[6 q", "\x1b[0 q"),
            (b"\x1b[?1049h\x1b[31m\x1bc", ""),
            // In a title they are text.
            (b"\x1b]0;\x1b[?25l\x07", "\x1b[?25h"),
            (b"\x1b]0;[?25l[31m\x07\x1bP1$r[31m\x1b\\", ""),
            // A sequence that was cut by leaving takes nothing of ours for its end.
            (b"\x1b[31", "\x18"),
        ];
        for (printed, expected) in table {
            assert_eq!(settled(printed), expected, "{}", printed.escape_ascii());
        }
    }

    #[test]
    fn endless_sequence_takes_no_memory_and_means_nothing() {
        let mut printed = b"\x1b[?25;".to_vec();
        printed.resize(100_000, b'1');
        printed.extend_from_slice(b"l\x1b[?25");
        let mut debts = ScreenDebts::default();
        debts.push(&printed);
        assert_eq!(debts.state, State::Csi(b"?25".to_vec()));
        assert_eq!(debts.settle(), b"\x18");
    }

    proptest! {
        /// Catches a sequence that is not understood when the daemon cuts it, and a debt that stays after it was settled.
        #[test]
        fn settled_debts_are_gone(
            pieces in prop::collection::vec(
                prop_oneof![
                    Just("\u{1b}[?1049h"), Just("\u{1b}[?25l"), Just("\u{1b}[31m"), Just("\u{1b}=" ), Just("\u{e}"),
                    Just("\u{1b}[>1u"), Just("\u{1b}[3;4r"), Just("\u{1b}]0;x"), Just("\u{1b}["), Just("\u{1b}[0m"),
                    Just("\u{1b}[?7l"), Just("text"), Just("\u{1b}[>4;1m"), Just("\u{1b}[2 q"),
                ],
                0..12,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let printed = pieces.concat().into_bytes();
            let (first, second) = printed.split_at(cut.index(printed.len() + 1));
            let mut debts = ScreenDebts::default();
            debts.push(first);
            debts.push(second);
            let settling = debts.clone().settle();
            prop_assert_eq!(String::from_utf8_lossy(&settling).into_owned(), settled(&printed));
            debts.push(&settling);
            prop_assert_eq!(debts.settle(), b"");
        }
    }
}
