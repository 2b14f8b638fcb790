//! How the lockspaces of a run share out their resources, and who has priority in them.

use crate::{checkers::books::Res, dice::Dice, foreign, users, workloads::Terrain};
use mainstay_base::{AccessChange, Compat, Entropy, Fairness, Flags, LockspaceName, Order};
use mainstay_wire::client::Ask;

/// What makes a lockspace, if it is not as it would be when it is opened.
pub(crate) fn make(terrain: &Terrain, name: &LockspaceName) -> Option<Ask> {
    let foreign = foreign::make(terrain, name);
    if foreign.is_some() {
        return foreign;
    }
    let ruled = users::has_rules(terrain, name);
    let fairness = terrain.fairness;
    let access = match ruled {
        true => users::rules(),
        false => AccessChange::default(),
    };
    (ruled || fairness != Fairness::default()).then(|| Ask::CreateLockspace {
        name: name.clone(),
        value_len: None,
        access,
        fairness,
        compat: Compat::Strict,
    })
}

/// A call's flags, with a priority where there are any.
pub(crate) fn with_priority(
    terrain: &Terrain,
    dice: &mut Entropy,
    res: Res,
    flags: Flags,
) -> Flags {
    if foreign::compat(terrain, res) != Compat::Strict {
        return flags;
    }
    if terrain.fairness.order == Order::Priority && dice.percent(40) {
        return flags.with_priority(dice.between(1, 7) as u8);
    }
    flags
}
