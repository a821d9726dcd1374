//! The keys with which a person leaves a shell.

use std::str::FromStr;

/// Most keys in a row: more cannot be typed blindly.
const KEYS_MAX: usize = 8;

/// Keys that leave a shell when they are typed in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
}

/// A text that names no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "keys are up to 8 of ctrl-a to ctrl-z, ctrl-@, ctrl-[, ctrl-\\, ctrl-], ctrl-^, ctrl-_ and ASCII \
     characters, with commas between them, or `none`"
)]
pub(crate) struct DetachKeysError;

impl FromStr for DetachKeys {
    type Err = DetachKeysError;

    fn from_str(text: &str) -> Result<Self, DetachKeysError> {
        if text == "none" {
            return Ok(Self { keys: Vec::new() });
        }
        let keys: Vec<u8> = text.split(',').map(key).collect::<Option<_>>().ok_or(DetachKeysError)?;
        if keys.len() > KEYS_MAX { Err(DetachKeysError) } else { Ok(Self { keys }) }
    }
}

fn key(name: &str) -> Option<u8> {
    let (control, name) = match name.get(..5) {
        Some(prefix) if prefix.eq_ignore_ascii_case("ctrl-") => (true, &name[5..]),
        _ => (false, name),
    };
    match (control, name.as_bytes()) {
        (false, [key @ b' '..=b'~']) => Some(*key),
        // The terminal sends the lowest five bits of the character.
        (true, [key @ (b'@'..=b'_' | b'a'..=b'z')]) => Some(key & 0x1f),
        _ => None,
    }
}

/// Finds the keys among what is typed. Those that may be the first of them are held back until that is known.
#[derive(Clone, Debug)]
pub(crate) struct DetachScanner {
    keys: Vec<u8>,
    held: usize,
}

impl DetachScanner {
    pub(crate) fn new(DetachKeys { keys }: DetachKeys) -> Self {
        Self { keys, held: 0 }
    }

    /// Takes what was typed and appends what goes to the shell; `true` when the client leaves. What is behind the keys
    /// is typed into nothing.
    pub(crate) fn push(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            passed.extend_from_slice(typed);
            return false;
        }
        for byte in typed {
            self.take(*byte, passed);
            if self.held == self.keys.len() {
                return true;
            }
        }
        false
    }

    fn take(&mut self, byte: u8, passed: &mut Vec<u8>) {
        while self.keys[self.held] != byte {
            if self.held == 0 {
                passed.push(byte);
                return;
            }
            // The longest end of what is held that may still be the beginning; what is before it is not.
            let held = &self.keys[..self.held];
            let shorter = (0..self.held).rev().find(|len| held.ends_with(&self.keys[..*len])).unwrap_or(0);
            passed.extend_from_slice(&held[..self.held - shorter]);
            self.held = shorter;
        }
        self.held += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(text: &str) -> Result<Vec<u8>, DetachKeysError> {
        text.parse().map(|DetachKeys { keys }| keys)
    }

    #[test]
    fn keys_are_named() {
        assert_eq!(keys("ctrl-\\").unwrap(), [0x1c]);
        assert_eq!(keys("ctrl-p,CTRL-Q").unwrap(), [0x10, 0x11]);
        assert_eq!(keys("ctrl-@,~,.").unwrap(), [0, b'~', b'.']);
        assert!(keys("none").unwrap().is_empty());
        for text in ["", "ctrl-", "ctrl-é", "é", "ab", "ctrl-1", "a,", "a,a,a,a,a,a,a,a,a"] {
            assert_eq!(keys(text), Err(DetachKeysError), "{text:?}");
        }
    }

    /// Returns what passes, and whether the keys were found, by the obvious way of looking at all of it.
    fn expected<'a>(keys: &[u8], typed: &'a [u8]) -> (&'a [u8], bool) {
        match typed.windows(keys.len()).position(|window| window == keys) {
            Some(position) => (&typed[..position], true),
            None => {
                let held = (0..keys.len()).rev().find(|len| typed.ends_with(&keys[..*len])).unwrap_or(0);
                (&typed[..typed.len() - held], false)
            }
        }
    }

    proptest! {
        /// Catches keys that are lost, doubled or found where they are not, however the terminal cuts what is typed.
        #[test]
        fn what_is_not_the_keys_passes(
            keys in prop::collection::vec(0..3_u8, 1..5),
            chunks in prop::collection::vec(prop::collection::vec(0..3_u8, 0..6), 0..8),
        ) {
            let mut scanner = DetachScanner::new(DetachKeys { keys: keys.clone() });
            let mut passed = Vec::new();
            let found = chunks.iter().any(|chunk| scanner.push(chunk, &mut passed));
            let typed = chunks.concat();
            prop_assert_eq!((passed.as_slice(), found), expected(&keys, &typed));
        }
    }
}
