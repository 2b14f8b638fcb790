//! The formats of messages and records: a version byte, then fields in postcard encoding.
//!
//! The library's own protobuf encoding is used neither between members nor on disk, so its parser
//! never sees foreign bytes, and no message can be expressed that a member has no business sending.

use crate::configuration::Configuration;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};

/// First byte of every message between members.
pub(crate) const MESSAGE_VERSION: u8 = 1;
/// First byte of every record.
pub(crate) const RECORD_VERSION: u8 = 1;

/// Bytes that are encoded as one block instead of one by one.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        struct Block;
        impl de::Visitor<'_> for Block {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a block of bytes")
            }

            fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(v.to_vec()))
            }
        }
        d.deserialize_bytes(Block)
    }
}

/// One step of a configuration change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    Voter(u64),
    Learner(u64),
    Remove(u64),
}

impl Step {
    pub(crate) fn id(self) -> u64 {
        match self {
            Step::Voter(id) | Step::Learner(id) | Step::Remove(id) => id,
        }
    }
}

/// What a log entry says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Payload {
    /// A new leader's first entry.
    Nothing,
    /// What the application proposed; not empty.
    Data(Bytes),
    /// A change of the configuration. More than one step makes two configurations overlap; no step
    /// ends the overlap.
    Change(Vec<Step>),
}

/// A log entry. Its index follows from where it stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    pub(crate) term: u64,
    pub(crate) payload: Payload,
}

/// The state that stands for all entries up to `index`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Base {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) configuration: Configuration,
    /// The application's state; empty for the state before the first entry.
    pub(crate) data: Bytes,
}

/// Term, vote and commit index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(crate) term: u64,
    /// Whom this member voted for in `term`; zero for nobody.
    pub(crate) vote: u64,
    pub(crate) commit: u64,
}

/// One durable write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) ballot: Ballot,
    pub(crate) base: Option<Base>,
    /// Index of the first of `entries`; zero if there are none.
    pub(crate) first: u64,
    pub(crate) entries: Vec<LogEntry>,
}

/// A message between two members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) to: u64,
    pub(crate) from: u64,
    pub(crate) term: u64,
    pub(crate) body: Body,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Body {
    Append {
        prev_index: u64,
        prev_term: u64,
        commit: u64,
        entries: Vec<LogEntry>,
    },
    /// `reject` names the place, index and term, from which the leader should try again.
    AppendReply {
        index: u64,
        commit: u64,
        reject: Option<(u64, u64)>,
    },
    /// `pre`: would you vote for me? `transfer`: the leader asked me to stand.
    Vote {
        pre: bool,
        transfer: bool,
        last_index: u64,
        last_term: u64,
        commit: u64,
        commit_term: u64,
    },
    VoteReply {
        pre: bool,
        reject: bool,
        commit: u64,
        commit_term: u64,
    },
    Snapshot(Base),
    Heartbeat {
        commit: u64,
    },
    HeartbeatReply {
        commit: u64,
    },
    TimeoutNow,
}

pub(crate) fn encode<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![version])
        .expect("these types encode without error and a vector takes any length")
}

/// Decodes what follows the version byte. All bytes must be used.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} bytes too many at the end", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}
