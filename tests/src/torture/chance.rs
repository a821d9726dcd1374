//! Chance that can be repeated: the same seed gives the same numbers.

/// A source of numbers that look random, by `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins with a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a source of its own for somebody: threads that take numbers in any order do not disturb each other.
    #[must_use]
    pub fn split(&self, whom: u64) -> Self {
        let mut source = Self(self.0 ^ whom.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self(source.draw())
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below a bound, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// Tells whether something that happens once in so many times happens now.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Returns one of several; `None` of an empty list.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let len = u64::try_from(of.len()).expect("lists are short");
        let index = self.below(len.max(1));
        of.get(usize::try_from(index).expect("it is below the length of a list"))
    }
}
