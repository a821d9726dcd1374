//! Words of a command line, joined so that a shell takes them apart again.

/// Joins words with blanks, quoting those that a POSIX shell would change.
pub(crate) fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        push_quoted(word, &mut line);
    }
    line
}

fn push_quoted(word: &str, line: &mut String) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@%+=:,./_-".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        line.push_str(word);
        return;
    }
    line.push('\'');
    // A quote cannot stand between single quotes: they are closed, it is added between double ones, they are opened.
    line.push_str(&word.replace('\'', r#"'"'"'"#));
    line.push('\'');
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_words_that_a_shell_would_change_are_quoted() {
        let table: [(&[&str], &str); 5] = [
            (&["git", "--version"], "git --version"),
            (&["sh", "-lc", "echo out; exit 7"], "sh -lc 'echo out; exit 7'"),
            (&["a b", "it's", ""], r#"'a b' 'it'"'"'s' ''"#),
            (&["$HOME", "*", "~", "a=b", "ü"], "'$HOME' '*' '~' a=b 'ü'"),
            (&[], ""),
        ];
        for (words, line) in table {
            assert_eq!(join(words.iter().copied()), line);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Catches any word that reaches the program changed, split or executed.
        #[test]
        fn a_shell_gives_back_the_words(words in prop::collection::vec("[^\0]{0,12}", 1..6)) {
            let line = join(words.iter().map(String::as_str));
            let script = format!("for word in {line}; do printf '%s\\0' \"$word\"; done");
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            let expected: String = words.iter().map(|word| format!("{word}\0")).collect();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
    }
}
