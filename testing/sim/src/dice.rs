//! Draws from an [`Entropy`] in the shapes that the simulator needs.

use mainstay_base::Entropy;

/// One millisecond in nanoseconds.
pub const MS: u64 = 1_000_000;
/// One second in nanoseconds.
pub const SEC: u64 = 1_000 * MS;

/// Convenience draws; every one takes a fixed number of words from the generator.
pub trait Dice {
    /// A number in `low..=high`.
    fn between(&mut self, low: u64, high: u64) -> u64;
    /// True in `percent` of 100 cases.
    fn percent(&mut self, percent: u64) -> bool;
    /// One of the items.
    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T;
    /// A time with a long tail: mostly below `mean`, seldom up to eight times `mean`.
    fn spread(&mut self, mean: u64) -> u64;
    /// A generator of its own, so that draws in one part of the world do not shift another's.
    fn split(&mut self) -> Entropy;
}

impl Dice for Entropy {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.chance(percent, 100)
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    fn spread(&mut self, mean: u64) -> u64 {
        let shape = self.below(16);
        let within = self.below(mean.max(1));
        match shape {
            0..=9 => within / 2 + mean / 8,
            10..=14 => mean / 2 + within,
            _ => mean + within * 7,
        }
    }

    fn split(&mut self) -> Entropy {
        Entropy::new(self.next_u64())
    }
}
