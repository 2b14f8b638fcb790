//! What an observer writes down when a node shows a lease, tells an event, ends a session or refuses
//! a call for a deadlock.

use crate::{
    checkers::{
        Fact,
        books::{Claim, Who},
        l1_deadlocks::ToldWait,
    },
    dice::MS,
    process::Session,
    trace::mix_bytes,
    world::{Ev, World},
};
use mainstay_base::{Incarnation, Instant, NodeId};
use mainstay_wire::{
    codec,
    deadlock::DeadlockReport,
    event::{Event, Reason, What},
};

impl World {
    pub(crate) fn show_lease(&mut self, host: usize, until: Instant) {
        let here = &mut self.hosts[host];
        let Some(process) = &mut here.process else {
            return;
        };
        let (page, life) = (process.page, process.life);
        let was_valid = self.books.life_valid(life, self.now);
        here.leases.insert(page, until);
        let over_at = if until == Instant::ZERO {
            0
        } else {
            here.clock.real(until)
        };
        self.books.pages[page as usize].over_at = over_at;
        self.trace
            .note(self.now, "lease", &[host as u64, until.0], || {
                let left = over_at.saturating_sub(self.now) as f64 / MS as f64;
                format!("host {} for {left:.1} ms", host + 1)
            });
        self.stats.count("leases");
        let valid = self.books.life_valid(life, self.now);
        if valid && !was_valid {
            self.stats.count("leases gained");
            self.books.rely(life);
        }
        if until != Instant::ZERO {
            self.adopt(host);
        } else if self.books.lives[life as usize].leaving {
            // The clients of a node that leaves have been told; it gives their locks up now.
            // But for those that its next life goes on with.
            let process = self.hosts[host].process.as_ref();
            let stay: Vec<_> = process.map_or(Vec::new(), |process| process.staying());
            let ended = self
                .books
                .end_standing(|who, claim| claim.life == life && !stay.contains(&who.client));
            self.tell_ended(&ended);
        }
        self.fact(&Fact::LeaseShown { life });
    }

    /// Writes down under which incarnation a life acts, the first time that it does.
    fn adopt(&mut self, host: usize) {
        let me = self.hosts[host].id;
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        let life = process.life;
        if let Some(incarnation) = process.seen_as
            && !std::mem::replace(&mut process.acted, true)
        {
            self.books.lives[life as usize].incarnation = Some(incarnation);
            self.owned.insert((me, incarnation));
            self.fact(&Fact::Adopted { life, incarnation });
        }
    }

    pub(crate) fn event(&mut self, host: usize, event: &Event) {
        let words = [host as u64, mix_bytes(0, &codec::to_vec(event))];
        self.trace.note(self.now, "event", &words, || {
            format!("host {}: {event}", host + 1)
        });
        let me = self.hosts[host].id;
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        let life = process.life;
        match &event.what {
            What::View { members, quorate } => {
                process.seen_as = members.iter().find(|(n, _)| *n == me).map(|(_, i)| *i);
                let (seen_as, acted) = (process.seen_as, process.acted);
                if let Some(seen) = seen_as
                    && !acted
                    && !self.owned.contains(&(me, seen))
                {
                    // Until it acts, what the log says last counts: a log that is read again after
                    // a restart begins with the memberships of earlier lives.
                    self.books.lives[life as usize].incarnation = Some(seen);
                }
                self.stats.count("views");
                self.fact(&Fact::View {
                    life,
                    epoch: event.epoch,
                    members,
                    quorate: *quorate,
                });
            }
            What::MemberLeft { node, incarnation } => {
                self.stats.count("members lost");
                let (node, incarnation, reason) = (*node, *incarnation, event.reason);
                if !self.proved.contains(&(node, incarnation)) {
                    self.unproved.insert((node, incarnation));
                }
                self.fact(&Fact::Left {
                    node,
                    incarnation,
                    reason,
                });
                if reason == Reason::LeftCleanly {
                    self.stats.count("clean leaves");
                    self.prove(node, incarnation, reason);
                }
            }
            What::MemberJoined { .. } => {
                if let Some((host, back_in)) = self.ambush.take() {
                    self.stats.count("killed at a join");
                    let wait = self.dice.fault.below(50 * MS);
                    self.at(wait, Ev::Kill { host, back_in });
                }
            }
            // What it mastered is rebuilt; what it holds stays.
            What::Fenced { .. } if event.reason == Reason::Rests => self.stats.count("rests begun"),
            What::Fenced { node, incarnation } if event.reason == Reason::Resumed => {
                self.stats.count("rests resumed");
                self.unproved.remove(&(*node, *incarnation));
                self.proved.insert((*node, *incarnation));
                let (node, incarnation) = (*node, *incarnation);
                self.fact(&Fact::Resumed { node, incarnation });
            }
            What::Fenced { node, incarnation } => self.prove(*node, *incarnation, event.reason),
            What::Active => {
                self.adopt(host);
                self.fact(&Fact::Acting { life, active: true });
            }
            What::Suspended => {
                self.stats.count("suspensions");
                self.books.lives[life as usize].leaving |= event.reason == Reason::Stopping;
                self.fact(&Fact::Acting {
                    life,
                    active: false,
                });
            }
            What::RecoveryDone {
                rebuilt, dropped, ..
            } => {
                self.stats.count("recoveries");
                self.stats.add("resources rebuilt", *rebuilt);
                self.stats.add("locks dropped", *dropped);
            }
            What::MastersMoved {
                from, resources, ..
            } if *from == me => {
                self.stats.count("moves of masters");
                self.stats.add("resources moved", u64::from(*resources));
            }
            What::Orphan { .. } => self.orphan_told(life, event),
            _ => {}
        }
    }

