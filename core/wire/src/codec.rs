//! Encoding of messages as bytes, and the bounds on decoding them.

use serde::{Serialize, de::DeserializeOwned};

/// Bytes that are not a message of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than a message of this kind may have.
    #[error("a message of {len} bytes exceeds the limit of {max}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bytes do not follow the format.
    #[error("not a {what}: {why}")]
    Malformed {
        /// What was to be decoded.
        what: &'static str,
        /// The codec's complaint.
        why: String,
    },
    /// A whole message, and then more.
    #[error("{extra} bytes follow the end of a {what}")]
    Trailing {
        /// What was decoded.
        what: &'static str,
        /// Bytes left over.
        extra: usize,
    },
}

/// Appends the encoding of `message` to `out`.
///
/// # Panics
/// Never for the types of this crate: they have no failing serializers and sequences of known length.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) {
    let start = std::mem::take(out);
    *out = postcard::to_extend(message, start).expect("messages of this crate always serialize");
}

/// The encoding of `message` alone.
#[must_use]
pub fn to_vec<T: Serialize>(message: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode(message, &mut out);
    out
}

/// Decodes one message that must fill `bytes` exactly.
///
/// Memory stays in proportion to `bytes`: a length inside the message that exceeds what is left is
/// an error before anything of that length is allocated.
///
/// # Errors
/// If the bytes are too long, malformed, or more than one message.
pub fn decode<T: DeserializeOwned>(
    what: &'static str,
    max: usize,
    bytes: &[u8],
) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLong {
            len: bytes.len(),
            max,
        });
    }
    match postcard::take_from_bytes::<T>(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(DecodeError::Trailing {
            what,
            extra: rest.len(),
        }),
        Err(why) => Err(DecodeError::Malformed {
            what,
            why: why.to_string(),
        }),
    }
}
