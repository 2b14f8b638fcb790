//! Names of nodes and lockspaces, and what can be wrong with a name.

use crate::{LOCKSPACE_NAME_MAX, NODE_NAME_MAX, RESOURCE_LEVELS_MAX, RESOURCE_PATH_MAX};
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, de};

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No bytes at all.
    #[error("a {what} name must have at least one byte")]
    Empty {
        /// What was to be named.
        what: &'static str,
    },
    /// More bytes than allowed.
    #[error("a {what} name may have at most {max} bytes, this one has {len}")]
    TooLong {
        /// What was to be named.
        what: &'static str,
        /// Bytes allowed.
        max: usize,
        /// Bytes given.
        len: usize,
    },
    /// A character that may not stand in this kind of name.
    #[error("a {what} name may hold letters, digits, `-`, `_` and `.`; `{name}` holds `{found}`")]
    Character {
        /// What was to be named.
        what: &'static str,
        /// The name as given.
        name: String,
        /// The first character that may not be there.
        found: char,
    },
    /// A sub-resource of too many levels.
    #[error("a resource may have at most {RESOURCE_LEVELS_MAX} levels, its own included")]
    TooDeep,
    /// The names of a sub-resource and of all above it have more bytes than allowed.
    #[error(
        "the names of a resource and of all above it may have at most {RESOURCE_PATH_MAX} bytes \
         together, these have {0}"
    )]
    PathTooLong(usize),
    /// Bytes that no resource's name is written as.
    #[error("these bytes are not the name of a resource")]
    Malformed,
}

fn check_word(what: &'static str, max: usize, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > max {
        return Err(NameError::TooLong {
            what,
            max,
            len: name.len(),
        });
    }
    match name
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c))
    {
        Some(found) => Err(NameError::Character {
            what,
            name: name.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// If it is empty, too long, or holds a character other than letters, digits, `-`, `_`, `.`.
            pub fn new(name: impl Into<String>) -> Result<$name, NameError> {
                let name = name.into();
                check_word($what, $max, &name)?;
                Ok($name(name))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<$name, D::Error> {
                $name::new(String::deserialize(d)?).map_err(de::Error::custom)
            }
        }
    };
}

word! {
    /// A node's name: letters, digits, `-`, `_`, `.`, at most 64 bytes.
    NodeName, "node", NODE_NAME_MAX
}
word! {
    /// A lockspace's name: letters, digits, `-`, `_`, `.`, at most 64 bytes.
    LockspaceName, "lockspace", LOCKSPACE_NAME_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects file names and log lines made from node names.
    #[test]
    fn words_refuse_separators() {
        let error = NodeName::new("a/b").expect_err("refused").to_string();
        assert!(error.contains('/'), "{error}");
        assert!(LockspaceName::new("lvm_vg0.x-1").is_ok());
    }
}
