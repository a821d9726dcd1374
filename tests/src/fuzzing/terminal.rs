//! Output of a guest on its way to a terminal.

use pyro_cli::TerminalFilter;

use super::pieces::divisions;

pub(super) const WORDS: &[&[u8]] = &[
    b"\x1b",
    b"\x1b[",
    b"\x1b]",
    b"\x1bP",
    b"\x1b\\",
    b"\x1b[38;2;1;2;3m",
    b"\x1b[0m",
    b"\x1b[m",
    b"\xc2\x9b",
    b"\xc2\x9d",
    b"\xc2\x9c",
    b"\x07",
    b"\x18",
    b"\xe2\x80\xae",
    b"\xf0\x9f\x98",
    b"\xed\xa0\x80",
    b"\n",
];

/// What the end of a stream adds at most: the end of its colours, and a sign for a character that is not whole.
const END_LEN_MAX: usize = "\u{1b}[0m\u{fffd}".len();

/// Longest growth: a byte that is no character becomes U+FFFD, of three.
const GROWTH_MAX: usize = 3;

/// Filters the input in several divisions, looks at what comes out, and filters that again.
pub(super) fn run(input: &[u8]) {
    let mut divisions = divisions(input).into_iter().map(|pieces| filtered(&pieces));
    let shown = divisions.next().expect("there is a division");
    for other in divisions {
        assert_eq!(other, shown, "the stream shows something else when it arrives in other pieces");
    }
    assert!(shown.len() <= GROWTH_MAX * input.len() + END_LEN_MAX);
    let text = std::str::from_utf8(&shown).expect("only whole characters come out");
    check_shown(text);
    assert_eq!(filtered(&[&shown]), shown, "what was filtered passes");
}

fn filtered(pieces: &[&[u8]]) -> Vec<u8> {
    let (mut filter, mut shown) = (TerminalFilter::default(), Vec::new());
    for piece in pieces {
        filter.push(piece, &mut shown);
    }
    filter.finish(&mut shown);
    shown
}

/// Checks that there is nothing but text, TAB, LF, CR and colours, which are off at the end.
fn check_shown(text: &str) {
    let mut parts = text.split('\u{1b}');
    check_text(parts.next().expect("there is a part before the first sequence"));
    let mut last = "0";
    for part in parts {
        let (parameters, text) = part
            .strip_prefix('[')
            .and_then(|sequence| sequence.split_once('m'))
            .expect("only colours begin with ESC");
        assert!(parameters.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':')));
        check_text(text);
        last = parameters;
    }
    assert!(matches!(last, "" | "0"), "colours stay on");
}

fn check_text(text: &str) {
    for character in text.chars() {
        assert!(
            matches!(character, '\t' | '\n' | '\r') || !character.is_control(),
            "{character:?} reaches the terminal"
        );
        assert!(!is_hidden(character), "{character:?} hides or reorders what stands around it");
    }
}

/// Tells whether a character is one of Unicode's controls of direction, a byte order mark or a tag.
const fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Returns where sequences begin and go on.
pub(super) fn fields(input: &[u8]) -> Vec<usize> {
    let escapes = input.iter().enumerate().filter(|(_, byte)| matches!(byte, 0x1b | 0xc2));
    escapes.flat_map(|(place, _)| [place, place + 1]).collect()
}

/// Returns texts with sequences of each kind.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 8] = [
        b"plain\ttext\r\n",
        "é漢😀\u{202e}\u{feff}\u{e0041}".as_bytes(),
        b"\x1b[1;31mred\x1b[0m \x1b[38:2::1:2:3mrgb",
        b"\xc2\x9b32mgreen\xc2\x9dtitle\xc2\x9cb",
        b"a\x1b[2Jb\x1b[10;10Hc\x1b[?1049hd\x1b[>4;1me\x1b[0 mf",
        b"a\x1b]0;title\x07b\x1b]52;c;aGk=\x1b\\c\x1bP$q\"p\x1b\\d",
        b"a\x1b]never ends\nb\x1bc\x1b(0\x1b#8\x1b[3\x18\x1b[3\xc3\xa9",
        b"a\xff\x9b\xe2\x82\xed\xa0\x80\x07\x08\x0b\x7f\0",
    ];
    texts.map(<[u8]>::to_vec).into()
}
