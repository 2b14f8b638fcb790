//! The read buffer of a connection, cut into sealed frames.

use crate::wire::{FRAME_HEADER_LEN, SEALED_LEN_MAX, decode_frame_header};

const SIZE: usize = 64 << 10;
/// Room for the largest frame, and a good piece to read behind all but its last byte.
const MAX: usize = SEALED_LEN_MAX + SIZE;
/// An empty buffer larger than this is given back.
const KEEP_MAX: usize = 256 << 10;

/// Takes in bytes as they come and gives out whole sealed frames. Grows only as fast as bytes
/// really arrive, and never much beyond the largest frame.
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox {
            buffer: vec![0; SIZE],
            start: 0,
            end: 0,
        }
    }

    /// Where to read to; never empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEEP_MAX {
                self.buffer = vec![0; SIZE];
            }
        }
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            // Still more than half full with the beginning of one frame.
            if self.end > self.buffer.len() / 2 && self.buffer.len() < MAX {
                self.buffer.resize((self.buffer.len() * 2).min(MAX), 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were read to [`Inbox::space`].
    pub(crate) fn filled(&mut self, n: usize) {
        self.end += n;
    }

    /// The next whole frame without its header, if it has arrived.
    ///
    /// # Errors
    /// The announced length, if no frame has it.
    pub(crate) fn next_sealed(&mut self) -> Result<Option<&[u8]>, u32> {
        let bytes = &self.buffer[self.start..self.end];
        let Some(header) = bytes.first_chunk::<FRAME_HEADER_LEN>() else {
            return Ok(None);
        };
        let Ok(len) = decode_frame_header(header) else {
            return Err(u32::from_le_bytes(*header));
        };
        let whole = FRAME_HEADER_LEN + len;
        if bytes.len() < whole {
            return Ok(None);
        }
        let from = self.start + FRAME_HEADER_LEN;
        self.start += whole;
        Ok(Some(&self.buffer[from..from + len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sealed_len;

    fn frame(len: usize, fill: u8) -> Vec<u8> {
        let sealed = sealed_len(len);
        let mut bytes = u32::try_from(sealed).expect("small").to_le_bytes().to_vec();
        bytes.resize(FRAME_HEADER_LEN + sealed, fill);
        bytes
    }

    /// Protects framing from how TCP cuts the stream, and the buffer from growing without need.
    #[test]
    fn any_cutting_gives_the_same_frames() {
        let lens = [0, 1, 64, 70_000, 3, 1 << 20, 0, 5, 200_000];
        let stream: Vec<u8> = lens
            .iter()
            .enumerate()
            .flat_map(|(i, &len)| frame(len, i as u8))
            .collect();
        for step in [1, 7, 1000, 65_536, stream.len()] {
            let (mut inbox, mut rest, mut got) = (Inbox::new(), &stream[..], Vec::new());
            while !rest.is_empty() {
                let space = inbox.space();
                let n = space.len().min(step).min(rest.len());
                assert!(n > 0);
                space[..n].copy_from_slice(&rest[..n]);
                rest = &rest[n..];
                inbox.filled(n);
                while let Some(sealed) = inbox.next_sealed().expect("possible lengths") {
                    got.push((sealed.len(), sealed[0]));
                }
                assert!(inbox.buffer.len() <= MAX);
            }
            let expected: Vec<_> = (0u8..).zip(lens).map(|(i, l)| (sealed_len(l), i)).collect();
            assert_eq!(got, expected, "steps of {step}");
            inbox.space();
            assert!(inbox.buffer.len() <= KEEP_MAX);
        }
    }

    /// Protects memory: an impossible length is refused before a byte of it is awaited.
    #[test]
    fn hostile_length_is_refused_at_the_header() {
        let mut inbox = Inbox::new();
        inbox.space()[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        inbox.filled(4);
        assert_eq!(inbox.next_sealed(), Err(u32::MAX));
    }
}
