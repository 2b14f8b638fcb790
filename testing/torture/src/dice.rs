//! Choices of a test's clients.

use mainstay_base::LockMode;

/// A small generator of choices: what a client does depends on its number alone.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Choices that follow from a number.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// One of the first `n` numbers.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// A mode that excludes somebody, more often than not everybody.
    pub fn mode(&mut self) -> LockMode {
        use LockMode::{Cr, Cw, Ex, Pr, Pw};
        [Ex, Ex, Ex, Pr, Pr, Pw, Cw, Cr][usize::try_from(self.below(8)).expect("small")]
    }
}
