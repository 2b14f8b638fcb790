//! Names of resources: of those that stand alone, and of those beneath others.

use crate::{NameError, RESOURCE_LEVELS_MAX, RESOURCE_NAME_MAX, RESOURCE_PATH_MAX};
use core::{cmp::Ordering, fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smallvec::SmallVec;

/// A resource's name: 1 to 64 bytes of any value, as in the Linux DLM; that of a **sub-resource** is
/// such a name beneath another resource's, which may be a sub-resource itself.
///
/// As text the levels are parted by `//`, and what would be mistaken is escaped: `db//table 7//row 3`.
///
/// There may be millions, so a short one is kept in place and a longer one takes no more than its
/// length elsewhere. A root's name is kept, and written, as it is, unless it begins with NUL; every
/// other one as NUL, and then each level with its length before it.
#[derive(PartialEq, Eq, Hash)]
pub struct ResourceName(SmallVec<[u8; 16]>);

/// What parts levels in text.
const SEPARATOR: &str = "//";

/// The first byte of what is kept level by level.
const LEVELLED: u8 = 0;

impl Clone for ResourceName {
    fn clone(&self) -> ResourceName {
        // Copies bytes at once, where the vector's own clone goes one by one.
        ResourceName(SmallVec::from_slice(&self.0))
    }
}

fn check_level(name: &[u8]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what: "resource" });
    }
    if name.len() > RESOURCE_NAME_MAX {
        return Err(NameError::TooLong {
            what: "resource",
            max: RESOURCE_NAME_MAX,
            len: name.len(),
        });
    }
    Ok(())
}

impl ResourceName {
    /// Checks and copies the name of a resource that stands alone.
    ///
    /// # Errors
    /// If it has no bytes or more than 64.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<ResourceName, NameError> {
        let bytes = bytes.as_ref();
        check_level(bytes)?;
        if bytes[0] != LEVELLED {
            return Ok(ResourceName(SmallVec::from_slice(bytes)));
        }
        let mut kept = SmallVec::from_slice(&[LEVELLED]);
        push_level(&mut kept, bytes);
        Ok(ResourceName(kept))
    }

    /// The name of a sub-resource of this one.
    ///
    /// # Errors
    /// If its own name has no bytes or more than 64, or if there are more levels or bytes in all than
    /// [`RESOURCE_LEVELS_MAX`] and [`RESOURCE_PATH_MAX`].
    pub fn child(&self, own: impl AsRef<[u8]>) -> Result<ResourceName, NameError> {
        let own = own.as_ref();
        check_level(own)?;
        check_path(self.levels().chain([own]))?;
        let mut kept = if self.0[0] == LEVELLED {
            self.0.clone()
        } else {
            let mut kept = SmallVec::from_slice(&[LEVELLED]);
            push_level(&mut kept, &self.0);
            kept
        };
        push_level(&mut kept, own);
        Ok(ResourceName(kept))
    }

    /// The resource above, if this is a sub-resource.
    #[must_use]
    pub fn parent(&self) -> Option<ResourceName> {
        let above = self.depth().checked_sub(1).filter(|above| *above > 0)?;
        if above == 1 {
            return Some(self.root());
        }
        let levels = self.levels().take(above);
        let len = 1 + levels.map(|level| 1 + level.len()).sum::<usize>();
        Some(ResourceName(SmallVec::from_slice(&self.0[..len])))
    }

    /// The resource at the root of its tree: itself, if it stands alone.
    #[must_use]
    pub fn root(&self) -> ResourceName {
        if self.is_root() {
            return self.clone();
        }
        ResourceName::new(self.root_bytes()).expect("its levels were checked")
    }

    /// Whether it is in the tree of that root, be it as the root itself.
    #[must_use]
    pub fn is_in(&self, root: &ResourceName) -> bool {
        root.is_root() && self.root_bytes() == root.root_bytes()
    }

    /// Whether it is no sub-resource.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0[0] != LEVELLED || self.0.len() == 2 + usize::from(self.0[1])
    }

    /// The bytes of the root's name.
    #[must_use]
    pub fn root_bytes(&self) -> &[u8] {
        self.levels().next().expect("there is at least one level")
    }

    /// The bytes of its name beneath its parent; of a root, all of its name.
    #[must_use]
    pub fn own_bytes(&self) -> &[u8] {
        self.levels().last().expect("there is at least one level")
    }

    /// The names of its levels, that of the root first.
    #[must_use]
    pub fn levels(&self) -> Levels<'_> {
        match self.0[0] {
            LEVELLED => Levels {
                prefixed: &self.0[1..],
                whole: None,
            },
            _ => Levels {
                prefixed: &[],
                whole: Some(&self.0),
            },
        }
    }

    /// How many levels it has: 1, if it stands alone.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.levels().count()
    }

    /// How many bytes it takes where it is kept and sent.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.0.len()
    }

    /// Checks what claims to be a name as it is kept.
    fn from_encoded(bytes: &[u8]) -> Result<ResourceName, NameError> {
        if bytes.first() != Some(&LEVELLED) {
            return ResourceName::new(bytes);
        }
        let mut rest = &bytes[1..];
        while let Some((len, after)) = rest.split_first() {
            let level = after.get(..usize::from(*len));
            check_level(level.ok_or(NameError::Malformed)?)?;
            rest = &after[usize::from(*len)..];
        }
        let levels = || Levels {
            prefixed: &bytes[1..],
            whole: None,
        };
        check_path(levels())?;
        match levels().next() {
            // One that does not begin with NUL is kept as it is, so that each name has one form.
            Some(root) if levels().count() > 1 || root[0] == LEVELLED => {
                Ok(ResourceName(SmallVec::from_slice(bytes)))
            }
            _ => Err(NameError::Malformed),
        }
    }
}

