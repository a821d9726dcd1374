//! Output whose every byte is known before it is printed.

/// Lines that a command prints: the token of the command and a number, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Stands at the beginning of each line, so that the output of two commands is never the same.
    pub token: String,
    /// How many lines.
    pub lines: u32,
}

/// What came of bytes that were expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes came.
    pub len_bytes: u64,
    /// How many were expected.
    pub expected_bytes: u64,
    /// Offset of the first byte that is another one, or that nobody expected; `None` when all that came is right.
    pub wrong_at: Option<u64>,
}

impl Received {
    /// Compares what came with what was expected.
    #[must_use]
    pub fn compare(came: &[u8], expected: &[u8]) -> Self {
        let wrong = came.iter().zip(expected).position(|(one, other)| one != other);
        let wrong = wrong.or_else(|| (came.len() > expected.len()).then_some(expected.len()));
        let count = |count: usize| u64::try_from(count).expect("lengths fit");
        Self {
            len_bytes: count(came.len()),
            expected_bytes: count(expected.len()),
            wrong_at: wrong.map(count),
        }
    }

    /// Tells whether every byte came, and nothing else.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.wrong_at.is_none() && self.len_bytes == self.expected_bytes
    }
}

impl Payload {
    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        use std::fmt::Write as _;
        let mut text = String::new();
        for number in 1..=self.lines {
            writeln!(text, "{} {number:08}", self.token).expect("a string takes everything");
        }
        text.into_bytes()
    }

    /// Returns a script that prints the bytes at once.
    #[must_use]
    pub fn script(&self) -> String {
        format!("seq -f '{} %08.0f' 1 {}", self.token, self.lines)
    }

    /// Returns a script that prints the same a few lines at a time, so that the command lives through a kill.
    #[must_use]
    pub fn script_in_pieces(&self) -> String {
        let Self { token, lines } = self;
        let piece = (lines / 20).max(1);
        format!(
            "i=1; while [ $i -le {lines} ]; do j=$((i+{piece}-1)); [ $j -le {lines} ] || j={lines}; \
             seq -f '{token} %08.0f' $i $j; i=$((j+1)); sleep 0.02; done"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a comparison that takes a lost, doubled or changed byte for what was expected.
    #[test]
    fn every_difference_is_seen() {
        let expected = Payload { token: "t".to_owned(), lines: 3 }.bytes();
        assert_eq!(expected, b"t 00000001\nt 00000002\nt 00000003\n");
        assert!(Received::compare(&expected, &expected).is_whole());
        for at in 0..expected.len() {
            let mut lost = expected.clone();
            lost.remove(at);
            let mut doubled = expected.clone();
            doubled.insert(at, expected[at]);
            let mut changed = expected.clone();
            changed[at] ^= 1;
            for bytes in [lost, doubled, changed] {
                assert!(!Received::compare(&bytes, &expected).is_whole(), "{at}");
            }
        }
        let beginning = Received::compare(&expected[..5], &expected);
        assert!(!beginning.is_whole() && beginning.wrong_at.is_none());
    }

    /// Catches a script that prints something else than what is expected of it.
    #[test]
    fn scripts_print_the_bytes() {
        for lines in [1, 19, 60] {
            let payload = Payload { token: "t0x1".to_owned(), lines };
            for script in [payload.script(), payload.script_in_pieces()] {
                let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
                assert_eq!(output.stdout, payload.bytes(), "{script}");
            }
        }
    }
}
