//! Ranges of bytes, as locks on parts of a resource name them.

use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// The bytes from `start` to `end`, both included. An end of `u64::MAX` means to the end of
/// whatever the resource stands for. Never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "Bounds", into = "Bounds")]
pub struct ByteRange {
    start: u64,
    end: u64,
}

/// A range as it is written down, which may be the wrong way round.
#[derive(Serialize, Deserialize)]
#[serde(rename = "ByteRange")]
struct Bounds {
    start: u64,
    end: u64,
}

impl TryFrom<Bounds> for ByteRange {
    type Error = RangeError;

    fn try_from(bounds: Bounds) -> Result<ByteRange, RangeError> {
        ByteRange::new(bounds.start, bounds.end)
    }
}

impl From<ByteRange> for Bounds {
    fn from(range: ByteRange) -> Bounds {
        let ByteRange { start, end } = range;
        Bounds { start, end }
    }
}

/// What is no range of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The end is before the start.
    #[error("a range from {start} to {end} has no bytes; its end must not be before its start")]
    Backwards {
        /// The first byte.
        start: u64,
        /// The last byte.
        end: u64,
    },
    /// Not written as a range.
    #[error(
        "`{0}` is not a range of bytes; write FIRST-LAST, FIRST- for all from there, or one number"
    )]
    Unreadable(String),
}

impl ByteRange {
    /// All bytes.
    pub const ALL: ByteRange = ByteRange {
        start: 0,
        end: u64::MAX,
    };

    /// The bytes from `start` to `end`, both included.
    ///
    /// # Errors
    /// If `end` is smaller than `start`.
    pub const fn new(start: u64, end: u64) -> Result<ByteRange, RangeError> {
        match end < start {
            true => Err(RangeError::Backwards { start, end }),
            false => Ok(ByteRange { start, end }),
        }
    }

    /// The first byte.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The last byte, included.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Whether some byte is in both.
    #[must_use]
    pub const fn overlaps(self, other: ByteRange) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// Whether every byte of the other is in this one.
    #[must_use]
    pub const fn contains(self, other: ByteRange) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The bytes that are in both, if any are.
    #[must_use]
    pub fn common(self, other: ByteRange) -> Option<ByteRange> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        ByteRange::new(start, end).ok()
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            u64::MAX => f.pad(&format!("{}-", self.start)),
            end => f.pad(&format!("{}-{end}", self.start)),
        }
    }
}

impl FromStr for ByteRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<ByteRange, RangeError> {
        let unreadable = |_| RangeError::Unreadable(text.to_owned());
        let number = |text: &str| text.parse::<u64>().map_err(unreadable);
        let (start, end) = match text.split_once('-') {
            None => (number(text)?, number(text)?),
            Some((start, "")) => (number(start)?, u64::MAX),
            Some((start, end)) => (number(start)?, number(end)?),
        };
        ByteRange::new(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects what people type and read: each form means what it says, and comes back as it went.
    #[test]
    fn ranges_are_read_as_they_are_written() {
        for (text, start, end) in [("0-99", 0, 99), ("7", 7, 7), ("7-", 7, u64::MAX)] {
            let range: ByteRange = text.parse().expect("a range");
            assert_eq!((range.start(), range.end()), (start, end), "{text}");
            assert_eq!(range.to_string().parse(), Ok(range), "{text}");
        }
        let backwards = "9-3".parse::<ByteRange>();
        assert_eq!(backwards, Err(RangeError::Backwards { start: 9, end: 3 }));
        for text in ["", "-", "-9", "a-b", "1-2-3", "18446744073709551616"] {
            let read = text.parse::<ByteRange>();
            assert!(matches!(read, Err(RangeError::Unreadable(_))), "{text}");
        }
    }

    /// Protects the arithmetic at the edges: the last byte belongs to a range, and there is no
    /// byte after `u64::MAX`.
    #[test]
    fn both_ends_belong_to_a_range() {
        let range = |start, end| ByteRange::new(start, end).expect("forwards");
        assert!(range(0, 9).overlaps(range(9, 12)));
        assert!(!range(0, 9).overlaps(range(10, 12)));
        assert_eq!(range(0, 9).common(range(5, 12)), Some(range(5, 9)));
        assert_eq!(range(0, 9).common(range(10, 12)), None);
        assert!(ByteRange::ALL.contains(range(u64::MAX, u64::MAX)));
        assert!(!range(1, u64::MAX).contains(ByteRange::ALL));
    }
}
