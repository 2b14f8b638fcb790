//! What the transport reads before it trusts anybody, and the key file.

use crate::memory::bounded;
use mainstay_transport::{parse_key_text, wire};

/// Preamble, message headers, hello, refusal, frame headers.
pub(crate) fn handshake(data: &[u8]) {
    // What is written to be compared is ours, and no longer than a handshake.
    bounded(
        "handshake",
        4 * data.len() + 4 * wire::HANDSHAKE_BODY_MAX,
        || {
            if let Ok(preamble) = wire::decode_preamble(data) {
                assert_eq!(wire::encode_preamble(preamble)[..], data[..12]);
                let _ = wire::Preamble::OURS.common_version(preamble);
            }
            if let Ok((kind, len)) = wire::decode_header(data) {
                assert!(len <= wire::HANDSHAKE_BODY_MAX);
                let mut out = Vec::new();
                wire::encode_message(kind, &vec![0; len], &mut out);
                assert_eq!(out[..wire::HEADER_LEN], data[..wire::HEADER_LEN]);
            }
            if let Ok(hello) = wire::decode_hello(data) {
                let bytes = wire::encode_hello(&hello);
                assert!(bytes.len() <= wire::HANDSHAKE_BODY_MAX);
                assert_eq!(wire::decode_hello(&bytes), Ok(hello));
            }
            if let Ok(refusal) = wire::decode_refusal(data) {
                assert!(refusal.text.len() <= data.len());
                assert!(refusal.text.bytes().all(|b| (b' '..=b'~').contains(&b)));
            }
            if let Ok(len) = wire::decode_frame_header(data) {
                assert!(len <= wire::SEALED_LEN_MAX);
            }
        },
    );
}

/// The text of a key file.
pub(crate) fn key(data: &[u8]) {
    bounded("key file", 4 * data.len() + 4096, || {
        if let Err(error) = parse_key_text(data) {
            assert!(!error.to_string().is_empty());
        }
    });
}
