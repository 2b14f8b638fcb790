//! What stands on the wire, as pure functions. The layout of the preamble, of the message header
//! and of refusals never changes, so that any two versions can tell each other why they part.
//!
//! ```text
//! caller                                   called
//! preamble, Handshake(noise 1: Hello)  ->
//!                                      <-  preamble, Handshake(noise 2: Hello)   or Refusal
//! Confirm(noise, empty)                ->                                        or Refusal
//! frames                              <->  frames
//! ```

use crate::reason::RefusalReason;
use mainstay_base::{BootId, FRAME_LEN_MAX, LinkId, NodeId};
use serde::{Deserialize, Serialize};

/// Oldest transport version that this build speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest transport version that this build speaks.
pub const VERSION_MAX: u16 = 1;

/// Bytes of a preamble.
pub const PREAMBLE_LEN: usize = 12;
const MAGIC: [u8; 8] = *b"mainstay";
/// Bytes of a handshake message's header.
pub const HEADER_LEN: usize = 3;
/// Largest body of a handshake message, in bytes. All that a stranger can make us keep.
pub const HANDSHAKE_BODY_MAX: usize = 4096;
/// Longest cluster name, in bytes.
pub const CLUSTER_NAME_MAX: usize = 64;
/// Longest text of cluster parameters, in bytes.
pub const PARAMS_LEN_MAX: usize = 1024;
/// Longest software version text, in bytes.
pub const SOFTWARE_LEN_MAX: usize = 64;
const REFUSAL_TEXT_MAX: usize = 160;

/// Bytes of a frame header.
pub const FRAME_HEADER_LEN: usize = 4;
/// Largest Noise message, in bytes, fixed by the Noise specification.
pub const NOISE_MESSAGE_MAX: usize = 65535;
/// Authentication tag, in bytes.
pub(crate) const TAG_LEN: usize = 16;
/// The tag and our own byte that says whether the frame goes on.
pub(crate) const CHUNK_OVERHEAD: usize = TAG_LEN + 1;
/// Bytes of a frame that one Noise message takes.
pub(crate) const CHUNK_DATA_MAX: usize = NOISE_MESSAGE_MAX - CHUNK_OVERHEAD;
/// Largest sealed frame, in bytes, without its header.
pub const SEALED_LEN_MAX: usize = sealed_len(FRAME_LEN_MAX);

/// Bytes that a frame of `len` bytes has on the wire after its header.
#[must_use]
pub const fn sealed_len(len: usize) -> usize {
    let chunks = if len == 0 {
        1
    } else {
        len.div_ceil(CHUNK_DATA_MAX)
    };
    len + chunks * CHUNK_OVERHEAD
}

/// Why bytes from the wire could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first bytes are not ours.
    #[error("the first bytes are not those of a Mainstay node")]
    Magic,
    /// A version range that is empty, or starts at zero.
    #[error("the version range {min} to {max} is empty; it must be 1 or more and not fall")]
    VersionRange {
        /// Oldest version offered.
        min: u16,
        /// Newest version offered.
        max: u16,
    },
    /// Fewer bytes than the item has.
    #[error("{what} ends after {len} bytes")]
    Short {
        /// What was to be read.
        what: &'static str,
        /// Bytes given.
        len: usize,
    },
    /// A kind of handshake message that does not exist.
    #[error("there is no handshake message of kind {0}")]
    Kind(u8),
    /// A handshake message or field above its bound.
    #[error("{what} has {len} bytes; at most {max} are allowed")]
    Long {
        /// What was to be read.
        what: &'static str,
        /// Bytes announced or given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A hello that does not decode.
    #[error("the hello does not decode")]
    Hello,
    /// A boot id of zero, which no node draws.
    #[error("the hello has boot id 0, which no node draws")]
    Boot,
    /// A frame length that no frame has.
    #[error("no sealed frame has {0} bytes")]
    FrameLength(u32),
}

/// The first bytes of both sides, in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Oldest transport version spoken.
    pub version_min: u16,
    /// Newest transport version spoken.
    pub version_max: u16,
}

impl Preamble {
    /// This build's preamble.
    pub const OURS: Preamble = Preamble {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
    };

    /// The newest version that both sides speak.
    #[must_use]
    pub fn common_version(self, other: Preamble) -> Option<u16> {
        let newest = self.version_max.min(other.version_max);
        (newest >= self.version_min && newest >= other.version_min).then_some(newest)
    }
}

