//! Choices.

use mainstay_base::Entropy;

/// Makes choices that follow from a seed.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    entropy: Entropy,
    made: u32,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice {
            entropy: Entropy::new(seed),
            made: 0,
        }
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.entropy.chance(percent, 100)
    }

    /// A number between two, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.entropy.below(high - low + 1)
    }

    /// One of some.
    pub(super) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let at = self.entropy.below(of.len() as u64);
        &of[usize::try_from(at).unwrap_or(0)]
    }

    /// Two different ones of some; nothing if there are not as many.
    pub(super) fn two<'a, T>(&mut self, of: &'a [T]) -> Option<(&'a T, &'a T)> {
        let count = of.len() as u64;
        if count < 2 {
            return None;
        }
        let first = self.entropy.below(count);
        let second = (first + 1 + self.entropy.below(count - 1)) % count;
        let at = |n: u64| &of[usize::try_from(n).unwrap_or(0)];
        Some((at(first), at(second)))
    }

    /// An id that nothing else has.
    pub(super) fn id(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{what}-{}", self.made)
    }
}
