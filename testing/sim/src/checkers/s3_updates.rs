//! S3 where value blocks are changed in one step: each change that was acknowledged has happened once,
//! and is not lost without a mark; nobody's copy is changed behind his back; and those who watch see
//! the value go forward, and end with the last.
//!
//! On these resources every change adds one to the count. So an unmarked value counts no fewer than
//! the changes that were acknowledged before it was asked for, and no value more than one before it
//! and all changes that may have been made since. Nothing takes a mark away, which makes the first part
//! hold for good.
//!
//! A client that was stopped may read what its node wrote long ago, under a lock that has ended by
//! proof: that says what was, nothing of what the resource is now.

use super::{
    Checker, Fact,
    books::{Books, Res, Who},
    conflict,
};
use mainstay_base::{LockMode, Value, ValueBlock, ValueVersion};
use mainstay_wire::lock::Refusal;
use std::collections::{BTreeMap, BTreeSet};

type Stamp = (ValueVersion, bool);

fn stamp(value: &Value) -> Stamp {
    (value.version, value.maybe_stale)
}

/// What an answer must reckon with, as it was when its call was made.
#[derive(Debug)]
struct Asked {
    at: u64,
    /// Acknowledged by then, since the resource was last empty.
    acknowledged: u64,
    /// Copies that locks had by then.
    copies: BTreeMap<Who, ValueVersion>,
    updates: bool,
    /// What may have been counted at most when the answer was made, itself included.
    most: u64,
    /// Changes of others that may have been made meanwhile.
    others: u64,
    /// The resource has been empty since, so the lock had ended, and the value may be forgotten.
    forgotten: bool,
}

#[derive(Debug, Default)]
struct Tally {
    /// Changes acknowledged since no lock stood on the resource.
    acknowledged: u64,
    /// All changes that may have happened.
    possible: u64,
    /// What a value counts at most that is answered to a call made now.
    most: u64,
    /// Changes that clients asked for who are gone: they may be made at any time.
    abandoned: u64,
    /// Calls that are not answered.
    calls: BTreeMap<Who, Asked>,
    known: BTreeMap<ValueVersion, ValueBlock>,
    copies: BTreeMap<Who, ValueVersion>,
    /// What each lock was told last.
    told: BTreeMap<Who, Stamp>,
    watching: BTreeSet<Who>,
    /// Since when a lock is held as it is.
    held: BTreeMap<Who, u64>,
    /// A mark has a cause.
    excuse: bool,
}

impl Tally {
    fn asked(&mut self, now: u64, who: Who, updates: bool) {
        self.abandon(|other| *other == who);
        let change = u64::from(updates);
        self.possible += change;
        self.most += change;
        for call in self.calls.values_mut() {
            call.most += change;
            call.others += change;
        }
        let pending = self.calls.values().filter(|call| call.updates).count();
        let asked = Asked {
            at: now,
            acknowledged: self.acknowledged,
            copies: self.copies.clone(),
            updates,
            most: self.most,
            others: pending as u64 + self.abandoned,
            forgotten: false,
        };
        self.calls.insert(who, asked);
    }

    /// A change that was asked for is certain not to have been made.
    fn not_made(&mut self) {
        self.possible -= 1;
        self.most -= 1;
        for call in self.calls.values_mut() {
            call.most -= 1;
            call.others -= 1;
        }
    }

    /// Nobody waits for the answers to these calls any more.
    fn abandon(&mut self, gone: impl Fn(&Who) -> bool) {
        let abandoned = &mut self.abandoned;
        self.calls.retain(|who, call| {
            let stays = !gone(who);
            *abandoned += u64::from(call.updates && !stays);
            stays
        });
    }

