//! What counts of a call where a lockspace follows others' rules.

use super::{Reference, has};
use mainstay_base::{Compat, LockMode, ValueBlock};
use mainstay_lock::Flags;

use LockMode::{Cw, Ex, Pr, Pw};

impl Reference {
    /// The flags that count; none at all if the call is wrong.
    pub(super) fn counts(
        &self,
        from: Option<LockMode>,
        to: LockMode,
        flags: Flags,
    ) -> Option<Flags> {
        let any = |wrong: &[Flags]| wrong.iter().any(|flag| has(flags, *flag));
        match self.rules.compat {
            Compat::Strict => Some(flags),
            Compat::Linux => Some(linux(from, to, flags)),
            Compat::Vms => {
                let wrong = [
                    Flags::CONVDEADLK,
                    Flags::PERSISTENT,
                    Flags::NOQUEUEBAST,
                    Flags::HEADQUE,
                    Flags::NOORDER,
                    Flags::ALTPR,
                    Flags::ALTCW,
                ];
                (!any(&wrong)).then_some(flags)
            }
            Compat::Saf => {
                let wrong = [
                    Flags::VALBLK,
                    Flags::QUECVT,
                    Flags::IVVALBLK,
                    Flags::CONVDEADLK,
                    Flags::NODLCKWT,
                    Flags::NODLCKBLK,
                    Flags::EXPEDITE,
                    Flags::NOQUEUEBAST,
                    Flags::HEADQUE,
                    Flags::NOORDER,
                    Flags::ALTPR,
                    Flags::ALTCW,
                ];
                (from.is_none() && matches!(to, Pr | Ex) && !any(&wrong)).then_some(flags)
            }
        }
    }

    pub(super) fn unlock_is_wrong(&self, flags: Flags) -> bool {
        self.rules.compat == Compat::Saf && has(flags, Flags::VALBLK | Flags::IVVALBLK)
    }

    pub(super) fn value_is_wrong(&self, block: &ValueBlock) -> bool {
        let (len, max) = (block.as_bytes().len(), usize::from(self.rules.value_len));
        len > max || (self.rules.compat == Compat::Vms && len != 16 && len != max)
    }

    /// A published block in its full length.
    pub(super) fn in_full(&self, block: &ValueBlock) -> ValueBlock {
        let mut bytes = vec![0; usize::from(self.rules.value_len)];
        if self.rules.compat == Compat::Vms {
            bytes.copy_from_slice(self.value.block.as_bytes());
        }
        let given = block.as_bytes();
        bytes[..given.len()].copy_from_slice(given);
        ValueBlock::new(bytes).unwrap()
    }
}

fn linux(from: Option<LockMode>, to: LockMode, flags: Flags) -> Flags {
    let mut counts = flags
        .without(Flags::NODLCKBLK)
        .without(Flags::ALTPR)
        .without(Flags::ALTCW);
    if from.is_none() {
        counts = counts.without(Flags::IVVALBLK);
    }
    if !has(flags, Flags::NOQUEUE) {
        counts = counts.without(Flags::NOQUEUEBAST);
    }
    if from.is_some() && has(flags, Flags::CONVDEADLK) {
        counts = counts.without(Flags::NODLCKWT);
    }
    if has(flags, Flags::ALTPR) && to != Pr {
        if matches!(to, Cw | Pw | Ex) {
            counts |= Flags::ALTPR;
        }
    } else if has(flags, Flags::ALTCW) && matches!(to, Pr | Pw | Ex) {
        counts |= Flags::ALTCW;
    }
    counts
}
