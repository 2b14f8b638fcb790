//! Which refusals and failures are worth a log line, so that retries and strangers cannot fill logs.

use mainstay_base::{LinkId, NodeId};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// The same news about the same subject is repeated after this time.
const REPEAT: Duration = Duration::from_secs(30);
/// Changes of reason that one subject may have in that time.
const CHANGES_MAX: u32 = 8;
/// Strangers remembered; more of them in that time are not heard.
const STRANGERS_MAX: usize = 128;

/// Whom the news is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// A configured peer.
    Peer {
        peer: NodeId,
        link: LinkId,
        inbound: bool,
    },
    /// Whoever calls from this address.
    Stranger { link: LinkId, address: IpAddr },
}

/// What was last said about whom.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    entries: BTreeMap<Subject, Entry>,
}

#[derive(Debug)]
struct Entry {
    code: &'static str,
    since: Instant,
    changes: u32,
}

impl Notices {
    /// Whether this news should be told now.
    pub(crate) fn admit(&mut self, subject: Subject, code: &'static str, now: Instant) -> bool {
        if let Some(entry) = self.entries.get_mut(&subject) {
            if now.duration_since(entry.since) >= REPEAT {
                *entry = Entry {
                    code,
                    since: now,
                    changes: 0,
                };
                return true;
            }
            if entry.code == code || entry.changes >= CHANGES_MAX {
                return false;
            }
            entry.code = code;
            entry.changes += 1;
            return true;
        }
        if matches!(subject, Subject::Stranger { .. }) && self.strangers() >= STRANGERS_MAX {
            self.entries.retain(|s, e| {
                matches!(s, Subject::Peer { .. }) || now.duration_since(e.since) < REPEAT
            });
            if self.strangers() >= STRANGERS_MAX {
                return false;
            }
        }
        self.entries.insert(
            subject,
            Entry {
                code,
                since: now,
                changes: 0,
            },
        );
        true
    }

    /// Forgets what was said about a peer's link: it works now, so the next failure is news.
    pub(crate) fn forget(&mut self, peer: NodeId, link: LinkId) {
        for inbound in [false, true] {
            self.entries.remove(&Subject::Peer {
                peer,
                link,
                inbound,
            });
        }
    }

    fn strangers(&self) -> usize {
        self.entries
            .keys()
            .filter(|s| matches!(s, Subject::Stranger { .. }))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects logs from retries: news once, again on change and every 30 s, but not for each of a
    /// reason that flaps.
    #[test]
    fn repeats_are_held_back() {
        let mut notices = Notices::default();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let peer = Subject::Peer {
            peer: NodeId(1),
            link: LinkId(0),
            inbound: true,
        };
        assert!(notices.admit(peer, "a", at(0)));
        assert!(!notices.admit(peer, "a", at(29)));
        assert!(notices.admit(peer, "b", at(29)));
        assert!(notices.admit(peer, "b", at(31)));
        let told = (0..1000)
            .filter(|i| notices.admit(peer, if i % 2 == 0 { "a" } else { "b" }, at(32)))
            .count();
        assert_eq!(told, CHANGES_MAX as usize);
        notices.forget(NodeId(1), LinkId(0));
        assert!(notices.admit(peer, "a", at(33)));
    }

    /// Protects memory and logs from a flood of strangers, without going deaf for good.
    #[test]
    fn strangers_are_bounded() {
        let mut notices = Notices::default();
        let start = Instant::now();
        let stranger = |i: u32| Subject::Stranger {
            link: LinkId(0),
            address: IpAddr::from(i.to_be_bytes()),
        };
        let told = (0..10_000)
            .filter(|&i| notices.admit(stranger(i), "wrong-key", start))
            .count();
        assert_eq!(told, STRANGERS_MAX);
        assert_eq!(notices.entries.len(), STRANGERS_MAX);
        assert!(notices.admit(stranger(20_000), "wrong-key", start + REPEAT));
    }
}
