//! S1 and S2 for ranges: at no moment do two live holders hold a byte in incompatible modes, tokens
//! grow for each byte, and what nobody gave up is there at the end.
//!
//! Judged by cells, of which each is some bytes that clients lock together; the last goes to the end
//! of all bytes. Nothing here knows how ranges are split or merged.

use super::{
    Checker, Fact,
    books::{Books, ClientNo, LifeNo, Res, Who, meet},
    conflict,
};
use core::ops::RangeInclusive;
use mainstay_base::{ByteRange, Incarnation, LockMode, NodeId, Token};
use mainstay_wire::report::ResourceReport;
use std::collections::{BTreeMap, BTreeSet};

/// So many cells has a resource.
pub const CELLS: usize = 20;
/// Bytes of a cell but the last.
const CELL: u64 = 4096;

/// The bytes from one cell to another.
#[must_use]
pub fn span(first: usize, last: usize) -> ByteRange {
    let end = match last + 1 >= CELLS {
        true => u64::MAX,
        false => (last as u64 + 1) * CELL - 1,
    };
    ByteRange::new(first as u64 * CELL, end).unwrap_or(ByteRange::ALL)
}

/// The cells that a range touches.
#[must_use]
pub fn cells(range: ByteRange) -> RangeInclusive<usize> {
    let cell = |byte: u64| (byte / CELL).min(CELLS as u64 - 1) as usize;
    cell(range.start())..=cell(range.end())
}

/// One lock's part in a cell.
#[derive(Clone, Copy, Debug)]
struct Part {
    held: LockMode,
    /// What the owner relies on while a call may take the held mode from it.
    relied: LockMode,
    token: Token,
}

const NOTHING: Part = Part {
    held: LockMode::Nl,
    relied: LockMode::Nl,
    token: Token::NONE,
};

#[derive(Clone, Debug)]
struct Lock {
    res: Res,
    life: LifeNo,
    conn: u64,
    cells: [Part; CELLS],
    asked: Option<(ByteRange, LockMode)>,
    /// Its session or node is gone, as far as the cluster is concerned.
    ended: bool,
}

/// Watches ranges.
#[derive(Debug, Default)]
pub struct Ranges {
    locks: BTreeMap<Who, Lock>,
    gone: BTreeSet<(NodeId, Incarnation)>,
    ended: BTreeSet<u64>,
    /// The largest token of each mode in each cell that anybody got, and who did.
    tokens: BTreeMap<(Res, usize, u8), BTreeMap<ClientNo, Token>>,
}

impl Ranges {
    fn alone(&self, now: u64, who: Who, books: &Books) -> Result<(), String> {
        let Some(lock) = self.locks.get(&who) else {
            return Ok(());
        };
        let live = books.life_valid(lock.life, now) && books.sure(who.client, now);
        let standing = self.stands(lock, books);
        let others = self
            .locks
            .iter()
            .filter(|(other, theirs)| **other != who && theirs.res == lock.res);
        for (other, theirs) in others {
            let theirs_live = books.life_valid(theirs.life, now) && books.sure(other.client, now);
            let both_live = live && theirs_live;
            let both_stand = standing && self.stands(theirs, books);
            for cell in 0..CELLS {
                let (a, b) = (lock.cells[cell], theirs.cells[cell]);
                if both_live && conflict(a.relied, b.relied) {
                    return Err(format!(
                        "cell {cell} of resource {} is held by client {} in {} with {:?} and by \
                         client {} in {} with {:?} at once",
                        lock.res, who.client, a.relied, a.token, other.client, b.relied, b.token
                    ));
                }
                if both_stand && conflict(a.relied, b.relied) {
                    return Err(format!(
                        "cell {cell} of resource {} was given to client {} in {} with {:?} while \
                         client {} has not given up {} with {:?}, and its node is a member",
                        lock.res, who.client, a.relied, a.token, other.client, b.relied, b.token
                    ));
                }
            }
        }
        Ok(())
    }

    /// A resource is locked as a whole or in ranges, not both. One in NL may be on its way out.
    fn one_way(&self, res: Res, books: &Books) -> Result<(), String> {
        let relies = |lock: &Lock| lock.cells.iter().any(|part| part.relied != LockMode::Nl);
        let ranged = self
            .locks
            .iter()
            .find(|(_, lock)| lock.res == res && relies(lock) && self.stands(lock, books));
        let whole = books.on(res).find(|(_, claim)| {
            let life = &books.lives[claim.life as usize];
            let member = |incarnation| !self.gone.contains(&(life.node, incarnation));
            let held = claim.standing && claim.mode != LockMode::Nl;
            held && life.incarnation.is_some_and(member)
        });
        match (ranged, whole) {
            (Some((one, _)), Some((other, claim))) => Err(format!(
                "resource {res} is locked in ranges by client {} and as a whole by client {} in {}",
                one.client, other.client, claim.mode
            )),
            _ => Ok(()),
        }
    }

