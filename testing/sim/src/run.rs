//! One run: safety under fire, then the fire stops and progress is demanded, then the audit.

use crate::{
    checkers::{Fact, Surviving, Violation, books::Res},
    client::{Call, Link},
    dice::{MS, SEC},
    machine::Maker,
    params::{Params, Profile, Wishes},
    stats::Stats,
    trace::Trace,
    workloads::Happened,
    world::World,
};
use mainstay_base::FencePolicy;
use mainstay_recorder::{Dump, check};
use mainstay_wire::{client::Ask, report::ResourceReport};
use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

/// How often an audit is repeated before its complaint counts; a node may rejoin meanwhile.
const AUDITS: u32 = 40;

/// Resources that an audit asks for at a time: few, so that the pages have much to get wrong.
const AUDIT_PAGE: u32 = 4;

/// How far the hosts' clocks, read at the end of a run, may have been apart in it.
const CLOCKS: Duration = Duration::from_secs(2);

/// How often the cluster may be found not whole when it is to be audited: pauses may strike late.
const RELAPSES: u32 = 60;

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Faults strike.
    Fire,
    /// Faults are over; every node must become an active member.
    Healing,
    /// All is well; clients work on undisturbed.
    Calm,
    /// Workloads stand still; the masters are asked what they know.
    Frozen,
    /// Clients release everything; every call must be answered.
    Draining,
    /// Nobody holds anything; the masters are asked again.
    Emptied,
    /// The run is over.
    Over,
}

/// A run's result.
#[derive(Debug)]
pub struct Report {
    /// What was drawn.
    pub params: Params,
    /// Hash of everything that happened.
    pub hash: u64,
    /// Number of things that happened.
    pub events: u64,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    /// Counts.
    pub stats: Stats,
    /// The last lines of the trace, if text was wanted.
    pub tail: Vec<String>,
}

/// A run that can be stepped.
#[derive(Debug)]
pub struct Run {
    world: World,
    stage: Stage,
    /// When the present stage ends, or must have ended.
    until: u64,
    asked: bool,
    /// What the pages of an audit have brought so far.
    audited: Vec<ResourceReport>,
    /// How often an audit may still be repeated in this stage.
    audits_left: u32,
    /// How often the cluster was not whole when it was to be audited.
    relapses: u32,
}

impl Run {
    /// A run at its start.
    #[must_use]
    pub fn new(seed: u64, wishes: Wishes, maker: Arc<Maker>, trace: Trace) -> Run {
        let params = Params::draw(seed, wishes);
        let until = params.fire;
        Run {
            world: World::new(params, maker, trace),
            stage: Stage::Fire,
            until,
            asked: false,
            audited: Vec::new(),
            audits_left: AUDITS,
            relapses: 0,
        }
    }

    /// The world.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Where the run stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Lets the next event happen. False when the run is over.
    pub fn step(&mut self) -> bool {
        if self.stage == Stage::Over || !self.world.step() {
            self.stage = Stage::Over;
            return false;
        }
        self.turn();
        self.stage != Stage::Over
    }

    fn enter(&mut self, stage: Stage, lasts: u64) {
        self.stage = stage;
        self.until = self.world.now + lasts;
        self.asked = false;
        self.audits_left = AUDITS;
        self.audited.clear();
        self.world
            .trace
            .note(self.world.now, "stage", &[stage as u64], || {
                format!("{stage:?}")
            });
    }

    /// Virtual time within which the cluster owes us wholeness after the last fault.
    fn patience(&self) -> u64 {
        let operator = match self.world.params.fencing {
            FencePolicy::Lease => 0,
            // Somebody has to notice and to vouch.
            FencePolicy::Manual => 20 * SEC,
        };
        30 * SEC + 10 * self.world.params.lease() + operator
    }

