//! L1: every deadlock is found, one victim per circle is told which, and nobody falls who stood in
//! none.
//!
//! The truth is what clients asked and were told: who held what while who waited. Judged are
//! circles of waits for granted locks, which are certain from outside; those by way of queues end
//! in a call that is never answered if nobody finds them, which [`super::l1_progress`] sees.

use super::{
    Checker, Fact,
    books::{Books, Claim, ClientNo, LifeNo, Res, Who},
    conflict,
    l1_progress::Progress,
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::client::Handle;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A circle may stand so long in a cluster that is whole, in nanoseconds. Messages may be lost, and
/// daemons pause.
const BOUND: u64 = 8_000_000_000;
/// And so long where nothing goes wrong: the delay, a few messages, and the time between two looks.
const BOUND_QUIET: u64 = 350_000_000;
/// Within so long all victims of one circle fall.
const SOON: u64 = 1_000_000_000;
/// How long the past matters.
const MEMORY: u64 = 60_000_000_000;

/// One wait of a circle as its victim was told: whose, on what, and a name for it that no other
/// wait has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldWait {
    /// Whose.
    pub client: ClientNo,
    /// On what; absent for a name that the world does not have.
    pub res: Option<Res>,
    /// Node, lock and number of the wait.
    pub name: (String, u64, u64),
}

/// Whose locks are: those of one are released by one will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Team {
    /// The client's own.
    Alone(ClientNo),
    /// A group's on a host, of a user.
    Group(usize, u32, u64),
    /// A transaction's, of a user.
    Transaction(u32, u64),
}

/// From when to when; no end yet.
type Span = (u64, Option<u64>);

fn covers(span: &Span, at: u64) -> bool {
    span.0 <= at && span.1.is_none_or(|end| at <= end)
}

#[derive(Debug)]
struct Call {
    who: Who,
    team: Team,
    res: Res,
    mode: LockMode,
    flags: Flags,
    since: u64,
}

#[derive(Debug)]
struct Interest {
    who: Who,
    team: Team,
    res: Res,
    conn: u64,
    life: LifeNo,
    span: Span,
}

/// An answered call.
#[derive(Debug)]
struct Waited {
    client: ClientNo,
    team: Team,
    res: Res,
    span: (u64, u64),
}

impl Waited {
    fn new(client: ClientNo, call: &Call, until: u64) -> Waited {
        Waited {
            client,
            team: call.team,
            res: call.res,
            span: (call.since, until),
        }
    }
}

/// Watches deadlocks.
#[derive(Debug)]
pub struct Deadlocks {
    cluster: Progress,
    bound: u64,
    whole_since: Option<u64>,
    /// Unanswered calls, by lock: one call may be for several.
    calls: BTreeMap<(ClientNo, u64, Handle), Call>,
    /// Answered ones.
    waited: VecDeque<Waited>,
    /// For whom clients ask, if not for themselves.
    teams: BTreeMap<ClientNo, Team>,
    /// Locks that were asked for so.
    of_teams: BTreeMap<Who, Team>,
    /// Locks from the first asking to the answered release.
    interests: Vec<Interest>,
    standing: BTreeMap<BTreeSet<(ClientNo, u64)>, u64>,
    /// Clients that do not run: who may have been told and not have read it.
    stopped: BTreeSet<ClientNo>,
    /// Clients whose connections have been broken: nobody knows when their calls arrive.
    broken: BTreeSet<ClientNo>,
    told: VecDeque<(u64, Vec<ToldWait>)>,
}

impl Deadlocks {
    /// For clusters of so many nodes; `quiet`: nothing goes wrong.
    #[must_use]
    pub fn new(nodes: usize, quiet: bool) -> Deadlocks {
        Deadlocks {
            cluster: Progress::new(nodes),
            bound: if quiet { BOUND_QUIET } else { BOUND },
            whole_since: None,
            calls: BTreeMap::new(),
            waited: VecDeque::new(),
            teams: BTreeMap::new(),
            of_teams: BTreeMap::new(),
            interests: Vec::new(),
            standing: BTreeMap::new(),
            stopped: BTreeSet::new(),
            broken: BTreeSet::new(),
            told: VecDeque::new(),
        }
    }

