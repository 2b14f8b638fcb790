//! Telling a client that its call was refused because it waited in a circle.

use crate::Node;
use mainstay_base::{LockspaceId, LockspaceName, SessionId, VictimPolicy};
use mainstay_wire::{
    client::ToClient,
    deadlock::{CycleWait, DeadlockReport, Waiter},
    event::{Reason, What},
    lock::Refusal,
};

impl Node {
    pub(crate) fn tell_victim(
        &mut self,
        session: SessionId,
        request: u64,
        policy: VictimPolicy,
        circle: &[Waiter],
        demoted: bool,
    ) {
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
        });
        let waits: Vec<CycleWait> = waits.collect();
        let report = DeadlockReport { policy, waits };
        let owners = report.waits.len() as u64;
        let what = What::DeadlockBroken { owners };
        self.event(what, Reason::Deadlock, report.to_string());
        let mut why = Refusal::DeadlockCycle(Box::new(report));
        if demoted {
            why = Refusal::AfterDemotion(Box::new(why));
        }
        let result = Err(why);
        self.tell(session, ToClient::Done { request, result });
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
