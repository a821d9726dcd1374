//! Output of a guest on its way to a terminal: text, TAB, LF, CR and colours (SGR) pass; everything else that a terminal
//! would act upon does not.
//!
//! ```text
//!            ESC                 [                0-9 ; :
//!   Ground -------> Escape -----------> Csi <---------------+--> (m: passed on as a whole; other end: dropped)
//!     ^              |  |                |  other parameter |
//!     |   any other  |  | ] P X ^ _      +----> CsiDropped -+
//!     +--------------+  +-------------> String --BEL, ESC \--> Ground
//! ```
//! The one-character forms of CSI, OSC and the like (U+0080 to U+009F) lead to the same states. A sequence is held back
//! until it is complete, so a filter gives the same whether it gets a stream at once or byte by byte.

use crate::sanitize::{is_control, is_hidden};

/// Longest parameters of a colour sequence, in bytes: no real one comes near, and what is held back stays bounded.
const PARAMETERS_LEN_MAX: usize = 64;

/// Filters one stream.
#[derive(Clone, Debug, Default)]
pub struct TerminalFilter {
    state: State,
    /// The beginning of a character whose rest has not come yet.
    partial: Vec<u8>,
    /// Whether colours are on.
    colored: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// Behind ESC.
    Escape,
    /// Behind ESC and intermediates, of which the sequence still needs its end.
    EscapeIntermediate,
    /// In a control sequence that may turn out to be a colour.
    Csi(String),
    /// In a control sequence that is none.
    CsiDropped,
    /// In a command string; the flag tells whether an ESC was just seen, which may begin its end.
    String { escape: bool },
}

impl TerminalFilter {
    /// Takes the next bytes and appends what may be shown.
    pub fn push(&mut self, bytes: &[u8], shown: &mut Vec<u8>) {
        let mut pending = std::mem::take(&mut self.partial);
        pending.extend_from_slice(bytes);
        for chunk in pending.utf8_chunks() {
            for character in chunk.valid().chars() {
                self.take(character, shown);
            }
            let invalid = chunk.invalid();
            if is_unfinished(invalid) && std::ptr::eq(invalid.as_ptr_range().end, pending.as_ptr_range().end)
            {
                self.partial = invalid.to_vec();
            } else if !invalid.is_empty() {
                self.take(char::REPLACEMENT_CHARACTER, shown);
            }
        }
    }

    /// Ends the stream: what is unfinished is dropped, and colours are switched off.
    pub fn finish(&mut self, shown: &mut Vec<u8>) {
        if !std::mem::take(&mut self.partial).is_empty() {
            self.take(char::REPLACEMENT_CHARACTER, shown);
        }
        self.state = State::Ground;
        if std::mem::take(&mut self.colored) {
            shown.extend_from_slice(b"\x1b[0m");
        }
    }

    fn take(&mut self, character: char, shown: &mut Vec<u8>) {
        match (&mut self.state, character) {
            // The beginning of the end of a command string, and nothing else there.
            (State::String { escape }, '\u{1b}') => *escape = true,
            (State::String { escape: true }, '\\') | (State::String { .. }, '\u{7}' | '\u{9c}') => {
                self.state = State::Ground;
            }
            // Something else behind ESC: the terminal gave up the string at ESC and reads a new sequence.
            (State::String { escape: true }, _) => {
                self.state = State::Escape;
                self.take(character, shown);
            }
            // CAN and SUB end every sequence; so does a line end in a string, or a guest could silence itself for good.
            (_, '\u{18}' | '\u{1a}') => self.state = State::Ground,
            (State::String { .. }, '\n') => {
                self.state = State::Ground;
                shown.push(b'\n');
            }
            (State::String { .. }, _) => {}
            (_, '\u{1b}') => self.state = State::Escape,
            (_, '\u{9b}') => self.state = State::Csi(String::new()),
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => self.state = State::String { escape: false },
            (_, '\t' | '\n' | '\r') => {
                // A terminal acts upon these in the middle of a sequence as well.
                push_char(character, shown);
            }
            (_, _) if is_control(character) => {}
            (State::Ground, _) => {
                let visible = if is_hidden(character) { char::REPLACEMENT_CHARACTER } else { character };
                push_char(visible, shown);
            }
            (State::Escape, '[') => self.state = State::Csi(String::new()),
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => self.state = State::String { escape: false },
            (State::Escape | State::EscapeIntermediate, ' '..='/') => self.state = State::EscapeIntermediate,
            (State::Escape | State::EscapeIntermediate, _) => self.state = State::Ground,
            (State::Csi(parameters), 'm') => {
                let parameters = std::mem::take(parameters);
                self.color(&parameters, shown);
                self.state = State::Ground;
            }
            (State::Csi(parameters), '0'..='9' | ';' | ':') if parameters.len() < PARAMETERS_LEN_MAX => {
                parameters.push(character);
            }
            (State::Csi(_) | State::CsiDropped, '@'..='~') => self.state = State::Ground,
            (State::Csi(_) | State::CsiDropped, ' '..='?') => self.state = State::CsiDropped,
            // Not part of any sequence: a terminal gives up the sequence and shows the character.
            (State::Csi(_) | State::CsiDropped, _) => {
                self.state = State::Ground;
                self.take(character, shown);
            }
        }
    }

