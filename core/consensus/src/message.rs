//! Translation between the library's types and ours.

use crate::configuration::Configuration;
use crate::wire::{Ballot, Base, Body, Bytes, Envelope, LogEntry, Payload, Step, decode, encode};
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, HardState, Message,
    MessageType, Snapshot,
};

/// What the library puts into a vote request that a leader has asked for.
const TRANSFER: &[u8] = b"CampaignTransfer";

/// The steps as they stand in an entry's context. The library keeps its own encoding in the data;
/// ours is the one that counts, because only ours reaches other members and the disk.
pub(crate) fn steps_to_context(steps: &[Step]) -> Vec<u8> {
    if steps.is_empty() {
        // What the library itself writes to end an overlap.
        return Vec::new();
    }
    encode(0, &steps)
}

pub(crate) fn entry_steps(entry: &Entry) -> Vec<Step> {
    match entry.get_context() {
        [] => Vec::new(),
        context => decode(&context[1..]).expect("contexts are written by steps_to_context only"),
    }
}

pub(crate) fn steps_to_change(steps: &[Step]) -> ConfChangeV2 {
    let changes: Vec<ConfChangeSingle> = steps
        .iter()
        .map(|&step| {
            let mut single = ConfChangeSingle::default();
            single.set_change_type(match step {
                Step::Voter(_) => ConfChangeType::AddNode,
                Step::Learner(_) => ConfChangeType::AddLearnerNode,
                Step::Remove(_) => ConfChangeType::RemoveNode,
            });
            single.set_node_id(step.id());
            single
        })
        .collect();
    let mut change = ConfChangeV2::default();
    change.set_changes(changes.into());
    change
}

pub(crate) fn entry_from_library(entry: &Entry) -> LogEntry {
    let payload = match entry.get_entry_type() {
        EntryType::EntryNormal if entry.get_data().is_empty() => Payload::Nothing,
        EntryType::EntryNormal => Payload::Data(Bytes(entry.get_data().to_vec())),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            Payload::Change(entry_steps(entry))
        }
    };
    LogEntry {
        term: entry.get_term(),
        payload,
    }
}

pub(crate) fn entry_to_library(index: u64, entry: LogEntry) -> Entry {
    let mut out = Entry::default();
    out.set_index(index);
    out.set_term(entry.term);
    match entry.payload {
        Payload::Nothing => {}
        Payload::Data(data) => out.set_data(data.0.into()),
        Payload::Change(steps) => {
            out.set_entry_type(EntryType::EntryConfChangeV2);
            out.set_context(steps_to_context(&steps).into());
        }
    }
    out
}

pub(crate) fn ballot_from_library(hard: &HardState) -> Ballot {
    Ballot {
        term: hard.get_term(),
        vote: hard.get_vote(),
        commit: hard.get_commit(),
    }
}

pub(crate) fn ballot_to_library(ballot: Ballot) -> HardState {
    let mut hard = HardState::default();
    hard.set_term(ballot.term);
    hard.set_vote(ballot.vote);
    hard.set_commit(ballot.commit);
    hard
}

pub(crate) fn base_from_library(snapshot: &Snapshot) -> Base {
    let meta = snapshot.get_metadata();
    Base {
        index: meta.get_index(),
        term: meta.get_term(),
        configuration: Configuration::from_library(meta.get_conf_state()),
        data: Bytes(snapshot.get_data().to_vec()),
    }
}

pub(crate) fn base_to_library(base: Base) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let meta = snapshot.mut_metadata();
    meta.set_index(base.index);
    meta.set_term(base.term);
    meta.set_conf_state(base.configuration.to_library());
    snapshot.set_data(base.data.0.into());
    snapshot
}

