//! The flight recorder: what the node itself notes in it, and dumps.

use crate::{Effect, Node};
use mainstay_base::{BootId, Instant, ResourceName, SessionId};
use mainstay_recorder::{Dump, Head, Record, Recorder};
use mainstay_wire::{event::Event, lock::Refusal};

/// A record without a name.
type Plain = Record<&'static ResourceName>;

impl Node {
    /// Puts a flight recorder in the place of the present one. To be called after the boot, with the
    /// recorder of the node's former life if it had one, so that one ring has both.
    pub fn record_to(&mut self, now: Instant, recorder: Recorder) {
        *self.dlm.recorder() = recorder;
        let life = Plain::Life { boot: self.boot };
        self.dlm.recorder().record(now, &life);
    }

    /// Takes the flight recorder out, for the node's next life; nothing is recorded any more.
    #[must_use]
    pub fn take_recorder(&mut self) -> Recorder {
        std::mem::replace(self.dlm.recorder(), Recorder::new(0, BootId(0)))
    }

    pub(crate) fn note_event(&mut self, event: &Event) {
        if self.dlm.recorder().is_on() {
            let record = Plain::Event(Box::new(event.clone()));
            self.dlm.recorder().record(self.now, &record);
        }
    }

    pub(crate) fn note_lease(&mut self, until: Instant) {
        let record = Plain::Lease { until };
        self.dlm.recorder().record(self.now, &record);
    }

    pub(crate) fn ask_dump(&mut self, now: Instant, session: SessionId, request: u64) {
        self.now = now;
        if let Err(why) = self.privileged(session) {
            return self.refuse(session, request, why);
        }
        if !self.dlm.recorder().is_on() {
            let text = "the flight recorder is switched off: `size-mib` in `[recorder]` of the \
                        configuration is 0";
            return self.refuse(session, request, Refusal::Unavailable(text.to_owned()));
        }
        self.dump("asked for", Some((session, request)));
    }

    /// Has what the recorder remembers written to a file.
    pub(crate) fn dump(&mut self, reason: &str, asker: Option<(SessionId, u64)>) {
        if self.dlm.recorder().is_on() {
            let dump = Box::new(self.recorded(reason));
            self.out.push(Effect::Dump { dump, asker });
        }
    }

    /// What the recorder remembers, with all that is needed to understand it but the driver's clock.
    #[must_use]
    pub fn recorded(&mut self, reason: &str) -> Dump {
        let me = self.config.me;
        let nodes = self.config.nodes.iter();
        let head = Head {
            build: String::new(),
            cluster: self.config.cluster.clone(),
            node: me,
            name: self.name(me),
            recorder: self.dlm.recorder().id(),
            clock: [0; 16],
            at: self.now,
            unix_ms: 0,
            reason: reason.to_owned(),
            nodes: nodes.map(|n| (n.id, n.name.clone())).collect(),
            spaces: self
                .state
                .lockspaces()
                .map(|space| (space.id, space.name.clone()))
                .collect(),
        };
        Dump::of(self.dlm.recorder(), head)
    }
}
