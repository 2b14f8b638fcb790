//! S3: a grant reads the last value published under PW or EX; it is marked possibly stale exactly
//! when a write may have been lost, and then an old value and its version come with the mark.
//!
//! Publications are ordered by the locks themselves: who publishes excludes every other writer. So
//! the last value is simply the one handed in last. A reader whose mode excludes writers (CW, PR,
//! PW, EX) must get it; a reader in NL or CR may get an earlier one, since a writer may be at work.
//! A resource on which no lock stands may be forgotten, and its value with it. Until then no value
//! comes, even marked, that is older than one that a lock which still stands has a copy of.

use super::{
    Checker, Fact,
    books::{Books, Res, Who},
};
use crate::dice::SEC;
use mainstay_base::{LockMode, Value, ValueBlock, ValueVersion};
use std::collections::{BTreeMap, BTreeSet};

/// A block, and its version once known.
type Publication = (Vec<u8>, Option<ValueVersion>);

/// A publication that is not answered yet.
#[derive(Debug)]
struct Pending {
    block: Vec<u8>,
    at: u64,
    /// What `last` and `lost` were before it.
    last: Option<Publication>,
    lost: bool,
}

#[derive(Debug, Default)]
struct Cell {
    /// Every block ever handed in.
    written: BTreeSet<Vec<u8>>,
    /// Blocks by version, as acknowledged or read.
    known: BTreeMap<ValueVersion, Vec<u8>>,
    /// The block handed in last and not refused.
    last: Option<Publication>,
    /// What `last` was before it, if its publisher died before it knew whether it was taken.
    earlier: Option<Option<Publication>>,
    /// Those not answered yet: the next writer may read before the last one has its answer.
    pending: BTreeMap<Who, Pending>,
    /// A writer was lost since `last` was handed in: readers must be told.
    lost: bool,
    /// So did one that was in PW or EX, where that alone is enough; forgotten with any node, since nobody may
    /// have heard of it.
    ended: bool,
    /// Something happened since the last acknowledged write that excuses a mark.
    excuse: bool,
    /// When something that excuses a mark last happened, in nanoseconds.
    excused_at: Option<u64>,
    /// No lock stood on the resource at some time since the last write.
    forgotten: bool,
    /// When last no lock stood on the resource.
    forgotten_at: Option<u64>,
    /// The version that came last with a grant of each lock, or was acknowledged to it.
    copies: BTreeMap<Who, ValueVersion>,
    /// It is changed in one step, which locks do not order: another checker's business.
    updated: bool,
}

/// A lock that was granted to a dead client, but never told to it, is dropped some time after the
/// client's death, and the mark comes only then.
const EXCUSE_LASTS: u64 = 20 * SEC;

/// Watches S3.
#[derive(Debug, Default)]
pub struct ValueBlocks {
    cells: BTreeMap<Res, Cell>,
    /// When a master was last lost: that excuses a mark also where nobody read a value before.
    lost_master_at: Option<u64>,
}

impl ValueBlocks {
    fn cell(&mut self, res: Res) -> &mut Cell {
        let lost = self.lost_master_at;
        self.cells.entry(res).or_insert_with(|| Cell {
            excuse: lost.is_some(),
            excused_at: lost,
            ..Cell::default()
        })
    }
}

/// A block without the zeros that the engine pads with.
fn trimmed(block: &ValueBlock) -> Vec<u8> {
    let bytes = block.as_bytes();
    let used = bytes.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
    bytes[..used].to_vec()
}

impl Cell {
    fn excuse(&mut self, now: u64) {
        self.excuse = true;
        self.excused_at = Some(now);
    }

