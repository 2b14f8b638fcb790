//! Values of attributes, from and to text.

mod date;
mod interval;
mod keywords;
mod numbers;
mod operation;
mod score;

pub use date::{DateTime, Range};
pub use interval::Interval;
pub use keywords::{
    Action, BooleanOp, Comparison, DateOperation, Discovery, LossPolicy, MultipleActive, NodeType,
    OnFail, OrderKind, Ordering, Requires, Role, ValueSource, ValueType,
};
pub use operation::{Membership, TransitionKey, TransitionMagic};
pub use score::Score;

/// What an attribute's text can mean.
pub trait FromText: Sized {
    /// What is expected, for messages: "write …".
    const EXPECTED: &'static str;

    /// Reads a value; `None` if the text means nothing.
    fn from_text(text: &str) -> Option<Self>;

    /// The usual spelling.
    fn to_text(&self) -> String;
}

/// Reads a truth value in any of the spellings that are around: true/false, yes/no, on/off, y/n,
/// 1/0, in any case.
#[must_use]
pub fn truth(text: &str) -> Option<bool> {
    bool::from_text(text)
}
