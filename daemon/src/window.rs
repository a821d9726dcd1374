//! A part of what a terminal showed: so many characters from an offset on, none of them cut.

/// Most bytes that one window takes in: its text must fit into a message however much of it is escaped.
const BYTES_MAX: u64 = 1024 * 1024;

/// How much is read from the file at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Whether more may come behind the present end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The shell runs: what is incomplete now may become complete.
    Open,
    /// All is there.
    Final,
}

/// Where a window may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Behind any character.
    Anywhere,
    /// Not within a sequence that steers the terminal. Such sequences do not count as characters that were asked for, as
    /// far as they are needed to come to their end.
    BetweenSequences,
}

/// What is seen in a window.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// The text; bytes that are no UTF-8 are U+FFFD.
    pub(crate) text: String,
    /// Position behind the last byte that is in the text.
    pub(crate) next: u64,
    /// Whether something was replaced.
    pub(crate) lossy: bool,
    /// Whether there is more behind it that a next window would show.
    pub(crate) truncated: bool,
}

/// Reads a window of at most `max_chars` characters onto a stream of `len` bytes. `read_at` fills a buffer from a position
/// on, as far as there are bytes, and returns how many.
pub(crate) fn read<E>(
    from: u64,
    len: u64,
    end: End,
    max_chars: u64,
    cut: Cut,
    mut read_at: impl FnMut(&mut [u8], u64) -> Result<usize, E>,
) -> Result<View, E> {
    let mut window = Window::new(from, max_chars, cut);
    let mut buffer = vec![0; PIECE_BYTES];
    while !window.is_full() && window.next < len && window.next - from < BYTES_MAX {
        let piece = usize::try_from(len - window.next).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let read = read_at(&mut buffer[..piece], window.next)?;
        let is_last = end == End::Final && window.next + read as u64 >= len;
        if !window.push(&buffer[..read], if is_last { End::Final } else { End::Open }) {
            break;
        }
    }
    Ok(window.view(len, end))
}

/// A window that is being filled.
struct Window {
    text: String,
    from: u64,
    next: u64,
    chars_left: u64,
    lossy: bool,
    cut: Cut,
    sequence: Sequence,
    /// Length of the text and position where the last sequence had come to its end.
    whole: (usize, u64),
}

impl Window {
    const fn new(from: u64, max_chars: u64, cut: Cut) -> Self {
        Self {
            text: String::new(),
            from,
            next: from,
            chars_left: max_chars,
            lossy: false,
            cut,
            sequence: Sequence::None,
            whole: (0, from),
        }
    }

    fn is_full(&self) -> bool {
        self.chars_left == 0 && (self.cut == Cut::Anywhere || self.sequence == Sequence::None)
    }

    /// Takes what still fits of the bytes at `next`; `false` when it can take none of them.
    fn push(&mut self, bytes: &[u8], end: End) -> bool {
        let start = self.next;
        let mut left = bytes.len();
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                if self.is_full() {
                    return self.next > start;
                }
                self.take(character, character.len_utf8());
            }
            let invalid = chunk.invalid();
            left -= chunk.valid().len() + invalid.len();
            if invalid.is_empty() {
                continue;
            }
            // Only at the end of the bytes can something be missing rather than wrong.
            let is_incomplete =
                left == 0 && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if self.is_full() || (is_incomplete && end == End::Open) {
                return self.next > start;
            }
            self.lossy = true;
            self.take(char::REPLACEMENT_CHARACTER, invalid.len());
        }
        self.next > start
    }

    fn take(&mut self, character: char, len: usize) {
        self.text.push(character);
        self.next += len as u64;
        self.chars_left = self.chars_left.saturating_sub(1);
        self.sequence = self.sequence.after(character);
        if self.sequence == Sequence::None {
            self.whole = (self.text.len(), self.next);
        }
    }

    fn view(mut self, len: u64, end: End) -> View {
        let is_stopped = self.is_full() || self.next - self.from >= BYTES_MAX;
        let (whole_len, whole_next) = self.whole;
        let is_complete = end == End::Final && self.next >= len;
        // A sequence longer than a window is cut nevertheless: reading must get on.
        let is_endless = whole_next == self.from && self.next - self.from >= BYTES_MAX;
        if self.cut == Cut::BetweenSequences && !is_complete && !is_endless {
            self.text.truncate(whole_len);
            self.next = whole_next;
        }
        let Self { text, next, lossy, .. } = self;
        View { text, next, lossy, truncated: next < len && is_stopped }
    }
}

/// Where in a sequence that steers the terminal (ECMA-48) a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequence {
    /// In none.
    None,
    /// Behind the escape character.
    Escape,
    /// In a control sequence.
    Control,
    /// In a command of the operating system, such as a title.
    Command,
    /// In another string.
    Text,
    /// Behind an escape character that ends a string, if the right one follows.
    TextEscape,
}

