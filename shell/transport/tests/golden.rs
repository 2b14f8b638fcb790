//! Golden bytes: what two nodes of different builds say before they know each other's version.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use mainstay_base::{BootId, LinkId, NodeId};
use mainstay_transport::{
    RefusalReason,
    wire::{
        Hello, MessageKind, Preamble, decode_hello, decode_preamble, decode_refusal, encode_hello,
        encode_message, encode_preamble, encode_refusal,
    },
};

#[path = "../../../core/wire/tests/golden/check.rs"]
mod check;

fn line(name: &str, bytes: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.into())
}

/// Protects the first contact of any two builds: these bytes must never change, for no version has
/// been agreed on yet. The texts of refusals are free, their codes are not.
#[test]
fn the_first_contact_keeps_its_bytes() {
    let preamble = Preamble {
        version_min: 1,
        version_max: 258,
    };
    let message = |kind| {
        let mut out = Vec::new();
        encode_message(kind, &[7; 300], &mut out);
        out[..3].to_vec()
    };
    let mut now = vec![
        line("preamble", encode_preamble(preamble)),
        line("handshake-header", message(MessageKind::Handshake)),
        line("refusal-header", message(MessageKind::Refusal)),
        line("confirm-header", message(MessageKind::Confirm)),
    ];
    for reason in RefusalReason::ALL {
        let code = encode_refusal(reason)[0];
        now.push(line(&format!("refusal-{}", reason.code()), [code]));
    }
    let golden = check::golden(
        "first_contact.txt",
        include_str!("golden/first_contact.txt"),
        "nothing: no version covers these bytes, find a way to leave them as they are;",
        &now,
    );
    assert_eq!(decode_preamble(&golden[0]), Ok(preamble));
    for (reason, body) in RefusalReason::ALL.into_iter().zip(&golden[4..]) {
        assert_eq!(decode_refusal(body).unwrap().reason, reason);
    }
}

/// Protects rolling upgrades: the hello inside the encrypted handshake may only grow at its end.
#[test]
fn the_hello_keeps_its_bytes() {
    let hello = Hello {
        version_min: 1,
        version_max: 300,
        cluster: "prod".to_owned(),
        from: NodeId(1),
        to: NodeId(500),
        boot: BootId(u64::MAX),
        link: LinkId(3),
        params: b"lease=1500ms".to_vec(),
        software: "0.1.0".to_owned(),
    };
    let golden = check::golden(
        "hello.txt",
        include_str!("golden/hello.txt"),
        "VERSION_MAX in shell/transport/src/wire.rs",
        &[line("hello", encode_hello(&hello))],
    );
    assert_eq!(decode_hello(&golden[0]), Ok(hello));
}
