//! Values of attributes: typed, and as they were spelled.

use crate::text::{Str, Words};
use crate::value::FromText;
use core::fmt;

/// An attribute that may be absent, with its value and its spelling.
///
/// The spelling is kept since `10s`, `10` and `10000ms` mean the same, but who wrote one wants to
/// find it again. A text that is not understood is kept too; it then has no value, and reading it
/// has left a problem behind.
#[derive(Clone)]
pub struct Attr<T> {
    text: Option<Str>,
    value: Option<T>,
}

impl<T> Default for Attr<T> {
    fn default() -> Self {
        Attr {
            text: None,
            value: None,
        }
    }
}

impl<T: FromText> Attr<T> {
    /// An attribute with a value, in its usual spelling.
    #[must_use]
    pub fn of(value: T) -> Attr<T> {
        Attr {
            text: Some(Str::from(value.to_text())),
            value: Some(value),
        }
    }

    /// An attribute as it was spelled; the value is absent if the text is not understood.
    #[must_use]
    pub fn spelled(text: &str) -> Attr<T> {
        Attr {
            text: Some(Str::from(text)),
            value: T::from_text(text),
        }
    }
}

impl<T> Attr<T> {
    /// The value, if the attribute is present and was understood.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// The text, if the attribute is present.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Whether the attribute is present, understood or not.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.text.is_some()
    }

    /// Whether the attribute is present but means nothing.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.text.is_some() && self.value.is_none()
    }
}

impl<T: Copy> Attr<T> {
    /// The value, if the attribute is present and was understood.
    #[must_use]
    pub fn get(&self) -> Option<T> {
        self.value
    }

    /// The value, or this one if the attribute is absent or was not understood.
    #[must_use]
    pub fn or(&self, default: T) -> T {
        self.value.unwrap_or(default)
    }
}

impl<T> PartialEq for Attr<T> {
    /// The value follows from the text.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<T> Eq for Attr<T> {}

impl<T> fmt::Debug for Attr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{text:?}"),
            None => f.write_str("absent"),
        }
    }
}

/// A field of the model that is an attribute in XML.
pub(crate) trait AttributeField {
    /// Whether its element means nothing without it.
    fn required(&self) -> bool {
        false
    }

    /// Takes the text; tells what would be right if it is not understood.
    fn take(&mut self, text: &str, words: &mut Words) -> Result<(), &'static str>;

    /// The text to write, if any.
    fn text(&self) -> Option<&str>;
}

impl AttributeField for Str {
    fn required(&self) -> bool {
        true
    }

    fn take(&mut self, text: &str, words: &mut Words) -> Result<(), &'static str> {
        *self = words.get(text);
        Ok(())
    }

    fn text(&self) -> Option<&str> {
        (!self.is_empty()).then_some(self)
    }
}

impl AttributeField for Option<Str> {
    fn take(&mut self, text: &str, words: &mut Words) -> Result<(), &'static str> {
        *self = Some(words.get(text));
        Ok(())
    }

    fn text(&self) -> Option<&str> {
        self.as_deref()
    }
}

impl<T: FromText> AttributeField for Attr<T> {
    fn take(&mut self, text: &str, words: &mut Words) -> Result<(), &'static str> {
        self.value = T::from_text(text);
        self.text = Some(words.get(text));
        match self.value {
            Some(_) => Ok(()),
            None => Err(T::EXPECTED),
        }
    }

    fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}