    fn stands(&self, lock: &Lock, books: &Books) -> bool {
        let life = &books.lives[lock.life as usize];
        let member = |incarnation| !self.gone.contains(&(life.node, incarnation));
        !lock.ended && !self.ended.contains(&lock.conn) && life.incarnation.is_some_and(member)
    }

    fn asked(&mut self, who: Who, res: Res, range: ByteRange, mode: LockMode) {
        let lock = self.locks.entry(who).or_insert(Lock {
            res,
            life: 0,
            conn: 0,
            cells: [NOTHING; CELLS],
            asked: None,
            ended: false,
        });
        lock.asked = Some((range, mode));
        for part in &mut lock.cells[cells(range)] {
            part.relied = meet(part.held, mode);
        }
    }

    fn set(
        &mut self,
        now: u64,
        who: Who,
        token: Token,
        life: LifeNo,
        conn: u64,
        books: &Books,
    ) -> Result<(), String> {
        let Some(lock) = self.locks.get_mut(&who) else {
            return Ok(());
        };
        let Some((range, mode)) = lock.asked.take() else {
            return Ok(());
        };
        (lock.life, lock.conn) = (life, conn);
        let gains = lock.cells[cells(range)]
            .iter()
            .any(|part| !part.held.covers(mode));
        let res = lock.res;
        for part in &mut lock.cells[cells(range)] {
            (part.held, part.relied) = (mode, mode);
            part.token = if gains { token } else { part.token };
        }
        if lock.cells.iter().all(|part| part.held == LockMode::Nl) {
            self.locks.remove(&who);
        }
        self.alone(now, who, books)?;
        // A grant that arrives after the lease ran out is not held.
        if gains && books.life_valid(life, now) {
            self.token_grew(res, who, range, mode, token)?;
        }
        Ok(())
    }

    fn token_grew(
        &mut self,
        res: Res,
        who: Who,
        range: ByteRange,
        mode: LockMode,
        token: Token,
    ) -> Result<(), String> {
        for cell in cells(range) {
            for other in LockMode::ALL
                .into_iter()
                .filter(|other| conflict(*other, mode))
            {
                let seen = self
                    .tokens
                    .get(&(res, cell, other as u8))
                    .into_iter()
                    .flatten();
                let before = seen.filter(|(client, _)| **client != who.client);
                if let Some((client, before)) = before.max_by_key(|(_, token)| **token)
                    && *before >= token
                {
                    return Err(format!(
                        "cell {cell} of resource {res}: client {} got {mode} with {token:?} after \
                         client {client} got {other} with {before:?}",
                        who.client
                    ));
                }
            }
            let last = self.tokens.entry((res, cell, mode as u8)).or_default();
            let last = last.entry(who.client).or_default();
            *last = token.max(*last);
        }
        Ok(())
    }

    fn refused(&mut self, now: u64, who: Who, books: &Books) -> Result<(), String> {
        let Some(lock) = self.locks.get_mut(&who) else {
            return Ok(());
        };
        lock.asked = None;
        for part in &mut lock.cells {
            part.relied = part.held;
        }
        if lock.cells.iter().all(|part| part.held == LockMode::Nl) {
            self.locks.remove(&who);
        }
        self.alone(now, who, books)
    }

    /// Compares the masters' tale with what is held, both ways.
    fn audit(&self, told: &[(Res, &ResourceReport)], books: &Books) -> Result<(), String> {
        let mut found: BTreeMap<(Res, ClientNo, usize), LockMode> = BTreeMap::new();
        for (res, report) in told {
            for lock in &report.holders {
                let (Some(range), Some(mode)) = (lock.range, lock.granted) else {
                    continue;
                };
                let (first, last) = (*cells(range).start(), *cells(range).end());
                if span(first, last) != range {
                    return Err(format!(
                        "resource {res}: a range {range} that nobody asked for"
                    ));
                }
                for cell in first..=last {
                    if found.insert((*res, lock.owner.pid, cell), mode).is_some() {
                        let client = lock.owner.pid;
                        return Err(format!(
                            "resource {res}: a master says twice what client {client} has of cell {cell}"
                        ));
                    }
                }
            }
        }
        let mut known = BTreeMap::new();
        for (who, lock) in self
            .locks
            .iter()
            .filter(|(_, lock)| self.stands(lock, books))
        {
            for (cell, part) in lock.cells.iter().enumerate() {
                if part.held != LockMode::Nl {
                    known.insert((lock.res, who.client, cell), part.held);
                }
            }
        }
        let differs =
            |(at, mode): &(&(Res, ClientNo, usize), &LockMode)| found.get(at) != Some(mode);
        if let Some(((res, client, cell), mode)) = known.iter().find(differs) {
            let master = found.get(&(*res, *client, *cell));
            return Err(format!(
                "resource {res}: client {client} holds cell {cell} in {mode}, and its master says \
                 {master:?}"
            ));
        }
        if let Some((res, client, cell)) = found.keys().find(|at| !known.contains_key(*at)) {
            return Err(format!(
                "resource {res}: a master keeps cell {cell} for client {client}, which does not \
                 hold it"
            ));
        }
        Ok(())
    }
}

