//! What goes back and forth between clients and daemons, in words.

use crate::client::answer_name;
use mainstay_wire::client::{Answer, Ask, ToClient};
use std::fmt::Write as _;

/// What an ask is about, for people.
pub(crate) fn describe(ask: &Ask) -> String {
    let mut text = String::new();
    let written = match ask {
        Ask::Lock {
            handle,
            name,
            mode,
            flags,
            ..
        } => write!(text, "lock {} on {name} in {mode}, {flags}", handle.0),
        Ask::Convert {
            handle,
            mode,
            flags,
            ..
        } => write!(text, "convert {} to {mode}, {flags}", handle.0),
        Ask::Unlock { handle, flags, .. } => write!(text, "unlock {}, {flags}", handle.0),
        Ask::Range {
            handle,
            name,
            range,
            mode,
            flags,
            ..
        } => write!(
            text,
            "range {} on {name}, bytes {range} to {mode}, {flags}",
            handle.0
        ),
        Ask::Adopt {
            handle,
            name,
            mode,
            flags,
            ..
        } => write!(text, "adopt {} on {name} in {mode}, {flags}", handle.0),
        Ask::AdoptAnywhere {
            handle,
            name,
            mode,
            flags,
            ..
        } => write!(
            text,
            "adopt {} on {name} in {mode}, {flags}, anywhere",
            handle.0
        ),
        Ask::LockSet { members, flags, .. } => {
            let named = members
                .iter()
                .map(|m| format!("{}:{} {}", m.name, m.mode, m.handle.0));
            let named: Vec<String> = named.collect();
            write!(text, "set of {}, {flags}", named.join(", "))
        }
        Ask::LockUnder {
            parent,
            handle,
            name,
            mode,
            flags,
            ..
        } => write!(
            text,
            "lock {} under {} on {name} in {mode}, {flags}",
            handle.0, parent.0
        ),
        Ask::Cancel { handle } => write!(text, "cancel {}", handle.0),
        Ask::OpenLockspace { name, .. } => write!(text, "open {name}"),
        Ask::Vouch { node } => write!(text, "vouch for {node}"),
        other => write!(text, "{other:?}"),
    };
    debug_assert!(written.is_ok(), "a string takes everything");
    text
}

/// What a client is told, for people.
pub(crate) fn tell_message(no: u32, message: &ToClient) -> String {
    match message {
        ToClient::Done {
            request,
            result: Ok(Answer::Granted(granted)),
        } => {
            let mut text = format!(
                "client {no} call {request}: granted {} token {:?}",
                granted.mode, granted.token
            );
            if let Some(value) = &granted.value {
                text.push_str(&format!(
                    ", value {:?} version {} stale {}",
                    value.block, value.version, value.maybe_stale
                ));
            }
            text
        }
        ToClient::Done {
            request,
            result: Ok(answer),
        } => format!("client {no} call {request}: {}", answer_name(answer)),
        ToClient::Done {
            request,
            result: Err(refusal),
        } => format!("client {no} call {request}: refused, {refusal}"),
        other => format!("client {no}: {other:?}"),
    }
}