    fn answered(&mut self, now: u64, client: ClientNo, request: u64) {
        let all = (client, request, Handle(u64::MIN))..=(client, request, Handle(u64::MAX));
        let keys: Vec<_> = self.calls.range(all).map(|(key, _)| *key).collect();
        for call in keys.iter().filter_map(|key| self.calls.remove(key)) {
            self.waited.push_back(Waited::new(client, &call, now));
            let mut own = self.interests.iter_mut().filter(|i| i.who == call.who);
            // A grant, or what is left of a refused conversion, goes on below.
            if let Some(interest) = own.find(|i| i.span.1.is_none()) {
                interest.span.1 = Some(now);
            }
        }
    }

    fn goes_on(&mut self, who: Who) {
        if let Some(interest) = self.interests.iter_mut().rev().find(|i| i.who == who) {
            interest.span.1 = None;
        }
    }

    fn ends(&mut self, now: u64, test: impl Fn(&Interest) -> bool) {
        for interest in self.interests.iter_mut().filter(|i| test(i)) {
            interest.span.1.get_or_insert(now);
        }
    }

    /// Whose a lock is.
    fn team(&self, who: Who) -> Team {
        let team = self.of_teams.get(&who);
        team.copied().unwrap_or(Team::Alone(who.client))
    }

    /// Waits for granted locks: who waits with which call for whom. Nothing is owed to a call that a lock of
    /// its own owner is in the way of: another task of that may let go.
    fn edges(&self, books: &Books) -> Edges {
        let mut edges = Edges::new();
        let counted = |call: &&Call| !call.flags.contains(Flags::NODLCKWT);
        for ((client, request, _), call) in self.calls.iter().filter(|(_, call)| counted(call)) {
            let alternate = call.flags.alternate();
            let in_the_way = |claim: &Claim| {
                let held = claim.restore.unwrap_or(claim.mode);
                conflict(held, call.mode) && alternate.is_none_or(|mode| conflict(held, mode))
            };
            let own = |(who, claim): (&Who, &Claim)| {
                self.team(*who) == call.team && *who != call.who && in_the_way(claim)
            };
            if books.on(call.res).any(own) {
                continue;
            }
            for (who, claim) in books.on(call.res) {
                let team = self.team(*who);
                let other = team != call.team && claim.standing && claim.believed;
                if other && in_the_way(claim) {
                    let entry = edges.entry(call.team).or_default();
                    entry.push(((*client, *request), team));
                }
            }
        }
        edges
    }

    fn look(&mut self, now: u64, books: &Books) -> Result<(), String> {
        while self.waited.front().is_some_and(|w| w.span.1 + MEMORY < now) {
            self.waited.pop_front();
        }
        while self.told.front().is_some_and(|t| t.0 + MEMORY < now) {
            self.told.pop_front();
        }
        let past = |i: &Interest| i.span.1.is_some_and(|end| end + MEMORY < now);
        for old in self.interests.iter().filter(|i| past(i)) {
            self.of_teams.remove(&old.who);
        }
        self.interests.retain(|i| !past(i));
        match self.cluster.whole() {
            true => self.whole_since.get_or_insert(now),
            false => return self.forget_standing(),
        };
        let edges = self.edges(books);
        let stopped = std::mem::take(&mut self.stopped);
        let found: BTreeSet<_> = edges
            .keys()
            .filter_map(|c| circle(*c, &edges))
            .filter(|circle| {
                circle
                    .iter()
                    .all(|(c, _)| !stopped.contains(c) && !self.broken.contains(c))
            })
            .collect();
        self.standing.retain(|circle, _| found.contains(circle));
        for circle in found {
            let since = *self.standing.entry(circle.clone()).or_insert(now);
            let owed = since.max(self.whole_since.unwrap_or(now)) + self.bound;
            if now > owed {
                return Err(format!(
                    "a circle of waits stands since {:.3} s, and nobody was refused: clients and \
                     their calls {circle:?}",
                    since as f64 / 1e9
                ));
            }
        }
        Ok(())
    }

