//! Text of others in our own lines: names, messages and table cells that cannot move the cursor, begin a line of their
//! own or hide something.

use std::fmt::Write as _;

/// Tells whether a character would be acted upon by a terminal instead of being shown.
pub(crate) const fn is_control(character: char) -> bool {
    matches!(character, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}')
}

/// Tells whether a character changes the order of its neighbours or is invisible without being a blank, so that what a
/// person sees is not what is there.
pub(crate) const fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Returns text that stays in its line: what is not shown as it is stands there in escaped form.
pub(crate) fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        push(character, &mut shown);
    }
    shown
}

/// Returns text of several lines, of which all but the first are indented: none of them passes for one of ours.
pub(crate) fn paragraph(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (number, text) in text.trim_end().split('\n').enumerate() {
        if number > 0 {
            shown.push_str("\n  ");
        }
        shown.push_str(&line(text.trim_end_matches('\r')));
    }
    shown
}

fn push(character: char, shown: &mut String) {
    match character {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        _ if is_control(character) => {
            write!(shown, "\\x{:02x}", u32::from(character)).expect("a string takes it")
        }
        _ if is_hidden(character) => {
            write!(shown, "\\u{{{:x}}}", u32::from(character)).expect("a string takes it")
        }
        _ => shown.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_line_acts() {
        let shown = line("a\u{1b}]0;title\u{7}b\n[error] c\u{202e}d\u{9b}31m\u{7f}é漢");
        assert_eq!(shown, "a\\x1b]0;title\\x07b\\n[error] c\\u{202e}d\\x9b31m\\x7fé漢");
    }

    #[test]
    fn lines_of_a_paragraph_are_indented() {
        assert_eq!(paragraph("first\r\n[error] forged\n\u{1b}[2J\n"), "first\n  [error] forged\n  \\x1b[2J");
    }
}