/// The preamble's bytes.
#[must_use]
pub fn encode_preamble(preamble: Preamble) -> [u8; PREAMBLE_LEN] {
    let mut bytes = [0; PREAMBLE_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&preamble.version_min.to_le_bytes());
    bytes[10..].copy_from_slice(&preamble.version_max.to_le_bytes());
    bytes
}

/// Reads a preamble from the start of `bytes`.
///
/// # Errors
/// If it is short, not ours, or offers no version.
pub fn decode_preamble(bytes: &[u8]) -> Result<Preamble, WireError> {
    let Some(bytes) = bytes.first_chunk::<PREAMBLE_LEN>() else {
        return Err(WireError::Short {
            what: "the preamble",
            len: bytes.len(),
        });
    };
    if bytes[..8] != MAGIC {
        return Err(WireError::Magic);
    }
    let min = u16::from_le_bytes([bytes[8], bytes[9]]);
    let max = u16::from_le_bytes([bytes[10], bytes[11]]);
    if min == 0 || max < min {
        return Err(WireError::VersionRange { min, max });
    }
    Ok(Preamble {
        version_min: min,
        version_max: max,
    })
}

/// Kinds of messages between the preamble and the first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A Noise handshake message.
    Handshake,
    /// The sender refuses, in clear.
    Refusal,
    /// The caller's proof that it is alive now: an empty Noise transport message.
    Confirm,
}

impl MessageKind {
    fn wire_code(self) -> u8 {
        match self {
            MessageKind::Handshake => 1,
            MessageKind::Refusal => 2,
            MessageKind::Confirm => 3,
        }
    }
}

/// Appends a handshake message with its header.
///
/// # Panics
/// If the body is longer than [`HANDSHAKE_BODY_MAX`]; the bounds on its fields forbid that.
pub fn encode_message(kind: MessageKind, body: &[u8], out: &mut Vec<u8>) {
    assert!(body.len() <= HANDSHAKE_BODY_MAX, "the fields are bounded");
    let len = u16::try_from(body.len()).expect("the bound fits 16 bits");
    out.push(kind.wire_code());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(body);
}

/// Reads a handshake message's header: its kind and the length of its body.
///
/// # Errors
/// If it is short, of an unknown kind, or announces more than [`HANDSHAKE_BODY_MAX`] bytes.
pub fn decode_header(bytes: &[u8]) -> Result<(MessageKind, usize), WireError> {
    let Some(&[kind, low, high]) = bytes.first_chunk::<HEADER_LEN>() else {
        return Err(WireError::Short {
            what: "the message header",
            len: bytes.len(),
        });
    };
    let kind = match kind {
        1 => MessageKind::Handshake,
        2 => MessageKind::Refusal,
        3 => MessageKind::Confirm,
        other => return Err(WireError::Kind(other)),
    };
    let len = usize::from(u16::from_le_bytes([low, high]));
    bounded("the handshake message", len, HANDSHAKE_BODY_MAX)?;
    Ok((kind, len))
}

/// What both sides tell each other inside the encrypted handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's preamble again, so that nobody on the way can pretend an older version.
    pub version_min: u16,
    /// See `version_min`.
    pub version_max: u16,
    /// The cluster's name.
    pub cluster: String,
    /// The sender.
    pub from: NodeId,
    /// Whom the sender believes to talk to.
    pub to: NodeId,
    /// The sender's boot id, never zero.
    pub boot: BootId,
    /// Number of the link.
    pub link: LinkId,
    /// The cluster parameters, to be compared byte by byte.
    pub params: Vec<u8>,
    /// The sender's software version, for the log.
    pub software: String,
}

/// The hello's bytes.
///
/// # Panics
/// Never: none of its fields can fail to encode.
#[must_use]
pub fn encode_hello(hello: &Hello) -> Vec<u8> {
    postcard::to_stdvec(hello).expect("plain fields encode")
}

/// Reads a hello. Bytes after the known fields are ignored: a later version may append some.
///
/// # Errors
/// If it does not decode or a field is above its bound.
pub fn decode_hello(bytes: &[u8]) -> Result<Hello, WireError> {
    let (hello, _) = postcard::take_from_bytes::<Hello>(bytes).map_err(|_| WireError::Hello)?;
    bounded("the cluster name", hello.cluster.len(), CLUSTER_NAME_MAX)?;
    bounded("the parameter text", hello.params.len(), PARAMS_LEN_MAX)?;
    bounded("the version text", hello.software.len(), SOFTWARE_LEN_MAX)?;
    if hello.boot == BootId(0) {
        return Err(WireError::Boot);
    }
    Ok(hello)
}

