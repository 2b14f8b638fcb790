//! Words and places of a configuration.

use core::fmt;
use mainstay_base::FixedMap;
use std::sync::Arc;

/// A piece of text of a configuration. Equal texts of one document share their memory, and a copy
/// costs a counter.
pub type Str = Arc<str>;

/// Where something stands in the text that it was read from. Lines and columns (in characters) count
/// from one; zero means that it was not read but made.
///
/// A place is no part of a value: all places compare as equal, so two models are equal if they say
/// the same.
#[derive(Clone, Copy, Default)]
pub struct At {
    /// The line, from one.
    pub line: u32,
    /// The character in the line, from one.
    pub column: u32,
}

impl At {
    /// Whether this is the place of something that was made and not read.
    #[must_use]
    pub fn is_nowhere(self) -> bool {
        self.line == 0
    }
}

impl PartialEq for At {
    fn eq(&self, _: &At) -> bool {
        true
    }
}

impl Eq for At {}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_nowhere() {
            f.write_str("-")
        } else {
            write!(f, "{}:{}", self.line, self.column)
        }
    }
}

/// Gives equal texts the same memory.
#[derive(Default)]
pub(crate) struct Words(FixedMap<Str, ()>, FixedMap<Arc<[u8]>, ()>);

impl Words {
    pub(crate) fn get(&mut self, text: &str) -> Str {
        if let Some(known) = self.0.key(text) {
            return known.clone();
        }
        let new: Str = Arc::from(text);
        self.0.insert(new.clone(), ());
        new
    }

    /// The same for the order of attributes and children, of which a document has few.
    pub(crate) fn order(&mut self, order: &[u8]) -> Arc<[u8]> {
        if let Some(known) = self.1.key(order) {
            return known.clone();
        }
        let new: Arc<[u8]> = Arc::from(order);
        self.1.insert(new.clone(), ());
        new
    }
}

/// Finds lines and columns of byte offsets; cheap if they are asked for in rising order.
pub(crate) struct Places<'a> {
    text: &'a str,
    offset: usize,
    line: u32,
    /// Offset of the beginning of the line.
    begin: usize,
    column: u32,
}

impl<'a> Places<'a> {
    pub(crate) fn new(text: &'a str) -> Places<'a> {
        Places {
            text,
            offset: 0,
            line: 1,
            begin: 0,
            column: 1,
        }
    }

    pub(crate) fn at(&mut self, offset: usize) -> At {
        if offset < self.offset {
            if offset < self.begin {
                *self = Places::new(self.text);
            } else {
                self.offset = self.begin;
                self.column = 1;
            }
        }
        let passed = self.text.get(self.offset..offset).unwrap_or_default();
        for (index, byte) in passed.bytes().enumerate() {
            if byte == b'\n' {
                self.line += 1;
                self.column = 1;
                self.begin = self.offset + index + 1;
            } else if byte & 0xC0 != 0x80 {
                self.column += 1; // Not inside a character.
            }
        }
        self.offset = offset;
        At {
            line: self.line,
            column: self.column,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the places in messages: characters are counted, not bytes, and going back works.
    #[test]
    fn places_are_found_in_any_order() {
        let text = "a\nbä!\n\nc";
        let mut places = Places::new(text);
        let seen = |at: At| (at.line, at.column);
        assert_eq!(seen(places.at(0)), (1, 1));
        assert_eq!(seen(places.at(5)), (2, 3));
        assert_eq!(seen(places.at(2)), (2, 1));
        assert_eq!(seen(places.at(8)), (4, 1));
        assert_eq!(seen(places.at(1)), (1, 2));
    }

    /// Protects memory: a word is stored once.
    #[test]
    fn equal_words_share_their_memory() {
        let mut words = Words::default();
        let one = words.get("member");
        assert!(Arc::ptr_eq(&one, &words.get("member")));
        assert!(!Arc::ptr_eq(&one, &words.get("remote")));
    }
}
