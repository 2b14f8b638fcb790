//! The frame format.
//!
//! All numbers are little-endian.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | flags: bit 0, the echo field holds an echo |
//! | 2 | number of messages |
//! | 4 | probe: the sender's |
//! | 4 | echo: the receiver's probe as the sender last saw it |
//! | 8 | from: the sender's boot |
//! | 8 | to: the receiver's boot as the sender knows it, 0 if not |
//! | 8 | ack: the next message number that the sender expects |
//! | 8 | first: the number of the first message below |
//! | 4 + n | each message: its length, its bytes; numbers ascend by one |

use mainstay_base::BootId;

/// Longest frame, in bytes.
pub const FRAME_LEN_MAX: usize = 256 << 10;
/// Longest message, in bytes.
pub const MESSAGE_LEN_MAX: usize = 128 << 10;

pub(crate) const HEADER_LEN: usize = 44;
/// Bytes before each message.
pub(crate) const PREFIX_LEN: usize = 4;

const VERSION: u8 = 1;
const HAS_ECHO: u8 = 1;

/// A frame that does not follow the format. Nothing of it has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Shorter or longer than a frame can be.
    #[error("a frame of {len} bytes; frames have {HEADER_LEN} to {FRAME_LEN_MAX}")]
    Length {
        /// Bytes given.
        len: usize,
    },
    /// A format that this build does not know.
    #[error("frame format {found}; this build speaks {VERSION}")]
    Version {
        /// The format found.
        found: u8,
    },
    /// Unknown flags.
    #[error("frame flags {found:#04x}; only bit 0 has a meaning")]
    Flags {
        /// The flags found.
        found: u8,
    },
    /// The sender names no boot of its own.
    #[error("a frame must name the boot that sent it; this one names 0")]
    NoSender,
    /// Messages are numbered from 1.
    #[error(
        "message numbers begin at 1 and end below 2^63; this frame has first {first}, ack {ack}"
    )]
    Number {
        /// Number of the first message.
        first: u64,
        /// The acknowledgement.
        ack: u64,
    },
    /// The messages do not fill the frame exactly.
    #[error("message {index} of {count} does not fit the frame")]
    Messages {
        /// Which, from 0; `count` if bytes follow the last.
        index: usize,
        /// How many the header announces.
        count: usize,
    },
    /// A message is too long or empty.
    #[error("message {index} has {len} bytes; messages have 1 to {MESSAGE_LEN_MAX}")]
    MessageLength {
        /// Which, from 0.
        index: usize,
        /// Its announced length.
        len: usize,
    },
    /// The peer acknowledges what was never sent.
    #[error("the peer acknowledges up to message {ack}, but only {sent} were sent")]
    Acknowledged {
        /// The acknowledgement.
        ack: u64,
        /// The last message sent.
        sent: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) count: u16,
    pub(crate) probe: u32,
    pub(crate) echo: Option<u32>,
    pub(crate) from: BootId,
    pub(crate) to: BootId,
    pub(crate) ack: u64,
    pub(crate) first: u64,
}

impl Header {
    pub(crate) fn write(&self, out: &mut [u8]) {
        out[0] = VERSION;
        out[1] = if self.echo.is_some() { HAS_ECHO } else { 0 };
        out[2..4].copy_from_slice(&self.count.to_le_bytes());
        out[4..8].copy_from_slice(&self.probe.to_le_bytes());
        out[8..12].copy_from_slice(&self.echo.unwrap_or(0).to_le_bytes());
        out[12..20].copy_from_slice(&self.from.0.to_le_bytes());
        out[20..28].copy_from_slice(&self.to.0.to_le_bytes());
        out[28..36].copy_from_slice(&self.ack.to_le_bytes());
        out[36..44].copy_from_slice(&self.first.to_le_bytes());
    }

    fn read(frame: &[u8; HEADER_LEN]) -> Result<Header, LinkError> {
        if frame[0] != VERSION {
            return Err(LinkError::Version { found: frame[0] });
        }
        if frame[1] & !HAS_ECHO != 0 {
            return Err(LinkError::Flags { found: frame[1] });
        }
        let header = Header {
            count: u16::from_le_bytes([frame[2], frame[3]]),
            probe: u32_at(frame, 4),
            echo: (frame[1] & HAS_ECHO != 0).then(|| u32_at(frame, 8)),
            from: BootId(u64_at(frame, 12)),
            to: BootId(u64_at(frame, 20)),
            ack: u64_at(frame, 28),
            first: u64_at(frame, 36),
        };
        if header.from == BootId(0) {
            return Err(LinkError::NoSender);
        }
        let range = 1..(1 << 63);
        if !range.contains(&header.first) || !range.contains(&header.ack) {
            return Err(LinkError::Number {
                first: header.first,
                ack: header.ack,
            });
        }
        Ok(header)
    }
}

fn u32_at(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8; HEADER_LEN], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Checks a whole frame and returns its header and the bytes of its messages.
pub(crate) fn parse(frame: &[u8]) -> Result<(Header, &[u8]), LinkError> {
    let len = frame.len();
    if len > FRAME_LEN_MAX {
        return Err(LinkError::Length { len });
    }
    let Some((head, body)) = frame.split_first_chunk::<HEADER_LEN>() else {
        return Err(LinkError::Length { len });
    };
    let header = Header::read(head)?;
    let count = usize::from(header.count);
    let mut rest = body;
    for index in 0..count {
        let Some((prefix, tail)) = rest.split_first_chunk::<PREFIX_LEN>() else {
            return Err(LinkError::Messages { index, count });
        };
        let len = u32::from_le_bytes(*prefix) as usize;
        if len == 0 || len > MESSAGE_LEN_MAX {
            return Err(LinkError::MessageLength { index, len });
        }
        if len > tail.len() {
            return Err(LinkError::Messages { index, count });
        }
        rest = &tail[len..];
    }
    if rest.is_empty() {
        Ok((header, body))
    } else {
        Err(LinkError::Messages {
            index: count,
            count,
        })
    }
}

/// The messages of a body that [`parse`] has checked.
pub(crate) fn messages(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (prefix, tail) = body.split_first_chunk::<PREFIX_LEN>()?;
        let (message, rest) = tail.split_at_checked(u32::from_le_bytes(*prefix) as usize)?;
        body = rest;
        Some(message)
    })
}