fn bounded(what: &'static str, len: usize, max: usize) -> Result<(), WireError> {
    if len > max {
        return Err(WireError::Long { what, len, max });
    }
    Ok(())
}

/// A refusal as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, [`RefusalReason::Other`] if this version does not know the code.
    pub reason: RefusalReason,
    /// The refuser's own short text, made printable. Comes from an unauthenticated peer.
    pub text: String,
}

/// The body of a refusal: the code and a text that depends on nothing but the code.
#[must_use]
pub fn encode_refusal(reason: RefusalReason) -> Vec<u8> {
    let mut body = vec![reason.wire_code()];
    body.extend_from_slice(reason.what().as_bytes());
    body
}

/// Reads the body of a refusal.
///
/// # Errors
/// If it has no bytes.
pub fn decode_refusal(body: &[u8]) -> Result<Refusal, WireError> {
    let Some((&code, text)) = body.split_first() else {
        return Err(WireError::Short {
            what: "the refusal",
            len: 0,
        });
    };
    Ok(Refusal {
        reason: RefusalReason::from_wire_code(code),
        text: printable(text, REFUSAL_TEXT_MAX),
    })
}

/// At most `max` characters of bytes from a peer, fit for a log line.
pub(crate) fn printable(bytes: &[u8], max: usize) -> String {
    bytes
        .iter()
        .take(max)
        .map(|&b| match b {
            b' '..=b'~' => char::from(b),
            _ => '?',
        })
        .collect()
}