impl Checker for Ranges {
    fn promise(&self) -> &'static str {
        "S1 ranges"
    }

    fn observe(&mut self, now: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String> {
        match *fact {
            Fact::RangeAsked {
                who,
                res,
                range,
                mode,
            } => self.asked(who, res, range, mode),
            Fact::RangeSet {
                who,
                token,
                life,
                conn,
            } => {
                let res = self.locks.get(&who).map(|lock| lock.res);
                self.set(now, who, token, life, conn, books)?;
                return res.map_or(Ok(()), |res| self.one_way(res, books));
            }
            Fact::Granted { who, .. } => {
                let res = books.claim(who).map(|claim| claim.res);
                return res.map_or(Ok(()), |res| self.one_way(res, books));
            }
            Fact::RangeRefused { who } => return self.refused(now, who, books),
            Fact::RangesReleased { who } => {
                self.locks.remove(&who);
            }
            Fact::SessionOver { client } => self.locks.retain(|who, _| who.client != client),
            Fact::SessionEnded { conn } => {
                self.ended.insert(conn);
            }
            Fact::Left {
                node, incarnation, ..
            } => {
                self.gone.insert((node, incarnation));
            }
            Fact::LeaseShown { life } if books.life_valid(life, now) => {
                let own = self.locks.iter().filter(|(_, lock)| lock.life == life);
                return own
                    .map(|(who, _)| *who)
                    .try_for_each(|who| self.alone(now, who, books));
            }
            Fact::GoesOn { client, life } => {
                let own = self.locks.iter_mut();
                for (_, lock) in own.filter(|(who, _)| who.client == client) {
                    lock.life = life;
                }
            }
            Fact::SureAgain { client } => {
                let own = self.locks.keys().filter(|who| who.client == client);
                return own.copied().try_for_each(|who| self.alone(now, who, books));
            }
            Fact::Audit { resources, .. } => return self.audit(resources, books),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{grant, two_nodes, who};
    use LockMode::{Ex, Nl, Pr};

    /// Asks and is granted.
    fn set(
        checker: &mut Ranges,
        books: &Books,
        client: u32,
        cells: (usize, usize),
        mode: LockMode,
        token: u64,
    ) -> Result<(), String> {
        let asked = Fact::RangeAsked {
            who: who(client),
            res: 0,
            range: span(cells.0, cells.1),
            mode,
        };
        checker.observe(1, &asked, books)?;
        let granted = Fact::RangeSet {
            who: who(client),
            token: Token(token),
            life: client - 1,
            conn: u64::from(client),
        };
        checker.observe(1, &granted, books)
    }

    /// Protects the net: a resource that is used both ways is seen, whichever way came first.
    #[test]
    fn ranges_beside_a_whole_lock_are_seen() {
        let (mut checker, mut books) = (Ranges::default(), two_nodes());
        grant(&mut books, 1, 0, Pr, 5);
        let granted = Fact::Granted {
            who: who(1),
            read: None,
        };
        assert_eq!(checker.observe(1, &granted, &books), Ok(()));
        assert!(set(&mut checker, &books, 2, (0, 9), Pr, 6).is_err());
        assert!(checker.observe(2, &granted, &books).is_err());
        books.end_standing(|w, _| w == who(1));
        assert_eq!(checker.observe(3, &granted, &books), Ok(()));
    }

    /// Protects the net: two holders of one cell are seen, also where one has given up what lies
    /// before it, and others are not.
    #[test]
    fn two_holders_of_a_cell_are_seen() {
        let (mut checker, books) = (Ranges::default(), two_nodes());
        let mut set =
            |client, cells, mode, token| set(&mut checker, &books, client, cells, mode, token);
        assert_eq!(set(1, (0, 9), Ex, 1), Ok(()));
        assert_eq!(set(2, (10, 19), Ex, 2), Ok(()));
        assert_eq!(set(1, (3, 5), Nl, 0), Ok(()));
        assert_eq!(set(2, (3, 5), Pr, 3), Ok(()));
        assert!(set(2, (6, 6), Pr, 4).is_err());
    }

    /// Protects the net: a token that does not grow is seen.
    #[test]
    fn tokens_must_grow() {
        let (mut checker, books) = (Ranges::default(), two_nodes());
        let mut set =
            |client, cells, mode, token| set(&mut checker, &books, client, cells, mode, token);
        assert_eq!(set(1, (0, 9), Ex, 5), Ok(()));
        assert_eq!(set(1, (0, 9), Nl, 0), Ok(()));
        assert!(set(2, (9, 9), Ex, 5).is_err());
    }

    /// Protects the net: cells and ranges are two words for one thing.
    #[test]
    fn cells_are_ranges() {
        for (first, last) in [(0, 0), (3, 7), (0, CELLS - 1), (CELLS - 1, CELLS - 1)] {
            assert_eq!(cells(span(first, last)), first..=last);
        }
        assert_eq!(span(0, CELLS - 1), ByteRange::ALL);
    }
}
