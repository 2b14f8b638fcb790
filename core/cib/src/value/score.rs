//! Scores and their arithmetic.

use super::FromText;
use core::{fmt, ops};

/// A score: how much something is wanted. A million and more is [`Score::INFINITY`], must; a million
/// below zero and less is [`Score::NEVER`], must not.
///
/// Sums stay in that range, must not wins over must, and both win over every finite number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score(i32);

impl Score {
    /// Must.
    pub const INFINITY: Score = Score(1_000_000);
    /// Must not.
    pub const NEVER: Score = Score(-1_000_000);
    /// Indifferent.
    pub const ZERO: Score = Score(0);

    /// A score, taken into the range.
    #[must_use]
    pub fn new(value: i64) -> Score {
        Score(value.clamp(-1_000_000, 1_000_000) as i32)
    }

    /// The number, from minus a million to a million.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }

    /// Whether it means must.
    #[must_use]
    pub fn is_infinite(self) -> bool {
        self == Score::INFINITY
    }

    /// Whether it means must not.
    #[must_use]
    pub fn is_never(self) -> bool {
        self == Score::NEVER
    }
}

impl ops::Add for Score {
    type Output = Score;

    fn add(self, other: Score) -> Score {
        if self.is_never() || other.is_never() {
            Score::NEVER
        } else if self.is_infinite() || other.is_infinite() {
            Score::INFINITY
        } else {
            Score::new(i64::from(self.0) + i64::from(other.0))
        }
    }
}

impl ops::AddAssign for Score {
    fn add_assign(&mut self, other: Score) {
        *self = *self + other;
    }
}

impl ops::Neg for Score {
    type Output = Score;

    fn neg(self) -> Score {
        Score(-self.0)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Score::INFINITY => f.write_str("INFINITY"),
            Score::NEVER => f.write_str("-INFINITY"),
            Score(value) => write!(f, "{value}"),
        }
    }
}

impl FromText for Score {
    const EXPECTED: &'static str = "a whole number, INFINITY or -INFINITY";

    /// The colours of node health (red, yellow, green) are no scores of their own: what they count
    /// is a matter of cluster options.
    fn from_text(text: &str) -> Option<Score> {
        let text = text.trim();
        let (negative, size) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let size = if size.eq_ignore_ascii_case("INFINITY") || size.eq_ignore_ascii_case("inf") {
            Score::INFINITY
        } else if !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit()) {
            // A number too long to be read is beyond a million too.
            Score::new(size.parse().unwrap_or(i64::MAX))
        } else {
            return None;
        };
        Some(if negative { -size } else { size })
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects placement: how infinities add up decides what may run where.
    #[test]
    fn infinities_win_and_never_wins_over_them() {
        let score = |s: &str| Score::from_text(s).unwrap();
        assert_eq!(score("999999") + score("5"), Score::INFINITY);
        assert_eq!(score("INFINITY") + score("-5"), Score::INFINITY);
        assert_eq!(score("+INFINITY") + score("-INFINITY"), Score::NEVER);
        assert_eq!(score("-3") + score("5"), Score::new(2));
        assert_eq!(score("99999999999999999999"), Score::INFINITY);
        assert_eq!(score("-1000000"), Score::NEVER);
        for bad in ["", "-", "high", "1.5", "--1"] {
            assert_eq!(Score::from_text(bad), None, "{bad}");
        }
    }
}