/// `None` for kinds of messages that are never sent in the way this crate drives the library.
pub(crate) fn message_from_library(message: &Message) -> Option<Envelope> {
    let pre_request = message.get_msg_type() == MessageType::MsgRequestPreVote;
    let pre_reply = message.get_msg_type() == MessageType::MsgRequestPreVoteResponse;
    let body = match message.get_msg_type() {
        MessageType::MsgAppend => Body::Append {
            prev_index: message.get_index(),
            prev_term: message.get_log_term(),
            commit: message.get_commit(),
            entries: message
                .get_entries()
                .iter()
                .map(entry_from_library)
                .collect(),
        },
        MessageType::MsgAppendResponse => Body::AppendReply {
            index: message.get_index(),
            commit: message.get_commit(),
            reject: message
                .get_reject()
                .then(|| (message.get_reject_hint(), message.get_log_term())),
        },
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => Body::Vote {
            pre: pre_request,
            transfer: message.get_context() == TRANSFER,
            last_index: message.get_index(),
            last_term: message.get_log_term(),
            commit: message.get_commit(),
            commit_term: message.get_commit_term(),
        },
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            Body::VoteReply {
                pre: pre_reply,
                reject: message.get_reject(),
                commit: message.get_commit(),
                commit_term: message.get_commit_term(),
            }
        }
        MessageType::MsgSnapshot => Body::Snapshot(base_from_library(message.get_snapshot())),
        MessageType::MsgHeartbeat => Body::Heartbeat {
            commit: message.get_commit(),
        },
        MessageType::MsgHeartbeatResponse => Body::HeartbeatReply {
            commit: message.get_commit(),
        },
        MessageType::MsgTimeoutNow => Body::TimeoutNow,
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp => return None,
    };
    Some(Envelope {
        to: message.get_to(),
        from: message.get_from(),
        term: message.get_term(),
        body,
    })
}

pub(crate) fn message_to_library(envelope: Envelope) -> Message {
    let mut message = Message::default();
    message.set_to(envelope.to);
    message.set_from(envelope.from);
    message.set_term(envelope.term);
    match envelope.body {
        Body::Append {
            prev_index,
            prev_term,
            commit,
            entries,
        } => {
            message.set_msg_type(MessageType::MsgAppend);
            message.set_index(prev_index);
            message.set_log_term(prev_term);
            message.set_commit(commit);
            let entries: Vec<Entry> = (prev_index + 1..)
                .zip(entries)
                .map(|(index, entry)| entry_to_library(index, entry))
                .collect();
            message.set_entries(entries.into());
        }
        Body::AppendReply {
            index,
            commit,
            reject,
        } => {
            message.set_msg_type(MessageType::MsgAppendResponse);
            message.set_index(index);
            message.set_commit(commit);
            if let Some((hint, term)) = reject {
                message.set_reject(true);
                message.set_reject_hint(hint);
                message.set_log_term(term);
            }
        }
        Body::Vote {
            pre,
            transfer,
            last_index,
            last_term,
            commit,
            commit_term,
        } => {
            message.set_msg_type(if pre {
                MessageType::MsgRequestPreVote
            } else {
                MessageType::MsgRequestVote
            });
            if transfer {
                message.set_context(TRANSFER.to_vec().into());
            }
            message.set_index(last_index);
            message.set_log_term(last_term);
            message.set_commit(commit);
            message.set_commit_term(commit_term);
        }
        Body::VoteReply {
            pre,
            reject,
            commit,
            commit_term,
        } => {
            message.set_msg_type(if pre {
                MessageType::MsgRequestPreVoteResponse
            } else {
                MessageType::MsgRequestVoteResponse
            });
            message.set_reject(reject);
            message.set_commit(commit);
            message.set_commit_term(commit_term);
        }
        Body::Snapshot(base) => {
            message.set_msg_type(MessageType::MsgSnapshot);
            message.set_snapshot(base_to_library(base));
        }
        Body::Heartbeat { commit } => {
            message.set_msg_type(MessageType::MsgHeartbeat);
            message.set_commit(commit);
        }
        Body::HeartbeatReply { commit } => {
            message.set_msg_type(MessageType::MsgHeartbeatResponse);
            message.set_commit(commit);
        }
        Body::TimeoutNow => message.set_msg_type(MessageType::MsgTimeoutNow),
    }
    message
}
