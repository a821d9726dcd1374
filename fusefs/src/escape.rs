//! Names that can be told apart from any other and do no harm: `docs/semantics.md`, "The tree".

/// Returns a name for a file; [`unescape`] gives the text back.
pub(crate) fn escape(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for (position, byte) in text.bytes().enumerate() {
        let harmless = byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'-' | b'+' | b':')
            || (byte == b'.' && position > 0);
        if harmless {
            name.push(char::from(byte));
        } else {
            name.push('%');
            for digit in [byte >> 4, byte & 0xf] {
                name.push(char::from_digit(u32::from(digit), 16).expect("four bits are a digit"));
            }
        }
    }
    name
}

/// Returns the text that a name stands for; `None` for a name that [`escape`] never gives.
pub(crate) fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let digits = after.first_chunk::<2>()?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    // One text has one name.
    (escape(&text) == name).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_people_choose_stay_as_they_are() {
        for text in ["debian:12-base", "web_1.2", "a+b"] {
            assert_eq!(escape(text), text);
        }
        assert_eq!(escape("../a b"), "%2e.%2fa%20b");
        assert_eq!(escape("."), "%2e");
    }

    /// Catches a second name for the same file, which would have two inode numbers.
    #[test]
    fn no_text_has_a_second_name() {
        for name in ["%61", "%2E", "%", "%2", "%zz", "%+2", "..", "a/b", "%ff"] {
            assert_eq!(unescape(name), None, "{name}");
        }
    }

    proptest! {
        /// Catches two texts with one name, and a name that leads somewhere else.
        #[test]
        fn a_name_leads_back_to_its_text(text in "\\PC{0,12}|[./%\u{0}-\u{7f}]{0,12}") {
            let name = escape(&text);
            prop_assert!(!name.contains('/') && !name.starts_with('.') && name.is_ascii());
            prop_assert_eq!(unescape(&name), Some(text));
        }
    }
}
