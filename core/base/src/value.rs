//! Lock value blocks.

use crate::VALUE_LEN_MAX;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::sync::Arc;

/// Bytes of the count in a block.
const COUNT_LEN: usize = 8;

/// Grows with every publication of a resource's value block. Zero: never published. It counts the
/// publications; only after a mark that some may have been lost does it jump, to a number that none
/// of them can have had, so that a version never stands for two values.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ValueVersion(pub u64);

impl fmt::Display for ValueVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The bytes of a value block, at most 4096. A lockspace fixes the length of its blocks; a shorter
/// write is padded with zeros by the lock engine. Copies share their bytes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ValueBlock(Arc<[u8]>);

/// A value block that is longer than its lockspace allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value block of {len} bytes does not fit; this lockspace allows {max}")]
pub struct ValueError {
    /// Bytes given.
    pub len: usize,
    /// Bytes allowed.
    pub max: usize,
}

impl ValueBlock {
    /// Copies bytes into a block.
    ///
    /// # Errors
    /// If there are more than 4096.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<ValueBlock, ValueError> {
        let bytes = bytes.as_ref();
        if bytes.len() > VALUE_LEN_MAX {
            return Err(ValueError {
                len: bytes.len(),
                max: VALUE_LEN_MAX,
            });
        }
        Ok(ValueBlock(bytes.into()))
    }

    /// The count in the first eight bytes, a little-endian `i64`; missing bytes count as zeros.
    #[must_use]
    pub fn count(&self) -> i64 {
        let mut bytes = [0; COUNT_LEN];
        let len = self.0.len().min(COUNT_LEN);
        bytes[..len].copy_from_slice(&self.0[..len]);
        i64::from_le_bytes(bytes)
    }

    /// This block with another count in its first eight bytes. Shorter blocks grow to eight.
    #[must_use]
    pub fn with_count(&self, count: i64) -> ValueBlock {
        let rest = self.0.iter().copied().skip(COUNT_LEN);
        ValueBlock(count.to_le_bytes().into_iter().chain(rest).collect())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// This block filled up with zeros to `len` bytes (at most 4096).
    ///
    /// # Errors
    /// If it is longer than `len`.
    pub fn padded(self, len: usize) -> Result<ValueBlock, ValueError> {
        if self.0.len() > len {
            return Err(ValueError {
                len: self.0.len(),
                max: len,
            });
        }
        let zeros = len.min(VALUE_LEN_MAX).saturating_sub(self.0.len());
        if zeros == 0 {
            return Ok(self);
        }
        let filled = self.0.iter().copied().chain(core::iter::repeat_n(0, zeros));
        Ok(ValueBlock(filled.collect()))
    }
}

impl fmt::Debug for ValueBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for b in self.0.iter() {
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

impl Serialize for ValueBlock {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.collect_str(&format_args!("{self:?}"))
        } else {
            s.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for ValueBlock {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<ValueBlock, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = ValueBlock;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a value block of at most {VALUE_LEN_MAX} bytes")
            }

            fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<ValueBlock, E> {
                ValueBlock::new(v).map_err(E::custom)
            }
        }
        d.deserialize_bytes(Bytes)
    }
}

/// A value block as a reader gets it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Value {
    /// The last bytes known to have been published.
    pub block: ValueBlock,
    /// How often it had been published by then; zero means never, and the block is zeros.
    pub version: ValueVersion,
    /// A later write may have been lost: its writer died, or its master did and no survivor can
    /// vouch for the value. Cleared by the next write.
    pub maybe_stale: bool,
}

/// A change of a value block by its master, in one step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ValueUpdate {
    /// Publish a block if the value is the one that the caller has read.
    Swap {
        /// Its version; zero if none was ever published.
        expect: ValueVersion,
        /// It was marked as possibly stale. Whoever swaps a marked value says that it knows.
        expect_stale: bool,
        /// What to publish; filled up with zeros.
        block: ValueBlock,
    },
    /// Count the block's first eight bytes, a little-endian `i64`, up or down. A mark stays: the sum
    /// is as doubtful as what was added to.
    Add {
        /// By so much.
        delta: i64,
    },
}

/// What a [`ValueUpdate`] came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Updated {
    /// Whether it was done: a swap is not if the value is another than expected.
    pub done: bool,
    /// The value afterwards.
    pub value: Value,
}

impl Value {
    /// The count in the first eight bytes, a little-endian `i64`; missing bytes count as zeros.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.block.count()
    }
}
