//! Whose habits a lockspace follows, where the lock managers that its programs were written for differ.

use crate::{Fairness, VALUE_LEN_DEFAULT, VALUE_LEN_MAX};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// Whose rules a lockspace follows where systems differ. Fixed when it is made. What each changes is in
/// `docs/protocol/compat.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Compat {
    /// This project's own.
    #[default]
    Strict,
    /// Those of Linux' DLM, its faults included.
    Linux,
    /// Those of VMS.
    Vms,
    /// Those of the SA Forum's lock service.
    Saf,
}

impl Compat {
    /// All of them.
    pub const ALL: [Compat; 4] = [Compat::Strict, Compat::Linux, Compat::Vms, Compat::Saf];
    /// Bytes of a value block of VMS.
    pub const VMS_VALUE_LEN: usize = 16;
    /// Bytes of an extended one.
    pub const VMS_VALUE_LEN_EXTENDED: usize = 64;
    /// Bytes of a name of VMS.
    pub const VMS_NAME_MAX: usize = 31;

    /// The word for it in commands and configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Compat::Strict => "strict",
            Compat::Linux => "linux",
            Compat::Vms => "vms",
            Compat::Saf => "saf",
        }
    }

    /// How such a lockspace shares out its resources if nobody says otherwise: in Linux and VMS any number
    /// of conversions may pass who waits.
    #[must_use]
    pub fn fairness(self) -> Fairness {
        let usual = Fairness::default();
        let overtake = match self {
            Compat::Linux | Compat::Vms => 0,
            Compat::Strict | Compat::Saf => usual.overtake,
        };
        Fairness { overtake, ..usual }
    }

    /// How long its value blocks are if nobody says so.
    #[must_use]
    pub const fn value_len(self) -> usize {
        match self {
            Compat::Vms => Compat::VMS_VALUE_LEN,
            Compat::Strict | Compat::Linux | Compat::Saf => VALUE_LEN_DEFAULT,
        }
    }

    /// Whether its value blocks may have so many bytes.
    #[must_use]
    pub const fn allows_value_len(self, len: usize) -> bool {
        let possible = 1 <= len && len <= VALUE_LEN_MAX;
        possible
            && match self {
                Compat::Strict => true,
                Compat::Linux => len.is_multiple_of(8),
                Compat::Vms => {
                    len == Compat::VMS_VALUE_LEN || len == Compat::VMS_VALUE_LEN_EXTENDED
                }
                // Nobody uses them.
                Compat::Saf => len == VALUE_LEN_DEFAULT,
            }
    }
}

impl fmt::Display for Compat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names nobody whose rules a lockspace could follow.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is none of those whose rules a lockspace can follow: strict, linux, vms and saf")]
pub struct UnknownCompat(String);

impl FromStr for Compat {
    type Err = UnknownCompat;

    fn from_str(word: &str) -> Result<Compat, UnknownCompat> {
        let compat = Compat::ALL.into_iter().find(|compat| compat.name() == word);
        compat.ok_or_else(|| UnknownCompat(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects lockspaces made for old programs: names as people type them, lengths of value blocks that
    /// those systems have, and the order in which they grant.
    #[test]
    fn each_has_its_name_lengths_and_order() {
        let of = |compat: Compat| {
            let lens = (0..=VALUE_LEN_MAX + 8).filter(|len| compat.allows_value_len(*len));
            (
                compat.name().parse(),
                lens.take(3).collect::<Vec<_>>(),
                compat.value_len(),
                compat.fairness().overtake,
            )
        };
        assert_eq!(
            of(Compat::Strict),
            (Ok(Compat::Strict), vec![1, 2, 3], 32, 64)
        );
        assert_eq!(
            of(Compat::Linux),
            (Ok(Compat::Linux), vec![8, 16, 24], 32, 0)
        );
        assert_eq!(of(Compat::Vms), (Ok(Compat::Vms), vec![16, 64], 16, 0));
        assert_eq!(of(Compat::Saf), (Ok(Compat::Saf), vec![32], 32, 64));
        for compat in Compat::ALL {
            assert!(compat.allows_value_len(compat.value_len()));
            assert!(!compat.allows_value_len(VALUE_LEN_MAX + 8));
        }
        assert!("Linux".parse::<Compat>().is_err());
    }
}