    /// A node counts an incarnation as harmless: its locks may be dropped from now on.
    fn prove(&mut self, node: NodeId, incarnation: Incarnation, reason: Reason) {
        self.unproved.remove(&(node, incarnation));
        if self.proved.insert((node, incarnation)) {
            self.stats.count(match reason {
                Reason::OperatorVouched => "proofs by operator",
                Reason::LeaseExpired => "proofs by lease",
                _ => "proofs otherwise",
            });
            let lives = &self.books.lives;
            let gone: Vec<bool> = lives
                .iter()
                .map(|life| life.node == node && life.incarnation == Some(incarnation))
                .collect();
            let ended = self
                .books
                .end_standing(|_, claim| gone[claim.life as usize]);
            self.tell_ended(&ended);
            self.remember(&ended);
            // One that leaves in order has told of all that it has adopted, and has given back the rest.
            if reason != Reason::LeftCleanly {
                self.perhaps_adopted(&gone);
            }
        }
        self.fact(&Fact::Proved {
            node,
            incarnation,
            reason,
        });
    }

    pub(crate) fn tell_ended(&mut self, ended: &[(Who, Claim)]) {
        for (_, claim) in ended {
            self.fact(&Fact::HolderDied { claim });
        }
        for (_, claim) in ended {
            if self.books.empty(claim.res) {
                self.fact(&Fact::Emptied { res: claim.res });
            }
        }
    }

    /// Says which clients do not run.
    pub(crate) fn tell_stopped(&mut self) {
        for slot in 0..self.clients.len() {
            if self.stopped(slot) {
                let client = self.clients[slot].no;
                self.fact(&Fact::ClientStopped { client });
            }
        }
    }

    /// A client reads that its call was refused because it waited in a circle.
    pub(crate) fn victim(&mut self, no: u32, request: u64, report: &DeadlockReport) {
        self.stats.count("deadlock victims");
        self.stats.count(match report.waits.len() {
            2 => "circles of 2",
            3 => "circles of 3",
            4 => "circles of 4",
            _ => "circles of 5 or more",
        });
        let told: Vec<ToldWait> = report
            .waits
            .iter()
            .map(|wait| ToldWait {
                client: wait.owner.pid,
                res: self.terrain.find(&wait.lockspace, &wait.name),
                name: (wait.node.to_string(), wait.lock.0, wait.wait),
            })
            .collect();
        self.fact(&Fact::Victim {
            client: no,
            request,
            told: &told,
        });
    }

    /// The node of a client has closed its session: its locks are released, but for those that are
    /// persistent.
    pub(crate) fn session_ended(&mut self, session: Session) {
        let no = session.no;
        self.ended.insert(session.home);
        let conn = session.home;
        self.fact(&Fact::SessionEnded { conn });
        // The client may have given up before its node did, and have begun another session.
        let client = &self.clients[session.slot];
        let anew = client.no == no && client.home != session.home;
        let ended = self.books.end_standing(|who, claim| {
            who.client == no && !claim.persistent && !(anew && claim.believed)
        });
        self.linux_writers_died(&ended);
        self.tell_ended(&ended);
        // What was asked and never answered may have been granted and dropped again.
        for res in self.touched.remove(&no).unwrap_or_default() {
            self.fact(&Fact::MayInvalidate { res });
        }
    }
}