    /// Moves on to the next stage when it is time.
    fn turn(&mut self) {
        let now = self.world.now;
        match self.stage {
            Stage::Fire if now >= self.until => {
                self.world.mend_all();
                let lasts = self.patience();
                self.enter(Stage::Healing, lasts);
                let by = self.until;
                self.world.fact(&Fact::Healed { by });
            }
            // The L1 checker complains when this takes too long.
            Stage::Healing if self.whole() => {
                let lasts = self.world.params.lease();
                self.enter(Stage::Calm, lasts);
            }
            Stage::Calm if now >= self.until => {
                self.world.frozen = true;
                self.enter(Stage::Frozen, 400 * MS);
            }
            Stage::Frozen if now >= self.until || !self.world.audits.is_empty() => {
                if self.audit() {
                    self.world.draining = true;
                    self.world.thaw();
                    let lasts = self.patience();
                    self.enter(Stage::Draining, lasts);
                    let by = self.until;
                    self.world.fact(&Fact::Draining { by });
                    for slot in 0..self.world.clients.len() {
                        self.world.tell(slot, Happened::Drain);
                    }
                }
            }
            Stage::Draining => {
                if self.world.clients.iter().all(|client| client.at_rest()) {
                    self.enter(Stage::Emptied, 400 * MS);
                } else if now > self.until + SEC {
                    self.complain_of_undrained();
                }
            }
            Stage::Emptied if now >= self.until || !self.world.audits.is_empty() => {
                if self.audit() {
                    self.enter(Stage::Over, 0);
                }
            }
            _ => {}
        }
    }

    fn whole(&self) -> bool {
        self.world.judge.whole() && self.world.clients.iter().all(|client| client.ready)
    }

    fn heal_again(&mut self) {
        if self.relapses == RELAPSES {
            let what = format!("the cluster fell apart {RELAPSES} times after the last fault");
            self.world
                .judge
                .complain("L1 progress", self.world.now, what);
            return;
        }
        self.relapses += 1;
        self.world.stats.count("relapses");
        if self.stage == Stage::Frozen {
            self.world.thaw();
            let lasts = self.patience();
            self.enter(Stage::Healing, lasts);
            let by = self.until;
            self.world.fact(&Fact::Healed { by });
        } else {
            self.until = self.world.now + SEC;
        }
    }

    fn complain_of_undrained(&mut self) {
        let now = self.world.now;
        let stuck = self
            .world
            .clients
            .iter()
            .find(|client| !client.at_rest())
            .map(|client| format!("{client:?}"));
        let what = format!(
            "the clients did not come to rest: {}",
            stuck.unwrap_or_default()
        );
        self.world.judge.complain("L1 progress", now, what);
    }

