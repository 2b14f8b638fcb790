//! What is likely to be wrong with a configuration though it can be read: the rules of
//! `mainstay check`.
//!
//! A rule is a function that looks at the configuration and says what it finds; there is a module per
//! few that belong together. Nothing here guesses: what depends on agents, on the moment or on nodes
//! that are not there is left out.

mod agent;
mod contradiction;
mod fencing;
mod forbidden;
mod leftover;
mod monitor;
mod notation;
mod option;
mod placement;
mod quorum;
mod reach;
mod reference;
mod role;
mod size;

use crate::{
    agents::Agents,
    cib::Cib,
    index::Index,
    problem::{self, Level, Problem},
    resources::{Primitive, Resource},
    sets::lookup,
    text::{At, Str},
    validate::validate,
    value::Score,
};
use std::borrow::Cow;

/// Everything that is wrong or doubtful, in the order of the text: what
/// [`validate`] finds, and what the rules find. What reading found is not
/// repeated.
#[must_use]
pub fn check(cib: &Cib) -> Vec<Problem> {
    check_with_agents(cib, &Agents::new())
}

/// The same, and what does not fit these agents: parameters that they need or do not have, actions that
/// they do not have, and timeouts below their advice.
#[must_use]
pub fn check_with_agents(cib: &Cib, agents: &Agents) -> Vec<Problem> {
    let mut checker = Checker {
        cib,
        index: Index::new(cib),
        problems: validate(cib),
    };
    fencing::check(&mut checker);
    quorum::check(&mut checker);
    option::check(&mut checker);
    monitor::check(&mut checker);
    contradiction::check(&mut checker);
    reach::check(&mut checker);
    role::check(&mut checker);
    reference::check(&mut checker);
    placement::check(&mut checker);
    agent::check(&mut checker, agents);
    size::check(&mut checker);
    leftover::check(&mut checker);
    notation::check(&mut checker);
    let mut problems = checker.problems;
    problem::sort(&mut problems);
    problems
}

struct Checker<'a> {
    cib: &'a Cib,
    index: Index<'a>,
    problems: Vec<Problem>,
}

/// Where a problem is: place, name of the element, id.
type Spot<'a> = (At, &'a str, Option<&'a Str>);

impl<'a> Checker<'a> {
    fn add(
        &mut self,
        level: Level,
        rule: &'static str,
        (at, element, id): Spot<'_>,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.problems.push(Problem {
            level,
            rule,
            at,
            element: Str::from(element),
            id: id.cloned(),
            what: what.into(),
            mend: mend.into(),
        });
    }

    /// Where cluster options are set, for what is wrong with them as a whole.
    fn options_spot(&self) -> Spot<'static> {
        let section = self.cib.configuration.as_ref();
        let at = section.and_then(|c| c.crm_config.as_ref()).map(|c| c.at);
        (at.unwrap_or(self.cib.at), "crm_config", None)
    }

    fn option_is(&self, name: &str) -> Option<bool> {
        self.cib.option(name).and_then(crate::value::truth)
    }

    /// Every primitive, with what its template gives it.
    fn primitives(&self) -> Vec<Cow<'a, Primitive>> {
        let all = self.cib.resources().iter().flat_map(Resource::primitives);
        all.filter_map(|p| self.index.whole(p)).collect()
    }

    /// A meta attribute as it counts for a resource: its own, or the default. Rules are not asked.
    fn meta(&self, resource: &'a Resource, name: &str) -> Option<&'a str> {
        lookup(resource.meta(), name).or_else(|| lookup(self.cib.rsc_defaults(), name))
    }
}

/// Where a primitive stands.
fn spot(primitive: &Primitive) -> Spot<'_> {
    (primitive.at, "primitive", Some(&primitive.id))
}

fn is_must(score: Option<Score>) -> bool {
    score.is_some_and(Score::is_infinite)
}

fn is_must_not(score: Option<Score>) -> bool {
    score.is_some_and(Score::is_never)
}