/// Reads a frame header: the number of sealed bytes that follow.
///
/// # Errors
/// If it is short, or no frame of at most [`FRAME_LEN_MAX`] bytes has this length.
pub fn decode_frame_header(bytes: &[u8]) -> Result<usize, WireError> {
    let Some(header) = bytes.first_chunk::<FRAME_HEADER_LEN>() else {
        return Err(WireError::Short {
            what: "the frame header",
            len: bytes.len(),
        });
    };
    let raw = u32::from_le_bytes(*header);
    let len = usize::try_from(raw).map_err(|_| WireError::FrameLength(raw))?;
    let rest = len % NOISE_MESSAGE_MAX;
    // Only an empty frame has a chunk without data.
    let possible = len == CHUNK_OVERHEAD
        || (len > CHUNK_OVERHEAD && len <= SEALED_LEN_MAX && (rest == 0 || rest > CHUNK_OVERHEAD));
    if possible {
        Ok(len)
    } else {
        Err(WireError::FrameLength(raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            version_min: 1,
            version_max: 1,
            cluster: "c".to_owned(),
            from: NodeId(1),
            to: NodeId(2),
            boot: BootId(7),
            link: LinkId(3),
            params: b"lease=1500ms".to_vec(),
            software: "0.1.0".to_owned(),
        }
    }

    /// Protects the first bytes that all versions share: these never change.
    #[test]
    fn preamble_bytes_are_fixed() {
        let bytes = encode_preamble(Preamble {
            version_min: 1,
            version_max: 258,
        });
        assert_eq!(&bytes, b"mainstay\x01\x00\x02\x01");
        assert_eq!(decode_preamble(&bytes).expect("ours").version_max, 258);
        assert_eq!(decode_preamble(b"GET / HTTP/1.1"), Err(WireError::Magic));
        assert!(decode_preamble(&bytes[..11]).is_err());
        assert!(decode_preamble(b"mainstay\x02\x00\x01\x00").is_err());
    }

    /// Protects rolling upgrades: overlapping ranges agree on the newest common version.
    #[test]
    fn version_ranges_meet_at_the_newest_common() {
        let range = |version_min, version_max| Preamble {
            version_min,
            version_max,
        };
        assert_eq!(range(1, 3).common_version(range(2, 5)), Some(3));
        assert_eq!(range(2, 5).common_version(range(1, 3)), Some(3));
        assert_eq!(range(1, 1).common_version(range(2, 2)), None);
    }

    /// Protects mixed versions and memory: unknown tails are skipped, bounds and zero boots refused.
    #[test]
    fn hello_is_extensible_and_bounded() {
        let mut bytes = encode_hello(&hello());
        bytes.extend_from_slice(b"later fields");
        assert_eq!(decode_hello(&bytes), Ok(hello()));
        for cut in 0..encode_hello(&hello()).len() {
            assert!(decode_hello(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let long = Hello {
            cluster: "x".repeat(65),
            ..hello()
        };
        assert!(matches!(
            decode_hello(&encode_hello(&long)),
            Err(WireError::Long { len: 65, .. })
        ));
        let unborn = Hello {
            boot: BootId(0),
            ..hello()
        };
        assert_eq!(decode_hello(&encode_hello(&unborn)), Err(WireError::Boot));
    }

    /// Protects memory before authentication: a header cannot announce more than the bound.
    #[test]
    fn message_headers_are_bounded() {
        assert_eq!(
            decode_header(&[1, 0, 16]),
            Ok((MessageKind::Handshake, 4096))
        );
        assert!(matches!(
            decode_header(&[1, 1, 16]),
            Err(WireError::Long { len: 4097, .. })
        ));
        assert_eq!(decode_header(&[9, 0, 0]), Err(WireError::Kind(9)));
    }

    /// Protects logs from a stranger's control characters and endless texts.
    #[test]
    fn refusal_text_is_made_printable() {
        let mut body = vec![200];
        body.extend_from_slice("\x1b[31m\nä".as_bytes());
        body.extend_from_slice(&[b'x'; 4000]);
        let refusal = decode_refusal(&body).expect("has a code");
        assert_eq!(refusal.reason, RefusalReason::Other);
        assert!(refusal.text.starts_with("?[31m???x"), "{}", refusal.text);
        assert_eq!(refusal.text.len(), REFUSAL_TEXT_MAX);
        let plain = decode_refusal(&encode_refusal(RefusalReason::WrongKey)).expect("whole");
        assert_eq!(plain.reason, RefusalReason::WrongKey);
    }

    /// Protects the reader: exactly the lengths that sealing makes are accepted.
    #[test]
    fn frame_headers_accept_only_possible_lengths() {
        let decode = |len: usize| {
            decode_frame_header(&u32::try_from(len).expect("small").to_le_bytes()).is_ok()
        };
        for len in [
            0,
            1,
            64,
            CHUNK_DATA_MAX,
            CHUNK_DATA_MAX + 1,
            2 * CHUNK_DATA_MAX,
            FRAME_LEN_MAX,
        ] {
            assert!(decode(sealed_len(len)), "{len}");
        }
        for bad in [
            0,
            16,
            NOISE_MESSAGE_MAX + 1,
            NOISE_MESSAGE_MAX + CHUNK_OVERHEAD,
            SEALED_LEN_MAX + 1,
            u32::MAX as usize,
        ] {
            assert!(!decode(bad), "{bad}");
        }
        assert!(decode_frame_header(&[1, 2, 3]).is_err());
    }

    /// Protects the daemon from any bytes at all: no decoder panics, and what decodes is in bounds.
    #[test]
    fn no_bytes_make_a_decoder_panic() {
        let mut entropy = mainstay_base::Entropy::new(1);
        let genuine = encode_hello(&hello());
        for round in 0..50_000 {
            let mut bytes: Vec<u8> = match round % 2 {
                0 => genuine.clone(),
                _ => (0..entropy.below(40))
                    .map(|_| entropy.next_u64() as u8)
                    .collect(),
            };
            for _ in 0..entropy.below(4) {
                if !bytes.is_empty() {
                    let at = entropy.below(bytes.len() as u64) as usize;
                    bytes[at] = entropy.next_u64() as u8;
                }
            }
            if let Ok(hello) = decode_hello(&bytes) {
                assert!(hello.cluster.len() <= CLUSTER_NAME_MAX);
                assert!(hello.params.len() <= PARAMS_LEN_MAX);
            }
            if let Ok((_, len)) = decode_header(&bytes) {
                assert!(len <= HANDSHAKE_BODY_MAX);
            }
            if let Ok(len) = decode_frame_header(&bytes) {
                assert!((CHUNK_OVERHEAD..=SEALED_LEN_MAX).contains(&len));
            }
            if let Ok(refusal) = decode_refusal(&bytes) {
                assert!(refusal.text.is_ascii());
            }
            assert!(decode_preamble(&bytes).is_err());
            assert!(crate::parse_key_text(&bytes).is_err());
        }
    }
}