    /// Asks the masters for all locks and judges the answer. True when that is done.
    fn audit(&mut self) -> bool {
        if !self.asked {
            let slots: Vec<usize> = (0..self.world.clients.len())
                .filter(|slot| self.world.clients[*slot].link == Link::Open)
                .collect();
            // A pause that struck late may have had a node removed: let the cluster heal again.
            let Some(slot) = slots.first().filter(|_| self.whole()) else {
                self.heal_again();
                return false;
            };
            let ask = Ask::Locks {
                lockspace: None,
                pattern: None,
                limit: AUDIT_PAGE,
                after: self
                    .audited
                    .last()
                    .map(|last| (last.lockspace.clone(), last.name.clone())),
            };
            self.world.ask(*slot, ask, Call::Audit);
            self.asked = true;
            self.until = self.world.now + 10 * SEC;
            return false;
        }
        if let Some(Ok(page)) = self.world.audits.last()
            && page.silent.is_empty()
            && page.next().is_some()
        {
            let page = self.world.audits.pop().and_then(Result::ok);
            self.audited
                .extend(page.into_iter().flat_map(|page| page.resources));
            self.asked = false;
            self.until = self.world.now;
            return false;
        }
        let now = self.world.now;
        let last = self.audits_left == 0;
        let problem = match self.world.audits.pop() {
            Some(Ok(report)) if report.truncated || !report.silent.is_empty() => {
                format!("masters keep silent in an audit: {:?}", report.silent)
            }
            Some(Ok(report)) => {
                let known: Vec<(Res, &ResourceReport)> = self
                    .audited
                    .iter()
                    .chain(&report.resources)
                    .filter_map(|r| Some((self.world.terrain.find(&r.lockspace, &r.name)?, r)))
                    .collect();
                let node = self.world.hosts[0].id;
                let locks: Vec<_> = self.world.records.all().collect();
                let heirs: Vec<_> = self.world.records.last_heirs().collect();
                let perhaps: Vec<_> = self.world.perhaps.keys().copied().collect();
                let surviving = Surviving {
                    perhaps: &perhaps,
                    on: self.world.terrain.surviving.clone(),
                    locks: &locks,
                    heirs: &heirs,
                };
                let fact = Fact::Audit {
                    node,
                    resources: &known,
                    surviving,
                };
                let world = &mut self.world;
                match world.judge.opinion(now, &fact, &world.books) {
                    Err(what) if !last => what,
                    _ => {
                        world.stats.count("audits");
                        world.stats.add("locks audited", known.len() as u64);
                        world.judge.observe(now, &fact, &world.books);
                        return true;
                    }
                }
            }
            Some(Err(why)) => format!("the audit was refused: {why}"),
            None => "the audit was never answered".to_owned(),
        };
        if last {
            self.world.judge.complain("L1 progress", now, problem);
        } else {
            // The node that was asked, or one that it asked, may just have been removed, or a grant
            // may have been on its way: what is really lost is missing a second later too.
            self.audits_left -= 1;
            self.world.stats.count("audits repeated");
            self.asked = false;
            self.until = now + SEC;
            self.audited.clear();
            self.world.audits.clear();
        }
        false
    }

    /// Plays again what the flight recorders of the nodes have: it must be what the judge saw.
    fn judge_recorders(&mut self) -> Option<Violation> {
        let dumps = self.world.recorded();
        let read = dumps.iter().map(|dump| Dump::decode(&dump.encode()));
        let read: Result<Vec<_>, _> = read.collect();
        let at = self.world.now;
        let wrong = |what: String| Violation {
            promise: "flight recorder",
            at,
            what,
        };
        let read = match read {
            Ok(read) => read,
            Err(error) => return Some(wrong(error.to_string())),
        };
        let dumps = read.into_iter().map(|(dump, entries)| (dump.head, entries));
        let verdict = check(dumps.collect(), CLOCKS);
        let stats = &mut self.world.stats;
        stats.add("grants replayed", verdict.grants);
        stats.add("holds compared", verdict.claims);
        let finding = verdict.findings.first()?;
        let (node, resource, at) = (&finding.node, &finding.resource, finding.at);
        Some(wrong(format!(
            "{resource} at {at} on {node}: {}",
            finding.what
        )))
    }

    /// The result so far.
    #[must_use]
    pub fn report(mut self) -> Report {
        let mut violation = self.world.judge.violation().cloned();
        if violation.is_none() {
            violation = self.judge_recorders();
        }
        // Where disks and hosts fail, all of a short run may pass without a working cluster.
        let must_grant = self.world.params.profile == Profile::Quiet;
        if violation.is_none() && must_grant && self.world.stats.get("grants") == 0 {
            violation = Some(Violation {
                promise: "L1 progress",
                at: self.world.now,
                what: "nothing was granted in the whole run".to_owned(),
            });
        }
        Report {
            hash: self.world.trace.hash(),
            events: self.world.trace.events(),
            violation,
            tail: self.world.trace.tail(),
            stats: self.world.stats,
            params: self.world.params,
        }
    }
}

/// Runs a seed to its end. A panic, in the core above all, is the end, too, and a broken promise.
#[must_use]
pub fn run(seed: u64, wishes: Wishes, maker: &Arc<Maker>, trace: Trace) -> Report {
    let mut run = Run::new(seed, wishes, Arc::clone(maker), trace);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| while run.step() {}));
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let what = text.unwrap_or("no text").to_owned();
        run.world.judge.complain("assertion", run.world.now, what);
    }
    run.report()
}
