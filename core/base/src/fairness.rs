//! In which order a lockspace grants what waits.

use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// In which order the calls that wait for one resource are granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Order {
    /// In that of their arrival, as the lock managers of VMS and Linux do.
    #[default]
    Fifo,
    /// Readers and writers by turns: with each reader all that wait are let in, then one writer.
    PhaseFair,
    /// In that of their priorities, by which a call counts as having come earlier.
    Priority,
}

impl Order {
    /// All of them.
    pub const ALL: [Order; 3] = [Order::Fifo, Order::PhaseFair, Order::Priority];

    /// The word for it in commands and configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Order::Fifo => "fifo",
            Order::PhaseFair => "phase-fair",
            Order::Priority => "priority",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no order.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no order; there are fifo, phase-fair and priority")]
pub struct UnknownOrder(String);

impl FromStr for Order {
    type Err = UnknownOrder;

    fn from_str(word: &str) -> Result<Order, UnknownOrder> {
        let order = Order::ALL.into_iter().find(|order| order.name() == word);
        order.ok_or_else(|| UnknownOrder(word.to_owned()))
    }
}

/// How a lockspace shares its resources out among those who want them. Fixed when it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fairness {
    /// In which order what waits is granted.
    pub order: Order,
    /// So many conversions may pass whoever waits foremost, 1 to 255; with 0 any number, as in VMS and
    /// Linux.
    pub overtake: u8,
    /// For so many milliseconds after a grant its holder is not told that it is in the way: to do some
    /// work before the lock goes on. 0 to 10 000.
    pub min_hold_ms: u16,
}

impl Fairness {
    /// So many conversions pass who waits foremost, if nobody says otherwise.
    pub const OVERTAKE_DEFAULT: u8 = 64;
    /// The longest time for which notices may be kept from a holder, in milliseconds.
    pub const MIN_HOLD_MS_MAX: u16 = 10_000;

    /// Whether the values are within their ranges.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.min_hold_ms <= Fairness::MIN_HOLD_MS_MAX
    }
}

impl Default for Fairness {
    fn default() -> Fairness {
        Fairness {
            order: Order::Fifo,
            overtake: Fairness::OVERTAKE_DEFAULT,
            min_hold_ms: 0,
        }
    }
}
