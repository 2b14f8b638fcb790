//! Making a TCP connection into an authenticated one, from both ends.

use crate::{
    config::Identity,
    judge::{Verdict, judge_called, judge_caller},
    noise::{Channel, handshake},
    reason::RefusalReason,
    wire::{
        HANDSHAKE_BODY_MAX, HEADER_LEN, Hello, MessageKind, PREAMBLE_LEN, Preamble, Refusal,
        TAG_LEN, WireError, decode_header, decode_hello, decode_preamble, decode_refusal,
        encode_hello, encode_message, encode_preamble, encode_refusal,
    },
};
use mainstay_base::{BootId, LinkId, NodeId};
use snow::HandshakeState;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A handshake must be done within this time.
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_secs(2);
/// How long a refused peer's last bytes are awaited, so that closing does not destroy the refusal.
const FAREWELL_TIME: Duration = Duration::from_millis(500);
const FAREWELL_BYTES: usize = 4 * HANDSHAKE_BODY_MAX;

/// An authenticated connection.
pub(crate) struct Established {
    pub(crate) stream: TcpStream,
    pub(crate) channel: Channel,
    /// What the peer said.
    pub(crate) hello: Hello,
    /// The boot id that this node said.
    pub(crate) boot: BootId,
}

/// Why a handshake failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// One side refused the other.
    Refused {
        reason: RefusalReason,
        by_us: bool,
        /// Whom a caller claims to be, once the key has shown that it belongs to the cluster.
        peer: Option<NodeId>,
        /// For our log only.
        detail: String,
    },
    /// The connection could not be made or broke, with a code and the system's words.
    Broken { code: &'static str, detail: String },
}

fn refuse(reason: RefusalReason, detail: impl Into<String>) -> Failure {
    Failure::Refused {
        reason,
        by_us: true,
        peer: None,
        detail: detail.into(),
    }
}

fn refused_by_peer(refusal: Refusal) -> Failure {
    Failure::Refused {
        reason: refusal.reason,
        by_us: false,
        peer: None,
        detail: refusal.text,
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let code = match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed-early",
            _ => "handshake-broken",
        };
        Failure::Broken {
            code,
            detail: error.to_string(),
        }
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Failure {
        refuse(RefusalReason::Malformed, error.to_string())
    }
}

impl From<Verdict> for Failure {
    fn from(verdict: Verdict) -> Failure {
        refuse(verdict.reason, verdict.detail)
    }
}

/// The caller's side: the stream leads to `peer`'s address of `link`.
pub(crate) async fn call(
    mut stream: TcpStream,
    me: &Identity,
    boot: BootId,
    peer: NodeId,
    link: LinkId,
) -> Result<Established, Failure> {
    let work = timeout(HANDSHAKE_TIME, calling(&mut stream, me, boot, peer, link));
    let outcome = work.await.unwrap_or_else(|_| {
        Err(Failure::Broken {
            code: "no-answer",
            detail: "the connection was accepted, but nothing answered in time".to_owned(),
        })
    });
    finish(stream, boot, outcome).await
}

/// The called node's side: the stream came in on the address of `link`.
pub(crate) async fn answer(
    mut stream: TcpStream,
    me: &Identity,
    boot: BootId,
    link: LinkId,
) -> Result<Established, Failure> {
    let work = timeout(HANDSHAKE_TIME, answering(&mut stream, me, boot, link));
    let outcome = work
        .await
        .unwrap_or_else(|_| Err(refuse(RefusalReason::HandshakeTimeout, "")));
    finish(stream, boot, outcome).await
}

async fn finish(
    mut stream: TcpStream,
    boot: BootId,
    outcome: Result<(Channel, Hello), Failure>,
) -> Result<Established, Failure> {
    use RefusalReason::{HandshakeTimeout, NotMainstay};
    match outcome {
        Ok((channel, hello)) => Ok(Established {
            stream,
            channel,
            hello,
            boot,
        }),
        Err(failure) => {
            if let Failure::Refused {
                reason,
                by_us: true,
                ..
            } = failure
                && !matches!(reason, HandshakeTimeout | NotMainstay)
            {
                // A peer that has gone already needs no refusal.
                let _ = timeout(FAREWELL_TIME, farewell(&mut stream, reason)).await;
            }
            Err(failure)
        }
    }
}

