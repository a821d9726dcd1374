//! Gaps of a stream, against a model that knows every byte.

use std::ops::Range;

use proptest::prelude::*;
use pyro_core::Gaps;

const LEN: u64 = 40;

fn range() -> impl Strategy<Value = Range<u64>> {
    (0..LEN, 0..LEN).prop_map(|(from, to)| from..to)
}

/// Returns the maximal ranges of positions in `part` for which the model says `wanted`.
fn runs(model: &[bool], part: Range<u64>, wanted: bool) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for position in part {
        if model[usize::try_from(position).expect("it is small")] == wanted {
            match runs.last_mut() {
                Some(run) if run.end == position => run.end += 1,
                _ => runs.push(position..position + 1),
            }
        }
    }
    runs
}

proptest! {
    /// Catches bytes that are taken for kept when they are dropped, or the other way round.
    #[test]
    fn each_byte_is_kept_or_dropped(ranges in prop::collection::vec(range(), 0..8), part in range()) {
        let (mut gaps, mut model) = (Gaps::default(), vec![false; usize::try_from(LEN).unwrap()]);
        for range in ranges {
            gaps.add(range.clone());
            range.for_each(|position| model[usize::try_from(position).unwrap()] = true);
        }
        let dropped = runs(&model, 0..LEN, true);
        prop_assert_eq!(gaps.is_empty(), dropped.is_empty());
        prop_assert_eq!(gaps.iter().collect::<Vec<_>>(), dropped);
        prop_assert_eq!(gaps.kept_in(part.clone()).collect::<Vec<_>>(), runs(&model, part.clone(), false));
        let in_part = runs(&model, part.clone(), true);
        prop_assert_eq!(gaps.dropped_in(part), in_part.iter().map(|run| run.end - run.start).sum::<u64>());
        for position in 0..LEN {
            let first = |wanted: bool| runs(&model, position..LEN, wanted).first().map(|run| run.start);
            prop_assert_eq!(gaps.skip(position), first(false).unwrap_or(LEN));
            prop_assert_eq!(gaps.next_begin(position), first(true));
        }
        let mut twice = gaps.clone();
        twice.add_all(&gaps);
        prop_assert_eq!(twice, gaps);
    }
}
