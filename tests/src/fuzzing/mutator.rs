//! Mutations of inputs, the same for the same seed on every machine.

use super::Target;

/// Longest input that mutations make, in bytes.
const INPUT_LEN_MAX: usize = 64 * 1024;

/// An input gets 1, 2, 4 or 8 mutations: a single one is what gets past all other checks.
const STEPS_MAX_LOG2: usize = 3;

/// Numbers at which readers tend to be wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Makes inputs out of valid ones.
#[derive(Debug)]
pub struct Mutator<'a> {
    state: u64,
    seeds: Vec<Vec<u8>>,
    target: &'a Target,
}

impl<'a> Mutator<'a> {
    /// Returns a mutator of `seeds` for a target.
    ///
    /// # Panics
    ///
    /// When there are no seeds.
    #[must_use]
    pub fn new(seed: u64, seeds: Vec<Vec<u8>>, target: &'a Target) -> Self {
        assert!(!seeds.is_empty(), "mutations need something to begin with");
        Self { state: seed, seeds, target }
    }

    /// Returns the next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.seed().to_vec();
        for _ in 0..1 << self.below(STEPS_MAX_LOG2 + 1) {
            self.mutate(&mut input);
        }
        input.truncate(INPUT_LEN_MAX);
        input
    }

    /// Returns a number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("lengths fit into 64 bits");
        usize::try_from(self.next_number() % end).expect("the remainder is below a length")
    }

    /// SplitMix64.
    fn next_number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn seed(&mut self) -> &[u8] {
        let index = self.below(self.seeds.len());
        &self.seeds[index]
    }

    /// Returns a place in the input; often one where a field begins, and perhaps its end.
    fn place(&mut self, input: &[u8]) -> usize {
        if self.below(2) == 0 {
            return self.below(input.len() + 1);
        }
        let fields = (self.target.fields)(input);
        if fields.is_empty() { self.below(input.len() + 1) } else { fields[self.below(fields.len())] }
    }

    /// Returns a range that is short as a rule; its end may be the input's.
    fn range(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let start = self.place(input);
        let end = match self.below(4) {
            0 => self.place(input),
            _ => start + self.below(17),
        };
        start.min(end)..start.max(end).min(input.len())
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let (len, at) = (input.len(), self.place(input));
        match self.below(12) {
            0 | 1 if at < len => input[at] ^= 1 << self.below(8),
            2 if at < len => input[at] = self.byte(),
            3 => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
                let width = [1, 2, 4, 8][self.below(4)];
                input.splice(at..(at + width).min(len), number[..width].iter().copied());
            }
            4 => drop(input.drain(self.range(input))),
            5 => {
                let copy = input[self.range(input)].to_vec();
                input.splice(at..at, copy);
            }
            6..=9 => {
                let word = self.target.words[self.below(self.target.words.len())];
                let replaced = if self.below(4) == 0 { 0 } else { word.len() };
                input.splice(at..(at + replaced).min(len), word.iter().copied());
            }
            10 => {
                let other = self.seed().to_vec();
                let part = other[self.range(&other)].to_vec();
                input.splice(self.range(input), part);
            }
            _ => {
                let bytes: Vec<_> = (0..self.below(5)).map(|_| self.byte()).collect();
                input.splice(at..at, bytes);
            }
        }
    }

    fn byte(&mut self) -> u8 {
        self.next_number().to_le_bytes()[0]
    }
}
