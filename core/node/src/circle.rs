//! Telling a client that its call was refused because it waited in a circle, or that it keeps others
//! waiting for longer than it had promised.

use crate::Node;
use mainstay_base::{LockspaceId, LockspaceName, VictimPolicy};
use mainstay_dlm::Out;
use mainstay_wire::{
    client::ToClient,
    deadlock::{CycleWait, DeadlockReport, Waiter},
    event::{Reason, What},
    lock::Refusal,
};

impl Node {
    /// The refusal of a call that waited in a circle, which is an event, too.
    pub(crate) fn circle_refusal(
        &mut self,
        policy: VictimPolicy,
        circle: &[Waiter],
        demoted: bool,
    ) -> Refusal {
        let waits = circle.iter().map(|waiter| CycleWait {
            node: self.name(waiter.wait.node),
            owner: waiter.process.clone(),
            lockspace: self.lockspace_name(waiter.resource.space),
            name: waiter.resource.name.clone(),
            granted: waiter.granted,
            requested: waiter.requested,
            waited_ms: waiter.waited_us / 1000,
            lock: waiter.wait.lock,
            wait: waiter.wait.wait,
            range: waiter.range,
        });
        let waits: Vec<CycleWait> = waits.collect();
        let report = DeadlockReport { policy, waits };
        let owners = report.waits.len() as u64;
        let what = What::DeadlockBroken { owners };
        self.event(what, Reason::Deadlock, report.to_string());
        let why = Refusal::DeadlockCycle(Box::new(report));
        match demoted {
            true => Refusal::AfterDemotion(Box::new(why)),
            false => why,
        }
    }

    /// A client holds on to what it had promised to let go.
    pub(crate) fn tell_overdue(&mut self, overdue: Out) {
        let Out::Overdue {
            session,
            handle,
            resource,
            held,
            mode,
            waited,
            released,
        } = overdue
        else {
            return;
        };
        let overdue = ToClient::Overdue {
            handle,
            mode,
            released,
        };
        self.tell(session, overdue);
        let owner = self.sessions.get(&session).map(|s| s.owner.clone());
        let owner = owner.unwrap_or_default();
        let detail = format!(
            "held in {held} and in the way of {mode}, by process {} ({})",
            owner.pid, owner.command
        );
        let what = What::NoticeUnheeded {
            lockspace: self.lockspace_name(resource.space),
            name: resource.name,
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            released,
        };
        self.event(what, Reason::NoticeUnheeded, detail);
    }

    /// A lockspace's name, or its number if it is not known here.
    pub(crate) fn lockspace_name(&self, id: LockspaceId) -> LockspaceName {
        let mut spaces = self.state.lockspaces();
        let known = spaces.find(|space| space.id == id);
        known.map(|space| space.name.clone()).unwrap_or_else(|| {
            LockspaceName::new(format!("lockspace-{id}")).expect("digits make a name")
        })
    }
}
