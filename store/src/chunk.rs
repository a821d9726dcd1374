//! Request ids by the hundred. sled spends on an entry several times what the entry holds, so that the index of a million
//! events would be as long as the events, had each request id an entry of its own.
//!
//! Chunks divide all ids into ranges. A chunk is known by the lower bound of its range, and holds ids and positions in order.

use std::cmp::Ordering;

use pyro_core::{RequestId, Seq};

/// Most ids of a chunk: what is rewritten when one is added.
const LEN_MAX: usize = 64;

/// Length of a request id, in bytes.
const ID_LEN: usize = 16;

/// Length of a position, in bytes.
const SEQ_LEN: usize = 8;

/// A request and the first record of its batch.
type Entry = (RequestId, Seq);

/// The request ids of one range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// By id; each id once.
    entries: Vec<Entry>,
}

impl Chunk {
    /// Reads a chunk. What was damaged has fewer or other entries.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        Self { entries: Encoded::new(bytes).into_iter().flat_map(|encoded| encoded.all()).collect() }
    }

    /// Returns the position of a request in an encoded chunk; `None` when it is not there.
    pub(crate) fn find(bytes: &[u8], request: RequestId) -> Option<Seq> {
        let encoded = Encoded::new(bytes)?;
        let (mut low, mut high) = (0, encoded.len());
        while low < high {
            let middle = low.midpoint(high);
            let (found, seq) = encoded.entry(middle);
            match found.cmp(&request) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(seq),
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Writes the chunk. What all of its ids begin with, and the leading zeros of its positions, are left out: by the order
    /// of their time, ids begin alike.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (Some((first, _)), Some((last, _))) = (self.entries.first(), self.entries.last()) else {
            return Vec::new();
        };
        let alike = first.as_bytes().iter().zip(last.as_bytes()).take_while(|(first, last)| first == last);
        let shared = alike.count();
        let highest = self.entries.iter().map(|(_, seq)| seq.0).max().unwrap_or_default();
        let zeros = highest.to_be_bytes().iter().take_while(|byte| **byte == 0).count();
        let mut bytes =
            vec![u8::try_from(shared).expect("an id is short"), u8::try_from(zeros).expect("so is a number")];
        bytes.extend_from_slice(&first.as_bytes()[..shared]);
        for (id, seq) in &self.entries {
            bytes.extend_from_slice(&id.as_bytes()[shared..]);
            bytes.extend_from_slice(&seq.0.to_be_bytes()[zeros..]);
        }
        bytes
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds requests of its range. One that is there already keeps its place unless that is before `beginning`.
    ///
    /// Returns the chunks that are then in the range, short enough: the first has the range's lower bound, and each other
    /// one its first id as its own.
    pub(crate) fn add(mut self, added: &[Entry], beginning: Seq) -> (Self, Vec<(RequestId, Self)>) {
        let last = self.entries.last().map(|(last, _)| *last);
        let in_order = added.first().map(|(first, _)| *first) > last;
        for &(request, seq) in added {
            match self.entries.binary_search_by_key(&request, |(known, _)| *known) {
                Ok(place) if self.entries[place].1 < beginning => self.entries[place].1 = seq,
                Ok(_) => {}
                Err(place) => self.entries.insert(place, (request, seq)),
            }
        }
        let pieces = self.entries.len().div_ceil(LEN_MAX);
        if pieces <= 1 {
            return (self, Vec::new());
        }
        // Most ids come in the order of their time: then chunks are left full. Others find room for those beside them.
        let len = if in_order { LEN_MAX } else { self.entries.len().div_ceil(pieces) };
        let rest = self.entries.split_off(len);
        let others = rest
            .chunks(len)
            .filter_map(|chunk| chunk.first().map(|(first, _)| (*first, Self { entries: chunk.to_vec() })));
        (self, others.collect())
    }

    /// Forgets the requests before a position; tells whether there were some.
    pub(crate) fn begin_at(&mut self, first: Seq) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(_, seq)| *seq >= first);
        self.entries.len() < before
    }
}

