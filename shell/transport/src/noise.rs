//! The Noise handshake and the sealing of frames. All cryptography is snow's.

use crate::{
    key::ClusterKey,
    wire::{
        CHUNK_DATA_MAX, CHUNK_OVERHEAD, FRAME_HEADER_LEN, NOISE_MESSAGE_MAX, TAG_LEN, sealed_len,
    },
};
use snow::{Builder, HandshakeState, TransportState};

/// No static keys: who holds the cluster key is a node. Fresh ephemeral keys per connection, so a
/// key that leaks later does not open recorded traffic.
const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";

/// After so many Noise messages in one direction its key is changed (Noise section 11.3), far below
/// where AES-GCM's bounds begin to matter.
const REKEY_EVERY: u64 = 1 << 16;

const MORE: u8 = 1;
const LAST: u8 = 0;

/// What is not to be told apart: a changed, replayed, cut or misplaced message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsealable;

/// The caller's or the called node's side of a handshake. `prologue` must be the same on both sides.
pub(crate) fn handshake(key: &ClusterKey, prologue: &[u8], caller: bool) -> HandshakeState {
    let pattern = PATTERN.parse().expect("the pattern is one that snow knows");
    let build = || {
        let builder = Builder::new(pattern)
            .prologue(prologue)?
            .psk(0, key.bytes())?;
        if caller {
            builder.build_initiator()
        } else {
            builder.build_responder()
        }
    };
    build().expect("snow was built with the primitives that the pattern names")
}

/// Seals and opens the frames of one connection.
pub(crate) struct Channel {
    noise: TransportState,
    /// A chunk with its last byte, so that snow finds them in one piece.
    scratch: Vec<u8>,
}

impl Channel {
    /// A channel after a finished handshake.
    pub(crate) fn new(noise: TransportState) -> Channel {
        Channel {
            noise,
            scratch: Vec::new(),
        }
    }

    /// Appends the frame, sealed and with its header, to `out`.
    pub(crate) fn seal(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        let total = sealed_len(frame.len());
        let header = u32::try_from(total).expect("frames are bounded below 32 bits");
        out.reserve(FRAME_HEADER_LEN + total);
        out.extend_from_slice(&header.to_le_bytes());
        let mut rest = frame;
        loop {
            let (chunk, tail) = rest.split_at(rest.len().min(CHUNK_DATA_MAX));
            // Without this mark inside the seal, someone on the way could join and split frames.
            let mark = if tail.is_empty() { LAST } else { MORE };
            self.scratch.clear();
            self.scratch.extend_from_slice(chunk);
            self.scratch.push(mark);
            let start = out.len();
            out.resize(start + self.scratch.len() + TAG_LEN, 0);
            let written = self.noise.write_message(&self.scratch, &mut out[start..]);
            written.expect("chunks fit a Noise message, and 2^64 of them are never sent");
            if self.noise.sending_nonce().is_multiple_of(REKEY_EVERY) {
                self.noise.rekey_outgoing();
            }
            if tail.is_empty() {
                return;
            }
            rest = tail;
        }
    }

    /// Opens one sealed frame, given without its header.
    pub(crate) fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        // The size of the sealed bytes, because snow copies once more when given less.
        let mut frame = vec![0; sealed.len()];
        let mut filled = 0;
        let mut chunks = sealed.chunks(NOISE_MESSAGE_MAX).peekable();
        while let Some(chunk) = chunks.next() {
            if chunk.len() < CHUNK_OVERHEAD {
                return Err(Unsealable);
            }
            let n = self
                .noise
                .read_message(chunk, &mut frame[filled..])
                .map_err(|_| Unsealable)?;
            if self.noise.receiving_nonce().is_multiple_of(REKEY_EVERY) {
                self.noise.rekey_incoming();
            }
            filled += n - 1;
            let expected = if chunks.peek().is_some() { MORE } else { LAST };
            if frame[filled] != expected {
                return Err(Unsealable);
            }
        }
        frame.truncate(filled);
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::FRAME_LEN_MAX;

    fn pair() -> (Channel, Channel) {
        let key = ClusterKey::from_bytes([7; 32]);
        let (mut a, mut b) = (handshake(&key, b"p", true), handshake(&key, b"p", false));
        let (mut wire, mut text) = ([0; 200], [0; 200]);
        let n = a.write_message(b"one", &mut wire).expect("writes");
        b.read_message(&wire[..n], &mut text).expect("reads");
        let n = b.write_message(b"two", &mut wire).expect("writes");
        a.read_message(&wire[..n], &mut text).expect("reads");
        (
            Channel::new(a.into_transport_mode().expect("finished")),
            Channel::new(b.into_transport_mode().expect("finished")),
        )
    }

    fn sealed(channel: &mut Channel, frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        channel.seal(frame, &mut out);
        assert_eq!(out.len(), FRAME_HEADER_LEN + sealed_len(frame.len()));
        out.split_off(FRAME_HEADER_LEN)
    }

    /// Protects frames of every size around the limit of a Noise message, and the empty one.
    #[test]
    fn frames_of_all_sizes_survive() {
        let (mut a, mut b) = pair();
        for len in [
            0,
            1,
            CHUNK_DATA_MAX - 1,
            CHUNK_DATA_MAX,
            CHUNK_DATA_MAX + 1,
            2 * CHUNK_DATA_MAX,
            FRAME_LEN_MAX,
        ] {
            let frame: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let bytes = sealed(&mut a, &frame);
            assert!(b.open(&bytes).expect("ours") == frame, "{len}");
        }
    }

    /// Protects long connections: both sides change keys at the same message, in both directions.
    #[test]
    fn keys_change_in_step() {
        let (mut a, mut b) = pair();
        for i in 0..REKEY_EVERY + 10 {
            let bytes = sealed(&mut a, &i.to_le_bytes());
            assert_eq!(b.open(&bytes).expect("in step"), i.to_le_bytes());
        }
        let bytes = sealed(&mut b, b"back");
        assert_eq!(a.open(&bytes).expect("in step"), b"back");
    }

    /// Protects frame boundaries, which the clear header alone would leave to whoever sits between:
    /// sealed chunks cannot be joined to a longer frame or cut to a shorter one.
    #[test]
    fn frames_cannot_be_joined_or_split() {
        let (mut a, mut b) = pair();
        let mut joined = sealed(&mut a, &vec![1; CHUNK_DATA_MAX]);
        joined.extend(sealed(&mut a, b"second"));
        assert_eq!(b.open(&joined), Err(Unsealable));

        let (mut a, mut b) = pair();
        let long = sealed(&mut a, &vec![1; CHUNK_DATA_MAX + 5]);
        assert_eq!(b.open(&long[..NOISE_MESSAGE_MAX]), Err(Unsealable));
    }

    /// Protects content and order: a flipped bit, a repeated and a skipped frame are all noticed.
    #[test]
    fn changes_repeats_and_gaps_are_noticed() {
        let (mut a, mut b) = pair();
        let mut bytes = sealed(&mut a, b"payload");
        bytes[3] ^= 1;
        assert_eq!(b.open(&bytes), Err(Unsealable));

        let (mut a, mut b) = pair();
        let first = sealed(&mut a, b"first");
        let _lost = sealed(&mut a, b"second");
        let third = sealed(&mut a, b"third");
        b.open(&first).expect("fresh");
        assert_eq!(b.open(&first), Err(Unsealable));
        assert_eq!(b.open(&third), Err(Unsealable));
    }
}