fn push_level(kept: &mut SmallVec<[u8; 16]>, level: &[u8]) {
    kept.reserve_exact(1 + level.len());
    kept.push(u8::try_from(level.len()).expect("checked to be short"));
    kept.extend_from_slice(level);
}

fn check_path<'a>(levels: impl Iterator<Item = &'a [u8]>) -> Result<(), NameError> {
    let (mut count, mut len) = (0, 0);
    for level in levels {
        count += 1;
        len += level.len();
    }
    if count > RESOURCE_LEVELS_MAX {
        return Err(NameError::TooDeep);
    }
    match len > RESOURCE_PATH_MAX {
        true => Err(NameError::PathTooLong(len)),
        false => Ok(()),
    }
}

/// The names of a resource's levels, that of the root first.
#[derive(Clone, Debug)]
pub struct Levels<'a> {
    /// Each with its length before it.
    prefixed: &'a [u8],
    /// The only one.
    whole: Option<&'a [u8]>,
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(whole) = self.whole.take() {
            return Some(whole);
        }
        let (len, after) = self.prefixed.split_first()?;
        let (level, rest) = after.split_at(usize::from(*len));
        self.prefixed = rest;
        Some(level)
    }
}

/// Level by level, so that a resource comes before all that is beneath it, and nothing else comes in
/// between.
impl Ord for ResourceName {
    fn cmp(&self, other: &ResourceName) -> Ordering {
        match (self.0[0], other.0[0]) {
            (LEVELLED, _) | (_, LEVELLED) => self.levels().cmp(other.levels()),
            _ => self.0.cmp(&other.0),
        }
    }
}

