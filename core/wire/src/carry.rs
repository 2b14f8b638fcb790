//! What the life of a node that rests leaves to the next one, in a file of its state directory
//! (`docs/protocol/restart.md`).

use crate::{
    client::{Ask, Handle, ToClient},
    codec::{self, DecodeError},
    deadlock::OwnerId,
    dlm::ResourceId,
    keep::SessionKey,
    report::OwnerReport,
};
use mainstay_base::{
    ByteRange, Epoch, Incarnation, Instant, LockId, LockMode, NodeId, SessionId, Token, Value,
    fixed_hash,
};
use serde::{Deserialize, Serialize};

/// The format that this build writes, and the only one that it reads.
const VERSION: u8 = 2;
/// For the check of the bytes.
const SEED: u64 = 0x7265_7374;
/// Longest that is written, in bytes. A node whose sessions need more leaves as any does.
pub const CARRIED_LEN_MAX: usize = 256 << 20;

/// All that a life leaves to the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The node.
    pub node: NodeId,
    /// The life that rests.
    pub incarnation: Incarnation,
    /// When this was written, on the host's clock.
    pub at_ns: u64,
    /// The epoch since which the members are those below.
    pub members_since: Epoch,
    /// The other members, one of whom masters each lock.
    pub members: Vec<(NodeId, Incarnation)>,
    /// Above all numbers of locks.
    pub next_lock: u64,
    /// The sessions.
    pub sessions: Vec<CarriedSession>,
}

/// A kept session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedSession {
    /// Its number.
    pub session: SessionId,
    /// Its client.
    pub owner: OwnerReport,
    /// The group with which it connected.
    pub group: u32,
    /// Whether it may administer the node.
    pub privileged: bool,
    /// What proves that a connection may continue it.
    pub key: SessionKey,
    /// For how long it is kept, in milliseconds.
    pub grace_ms: u32,
    /// When its connection broke.
    pub broken_ns: u64,
    /// Requests up to this one have arrived.
    pub asked: u64,
    /// Messages told so far.
    pub told: u64,
    /// How many of them were heard.
    pub heard: u64,
    /// The others.
    pub unheard: Vec<ToClient>,
    /// Changes of value blocks that are held back.
    pub values: Vec<(Handle, Value)>,
    /// Calls that waited, and until when on the host's clock: they are made again.
    pub repeat: Vec<(u64, Ask, Option<u64>)>,
    /// Its deadlock priority.
    pub priority: u8,
    /// For whom it asks for locks, if not for itself.
    pub chosen: Option<OwnerId>,
    /// Its locks, in the order of their numbers.
    pub locks: Vec<CarriedLock>,
}

/// A lock that is granted, and waits for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedLock {
    /// Its number, which stays.
    pub lock: LockId,
    /// Its client's name for it.
    pub handle: Handle,
    /// On what.
    pub resource: ResourceId,
    /// Who masters that while the life rests. Nobody needs to know of a lock that survives its node: the
    /// log has it.
    pub master: Option<NodeId>,
    /// The mode; NL of one that holds ranges.
    pub mode: LockMode,
    /// The ranges that it holds, their modes and tokens, if it is on ranges.
    pub ranges: Vec<(ByteRange, LockMode, Token)>,
    /// The token.
    pub token: Token,
    /// The client wants blocking notices.
    pub blocking: bool,
    /// It uses the value block.
    pub valblk: bool,
    /// It goes when it is in the way of others that wait in a circle.
    pub yields: bool,
    /// It outlives its session.
    pub persistent: bool,
    /// The owner's copy of the value block.
    pub value: Option<Value>,
    /// A master that vanished may have made a change after that copy.
    pub unsure: bool,
    /// The client watches the value block.
    pub watches: bool,
    /// The lock that it is beneath.
    pub parent: Option<LockId>,
    /// Whose it is, if not its session's.
    pub owner: Option<OwnerId>,
    /// Within how many milliseconds its client heeds notices, and whether it goes otherwise.
    pub response: Option<(u32, bool)>,
}

/// Bytes that are nothing that a life has left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarriedError {
    /// Too few to be anything.
    #[error("it is cut off")]
    Short,
    /// Written by another build.
    #[error("it has format {found}, and this build reads format {VERSION} only")]
    Version {
        /// The format found.
        found: u8,
    },
    /// They are not as they were written.
    #[error("it is damaged")]
    Damaged,
    /// They do not follow the format.
    #[error("{0}")]
    Decode(#[from] DecodeError),
}

impl Carried {
    /// For the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        codec::encode(self, &mut bytes);
        let sum = fixed_hash(&bytes, SEED).to_le_bytes();
        bytes.extend(sum);
        bytes
    }

    /// From the file.
    ///
    /// # Errors
    /// If it was written by another build, or is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Carried, CarriedError> {
        let (bytes, sum) = bytes.split_last_chunk::<8>().ok_or(CarriedError::Short)?;
        let [version, rest @ ..] = bytes else {
            return Err(CarriedError::Short);
        };
        if *version != VERSION {
            return Err(CarriedError::Version { found: *version });
        }
        if fixed_hash(bytes, SEED).to_le_bytes() != *sum {
            return Err(CarriedError::Damaged);
        }
        Ok(codec::decode("hand-over", CARRIED_LEN_MAX, rest)?)
    }

    /// When it was written, on the host's clock.
    #[must_use]
    pub fn at(&self) -> Instant {
        Instant(self.at_ns)
    }

    /// Above all numbers of sessions.
    #[must_use]
    pub fn next_session(&self) -> u64 {
        let numbers = self.sessions.iter().map(|session| session.session.0);
        numbers.max().unwrap_or(0) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried() -> Carried {
        Carried {
            node: NodeId(2),
            incarnation: Incarnation(3),
            at_ns: 17,
            members_since: Epoch(9),
            members: vec![(NodeId(1), Incarnation(1))],
            next_lock: 5,
            sessions: Vec::new(),
        }
    }

    /// Protects locks from a file that is not what was written: any bit that is another is noticed.
    #[test]
    fn damage_is_noticed() {
        let bytes = carried().encode();
        assert_eq!(Carried::decode(&bytes), Ok(carried()));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(Carried::decode(&damaged).is_err(), "byte {at} bit {bit}");
            }
            assert!(Carried::decode(&bytes[..at]).is_err(), "{at} bytes");
        }
    }
}