    /// When a told wait stood, and whose it was.
    fn waits_of(&self, wait: &ToldWait) -> Vec<(Span, Team)> {
        let pending = self.calls.iter().filter_map(|((client, ..), call)| {
            let same = *client == wait.client && Some(call.res) == wait.res;
            same.then_some(((call.since, None), call.team))
        });
        let past = self.waited.iter().filter_map(|past| {
            let same = past.client == wait.client && Some(past.res) == wait.res;
            same.then_some(((past.span.0, Some(past.span.1)), past.team))
        });
        pending.chain(past).collect()
    }

    /// When which of these owners had locks on a resource.
    fn locks_on(&self, res: Option<Res>, teams: &BTreeSet<Team>) -> Vec<(Span, Team)> {
        let interests = self.interests.iter();
        let on = interests.filter(|i| Some(i.res) == res && teams.contains(&i.team));
        on.map(|i| (i.span, i.team)).collect()
    }

    fn forget_standing(&mut self) -> Result<(), String> {
        self.whole_since = None;
        self.standing.clear();
        self.stopped.clear();
        Ok(())
    }

    fn victim(&mut self, now: u64, who: (ClientNo, u64), told: &[ToldWait]) -> Result<(), String> {
        if told.len() < 2 {
            return Err(format!(
                "the circle told to client {} is none: {told:?}",
                who.0
            ));
        }
        let (client, request) = who;
        let all = (client, request, Handle(u64::MIN))..=(client, request, Handle(u64::MAX));
        let mut asked = self.calls.range(all).map(|(_, call)| Some(call.res));
        let own = |w: &&ToldWait| w.client == who.0 && asked.any(|res| w.res == res);
        if told.first().filter(own).is_none() {
            return Err(format!(
                "client {} was refused for a circle that its call is not first of: {told:?}",
                who.0
            ));
        }
        let waits: Vec<Vec<(Span, Team)>> = told.iter().map(|wait| self.waits_of(wait)).collect();
        let of_next = |place: usize| {
            let next = &waits[(place + 1) % told.len()];
            let teams: BTreeSet<Team> = next.iter().map(|(_, team)| *team).collect();
            self.locks_on(told[place].res, &teams)
        };
        let locks: Vec<Vec<(Span, Team)>> = (0..told.len()).map(of_next).collect();
        let mut moments = waits.iter().chain(&locks).flatten().map(|(span, _)| span.0);
        let teams = |spans: &Vec<(Span, Team)>, at: u64| -> BTreeSet<Team> {
            let there = spans.iter().filter(|(span, _)| covers(span, at));
            there.map(|(_, team)| *team).collect()
        };
        let together = |at: u64| {
            let in_the_way = |place: usize| {
                let before = (place + told.len() - 1) % told.len();
                let there = teams(&locks[before], at);
                teams(&waits[place], at)
                    .intersection(&there)
                    .copied()
                    .collect()
            };
            let may_be: Vec<BTreeSet<Team>> = (0..told.len()).map(in_the_way).collect();
            apart(&may_be, &mut Vec::new())
        };
        if !moments.any(together) {
            return Err(format!(
                "client {} was refused for a circle that stood at no moment: {told:?}; waits from and \
                 to, and whose: {waits:?}; locks on the same: {locks:?}",
                who.0
            ));
        }
        for (at, other) in &self.told {
            // A node's next life uses the same numbers again, but not so soon.
            let near = now - at < SOON && other[0] != told[0];
            let both = near && told.contains(&other[0]) && other.contains(&told[0]);
            if both {
                return Err(format!(
                    "one circle, two victims: client {} fell for {told:?}, and client {} for \
                     {other:?}",
                    who.0, other[0].client
                ));
            }
        }
        self.told.push_back((now, told.to_vec()));
        Ok(())
    }
}

/// Whether each place of a circle can be another owner's. Of a client that is gone it is not known how
/// long its node takes it for waiting, so there may be several for one.
fn apart(may_be: &[BTreeSet<Team>], chosen: &mut Vec<Team>) -> bool {
    let Some((first, others)) = may_be.split_first() else {
        return true;
    };
    first.iter().any(|team| {
        let free = !chosen.contains(team);
        chosen.push(*team);
        let found = free && apart(others, chosen);
        chosen.pop();
        found
    })
}

/// Which owner waits with which call of whom for whom.
type Edges = BTreeMap<Team, Vec<((ClientNo, u64), Team)>>;

