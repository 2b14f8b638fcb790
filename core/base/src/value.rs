//! Lock value blocks.

use crate::VALUE_LEN_MAX;
use arrayvec::ArrayVec;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

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

/// The bytes of a value block, at most 64, kept inline. A lockspace fixes the length of its blocks;
/// a shorter write is padded with zeros by the lock engine.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ValueBlock(ArrayVec<u8, VALUE_LEN_MAX>);

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
    /// If there are more than 64.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<ValueBlock, ValueError> {
        let bytes = bytes.as_ref();
        ArrayVec::try_from(bytes)
            .map(ValueBlock)
            .map_err(|_| ValueError {
                len: bytes.len(),
                max: VALUE_LEN_MAX,
            })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// This block filled up with zeros to `len` bytes (at most 64).
    ///
    /// # Errors
    /// If it is longer than `len`.
    pub fn padded(mut self, len: usize) -> Result<ValueBlock, ValueError> {
        if self.0.len() > len {
            return Err(ValueError {
                len: self.0.len(),
                max: len,
            });
        }
        while self.0.len() < len.min(VALUE_LEN_MAX) {
            self.0.push(0);
        }
        Ok(self)
    }
}

impl fmt::Debug for ValueBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for b in &self.0 {
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Value {
    /// The last bytes known to have been published.
    pub block: ValueBlock,
    /// How often it had been published by then; zero means never, and the block is zeros.
    pub version: ValueVersion,
    /// A later write may have been lost: its writer died, or its master did and no survivor can
    /// vouch for the value. Cleared by the next write.
    pub maybe_stale: bool,
}