/// A chunk as it is kept: the number of bytes that all ids begin with, the number of zero bytes that all positions begin with,
/// those bytes of the ids, and then the rest of each id and position.
struct Encoded<'a> {
    shared: &'a [u8],
    zeros: usize,
    entries: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// Takes the parts apart; `None` when there is nothing, or something else.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let ([shared, zeros], rest) = bytes.split_first_chunk()?;
        let (shared, zeros) = (usize::from(*shared), usize::from(*zeros));
        let (shared, entries) = rest.split_at_checked(shared)?;
        (shared.len() <= ID_LEN && zeros < SEQ_LEN).then_some(Self { shared, zeros, entries })
    }

    /// Length of an entry, in bytes.
    const fn entry_len(&self) -> usize {
        ID_LEN - self.shared.len() + SEQ_LEN - self.zeros
    }

    const fn len(&self) -> usize {
        self.entries.len() / self.entry_len()
    }

    fn entry(&self, place: usize) -> Entry {
        let len = self.entry_len();
        let (own, seq) = self.entries[place * len..][..len].split_at(ID_LEN - self.shared.len());
        let (mut id, mut number) = ([0; ID_LEN], [0; SEQ_LEN]);
        id[..self.shared.len()].copy_from_slice(self.shared);
        id[self.shared.len()..].copy_from_slice(own);
        number[self.zeros..].copy_from_slice(seq);
        (RequestId::from_bytes(id), Seq(u64::from_be_bytes(number)))
    }

    fn all(&self) -> Vec<Entry> {
        (0..self.len()).map(|place| self.entry(place)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> RequestId {
        RequestId::from_bytes(n.to_be_bytes())
    }

    fn entries(ids: impl IntoIterator<Item = u128>) -> Vec<Entry> {
        ids.into_iter().zip(1..).map(|(n, seq)| (id(n), Seq(seq))).collect()
    }

    fn lens(chunks: &(Chunk, Vec<(RequestId, Chunk)>)) -> Vec<usize> {
        let others = chunks.1.iter().map(|(_, chunk)| chunk.entries.len());
        [chunks.0.entries.len()].into_iter().chain(others).collect()
    }

    /// Catches an id that is lost, or found at another place, when a chunk is cut.
    #[test]
    fn every_id_is_found_in_the_chunk_of_its_range() {
        let added = entries((0..300).map(|n| n * 7));
        let (first, others) = Chunk::default().add(&added, Seq(0));
        let ranges: Vec<_> = [(id(0), first)].into_iter().chain(others).collect();
        for (request, seq) in added {
            let (_, chunk) = ranges.iter().rev().find(|(bound, _)| *bound <= request).unwrap();
            assert_eq!(Chunk::find(&chunk.encode(), request), Some(seq));
            assert_eq!(Chunk::decode(&chunk.encode()), *chunk);
        }
        assert_eq!(Chunk::find(&ranges[0].1.encode(), id(1)), None);
    }

    /// Catches an index that grows by a chunk with each id.
    #[test]
    fn chunks_are_full_behind_ids_in_order_and_half_full_behind_others() {
        let full = Chunk::default().add(&entries(0..64), Seq(0));
        assert_eq!(lens(&full), [64]);
        assert_eq!(lens(&full.0.clone().add(&entries([200]), Seq(0))), [64, 1]);
        assert_eq!(lens(&full.0.add(&entries([200, 0]), Seq(0))), [64, 1]);
        let gaps = Chunk::default().add(&entries((0..64).map(|n| n * 2)), Seq(0));
        assert_eq!(lens(&gaps.0.add(&entries([5]), Seq(0))), [33, 32]);
    }

    /// Catches a repeated request that loses its first place, and one that was compacted and keeps it.
    #[test]
    fn the_first_place_counts_until_it_is_compacted() {
        let (chunk, _) = Chunk::default().add(&[(id(1), Seq(10)), (id(2), Seq(20))], Seq(0));
        let (mut chunk, _) = chunk.add(&[(id(1), Seq(30)), (id(2), Seq(40))], Seq(15));
        assert_eq!(chunk.entries, [(id(1), Seq(30)), (id(2), Seq(20))]);
        assert!(!chunk.begin_at(Seq(20)));
        assert!(chunk.begin_at(Seq(21)));
        assert_eq!(chunk.entries, [(id(1), Seq(30))]);
    }

    /// Catches lengths that are believed.
    #[test]
    fn damaged_bytes_do_no_harm() {
        let (chunk, _) = Chunk::default().add(&entries([1, 2, 1 << 100]), Seq(0));
        let bytes = chunk.encode();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[place] ^= 1 << bit;
                let _other = (Chunk::decode(&damaged), Chunk::find(&damaged, id(2)));
            }
            let _shorter = (Chunk::decode(&bytes[..place]), Chunk::find(&bytes[..place], id(2)));
        }
    }

    /// Catches a shared beginning that is taken from, or given to, the wrong ids.
    #[test]
    fn ids_survive_whatever_they_share() {
        for ids in [vec![0, u128::MAX], vec![7], vec![1 << 64, (1 << 64) + 1], vec![0xff00, 0xff01, 0xff02]] {
            let added: Vec<_> =
                ids.into_iter().zip([1, u64::MAX, 256]).map(|(n, seq)| (id(n), Seq(seq))).collect();
            let (chunk, _) = Chunk::default().add(&added, Seq(0));
            assert_eq!(Chunk::decode(&chunk.encode()), chunk);
            for (request, seq) in added {
                assert_eq!(Chunk::find(&chunk.encode(), request), Some(seq));
            }
        }
    }
}
