//! Between XML and the types of the model.
//!
//! Each element of the model is declared once, with [`element!`]: its attributes, the elements it
//! may contain, and their order. Reading and writing follow from that declaration, so they cannot
//! disagree. What a declaration does not know is kept in [`Extra`] and written back at its place.

mod attribute;
mod child;
mod element;
mod extra;
mod name;
mod read;
mod tree;
mod write;

pub(crate) use attribute::AttributeField;
pub(crate) use child::{Child, ChildSlot, choice};
pub(crate) use element::element;
pub(crate) use name::{is_char, is_name};
pub(crate) use read::{DEEPEST, Reader, parse, parse_moved};
pub(crate) use tree::{COMMENT, Element, INSTRUCTION, TEXT, instruction};
pub(crate) use write::Writer;

pub use attribute::Attr;
pub use extra::{Extra, Verbatim};
