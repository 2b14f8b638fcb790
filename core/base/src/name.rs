//! Names of nodes, lockspaces and resources.

use crate::{LOCKSPACE_NAME_MAX, NODE_NAME_MAX, RESOURCE_NAME_MAX};
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smallvec::SmallVec;

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

/// A resource's name: 1 to 64 bytes of any value, as in the Linux DLM. There may be millions, so a
/// short one is kept in place and a longer one takes no more than its length elsewhere.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(SmallVec<[u8; 16]>);

impl Clone for ResourceName {
    fn clone(&self) -> ResourceName {
        // Copies bytes at once, where the vector's own clone goes one by one.
        ResourceName(SmallVec::from_slice(&self.0))
    }
}

impl ResourceName {
    /// Checks and copies a name.
    ///
    /// # Errors
    /// If it has no bytes or more than 64.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<ResourceName, NameError> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() {
            return Err(NameError::Empty { what: "resource" });
        }
        if bytes.len() > RESOURCE_NAME_MAX {
            return Err(NameError::TooLong {
                what: "resource",
                max: RESOURCE_NAME_MAX,
                len: bytes.len(),
            });
        }
        Ok(ResourceName(SmallVec::from_slice(bytes)))
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Printable ASCII as it is, everything else (and the backslash) as `\xNN`.
impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self
            .0
            .iter()
            .all(|&b| b != b'\\' && (b.is_ascii_graphic() || b == b' '))
        {
            return f.pad(core::str::from_utf8(&self.0).unwrap_or_default());
        }
        let mut text = String::new();
        for &b in &self.0 {
            if b != b'\\' && (b.is_ascii_graphic() || b == b' ') {
                text.push(b as char);
            } else {
                text.push_str(&format!("\\x{b:02x}"));
            }
        }
        f.pad(&text)
    }
}

impl fmt::Debug for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for ResourceName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.collect_str(self)
        } else {
            s.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for ResourceName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<ResourceName, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = ResourceName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a resource name of 1 to {RESOURCE_NAME_MAX} bytes")
            }

            fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<ResourceName, E> {
                ResourceName::new(v).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<ResourceName, E> {
                self.visit_bytes(v.as_bytes())
            }
        }
        if d.is_human_readable() {
            d.deserialize_str(Bytes)
        } else {
            d.deserialize_bytes(Bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects binary names: NUL and high bytes are allowed and printed as hex.
    #[test]
    fn resource_names_are_bytes() {
        let name = ResourceName::new(b"a\0\xffz\\").expect("valid");
        assert_eq!(name.to_string(), "a\\x00\\xffz\\x5c");
        assert!(ResourceName::new([]).is_err());
        assert!(ResourceName::new([b'x'; 65]).is_err());
        assert!(ResourceName::new([b'x'; 64]).is_ok());
    }

    /// Protects file names and log lines made from node names.
    #[test]
    fn words_refuse_separators() {
        let error = NodeName::new("a/b").expect_err("refused").to_string();
        assert!(error.contains('/'), "{error}");
        assert!(LockspaceName::new("lvm_vg0.x-1").is_ok());
    }
}