impl PartialOrd for ResourceName {
    fn partial_cmp(&self, other: &ResourceName) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn is_plain(b: u8) -> bool {
    b != b'\\' && (b.is_ascii_graphic() || b == b' ')
}

/// Printable ASCII as it is, everything else (and the backslash) as `\xNN`; `//` between levels, and
/// `\x2f` for a slash that could be taken for a part of it.
impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slashed = |pair: &[u8]| pair == SEPARATOR.as_bytes();
        if self.0[0] != LEVELLED
            && self.0.iter().all(|&b| is_plain(b))
            && !self.0.windows(2).any(slashed)
        {
            return f.pad(core::str::from_utf8(&self.0).unwrap_or_default());
        }
        let mut text = String::new();
        let last = self.depth() - 1;
        for (at, level) in self.levels().enumerate() {
            if at > 0 {
                text.push_str(SEPARATOR);
            }
            for (i, &b) in level.iter().enumerate() {
                let ends = i == 0 && at > 0 || i + 1 == level.len() && at < last;
                let mistaken = b == b'/' && (ends || i > 0 && level[i - 1] == b'/');
                if is_plain(b) && !mistaken {
                    text.push(b as char);
                } else {
                    text.push_str(&format!("\\x{b:02x}"));
                }
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

/// Bytes of text in which `\xNN` may stand for any byte; another backslash stands for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let digit = |b: u8| (b as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&first, after)) = rest.split_first() {
        if let [b'\\', b'x', high, low, ..] = rest
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            bytes.push(high * 16 + low);
            rest = &rest[4..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}

/// From text as it is displayed.
impl FromStr for ResourceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<ResourceName, NameError> {
        let mut levels = text.split(SEPARATOR);
        let root = levels.next().unwrap_or_default();
        let mut name = ResourceName::new(unescaped(root))?;
        for level in levels {
            name = name.child(unescaped(level))?;
        }
        Ok(name)
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
                write!(
                    f,
                    "a resource name of 1 to {RESOURCE_NAME_MAX} bytes per level"
                )
            }

            fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<ResourceName, E> {
                ResourceName::from_encoded(v).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<ResourceName, E> {
                v.parse().map_err(E::custom)
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

    fn name(text: &str) -> ResourceName {
        text.parse().expect("valid")
    }

    /// Protects binary names: NUL and high bytes are allowed and printed as hex.
    #[test]
    fn resource_names_are_bytes() {
        let name = ResourceName::new(b"a\0\xffz\\").expect("valid");
        assert_eq!(name.to_string(), "a\\x00\\xffz\\x5c");
        assert!(ResourceName::new([]).is_err());
        assert!(ResourceName::new([b'x'; 65]).is_err());
        assert!(ResourceName::new([b'x'; 64]).is_ok());
    }

    /// Protects trees: a sub-resource knows its levels, its parent and its root, and is no other one.
    #[test]
    fn levels_make_a_tree() {
        let root = ResourceName::new("db").expect("valid");
        let table = root.child("table 7").expect("valid");
        let row = table.child("row 3").expect("valid");
        assert_eq!(row.to_string(), "db//table 7//row 3");
        assert_eq!(
            row.levels().collect::<Vec<_>>(),
            [&b"db"[..], b"table 7", b"row 3"]
        );
        assert_eq!(
            (row.parent(), table.parent()),
            (Some(table.clone()), Some(root.clone()))
        );
        assert_eq!(
            (root.parent(), row.root(), root.root()),
            (None, root.clone(), root.clone())
        );
        assert_eq!((root.depth(), row.depth()), (1, 3));
        assert!(row.is_in(&root) && root.is_in(&root));
        assert!(!row.is_in(&table) && !row.is_in(&name("d")));
        assert!(root.is_root() && !table.is_root() && !row.is_root());
        assert_eq!(
            (row.own_bytes(), row.root_bytes()),
            (&b"row 3"[..], &b"db"[..])
        );
        let flat = ResourceName::new("db//table 7").expect("valid");
        assert!(flat.is_root());
        assert_ne!(flat, table);
        // A root that begins with NUL is none of the others.
        let nul = ResourceName::new(b"\0\x02db").expect("valid");
        assert!(nul.is_root() && nul.root() == nul && nul.parent().is_none());
        assert_eq!(nul.child("x").expect("valid").parent(), Some(nul));
    }

    /// Protects bounds: neither levels nor bytes of a path grow without limit.
    #[test]
    fn trees_are_bounded() {
        let mut deep = name("a");
        for _ in 1..RESOURCE_LEVELS_MAX {
            deep = deep.child("b").expect("valid");
        }
        assert_eq!(deep.child("b"), Err(NameError::TooDeep));
        let wide = ResourceName::new([b'x'; 64]).expect("valid");
        let wide = wide.child([b'x'; 64]).and_then(|w| w.child([b'x'; 64]));
        let wide = wide.expect("valid");
        assert!(wide.child([b'x'; 48]).is_ok());
        assert_eq!(wide.child([b'x'; 49]), Err(NameError::PathTooLong(241)));
        assert!(wide.child([]).is_err() && name("a").child([b'x'; 65]).is_err());
    }

    /// Protects people and scripts: what is printed is read as the same name, whatever slashes,
    /// backslashes and other bytes it holds, and nothing is printed as something else is.
    #[test]
    fn what_is_printed_is_read_back() {
        let levels: [&[u8]; 9] = [
            b"a", b"/", b"//", b"a/b", b"/a/", b"a//b", b"\\x2f", b"\0\x01a", b"\xff ",
        ];
        let mut seen = std::collections::BTreeMap::new();
        for a in levels {
            let root = ResourceName::new(a).expect("valid");
            let mut all = vec![root.clone()];
            for b in levels {
                let child = root.child(b).expect("valid");
                all.extend(levels.map(|c| child.child(c).expect("valid")));
                all.push(child);
            }
            for name in all {
                let text = name.to_string();
                assert_eq!(text.parse(), Ok(name.clone()), "{text}");
                assert_eq!(seen.insert(text, name), None);
            }
        }
        assert_eq!(name("/dev/sda").to_string(), "/dev/sda");
        assert_eq!(name("/dev/sda//1").depth(), 2);
        assert_eq!(name("DOM\\user").root_bytes(), b"DOM\\user");
        assert!("a//".parse::<ResourceName>().is_err() && "".parse::<ResourceName>().is_err());
    }

    /// Protects lists: a resource comes right before what is beneath it.
    #[test]
    fn trees_stand_together_in_order() {
        let order = ["a", "a//a", "a//a//b", "a//b", "a-", "a/", "b"].map(name);
        assert!(order.is_sorted());
        let mut back = order.to_vec();
        back.reverse();
        back.sort();
        assert_eq!(back, order);
    }

    fn decoded(bytes: &[u8]) -> Result<ResourceName, postcard::Error> {
        let mut message = vec![u8::try_from(bytes.len()).expect("short")];
        message.extend_from_slice(bytes);
        postcard::from_bytes(&message)
    }

    /// Protects from hostile bytes: whatever is decoded is a name in its only form.
    #[test]
    fn only_names_are_decoded() {
        assert_eq!(decoded(b"ab").expect("a root").to_string(), "ab");
        assert_eq!(decoded(b"\0\x01a\x01b").expect("a path"), name("a//b"));
        assert_eq!(decoded(b"\0\x02\0b").expect("a root").to_string(), "\\x00b");
        let long = [[0, 65].as_slice(), &[b'x'; 65]].concat();
        let deep = [[0].as_slice(), &[1, b'x'].repeat(9)].concat();
        let wide = [
            [0].as_slice(),
            &[[61].as_slice(), &[b'x'; 61]].concat().repeat(4),
        ]
        .concat();
        let wrong: [&[u8]; 10] = [
            b"",
            b"\0",
            b"\0\0",
            b"\0\x01a",
            b"\0\x01",
            b"\0\x02a",
            b"\0\x01a\x02b",
            &long,
            &deep,
            &wide,
        ];
        for bytes in wrong {
            assert!(decoded(bytes).is_err(), "{bytes:?}");
        }
        for text in ["a", "\\x00a", "a//b", "a//b//\\x2fc"] {
            let bytes = postcard::to_allocvec(&name(text)).expect("a name");
            assert_eq!(postcard::from_bytes(&bytes), Ok(name(text)));
        }
    }
}