/// The calls of a circle through an owner, if it stands in one.
fn circle(start: Team, edges: &Edges) -> Option<BTreeSet<(ClientNo, u64)>> {
    let mut came: BTreeMap<Team, (Team, (ClientNo, u64))> = BTreeMap::new();
    let mut todo = VecDeque::from([start]);
    while let Some(team) = todo.pop_front() {
        for &(call, next) in edges.get(&team).into_iter().flatten() {
            if came.contains_key(&next) {
                continue;
            }
            came.insert(next, (team, call));
            if next != start {
                todo.push_back(next);
                continue;
            }
            let mut calls = BTreeSet::new();
            let mut at = start;
            while let Some(&(from, call)) = came.get(&at) {
                calls.insert(call);
                at = from;
                if at == start {
                    break;
                }
            }
            return Some(calls);
        }
    }
    None
}

impl Checker for Deadlocks {
    fn promise(&self) -> &'static str {
        "L1 deadlocks"
    }

    fn observe(&mut self, now: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String> {
        match *fact {
            Fact::LockAsked {
                who,
                request,
                res,
                mode,
                flags,
                conn,
                life,
            } => {
                let known = self.interests.iter().rev().find(|i| i.who == who);
                let chosen = self.teams.get(&who.client).copied();
                // A conversion does not change whose a lock is.
                let team = known.map(|i| i.team).or(chosen);
                let team = team.unwrap_or(Team::Alone(who.client));
                if team != Team::Alone(who.client) {
                    self.of_teams.insert(who, team);
                }
                self.calls.insert(
                    (who.client, request, who.handle),
                    Call {
                        who,
                        team,
                        res,
                        mode,
                        flags,
                        since: now,
                    },
                );
                let own = |i: &&Interest| i.who == who && i.conn == conn;
                if self.interests.iter().rev().find(own).is_none() {
                    self.interests.push(Interest {
                        who,
                        team,
                        res,
                        conn,
                        life,
                        span: (now, None),
                    });
                }
            }
            Fact::Owner { client, team } => {
                self.teams.insert(client, team);
            }
            Fact::Victim {
                client,
                request,
                told,
            } => return self.victim(now, (client, request), told),
            Fact::Answered { client, request } => self.answered(now, client, request),
            Fact::Granted { who, .. }
            | Fact::ConversionRefused { who }
            | Fact::RangeSet { who, .. }
            | Fact::RangeRefused { who } => self.goes_on(who),
            Fact::Unlocked { who } => self.ends(now, |i| i.who == who),
            Fact::ConnectionBroken { client } => {
                self.broken.insert(client);
            }
            Fact::SessionOver { client } => {
                self.teams.remove(&client);
                self.calls.retain(|(c, ..), call| {
                    let ended = *c == client;
                    if ended {
                        // Its node goes on waiting until it notices.
                        let until = now + MEMORY;
                        self.waited.push_back(Waited::new(*c, call, until));
                    }
                    !ended
                });
            }
            Fact::SessionEnded { conn } => self.ends(now, |i| i.conn == conn),
            Fact::LifeEnded { life } => {
                self.ends(now, |i| i.life == life);
                return self.cluster.observe(now, fact, books);
            }
            Fact::ClientStopped { client } => {
                self.stopped.insert(client);
            }
            Fact::Tick => return self.look(now, books),
            Fact::Booted { .. }
            | Fact::View { .. }
            | Fact::Left { .. }
            | Fact::Proved { .. }
            | Fact::Acting { .. } => return self.cluster.observe(now, fact, books),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{grant, two_nodes, who};

    fn asked(client: ClientNo, request: u64, res: Res) -> Fact<'static> {
        Fact::LockAsked {
            flags: Flags::NONE,
            who: Who {
                handle: mainstay_wire::client::Handle(request),
                ..who(client)
            },
            request,
            res,
            mode: LockMode::Ex,
            conn: u64::from(client),
            life: 0,
        }
    }

    fn told(client: ClientNo, res: Res, wait: u64) -> ToldWait {
        ToldWait {
            client,
            res: Some(res),
            name: ("n1".to_owned(), wait, wait),
        }
    }

    /// Client 1 holds resource 1 and waits for 2; client 2 holds 2 and waits for 1.
    fn two_in_a_circle() -> (Deadlocks, Books) {
        let mut checker = Deadlocks::new(2, false);
        let books = two_nodes();
        for (at, fact) in [
            asked(1, 1, 1),
            Fact::Answered {
                client: 1,
                request: 1,
            },
            Fact::Granted {
                who: who(1),
                read: None,
            },
            asked(2, 1, 2),
            Fact::Answered {
                client: 2,
                request: 1,
            },
            Fact::Granted {
                who: who(2),
                read: None,
            },
            asked(1, 2, 2),
            asked(2, 2, 1),
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(checker.observe(at as u64 + 1, fact, &books), Ok(()));
        }
        (checker, books)
    }

    /// Protects the net: a true circle passes once, and a second victim of it is seen.
    #[test]
    fn a_second_victim_is_seen() {
        let (mut checker, books) = two_in_a_circle();
        let circle = [told(1, 2, 5), told(2, 1, 6)];
        let victim = |client, circle| Fact::Victim {
            client,
            request: 2,
            told: circle,
        };
        assert_eq!(checker.observe(20, &victim(1, &circle), &books), Ok(()));
        let turned = [told(2, 1, 6), told(1, 2, 5)];
        let verdict = checker.observe(21, &victim(2, &turned), &books);
        assert!(verdict.is_err_and(|why| why.contains("two victims")));
    }

    /// Protects the net: a victim of a circle that had been released is seen.
    #[test]
    fn a_victim_of_no_circle_is_seen() {
        let (mut checker, books) = two_in_a_circle();
        let mut late = Deadlocks::new(2, false);
        std::mem::swap(&mut late.interests, &mut checker.interests);
        let released = Fact::Unlocked { who: who(2) };
        assert_eq!(late.observe(10, &released, &books), Ok(()));
        assert_eq!(late.observe(11, &asked(1, 2, 2), &books), Ok(()));
        assert_eq!(late.observe(11, &asked(2, 2, 1), &books), Ok(()));
        let circle = [told(1, 2, 5), told(2, 1, 6)];
        let victim = Fact::Victim {
            client: 1,
            request: 2,
            told: &circle,
        };
        let verdict = late.observe(20, &victim, &books);
        assert!(verdict.is_err_and(|why| why.contains("no moment")));
    }

    /// Protects the net: a circle that nobody breaks is seen, in a cluster that is whole.
    #[test]
    fn a_standing_circle_is_seen() {
        use mainstay_base::{Epoch, Incarnation, NodeId};
        let (mut checker, mut books) = two_in_a_circle();
        let members = [(NodeId(1), Incarnation(1)), (NodeId(2), Incarnation(1))];
        for life in 0..2 {
            for fact in [
                Fact::Booted {
                    life,
                    damaged: false,
                },
                Fact::View {
                    life,
                    epoch: Epoch(2),
                    members: &members,
                    quorate: true,
                },
                Fact::Acting { life, active: true },
            ] {
                assert_eq!(checker.observe(20, &fact, &books), Ok(()));
            }
        }
        grant(&mut books, 9, 0, LockMode::Pr, 1);
        let claim = |client, res| {
            let mut claim = books.claim(who(9)).expect("granted").clone();
            (claim.res, claim.mode) = (res, LockMode::Ex);
            (who(client), claim)
        };
        let claims = [claim(1, 1), claim(2, 2)];
        for (who, claim) in claims {
            books.grant(
                0,
                who,
                claim.res,
                claim.mode,
                mainstay_base::Token(1),
                0,
                false,
            );
        }
        assert_eq!(checker.observe(30, &Fact::Tick, &books), Ok(()));
        // Who does not run may not have read the refusal yet.
        let stopped = Fact::ClientStopped { client: 2 };
        let late = 31 + BOUND;
        assert_eq!(checker.observe(late, &stopped, &books), Ok(()));
        assert_eq!(checker.observe(late, &Fact::Tick, &books), Ok(()));
        assert_eq!(checker.observe(late, &Fact::Tick, &books), Ok(()));
        let verdict = checker.observe(late + 1 + BOUND, &Fact::Tick, &books);
        assert!(verdict.is_err_and(|why| why.contains("nobody was refused")));
    }
}