    /// A value as a lock gets it, in answer to a call or by itself.
    fn seen(
        &mut self,
        who: Who,
        asked: Option<&Asked>,
        value: &Value,
        books: &Books,
    ) -> Result<(), String> {
        let most = asked.map_or(self.possible, |asked| asked.most);
        let count = u64::try_from(value.count()).unwrap_or(u64::MAX);
        if count > most {
            return Err(format!(
                "the count is {}, and at most {most} changes can have been made",
                value.count(),
            ));
        }
        let standing = |who: &Who| books.claim(*who).is_some_and(|claim| claim.standing);
        if !standing(&who) {
            return Ok(());
        }
        let known = self.known.entry(value.version);
        let known = known.or_insert_with(|| value.block.clone());
        if *known != value.block {
            return Err(format!("version {} stands for two values", value.version));
        }
        if value.maybe_stale && !self.excuse {
            return Err("the value is marked although no write can have been lost".to_owned());
        }
        if self.told.get(&who).is_some_and(|told| *told > stamp(value)) {
            return Err(format!("the lock had been told {:?}", self.told.get(&who)));
        }
        self.told.insert(who, stamp(value));
        self.copies.insert(who, value.version);
        self.copies.retain(|who, _| standing(who));
        let Some(asked) = asked else {
            return Ok(());
        };
        let copies = asked.copies.iter().filter(|(who, _)| standing(who));
        if let Some((_, copy)) = copies.max_by_key(|(_, version)| **version)
            && *copy > value.version
        {
            return Err(format!("a lock that still stands had version {copy}"));
        }
        if !value.maybe_stale && count < asked.acknowledged {
            return Err(format!(
                "the count is {} and not marked, after {} changes had been acknowledged",
                value.count(),
                asked.acknowledged
            ));
        }
        self.most = self.most.min(count + asked.others);
        Ok(())
    }

    fn updated(
        &mut self,
        who: Who,
        res: Res,
        result: Result<&mainstay_base::Updated, &Refusal>,
        books: &Books,
    ) -> Result<(), String> {
        let Some(mut asked) = self.calls.remove(&who) else {
            return match result {
                Ok(updated) => self.seen(who, None, &updated.value, books),
                Err(_) => Ok(()),
            };
        };
        let updated = match result {
            Ok(updated) => updated,
            // It may have been made.
            Err(Refusal::Unavailable(_)) => return Ok(()),
            Err(_) => {
                self.not_made();
                return Ok(());
            }
        };
        if !updated.done {
            self.not_made();
            asked.most -= 1;
        }
        self.seen(who, Some(&asked), &updated.value, books)?;
        if !updated.done {
            return Ok(());
        }
        self.acknowledged += u64::from(!asked.forgotten);
        // Whoever held the lock all the while relied on the value.
        let mut others = books.on(res).filter(|(other, claim)| {
            let all_the_while = self.held.get(other).is_some_and(|since| *since < asked.at);
            **other != who && claim.standing && all_the_while && claim.restore.is_none()
        });
        match others.find(|(_, claim)| conflict(claim.mode, LockMode::Pw)) {
            Some((other, claim)) => Err(format!(
                "it was changed while client {} held {}",
                other.client, claim.mode
            )),
            None => Ok(()),
        }
    }

    fn forget(&mut self, gone: impl Fn(&Who) -> bool) {
        self.abandon(&gone);
        self.copies.retain(|who, _| !gone(who));
        self.told.retain(|who, _| !gone(who));
        self.watching.retain(|who| !gone(who));
        self.held.retain(|who, _| !gone(who));
    }
}

/// Watches S3 where value blocks are changed in one step.
#[derive(Debug, Default)]
pub struct Updates {
    tallies: BTreeMap<Res, Tally>,
    /// A master was lost some time, with what it had changed.
    lost_master: bool,
}

impl Updates {
    fn tally(&mut self, res: Res) -> &mut Tally {
        let lost = self.lost_master;
        self.tallies.entry(res).or_insert_with(|| Tally {
            excuse: lost,
            ..Tally::default()
        })
    }
}

