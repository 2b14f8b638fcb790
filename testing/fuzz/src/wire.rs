//! The codec of `mainstay-wire`: messages between lock managers, and between client and daemon.

use crate::memory::bounded;
use mainstay_wire::{
    client::{FromClient, MESSAGE_LEN_MAX, ToClient},
    codec, dlm,
};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// Bytes of memory that one byte of a message may cost. The worst are lists whose elements are large
/// in memory and can be written in a few bytes.
const FACTOR: usize = 64;
/// What any message may cost beside that: `serde` reserves up to a mebibyte for a list whose length
/// the rest of the message could hold, and lists nest.
const BASE: usize = 4 << 20;

pub(crate) fn limit(len: usize) -> usize {
    BASE.min(len * 512) + FACTOR * len + 4096
}

/// Decodes; what decodes is written and read again, and must come back the same.
pub(crate) fn round_trip<T>(what: &'static str, max: usize, data: &[u8]) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let decoded = bounded(what, limit(data.len()), || {
        codec::decode::<T>(what, max, data).ok()
    });
    let message = decoded?;
    let bytes = codec::to_vec(&message);
    // A number may be written longer than need be; we never do.
    assert!(
        bytes.len() <= data.len(),
        "{what}: the encoding has grown from {} to {} bytes",
        data.len(),
        bytes.len()
    );
    let again = codec::decode::<T>(what, max, &bytes);
    assert_eq!(
        again.as_ref(),
        Ok(&message),
        "{what}: reads as something else"
    );
    assert_eq!(
        codec::to_vec(&message),
        bytes,
        "{what}: two encodings of one message"
    );
    Some(message)
}

/// What a lock manager hears from another.
pub(crate) fn dlm(data: &[u8]) {
    round_trip::<dlm::Message>("lock message", mainstay_link::MESSAGE_LEN_MAX, data);
}

/// What a daemon hears from a client.
pub(crate) fn asks(data: &[u8]) {
    round_trip::<FromClient>("client message", MESSAGE_LEN_MAX, data);
}

/// What a client hears from its daemon, reports and events included.
pub(crate) fn answers(data: &[u8]) {
    round_trip::<ToClient>("message to a client", MESSAGE_LEN_MAX, data);
}
