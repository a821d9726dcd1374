//! The number under which both sides agree on the whole set of frames.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Version of the set of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u16);

impl Generation {
    /// The first one: commands and their output.
    pub const FIRST: Self = Self(1);

    /// Adds shells, imports and an end of the guest with a grace period.
    pub const SECOND: Self = Self(2);

    /// Adds the files of the guest.
    pub const THIRD: Self = Self(3);
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All generations that one side speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRange {
    /// The oldest.
    pub min: Generation,
    /// The newest.
    pub max: Generation,
}

impl GenerationRange {
    /// What this version of the crate speaks.
    pub const SUPPORTED: Self = Self { min: Generation::FIRST, max: Generation::THIRD };

    /// Returns the newest generation that both sides speak; `None` when there is none.
    #[must_use]
    pub fn newest_common(self, other: Self) -> Option<Generation> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: u16, max: u16) -> GenerationRange {
        GenerationRange { min: Generation(min), max: Generation(max) }
    }

    #[test]
    fn the_newest_common_generation_is_chosen() {
        assert_eq!(range(1, 3).newest_common(range(2, 5)), Some(Generation(3)));
        assert_eq!(range(2, 5).newest_common(range(1, 3)), Some(Generation(3)));
        assert_eq!(range(1, 1).newest_common(range(1, 1)), Some(Generation(1)));
    }

    #[test]
    fn ranges_that_do_not_meet_have_none() {
        assert_eq!(range(1, 2).newest_common(range(3, 4)), None);
        assert_eq!(range(3, 4).newest_common(range(1, 2)), None);
    }

    #[test]
    fn an_upside_down_range_has_none() {
        assert_eq!(range(5, 1).newest_common(range(1, 5)), None);
    }
}