    fn color(&mut self, parameters: &str, shown: &mut Vec<u8>) {
        shown.extend_from_slice(b"\x1b[");
        shown.extend_from_slice(parameters.as_bytes());
        shown.push(b'm');
        self.colored = !matches!(parameters, "" | "0");
    }
}

fn push_char(character: char, shown: &mut Vec<u8>) {
    shown.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Tells whether bytes that are not a character can become one when more of them come.
fn is_unfinished(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filtered<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let (mut filter, mut shown) = (TerminalFilter::default(), Vec::new());
        for chunk in chunks {
            filter.push(chunk, &mut shown);
        }
        filter.finish(&mut shown);
        shown
    }

    #[test]
    fn text_and_colors_pass_and_the_rest_does_not() {
        let table: &[(&[u8], &str)] = &[
            (b"plain\ttext\r\n", "plain\ttext\r\n"),
            ("é漢😀".as_bytes(), "é漢😀"),
            (b"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            (b"\x1b[38:2::1:2:3mx\x1b[m", "\x1b[38:2::1:2:3mx\x1b[m"),
            (b"\x1b[31mleft on", "\x1b[31mleft on\x1b[0m"),
            (b"\xc2\x9b32mx\x1b[m", "\x1b[32mx\x1b[m"),
            (b"a\x1b[2Jb\x1b[10;10Hc\x1b[?1049hd", "abcd"),
            (b"a\x1b[>4;1mb\x1b[0 mc", "abc"),
            (b"a\x1b]0;title\x07b\x1b]52;c;aGk=\x1b\\c", "abc"),
            (b"a\x1bP$q\"p\x1b\\b\x1b_x\x1b\\c\x1b^x\x1b\\d\x1bXx\x1b\\e", "abcde"),
            (b"a\xc2\x9dtitle\xc2\x9cb\xc2\x90x\x07c", "abc"),
            (b"a\x1b]0;x\x1b[31mb\x1b[0m", "a\x1b[31mb\x1b[0m"),
            (b"a\x1b]never ends\nb", "a\nb"),
            (b"a\x1bcb\x1b7c\x1b(0d\x1b#8e", "abcde"),
            (b"a\x07b\x08c\x0bd\x0ce\x0ef\x7fg\0h", "abcdefgh"),
            (b"a\xc2\x85b\xc2\x8dc", "abc"),
            (b"a\xff\x9bb\xe2\x82", "a\u{fffd}\u{fffd}b\u{fffd}"),
            ("a\u{202e}b\u{e0041}c".as_bytes(), "a\u{fffd}b\u{fffd}c"),
            (b"a\x1b[3\x1b[1mb\x1b[m", "a\x1b[1mb\x1b[m"),
            (b"a\x1b[3\x18b", "ab"),
            (b"a\x1b[3\xc3\xa9b", "aéb"),
            (b"a\x1b[\x1b", "a"),
        ];
        for (input, expected) in table {
            let shown = filtered([*input]);
            assert_eq!(String::from_utf8_lossy(&shown), *expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn parameters_of_a_color_are_bounded() {
        let mut input = b"\x1b[".to_vec();
        input.resize(1_000_000, b'1');
        input.extend_from_slice(b"mx");
        assert_eq!(filtered([input.as_slice()]), b"x");
    }

    /// Bytes that are likelier than others to lead into a sequence.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\x1b".to_vec()),
            Just(b"\x1b[".to_vec()),
            Just(b"\x1b]".to_vec()),
            Just(b"\x1b\\".to_vec()),
            Just(b"\xc2\x9b".to_vec()),
            Just(b"\xc2\x9d".to_vec()),
            Just(b"31;1m".to_vec()),
            Just(b"\xf0\x9f\x98".to_vec()),
            prop::collection::vec(any::<u8>(), 0..4),
            "[ -~]{0,4}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// Catches any way to reach the terminal with something but text and colours.
        #[test]
        fn only_text_and_colors_come_out(input in hostile()) {
            let shown = String::from_utf8(filtered([input.as_slice()])).expect("only whole characters come out");
            for (index, sequence) in shown.split('\u{1b}').enumerate() {
                let text = if index == 0 { sequence } else {
                    let parameters = sequence.strip_prefix('[').expect("only CSI");
                    let (parameters, text) = parameters.split_once('m').expect("only SGR");
                    prop_assert!(parameters.bytes().all(|byte| byte.is_ascii_digit() || byte == b';' || byte == b':'));
                    text
                };
                prop_assert!(text.chars().all(|c| matches!(c, '\t' | '\n' | '\r') || !is_control(c)), "{text:?}");
            }
        }

        /// Catches state that is lost between two reads.
        #[test]
        fn chunks_do_not_matter(input in hostile(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]);
            prop_assert_eq!(filtered(chunks), filtered([input.as_slice()]));
        }
    }
}