/// Sends the refusal and waits, within bounds, until the peer has closed its side: closing over
/// unread bytes would reset the connection and destroy the refusal on its way.
async fn farewell(stream: &mut TcpStream, reason: RefusalReason) -> io::Result<()> {
    let mut out = Vec::new();
    encode_message(MessageKind::Refusal, &encode_refusal(reason), &mut out);
    stream.write_all(&out).await?;
    stream.shutdown().await?;
    let mut drain = [0; 512];
    let mut left = FAREWELL_BYTES;
    while left > 0 {
        match stream.read(&mut drain).await? {
            0 => break,
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}

async fn calling(
    stream: &mut TcpStream,
    me: &Identity,
    boot: BootId,
    peer: NodeId,
    link: LinkId,
) -> Result<(Channel, Hello), Failure> {
    let preamble = encode_preamble(Preamble::OURS);
    let mut noise = handshake(&me.key, &preamble, true);
    let mut out = preamble.to_vec();
    write_hello(&mut noise, &me.hello(peer, boot, link), &mut out);
    stream.write_all(&out).await?;

    let theirs = read_preamble(stream).await?;
    let body = match read_message(stream).await? {
        (MessageKind::Handshake, body) => body,
        (MessageKind::Refusal, body) => return Err(refused_by_peer(decode_refusal(&body)?)),
        (MessageKind::Confirm, _) => return Err(out_of_turn()),
    };
    if Preamble::OURS.common_version(theirs).is_none() {
        return Err(refuse(RefusalReason::VersionMismatch, versions(theirs)));
    }
    let hello = read_hello(&mut noise, &body)?;
    judge_called(me, theirs, &hello, peer, link)?;

    let mut noise = noise
        .into_transport_mode()
        .map_err(|_| refuse(RefusalReason::Malformed, "the handshake did not end"))?;
    let mut confirm = [0; TAG_LEN];
    noise
        .write_message(&[], &mut confirm)
        .map_err(|_| refuse(RefusalReason::Malformed, "the handshake did not end"))?;
    out.clear();
    encode_message(MessageKind::Confirm, &confirm, &mut out);
    stream.write_all(&out).await?;
    Ok((Channel::new(noise), hello))
}

async fn answering(
    stream: &mut TcpStream,
    me: &Identity,
    boot: BootId,
    link: LinkId,
) -> Result<(Channel, Hello), Failure> {
    let theirs = read_preamble(stream).await?;
    stream.write_all(&encode_preamble(Preamble::OURS)).await?;
    if Preamble::OURS.common_version(theirs).is_none() {
        return Err(refuse(RefusalReason::VersionMismatch, versions(theirs)));
    }
    let (MessageKind::Handshake, body) = read_message(stream).await? else {
        return Err(out_of_turn());
    };
    let mut noise = handshake(&me.key, &encode_preamble(theirs), false);
    let hello = read_hello(&mut noise, &body)?;
    // From here on the caller has shown the key, so its claim is worth logging.
    let from = hello.from;
    let claimed = |failure| match failure {
        Failure::Refused {
            reason,
            by_us,
            detail,
            ..
        } => Failure::Refused {
            reason,
            by_us,
            peer: Some(from),
            detail,
        },
        broken @ Failure::Broken { .. } => broken,
    };
    judge_caller(me, theirs, &hello, link).map_err(|v| claimed(v.into()))?;

    let mut out = Vec::new();
    write_hello(&mut noise, &me.hello(from, boot, link), &mut out);
    stream.write_all(&out).await?;

    // The first message could be a recording. Only a caller that is alive now and has the key can
    // send this one, so nothing changes on this node before it has come.
    let mut noise = noise
        .into_transport_mode()
        .map_err(|_| refuse(RefusalReason::Malformed, "the handshake did not end"))?;
    match read_message(stream).await.map_err(claimed)? {
        (MessageKind::Confirm, body) => {
            let mut nothing = [0; HANDSHAKE_BODY_MAX];
            match noise.read_message(&body, &mut nothing) {
                Ok(_) => Ok((Channel::new(noise), hello)),
                Err(_) => Err(refuse(
                    RefusalReason::WrongKey,
                    "the confirmation does not open",
                )),
            }
        }
        (MessageKind::Refusal, body) => {
            let refusal = decode_refusal(&body)?;
            Err(claimed(refused_by_peer(refusal)))
        }
        (MessageKind::Handshake, _) => Err(out_of_turn()),
    }
}

fn out_of_turn() -> Failure {
    refuse(RefusalReason::Malformed, "a handshake message out of turn")
}

fn versions(theirs: Preamble) -> String {
    let ours = Preamble::OURS;
    format!(
        "ours {} to {}, theirs {} to {}",
        ours.version_min, ours.version_max, theirs.version_min, theirs.version_max
    )
}

async fn read_preamble(stream: &mut TcpStream) -> Result<Preamble, Failure> {
    let mut bytes = [0; PREAMBLE_LEN];
    stream.read_exact(&mut bytes).await?;
    decode_preamble(&bytes).map_err(|e| refuse(RefusalReason::NotMainstay, e.to_string()))
}

async fn read_message(stream: &mut TcpStream) -> Result<(MessageKind, Vec<u8>), Failure> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await?;
    let (kind, len) = decode_header(&header)?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    Ok((kind, body))
}

fn write_hello(noise: &mut HandshakeState, hello: &Hello, out: &mut Vec<u8>) {
    let mut body = [0; HANDSHAKE_BODY_MAX];
    let n = noise
        .write_message(&encode_hello(hello), &mut body)
        .expect("the hello's bounds leave it far below a message's, and it is our turn");
    encode_message(MessageKind::Handshake, &body[..n], out);
}

fn read_hello(noise: &mut HandshakeState, body: &[u8]) -> Result<Hello, Failure> {
    let mut plain = [0; HANDSHAKE_BODY_MAX];
    let n = noise
        .read_message(body, &mut plain)
        .map_err(|_| refuse(RefusalReason::WrongKey, "its handshake does not open"))?;
    Ok(decode_hello(&plain[..n])?)
}
