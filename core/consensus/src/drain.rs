//! The member: what comes out.

use crate::config::VOTERS_MAX;
use crate::configuration::Configuration;
use crate::consensus::{Consensus, Unsaved};
use crate::message::{
    ballot_from_library, base_from_library, entry_from_library, entry_steps, message_from_library,
    steps_to_change,
};
use crate::store::is_shown;
use crate::wire::{MESSAGE_VERSION, RECORD_VERSION, Record, Step, encode};
use crate::{Output, PersistSeq};
use mainstay_base::DiskId;
use raft::StateRole;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

impl Consensus {
    /// Moves all effects that are due to the end of `out`, in the order in which they are to be
    /// carried out.
    pub fn take_outputs(&mut self, out: &mut Vec<Output>) {
        self.announce_configuration();
        loop {
            self.drive_change();
            if !self.node.has_ready() {
                break;
            }
            self.drain_ready();
        }
        self.announce();
        out.append(&mut self.queue);
    }

    /// One batch of the library. The order of the steps is that of the library's asynchronous
    /// protocol: what is to be written must be readable before the batch is acknowledged.
    fn drain_ready(&mut self) {
        let mut ready = self.node.ready();
        let number = ready.number();
        let ballot = ballot_from_library(&self.node.raft.hard_state());
        let base = match ready.snapshot() {
            snapshot if snapshot.is_empty() => None,
            snapshot => Some(base_from_library(snapshot)),
        };
        let entries = ready.take_entries();
        let store = self.node.mut_store();
        if let Some(base) = &base {
            store.restore(base.clone());
        }
        store.append(&entries);
        store.set_ballot(ballot);
        // A commit index alone is written with the next record: it can be learned anew. A record
        // with entries always carries the commit index that came with them, because a
        // configuration is in force from the moment its entry is known to be agreed on.
        if ready.must_sync() {
            let record = Record {
                ballot,
                base: base.clone(),
                first: entries.first().map_or(0, Entry::get_index),
                entries: entries.iter().map(entry_from_library).collect(),
            };
            self.seq += 1;
            self.unsaved.push_back(Unsaved {
                seq: self.seq,
                ready: number,
                term: ballot.term,
                log: base.is_some() || !entries.is_empty(),
                restore: base,
            });
            self.queue.push(Output::Persist {
                seq: PersistSeq(self.seq),
                record: encode(RECORD_VERSION, &record),
            });
        } else if let Some(last) = self.unsaved.back_mut() {
            last.ready = number;
        }
        let mut messages = ready.take_messages();
        messages.append(&mut ready.take_persisted_messages());
        let committed = ready.take_committed_entries();
        self.node.advance_append_async(ready);
        if self.unsaved.is_empty() {
            self.node.on_persist_ready(number);
        }
        self.send(messages);
        self.give(&committed);
    }

    fn send(&mut self, mut messages: Vec<Message>) {
        let last = self.unsaved.back().map(|unsaved| PersistSeq(unsaved.seq));
        // The library goes over its peers in hash order.
        messages.sort_by_key(Message::get_to);
        for message in messages {
            // A leader's messages never wait for its disk, and a heartbeat's reply promises nothing
            // but to be alive. All others promise that what they tell will not be forgotten. And
            // no message may be of a term that could be forgotten and then used again.
            let promises = !matches!(
                message.get_msg_type(),
                MessageType::MsgAppend
                    | MessageType::MsgSnapshot
                    | MessageType::MsgHeartbeat
                    | MessageType::MsgTimeoutNow
                    | MessageType::MsgHeartbeatResponse
            );
            let after = if promises || message.get_term() > self.durable_term {
                last
            } else {
                None
            };
            if let Some(envelope) = message_from_library(&message) {
                self.queue.push(Output::Send {
                    to: DiskId(envelope.to),
                    message: encode(MESSAGE_VERSION, &envelope),
                    after,
                });
            }
        }
    }

    fn give(&mut self, committed: &[Entry]) {
        for entry in committed {
            if is_shown(entry) {
                self.shown = entry.get_index();
                self.queue.push(Output::Committed {
                    index: entry.get_index(),
                    data: entry.get_data().to_vec(),
                });
            } else if entry.get_entry_type() != EntryType::EntryNormal {
                self.change(entry);
            }
        }
        if let Some(last) = committed.last() {
            self.given = last.get_index();
            self.node.advance_apply_to(self.given);
            self.redraw();
        }
    }

    /// Puts a change of the configuration into force.
    fn change(&mut self, entry: &Entry) {
        let steps = entry_steps(entry);
        // A change that cannot be made is one that every member refuses, in the same place.
        if self.has_room(&steps)
            && let Ok(state) = self.node.apply_conf_change(&steps_to_change(&steps))
        {
            let configuration = Configuration::from_library(&state);
            self.configurations
                .push_back((entry.get_index(), configuration));
        }
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Leader && !raft.promotable() {
            // The library leaves it to us to depose a leader that has been removed.
            let term = raft.term;
            raft.become_follower(term, 0);
        }
        self.redraw();
        self.announce_configuration();
    }

    fn has_room(&self, steps: &[Step]) -> bool {
        let present = self.present();
        let (mut come, mut go) = (0, 0);
        for step in steps {
            match step {
                Step::Voter(id) | Step::Learner(id) => come += usize::from(!present.has(*id)),
                Step::Remove(id) => go += usize::from(present.has(*id)),
            }
        }
        present.len() + come <= VOTERS_MAX + go
    }

    fn announce(&mut self) {
        self.announce_configuration();
        let raft = &self.node.raft;
        let me = raft.state == StateRole::Leader;
        let shown = (raft.term, raft.leader_id, me);
        // A lone voter leads at once, even before its term is durable.
        if shown != self.shown_leader && !(me && raft.term > self.durable_term) {
            self.shown_leader = shown;
            self.queue.push(Output::Leader {
                term: shown.0,
                leader: self.leader(),
                me,
            });
        }
    }

    fn announce_configuration(&mut self) {
        if self.is_restoring() {
            return;
        }
        if let Some((_, present)) = self.configurations.back()
            && *present != self.shown_configuration
        {
            let (voters, learners) = (present.shown_voters(), present.shown_learners());
            let news = voters != self.shown_configuration.shown_voters()
                || learners != self.shown_configuration.shown_learners();
            self.shown_configuration = present.clone();
            if news {
                self.queue.push(Output::Voters { voters, learners });
            }
        }
    }
}