    fn published(&mut self, who: Who, version: Option<ValueVersion>) -> Result<(), String> {
        let Some(pending) = self.pending.remove(&who) else {
            return Ok(());
        };
        let Some(version) = version else {
            // A publication that a lost master took may have been overwritten when it is answered.
            return match self.excuse || self.excused_at.is_some_and(|at| at >= pending.at) {
                true => Ok(()),
                false => Err("the publication was acknowledged without a version".to_owned()),
            };
        };
        if self.excused_at.is_none_or(|at| at < pending.at) {
            self.excuse = false;
        }
        if self.forgotten && self.forgotten_at.is_none_or(|at| at < pending.at) {
            // The publisher's own lock keeps the resource: a new count of versions holds.
            self.forgotten = false;
            self.known.clear();
        }
        if let Some((block, known)) = &mut self.last
            && *block == pending.block
        {
            *known = Some(version);
        }
        if self.forgotten {
            return Ok(());
        }
        let known = self
            .known
            .entry(version)
            .or_insert_with(|| pending.block.clone());
        if *known != pending.block {
            return Err(format!("version {version} stands for two values"));
        }
        Ok(())
    }

    /// Keeps only copies of locks that the cluster must respect.
    fn forget_copies(&mut self, res: Res, books: &Books) {
        self.copies.retain(|who, _| {
            books
                .claim(*who)
                .is_some_and(|claim| claim.res == res && claim.standing)
        });
    }

    fn read(&mut self, now: u64, mode: LockMode, value: &Value) -> Result<(), String> {
        if self.updated {
            return Ok(());
        }
        let block = trimmed(&value.block);
        let never = value.version == ValueVersion::default();
        if never && !block.is_empty() {
            return Err("version 0 came with a value".to_owned());
        }
        if !never && !self.written.contains(&block) {
            return Err("a value came that nobody ever published".to_owned());
        }
        if !never && !self.forgotten {
            let known = self
                .known
                .entry(value.version)
                .or_insert_with(|| block.clone());
            if *known != block {
                return Err(format!("version {} stands for two values", value.version));
            }
        }
        let lately = self.excused_at.is_some_and(|at| now < at + EXCUSE_LASTS);
        if value.maybe_stale && !self.excuse && !lately {
            return Err("the value is marked although no write can have been lost".to_owned());
        }
        let strict = !mode.compatible(LockMode::Ex) && !mode.compatible(LockMode::Pw);
        // Under a weaker mode a writer may have been at work since this was granted.
        if strict && let Some(copy) = self.copies.values().max().filter(|v| **v > value.version) {
            return Err(format!("a lock that still stands has version {copy}"));
        }
        if value.maybe_stale || !strict {
            return Ok(());
        }
        let fits = |publication: &Option<Publication>| match publication {
            Some((last, version)) => {
                *last == block && version.is_none_or(|v| v == value.version || self.forgotten)
            }
            None => never,
        };
        let mut is_last = fits(&self.last);
        if !is_last && self.earlier.as_ref().is_some_and(fits) {
            self.last = self.earlier.take().flatten();
            is_last = true;
        }
        if never && self.forgotten && (!is_last || self.lost) {
            *self = Cell {
                written: std::mem::take(&mut self.written),
                forgotten: true,
                excuse: true,
                excused_at: self.excused_at,
                forgotten_at: self.forgotten_at,
                ..Cell::default()
            };
            return Ok(());
        }
        if !is_last {
            return Err(format!(
                "the last publication was {:02x?}, yet an unmarked older value came",
                self.last
            ));
        }
        if self.lost || self.ended {
            return Err("the value is not marked although its last writer was lost".to_owned());
        }
        if let Some((_, version)) = &mut self.last {
            *version = Some(value.version);
        }
        Ok(())
    }
}

