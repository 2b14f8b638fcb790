//! Checks on what comes from peers. The library panics on many messages that no correct member
//! sends; they must not reach it.

use crate::ReceiveError;
use crate::config::{
    APPEND_COUNT_MAX, FOREIGN_MAX, MESSAGE_LEN_MAX, PROPOSAL_LEN_MAX, SNAPSHOT_LEN_MAX,
    TERM_JUMP_MAX, VOTERS_MAX,
};
use crate::consensus::Consensus;
use crate::wire::{Base, Body, Envelope, LogEntry, MESSAGE_VERSION, Payload, decode};
use mainstay_base::DiskId;
use raft::StateRole;

/// What to do with a message that makes sense.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Give it to the library.
    Step,
    /// It comes at the wrong moment; the sender will try again or has no need to.
    Drop,
}

/// Decodes a message and checks all that does not depend on who receives it.
pub(crate) fn decode_message(message: &[u8]) -> Result<Envelope, ReceiveError> {
    if message.len() > MESSAGE_LEN_MAX {
        return Err(ReceiveError::TooLong {
            len: message.len(),
            max: MESSAGE_LEN_MAX,
        });
    }
    let Some((&version, body)) = message.split_first() else {
        return Err(ReceiveError::Malformed("it is empty".to_owned()));
    };
    if version != MESSAGE_VERSION {
        return Err(ReceiveError::Version {
            found: version,
            known: MESSAGE_VERSION,
        });
    }
    let envelope: Envelope = decode(body).map_err(ReceiveError::Malformed)?;
    match check_envelope(&envelope) {
        Ok(()) => Ok(envelope),
        Err(what) => Err(ReceiveError::Nonsense {
            from: DiskId(envelope.from),
            what,
        }),
    }
}

fn check_envelope(envelope: &Envelope) -> Result<(), &'static str> {
    if envelope.from == 0 || envelope.to == 0 {
        return Err("a disk number of zero");
    }
    // The library takes messages of term zero for its own.
    if envelope.term == 0 {
        return Err("a term of zero");
    }
    let numbers: [u64; 4] = match &envelope.body {
        Body::Append {
            prev_index,
            prev_term,
            commit,
            ..
        } => [*prev_index, *prev_term, *commit, 0],
        Body::AppendReply {
            index,
            commit,
            reject,
        } => {
            let (hint, term) = reject.unwrap_or_default();
            [*index, *commit, hint, term]
        }
        Body::Vote {
            last_index,
            last_term,
            commit,
            commit_term,
            ..
        } => [*last_index, *last_term, *commit, *commit_term],
        Body::VoteReply {
            commit,
            commit_term,
            ..
        } => [*commit, *commit_term, 0, 0],
        Body::Snapshot(base) => [base.index, base.term, 0, 0],
        Body::Heartbeat { commit } | Body::HeartbeatReply { commit } => [*commit, 0, 0, 0],
        Body::TimeoutNow => [0; 4],
    };
    if envelope.term > FOREIGN_MAX || numbers.iter().any(|&number| number > FOREIGN_MAX) {
        return Err("a number out of range");
    }
    match &envelope.body {
        Body::Append {
            prev_index,
            prev_term,
            entries,
            ..
        } => check_entries(*prev_index, *prev_term, envelope.term, entries),
        Body::Snapshot(base) => check_base(base, envelope.term),
        _ => Ok(()),
    }
}

fn check_entries(
    prev_index: u64,
    prev_term: u64,
    term: u64,
    entries: &[LogEntry],
) -> Result<(), &'static str> {
    // Every log begins with the snapshot that names the founding voters. Besides, the library
    // takes an entry of term zero at any place behind its log for one that it has.
    if prev_index == 0 || prev_term == 0 {
        return Err("entries without a predecessor");
    }
    if entries.len() > APPEND_COUNT_MAX {
        return Err("too many entries");
    }
    let mut last = prev_term;
    for entry in entries {
        if entry.term < last {
            return Err("entries out of the order of terms");
        }
        last = entry.term;
        match &entry.payload {
            Payload::Nothing => {}
            Payload::Data(data) if data.0.is_empty() => return Err("an entry without data"),
            Payload::Data(data) if data.0.len() > PROPOSAL_LEN_MAX => {
                return Err("an entry that is too long");
            }
            Payload::Data(_) => {}
            Payload::Change(steps) if steps.len() > VOTERS_MAX => {
                return Err("a change of configuration with too many steps");
            }
            Payload::Change(steps) if steps.iter().any(|step| step.id() == 0) => {
                return Err("a change of configuration with a member number of zero");
            }
            Payload::Change(_) => {}
        }
    }
    if last > term {
        return Err("entries of a term later than the message");
    }
    Ok(())
}

fn check_base(base: &Base, term: u64) -> Result<(), &'static str> {
    if base.index == 0 || base.term == 0 {
        return Err("a snapshot of nothing");
    }
    if base.term > term {
        return Err("a snapshot of a term later than the message");
    }
    if base.data.0.len() > SNAPSHOT_LEN_MAX {
        return Err("a snapshot that is too long");
    }
    base.configuration.check()
}

/// Checks a message against the state of its receiver.
pub(crate) fn against_state(
    member: &Consensus,
    envelope: &Envelope,
) -> Result<Verdict, ReceiveError> {
    let me = member.config.me;
    let from = DiskId(envelope.from);
    let nonsense = |what| Err(ReceiveError::Nonsense { from, what });
    if envelope.to != me.0 {
        return Err(ReceiveError::NotForMe {
            to: DiskId(envelope.to),
            me,
        });
    }
    if from == me {
        return nonsense("it claims to be from its receiver");
    }
    let raft = &member.node.raft;
    if envelope.term.saturating_sub(raft.term) > TERM_JUMP_MAX {
        return nonsense("a term far beyond any that elections could have reached");
    }
    let leads = raft.state == StateRole::Leader && envelope.term == raft.term;
    let last = raft.raft_log.last_index();
    match &envelope.body {
        Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot(_) if leads => {
            nonsense("another leader in the term of this one")
        }
        Body::AppendReply {
            index,
            reject: None,
            ..
        } if leads && *index > last => nonsense("it acknowledges entries that do not exist"),
        Body::Heartbeat { commit } if envelope.term >= raft.term && *commit > last => {
            Err(ReceiveError::LogLost {
                from,
                me,
                index: *commit,
                last,
            })
        }
        // The library becomes leader only with its whole log durable. It is, because the requests
        // for these votes waited for it, unless the caller or the voter is at fault.
        Body::VoteReply { .. } if !raft.promotable() || !member.is_settled() => Ok(Verdict::Drop),
        // The same for a lone voter, which needs no replies; and see `tick`.
        Body::TimeoutNow if member.is_restoring() || !member.is_settled() => Ok(Verdict::Drop),
        _ => Ok(Verdict::Step),
    }
}