impl Checker for Updates {
    fn promise(&self) -> &'static str {
        "S3 updates"
    }

    fn observe(&mut self, now: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String> {
        let about = |res: Res, who: Who, judged: Result<(), String>| {
            judged.map_err(|why| format!("resource {res}, client {}: {why}", who.client))
        };
        match *fact {
            Fact::Updating { who, res } => self.tally(res).asked(now, who, true),
            Fact::LockAsked { who, res, .. } => self.tally(res).asked(now, who, false),
            Fact::Updated { who, res, result } => {
                let judged = self.tally(res).updated(who, res, result, books);
                return about(res, who, judged);
            }
            Fact::ValueTold { who, res, value } => {
                let tally = self.tally(res);
                let old = tally
                    .told
                    .get(&who)
                    .is_some_and(|told| *told == stamp(value));
                let judged = match old {
                    true => Err("it was told what it had been told".to_owned()),
                    // What comes by itself answers no call that is under way.
                    false => tally.seen(who, None, value, books),
                };
                return about(res, who, judged);
            }
            Fact::Watching { who } => {
                if let Some(claim) = books.claim(who) {
                    self.tally(claim.res).watching.insert(who);
                }
            }
            Fact::Granted { who, read } => {
                let Some(claim) = books.claim(who).filter(|claim| claim.standing) else {
                    return Ok(());
                };
                let res = claim.res;
                let tally = self.tally(res);
                tally.held.insert(who, now);
                // Also where nothing was changed yet: there may be a mark.
                if let Some(value) = read {
                    let told = tally.told.entry(who).or_default();
                    *told = (*told).max(stamp(value));
                }
                let asked = tally.calls.remove(&who);
                // Others publish on other resources, where the rest says nothing.
                let judged = match read.filter(|_| tally.possible > 0) {
                    Some(value) => tally.seen(who, asked.as_ref(), value, books),
                    None => Ok(()),
                };
                return about(res, who, judged);
            }
            Fact::ConversionRefused { who } => {
                for tally in self.tallies.values_mut() {
                    tally.calls.retain(|w, call| *w != who || call.updates);
                }
            }
            Fact::Unlocked { who } => {
                for tally in self.tallies.values_mut() {
                    tally.forget(|w| *w == who);
                }
            }
            Fact::SessionOver { client } => {
                for tally in self.tallies.values_mut() {
                    tally.forget(|who| who.client == client);
                }
            }
            Fact::Emptied { res } => {
                let tally = self.tally(res);
                tally.acknowledged = 0;
                tally.known.clear();
                tally.copies.clear();
                for asked in tally.calls.values_mut() {
                    asked.acknowledged = 0;
                    asked.forgotten = true;
                }
            }
            Fact::MayInvalidate { res } => self.tally(res).excuse = true,
            Fact::HolderDied { claim } => self.tally(claim.res).excuse = true,
            Fact::Left { .. } | Fact::LifeEnded { .. } => {
                self.lost_master = true;
                for tally in self.tallies.values_mut() {
                    tally.excuse = true;
                }
            }
            Fact::Audit { resources, .. } => {
                for (res, report) in resources {
                    let Some(tally) = self.tallies.get(res) else {
                        continue;
                    };
                    let now = report.value.as_ref().map(stamp).unwrap_or_default();
                    for who in &tally.watching {
                        let stands = books.claim(*who).is_some_and(|c| c.standing && c.believed);
                        let told = tally.told.get(who).copied().unwrap_or_default();
                        if stands && told != now {
                            return about(
                                *res,
                                *who,
                                Err(format!(
                                    "it watches and was told {told:?} last, not {now:?}"
                                )),
                            );
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Surviving;
    use crate::checkers::testing::{grant, two_nodes, who};
    use LockMode::{Nl, Pr};
    use mainstay_base::{Flags, LockspaceName, NodeId, NodeName, ResourceName, Token, Updated};
    use mainstay_wire::report::ResourceReport;

    fn value(count: i64, version: u64, maybe_stale: bool) -> Value {
        Value {
            block: ValueBlock::default().with_count(count),
            version: ValueVersion(version),
            maybe_stale,
        }
    }

    struct Net(Updates, Books);

    impl Net {
        fn sees(&mut self, fact: &Fact<'_>) -> bool {
            self.0.observe(10, fact, &self.1).is_ok()
        }

        fn ask(&mut self, client: u32) {
            let (who, res) = (who(client), 0);
            assert!(self.sees(&Fact::Updating { who, res }));
        }

        fn answer(&mut self, client: u32, value: Value) -> bool {
            let (who, res) = (who(client), 0);
            let updated = Updated { done: true, value };
            let result = Ok(&updated);
            self.sees(&Fact::Updated { who, res, result })
        }

        /// A client asks for a lock, and reads this with it.
        fn reads(&mut self, client: u32, mode: LockMode, token: u64, value: &Value) -> bool {
            let (who, read) = (who(client), Some(value));
            let flags = Flags::VALBLK;
            let (request, res, conn, life) = (1, 0, 1, 1);
            assert!(self.sees(&Fact::LockAsked {
                who,
                request,
                res,
                mode,
                flags,
                conn,
                life
            }));
            grant(&mut self.1, client, life, mode, token);
            self.sees(&Fact::Granted { who, read })
        }

        /// It is proved that the node of these clients can do no more harm.
        fn ends(&mut self, clients: &[u32]) {
            self.1.end_standing(|who, _| clients.contains(&who.client));
            if self.1.empty(0) {
                assert!(self.sees(&Fact::Emptied { res: 0 }));
            }
        }

        /// The masters tell this value, while that client watches.
        fn audit(&mut self, node: u16, value: &Value) -> bool {
            let report = ResourceReport {
                lockspace: LockspaceName::new("sim").expect("valid"),
                name: ResourceName::new("tally-0").expect("short"),
                master: NodeName::new("n1").expect("valid"),
                recovering: false,
                token: Token::NONE,
                value: Some(value.clone()),
                holders: Vec::new(),
                converters: Vec::new(),
                waiters: Vec::new(),
            };
            let node = NodeId(node);
            let resources = &[(0, &report)];
            let surviving = Surviving::default();
            self.sees(&Fact::Audit {
                node,
                resources,
                surviving,
            })
        }

        fn tell(&mut self, client: u32, value: &Value) -> bool {
            let (who, res) = (who(client), 0);
            self.sees(&Fact::ValueTold { who, res, value })
        }
    }

    fn net() -> Net {
        let mut net = Net(Updates::default(), two_nodes());
        for client in [1, 2] {
            grant(&mut net.1, client, 0, Nl, u64::from(client));
        }
        net
    }

    /// Protects the net from false alarms: a mark may be read before anything was ever changed, and who
    /// has read it has been told.
    #[test]
    fn a_mark_may_come_before_any_change() {
        let (plain, marked) = (value(0, 0, false), value(0, 0, true));
        let mut net = net();
        assert!(net.reads(1, Pr, 3, &plain));
        assert!(net.sees(&Fact::Watching { who: who(1) }));
        assert!(net.audit(1, &plain));
        assert!(!net.audit(1, &marked), "nobody has told it");
        assert!(net.reads(1, Pr, 4, &marked));
        assert!(net.audit(1, &marked));
    }

    /// Protects the net: a change that was lost without a mark, or made twice, is seen.
    #[test]
    fn lost_and_repeated_changes_are_seen() {
        let mut fine = net();
        fine.ask(1);
        assert!(fine.answer(1, value(1, 1, false)));
        fine.ask(2);
        assert!(fine.answer(2, value(2, 2, false)));

        let mut lost = net();
        lost.ask(1);
        assert!(lost.answer(1, value(1, 1, false)));
        lost.ask(2);
        assert!(!lost.answer(2, value(0, 2, false)));

        let mut twice = net();
        twice.ask(1);
        assert!(!twice.answer(1, value(2, 2, false)));

        let mut marked = net();
        marked.ask(1);
        assert!(!marked.answer(1, value(1, 1, true)), "nothing was lost");
    }

    /// Protects the net from crying wolf: a stopped client may read the answer to its change after its
    /// lock has ended by proof, and all others with it. Where one still stands, the change is not lost.
    #[test]
    fn a_late_answer_says_nothing_of_a_forgotten_resource() {
        let mut forgotten = net();
        forgotten.ask(1);
        forgotten.ask(2);
        forgotten.ends(&[1, 2]);
        assert!(forgotten.answer(1, value(1, 1, false)));
        assert!(forgotten.reads(3, Nl, 3, &value(0, 0, false)), "a new one");
        forgotten.ask(3);
        assert!(forgotten.answer(3, value(1, 1, false)));
        assert!(
            forgotten.answer(2, value(2, 1, false)),
            "versions begin anew"
        );

        let mut kept = net();
        kept.ask(1);
        kept.ends(&[1]);
        assert!(kept.answer(1, value(1, 1, false)));
        assert!(!kept.reads(2, Nl, 3, &value(0, 0, false)));
    }

    /// Protects the net: changes that were lost or forgotten do not hide one that is made twice.
    #[test]
    fn a_repeated_change_is_seen_after_others_were_lost() {
        for (count, fine) in [(1, true), (2, false)] {
            let mut net = net();
            for made in 1..=3 {
                net.ask(1);
                assert!(net.answer(1, value(made, made as u64, false)));
            }
            net.ends(&[1, 2]);
            assert!(net.reads(2, Nl, 3, &value(0, 0, false)));
            net.ask(2);
            assert_eq!(net.answer(2, value(count, 1, false)), fine);
        }
    }

    /// Protects the net from crying wolf: what others ask for meanwhile may be counted in an answer,
    /// and so may what a client asked for that is gone.
    #[test]
    fn changes_under_way_may_be_counted() {
        let mut net = net();
        net.ask(1);
        net.ask(2);
        assert!(net.answer(2, value(2, 2, false)));
        assert!(net.answer(1, value(1, 1, false)));
        net.ask(1);
        assert!(net.sees(&Fact::SessionOver { client: 1 }));
        net.ask(2);
        assert!(net.answer(2, value(3, 3, false)));
        net.ask(2);
        assert!(net.answer(2, value(5, 5, false)), "the first one's came");
        net.ask(2);
        assert!(!net.answer(2, value(8, 8, false)));
    }

    /// Protects the net: a change under the eyes of a reader is seen, unless he came meanwhile.
    #[test]
    fn changes_behind_a_readers_back_are_seen() {
        for (since, fine) in [(5, false), (15, true)] {
            let mut net = net();
            grant(&mut net.1, 2, 0, Pr, 3);
            let granted = Fact::Granted {
                who: who(2),
                read: None,
            };
            net.0.observe(since, &granted, &net.1).expect("a grant");
            net.ask(1);
            assert_eq!(net.answer(1, value(1, 1, false)), fine);
        }
    }

    /// Protects the net: who watches is not told twice, nothing old, and in the end the last.
    #[test]
    fn watching_goes_forward_and_ends_with_the_last() {
        let mut net = net();
        assert!(net.sees(&Fact::Watching { who: who(2) }));
        net.ask(1);
        assert!(net.answer(1, value(1, 1, false)));
        net.ask(1);
        assert!(net.answer(1, value(2, 2, false)));
        assert!(!net.audit(2, &value(2, 2, false)), "it has not been told");
        assert!(net.tell(2, &value(2, 2, false)));
        assert!(net.audit(2, &value(2, 2, false)));
        assert!(!net.tell(2, &value(2, 2, false)));
        assert!(!net.tell(2, &value(1, 1, false)));
    }
}
