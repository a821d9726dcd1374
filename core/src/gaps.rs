//! Which bytes of a stream are not kept any more.

use alloc::vec::Vec;
use core::ops::Range;

use serde::{Deserialize, Serialize};

/// The dropped parts of a stream: ranges of offsets in their order, which neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gaps(Vec<(u64, u64)>);

impl Gaps {
    /// Tells whether everything is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a range; an empty one changes nothing.
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|(_, to)| *to < range.start);
        let behind = self.0.partition_point(|(from, _)| *from <= range.end);
        let merged = self.0[first..behind]
            .iter()
            .fold((range.start, range.end), |merged, known| (merged.0.min(known.0), merged.1.max(known.1)));
        self.0.splice(first..behind, [merged]);
    }

    /// Adds all ranges of another stream's or an earlier look at the same one.
    pub fn add_all(&mut self, other: &Self) {
        other.iter().for_each(|range| self.add(range));
    }

    /// Returns the ranges in their order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(from, to)| *from..*to)
    }

    /// Returns where the bytes go on that are kept: `position` itself, or the end of the gap that it lies in.
    #[must_use]
    pub fn skip(&self, position: u64) -> u64 {
        self.at_or_behind(position).filter(|gap| gap.contains(&position)).map_or(position, |gap| gap.end)
    }

    /// Returns where the next gap begins, at `position` or behind it; `None` when there is none.
    #[must_use]
    pub fn next_begin(&self, position: u64) -> Option<u64> {
        self.at_or_behind(position).map(|gap| gap.start.max(position))
    }

    /// Returns how many bytes of a part of the stream are dropped.
    #[must_use]
    pub fn dropped_in(&self, part: Range<u64>) -> u64 {
        self.iter().map(|gap| gap.end.min(part.end).saturating_sub(gap.start.max(part.start))).sum()
    }

    /// Returns the ranges of a part of the stream that are kept, in their order.
    pub fn kept_in(&self, part: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut position = part.start;
        let ends = self.iter().chain(core::iter::once(part.end..part.end));
        ends.filter_map(move |gap| {
            let kept = position..gap.start.min(part.end);
            position = position.max(gap.end);
            (!kept.is_empty()).then_some(kept)
        })
    }

    fn at_or_behind(&self, position: u64) -> Option<Range<u64>> {
        let place = self.0.partition_point(|(_, to)| *to <= position);
        self.0.get(place).map(|(from, to)| *from..*to)
    }
}
