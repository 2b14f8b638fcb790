//! What happened lately: logged, remembered, and told to clients that subscribed.

use mainstay_wire::event::{Event, What};
use std::{
    collections::VecDeque,
    time::{SystemTime, UNIX_EPOCH},
};

/// How many past events are remembered.
pub(crate) const REMEMBERED: usize = 1000;

/// The daemon's memory of events.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    recent: VecDeque<Event>,
    count: u64,
}

impl EventLog {
    /// Stamps, logs and remembers an event; returns it as clients shall see it.
    pub(crate) fn record(&mut self, mut event: Event) -> &Event {
        self.count += 1;
        // The node counts anew after each rebirth; clients see one series per daemon start.
        event.number = self.count;
        event.unix_ms = unix_ms();
        log(&event);
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(event);
        &self.recent[self.recent.len() - 1]
    }

    /// The last `backlog` events, oldest first.
    pub(crate) fn last(&self, backlog: u32) -> impl Iterator<Item = &Event> {
        let backlog = usize::try_from(backlog).unwrap_or(REMEMBERED);
        let skip = self.recent.len().saturating_sub(backlog);
        self.recent.iter().skip(skip)
    }
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// A short stable name for what happened.
fn code(what: &What) -> &'static str {
    match what {
        What::View { .. } => "view",
        What::MemberJoined { .. } => "member-joined",
        What::MemberLeft { .. } => "member-left",
        What::Fenced { .. } => "fenced",
        What::Active => "active",
        What::Suspended => "suspended",
        What::Leader { .. } => "leader",
        What::LinkUp { .. } => "link-up",
        What::LinkDown { .. } => "link-down",
        What::Refused { .. } => "refused",
        What::RecoveryStarted { .. } => "recovery-started",
        What::RecoveryDone { .. } => "recovery-done",
        What::LockspaceCreated { .. } => "lockspace-created",
        What::DiskReplaced { .. } => "disk-replaced",
        What::Reborn => "reborn",
        What::Stopped => "stopped",
        What::DeadlockBroken { .. } => "deadlock-broken",
        What::NoticeUnheeded { .. } => "notice-unheeded",
        What::MastersMoved { .. } => "masters-moved",
        What::Orphan { .. } => "orphan",
        What::Session { .. } => "session",
    }
}

fn is_trouble(what: &What) -> bool {
    matches!(
        what,
        What::MemberLeft { .. }
            | What::Suspended
            | What::LinkDown { .. }
            | What::Refused { .. }
            | What::Reborn
            | What::DeadlockBroken { .. }
            | What::NoticeUnheeded { .. }
    )
}

fn log(event: &Event) {
    let (mut node, mut incarnation, mut link) = (None, None, None);
    match &event.what {
        What::MemberJoined {
            node: n,
            incarnation: i,
        }
        | What::MemberLeft {
            node: n,
            incarnation: i,
        }
        | What::Fenced {
            node: n,
            incarnation: i,
        }
        | What::RecoveryStarted {
            node: n,
            incarnation: i,
            ..
        }
        | What::RecoveryDone {
            node: n,
            incarnation: i,
            ..
        } => {
            node = Some(n.0);
            incarnation = Some(i.0);
        }
        What::LinkUp { peer, link: l } | What::LinkDown { peer, link: l } => {
            node = Some(peer.0);
            link = Some(l.0);
        }
        What::Refused { peer, link: l } => {
            node = peer.map(|p| p.0);
            link = Some(l.0);
        }
        What::Leader { node: n, .. } => node = n.map(|n| n.0),
        _ => {}
    }
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                event = code(&event.what),
                reason = event.reason.code(),
                epoch = event.epoch.0,
                number = event.number,
                node,
                incarnation,
                link,
                "{event}"
            )
        };
    }
    if is_trouble(&event.what) {
        line!(warn);
    } else {
        line!(info);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::Epoch;
    use mainstay_wire::event::Reason;

    fn event() -> Event {
        Event {
            number: 0,
            unix_ms: 0,
            epoch: Epoch(3),
            what: What::Active,
            reason: Reason::QuorumGained,
            detail: String::new(),
        }
    }

    /// Protects the daemon's memory: it keeps the newest thousand events, in order, and numbers
    /// them without gaps whatever numbers the node gave.
    #[test]
    fn the_newest_thousand_are_kept() {
        let mut log = EventLog::default();
        for _ in 0..REMEMBERED + 5 {
            log.record(event());
        }
        let all: Vec<u64> = log.last(u32::MAX).map(|e| e.number).collect();
        assert_eq!(all, (6..=1005).collect::<Vec<u64>>());
        let two: Vec<u64> = log.last(2).map(|e| e.number).collect();
        assert_eq!(two, [1004, 1005]);
        assert_eq!(log.last(0).count(), 0);
        assert!(log.record(event()).unix_ms > 0);
    }
}
