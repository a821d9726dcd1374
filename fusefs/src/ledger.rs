//! Where lines stand in a file that is never written: their lengths are added up as they come, and every so many lines
//! their place is kept, so that a part in the middle is found without those before it.

/// Lines from one place that is kept to the next: bounds both the memory, and the work for a read that begins anywhere.
const LINES_PER_MARK: u64 = 64;

/// The places of lines. Each line has a number that grows; the ledger does not keep the lines.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Number and offset of a line, in their order.
    marks: Vec<(u64, u64)>,
    lines: u64,
    len: u64,
    next: u64,
}

impl Ledger {
    /// Returns a ledger whose first line can have no smaller number than this.
    pub(crate) const fn from(first: u64) -> Self {
        Self { marks: Vec::new(), lines: 0, len: 0, next: first }
    }

    /// Returns the length of all lines with their line ends, in bytes.
    pub(crate) const fn len_bytes(&self) -> u64 {
        self.len
    }

    /// Returns the smallest number that the next line can have.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// Takes note of a line.
    pub(crate) fn push(&mut self, number: u64, line: &str) {
        debug_assert!(number >= self.next, "lines come in their order");
        if self.lines.is_multiple_of(LINES_PER_MARK) {
            self.marks.push((number, self.len));
        }
        self.lines += 1;
        self.len += line.len() as u64 + 1;
        self.next = number + 1;
    }

    /// Returns number and offset of a line from which a read at an offset can begin; `None` when there are no lines.
    fn mark(&self, offset: u64) -> Option<(u64, u64)> {
        let behind = self.marks.partition_point(|(_, start)| *start <= offset);
        self.marks.get(behind.checked_sub(1)?).copied()
    }

    /// Returns at most `size` bytes from an offset on. `lines_from` gives the lines from a number on.
    pub(crate) fn read<E, I>(
        &self,
        offset: u64,
        size: usize,
        lines_from: impl FnOnce(u64) -> I,
    ) -> Result<Vec<u8>, E>
    where
        I: Iterator<Item = Result<String, E>>,
    {
        let mut bytes = Vec::new();
        let end = self.len.min(offset.saturating_add(size as u64));
        let Some((first, mut at)) = self.mark(offset).filter(|_| offset < end) else { return Ok(bytes) };
        for line in lines_from(first) {
            let mut line = line?;
            line.push('\n');
            let next = at + line.len() as u64;
            if next > offset {
                let from = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
                let until = usize::try_from(end - at).unwrap_or(usize::MAX).min(line.len());
                bytes.extend_from_slice(line.as_bytes().get(from..until).unwrap_or_default());
            }
            at = next;
            if at >= end {
                break;
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Catches a part that is cut, doubled or taken from another place.
        #[test]
        fn any_part_is_that_of_the_whole(
            lengths in prop::collection::vec((0_usize..40, 1_u64..4), 0..300),
            reads in prop::collection::vec((0_u64..8000, 0_usize..500), 1..20),
        ) {
            let mut ledger = Ledger::from(1);
            let mut lines: Vec<(u64, String)> = Vec::new();
            for (position, (length, step)) in lengths.into_iter().enumerate() {
                let number = ledger.next() + step - 1;
                let letter = char::from(b'a' + u8::try_from(position % 26).unwrap());
                let line = letter.to_string().repeat(length);
                ledger.push(number, &line);
                lines.push((number, line));
            }
            let whole: Vec<u8> = lines.iter().flat_map(|(_, line)| format!("{line}\n").into_bytes()).collect();
            prop_assert_eq!(ledger.len_bytes(), whole.len() as u64);
            for (offset, size) in reads {
                let from = |first| {
                    let lines = lines.iter().filter(move |(number, _)| *number >= first);
                    lines.map(|(_, line)| Ok::<_, Infallible>(line.clone()))
                };
                let start = usize::try_from(offset).unwrap().min(whole.len());
                let expected = &whole[start..whole.len().min(start + size)];
                prop_assert_eq!(ledger.read(offset, size, from).unwrap(), expected);
            }
        }
    }
}