impl Sequence {
    const fn after(self, character: char) -> Self {
        match (self, character) {
            // CAN and SUB break every sequence off.
            (_, '\x18' | '\x1a') => Self::None,
            (Self::Command | Self::Text, '\x1b') => Self::TextEscape,
            (_, '\x1b') => Self::Escape,
            (Self::Escape | Self::TextEscape, '[') => Self::Control,
            (Self::Escape | Self::TextEscape, ']') => Self::Command,
            (Self::Escape | Self::TextEscape, 'P' | 'X' | '^' | '_') => Self::Text,
            (Self::Escape | Self::TextEscape, ' '..='/' | '\0'..='\x1f') => Self::Escape,
            (Self::Control, '@'..='~') | (Self::Command, '\x07') => Self::None,
            (Self::None | Self::Escape | Self::TextEscape, _) => Self::None,
            (Self::Control | Self::Command | Self::Text, _) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn view(bytes: &[u8], from: u64, end: End, max_chars: u64, cut: Cut) -> View {
        let read_at = |buffer: &mut [u8], position: u64| {
            let rest = &bytes[usize::try_from(position).unwrap()..];
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok::<_, Infallible>(len)
        };
        read(from, bytes.len() as u64, end, max_chars, cut, read_at).unwrap()
    }

    #[test]
    fn a_window_ends_at_a_character() {
        let bytes = "a\u{e9}\u{65e5}b".as_bytes();
        let two = view(bytes, 0, End::Open, 2, Cut::Anywhere);
        assert_eq!(two, View { text: "a\u{e9}".to_owned(), next: 3, lossy: false, truncated: true });
        let rest = view(bytes, 3, End::Open, 2, Cut::Anywhere);
        assert_eq!(rest, View { text: "\u{65e5}b".to_owned(), next: 7, lossy: false, truncated: false });
    }

    /// Catches a character that is torn because the terminal has shown only its beginning.
    #[test]
    fn the_beginning_of_a_character_waits_for_its_end() {
        let bytes = &"a\u{65e5}".as_bytes()[..3];
        let open = view(bytes, 0, End::Open, 10, Cut::Anywhere);
        assert_eq!(open, View { text: "a".to_owned(), next: 1, lossy: false, truncated: false });
        let nothing = view(bytes, 1, End::Open, 10, Cut::Anywhere);
        assert_eq!((nothing.text.as_str(), nothing.next, nothing.truncated), ("", 1, false));
        let ended = view(bytes, 0, End::Final, 10, Cut::Anywhere);
        assert_eq!(ended, View { text: "a\u{fffd}".to_owned(), next: 3, lossy: true, truncated: false });
    }

    #[test]
    fn a_window_is_bounded_in_bytes() {
        let bytes = vec![b'x'; usize::try_from(BYTES_MAX).unwrap() * 2];
        let first = view(&bytes, 0, End::Open, u64::MAX, Cut::Anywhere);
        assert!(first.truncated && first.text.len() as u64 == BYTES_MAX);
        let unended: Vec<_> = b"\x1b]0;".iter().chain(&bytes).copied().collect();
        assert!(view(&unended, 0, End::Open, u64::MAX, Cut::BetweenSequences).next > 0, "it never gets on");
    }

    /// Catches the second half of a sequence that is taken for text.
    #[test]
    fn a_sequence_is_not_cut() {
        let bytes = b"a\x1b[31mb\x1b]0;title\x1b\\c\x1b[";
        let mut position = 0;
        let mut windows = Vec::new();
        loop {
            let view = view(bytes, position, End::Open, 1, Cut::BetweenSequences);
            if view.next == position {
                break assert!(!view.truncated, "who reads while there is more would read for ever");
            }
            position = view.next;
            windows.push(view.text);
        }
        assert_eq!(windows, ["a", "\x1b[31m", "b", "\x1b]0;title\x1b\\", "c"]);
        let last = view(bytes, position, End::Final, 1, Cut::BetweenSequences);
        assert_eq!(last.next, bytes.len() as u64);
    }

    fn shown() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            "[a-z\u{e9}\u{65e5}\u{1f600}\x1b]{0,5}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..5),
            Just(vec![0xe6, 0x97]),
            Just(vec![0xf0, 0x9f, 0x98]),
        ];
        prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// Catches characters that are lost, doubled or torn by reading in pieces while the shell goes on printing.
        #[test]
        fn windows_of_any_size_make_up_the_whole(
            bytes in shown(),
            sizes in prop::collection::vec(1_u64..7, 1..20),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            cut in prop_oneof![Just(Cut::Anywhere), Just(Cut::BetweenSequences)],
        ) {
            let mut ends: Vec<_> = ends.iter().map(|end| end.index(bytes.len() + 1)).collect();
            ends.sort_unstable();
            let (mut text, mut position) = (String::new(), 0);
            let mut sizes = sizes.into_iter().cycle();
            let stages = ends.into_iter().map(|end| (end, End::Open)).chain([(bytes.len(), End::Final)]);
            for (len, end) in stages {
                loop {
                    let view = view(&bytes[..len], position, end, sizes.next().unwrap(), cut);
                    prop_assert!(view.next >= position && view.next <= len as u64);
                    let done = view.next == position || (!view.truncated && end == End::Open);
                    text += &view.text;
                    position = view.next;
                    if done || position == len as u64 {
                        break;
                    }
                }
            }
            prop_assert_eq!(position, bytes.len() as u64);
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