impl Checker for ValueBlocks {
    fn promise(&self) -> &'static str {
        "S3 value blocks"
    }

    fn observe(&mut self, now: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String> {
        match *fact {
            Fact::Granted {
                who,
                read: Some(value),
            } => {
                let Some(claim) = books.claim(who) else {
                    return Ok(());
                };
                // A grant that came too late says nothing about the present.
                if !claim.standing {
                    return Ok(());
                }
                let cell = self.cell(claim.res);
                cell.forget_copies(claim.res, books);
                let judged = cell.read(now, claim.mode, value);
                if judged.is_ok() {
                    cell.copies.insert(who, value.version);
                }
                judged.map_err(|why| {
                    format!(
                        "resource {}, read by client {} in {}: {why}; got version {} {:02x?}, mark {}",
                        claim.res,
                        who.client,
                        claim.mode,
                        value.version,
                        trimmed(&value.block),
                        value.maybe_stale
                    )
                })
            }
            Fact::Publishing { who, res, block } => {
                let cell = self.cell(res);
                let block = trimmed(block);
                cell.written.insert(block.clone());
                cell.earlier = None;
                cell.ended = false;
                let pending = Pending {
                    block: block.clone(),
                    at: now,
                    last: cell.last.replace((block, None)),
                    lost: std::mem::take(&mut cell.lost),
                };
                cell.pending.insert(who, pending);
                Ok(())
            }
            Fact::Published { res, version, who } => {
                let cell = self.cell(res);
                if let Some(version) = version {
                    cell.copies.insert(who, version);
                }
                cell.published(who, version).map_err(|why| {
                    format!("resource {res}, written by client {}: {why}", who.client)
                })
            }
            Fact::Updating { res, .. } => {
                self.cell(res).updated = true;
                Ok(())
            }
            Fact::PublicationRefused { res, who } => {
                let cell = self.cell(res);
                if let Some(pending) = cell.pending.remove(&who)
                    && cell.last.as_ref().is_some_and(|(b, _)| *b == pending.block)
                {
                    cell.last = pending.last;
                    cell.lost |= pending.lost;
                }
                Ok(())
            }
            // It may have been publishing; whether that was taken nobody hears.
            Fact::Orphaned { who, res } => {
                let cell = self.cell(res);
                if let Some(pending) = cell.pending.remove(&who) {
                    cell.excuse(now);
                    cell.earlier = Some(pending.last);
                }
                Ok(())
            }
            Fact::HadPassed { res } => {
                let cell = self.cell(res);
                cell.excuse(now);
                cell.lost = false;
                Ok(())
            }
            Fact::MayInvalidate { res } => {
                self.cell(res).excuse(now);
                Ok(())
            }
            Fact::HolderDied { claim } => {
                let cell = self.cell(claim.res);
                cell.excuse(now);
                // Who never could rely on the lock published nothing under it.
                if claim.mode.writes_value() && claim.may_publish() && claim.relied {
                    cell.lost = true;
                }
                Ok(())
            }
            Fact::WriterDied { res } => {
                let cell = self.cell(res);
                cell.excuse(now);
                cell.ended = true;
                Ok(())
            }
            Fact::Proved { .. } => {
                self.cells.values_mut().for_each(|cell| cell.ended = false);
                Ok(())
            }
            // A lost master may have taken values with it that only weak locks remember.
            Fact::Left { .. } | Fact::LifeEnded { .. } => {
                self.lost_master_at = Some(now);
                for cell in self.cells.values_mut() {
                    cell.excuse(now);
                    cell.ended = false;
                }
                Ok(())
            }
            Fact::Emptied { res } => {
                let cell = self.cell(res);
                cell.forgotten = true;
                cell.forgotten_at = Some(now);
                cell.ended = false;
                cell.copies.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{grant, two_nodes, who};
    use LockMode::{Cr, Ex, Nl};

    fn value(text: &[u8], version: u64, maybe_stale: bool) -> Value {
        Value {
            block: ValueBlock::new(text)
                .expect("short")
                .padded(32)
                .expect("short"),
            version: ValueVersion(version),
            maybe_stale,
        }
    }

    fn read(checker: &mut ValueBlocks, books: &Books, client: u32, value: &Value) -> bool {
        let fact = Fact::Granted {
            who: who(client),
            read: Some(value),
        };
        checker.observe(1, &fact, books).is_ok()
    }

    fn publish(checker: &mut ValueBlocks, books: &Books, text: &[u8], version: u64) -> bool {
        let block = ValueBlock::new(text).expect("short");
        let (who, res) = (who(1), 0);
        let fact = Fact::Publishing {
            who,
            res,
            block: &block,
        };
        checker.observe(1, &fact, books).expect("never judged");
        let version = Some(ValueVersion(version));
        let fact = Fact::Published { who, res, version };
        checker.observe(1, &fact, books).is_ok()
    }

    /// Protects the net: an old value without a mark, and a value from nowhere, are seen.
    #[test]
    fn old_and_invented_values_are_seen() {
        let (mut checker, mut books) = (ValueBlocks::default(), two_nodes());
        grant(&mut books, 1, 0, Ex, 1);
        assert!(read(&mut checker, &books, 1, &value(b"", 0, false)));
        assert!(publish(&mut checker, &books, b"a", 1));
        assert!(publish(&mut checker, &books, b"b", 2));
        assert!(!publish(&mut checker, &books, b"c", 2));
        assert!(publish(&mut checker, &books, b"c", 3));
        assert!(read(&mut checker, &books, 1, &value(b"c", 3, false)));
        assert!(!read(&mut checker, &books, 1, &value(b"b", 2, false)));
        assert!(!read(&mut checker, &books, 1, &value(b"x", 9, false)));
        assert!(!read(&mut checker, &books, 1, &value(b"", 0, false)));
        assert!(!read(&mut checker, &books, 1, &value(b"a", 3, false)));
        grant(&mut books, 2, 1, Cr, 1);
        assert!(read(&mut checker, &books, 2, &value(b"b", 2, false)));
    }

    /// Protects the net: a missing mark after a writer's death and a mark without cause are seen;
    /// with the mark the old value is right.
    #[test]
    fn marks_are_exact() {
        let (mut checker, mut books) = (ValueBlocks::default(), two_nodes());
        grant(&mut books, 3, 1, Nl, 1);
        grant(&mut books, 1, 0, Ex, 1);
        assert!(publish(&mut checker, &books, b"a", 1));
        assert!(!read(&mut checker, &books, 1, &value(b"a", 1, true)));
        let claim = books.claim(who(1)).expect("granted").clone();
        let died = Fact::HolderDied { claim: &claim };
        checker.observe(1, &died, &books).expect("a fact of life");
        grant(&mut books, 2, 1, Ex, 2);
        assert!(!read(&mut checker, &books, 2, &value(b"a", 1, false)));
        assert!(read(&mut checker, &books, 2, &value(b"a", 1, true)));
        assert!(publish(&mut checker, &books, b"b", 2));
        assert!(read(&mut checker, &books, 2, &value(b"b", 2, false)));
    }

    /// Protects the net: a mark does not excuse that a copy which a survivor has is passed over.
    #[test]
    fn survivors_copies_are_not_passed_over() {
        let (mut checker, mut books) = (ValueBlocks::default(), two_nodes());
        grant(&mut books, 1, 0, Ex, 1);
        assert!(publish(&mut checker, &books, b"a", 1));
        assert!(publish(&mut checker, &books, b"b", 2));
        grant(&mut books, 3, 1, Nl, 1);
        assert!(read(&mut checker, &books, 3, &value(b"b", 2, false)));
        let claim = books.claim(who(1)).expect("granted").clone();
        books.end_standing(|w, _| w == who(1));
        let died = Fact::HolderDied { claim: &claim };
        checker.observe(1, &died, &books).expect("a fact of life");
        grant(&mut books, 2, 1, Ex, 2);
        assert!(!read(&mut checker, &books, 2, &value(b"a", 1, true)));
        assert!(read(&mut checker, &books, 2, &value(b"b", 2, true)));
        // With the survivor's lock its copy is gone.
        books.end_standing(|w, _| w == who(3) || w == who(2));
        grant(&mut books, 4, 0, Ex, 3);
        assert!(read(&mut checker, &books, 4, &value(b"a", 1, true)));
    }

    /// Protects honest clusters: a resource without locks may be forgotten, but not half.
    #[test]
    fn an_empty_resource_may_be_forgotten() {
        let (mut checker, mut books) = (ValueBlocks::default(), two_nodes());
        grant(&mut books, 1, 0, Ex, 1);
        assert!(publish(&mut checker, &books, b"a", 1));
        assert!(publish(&mut checker, &books, b"b", 2));
        let emptied = Fact::Emptied { res: 0 };
        checker
            .observe(1, &emptied, &books)
            .expect("a fact of life");
        assert!(!read(&mut checker, &books, 1, &value(b"a", 1, false)));
        assert!(read(&mut checker, &books, 1, &value(b"", 0, false)));
        assert!(publish(&mut checker, &books, b"c", 1));
        assert!(read(&mut checker, &books, 1, &value(b"c", 1, false)));
    }
}
