//! The resource's value block.

use crate::Rules;
use mainstay_base::{Token, VALUE_LEN_MAX, Value, ValueBlock, ValueVersion};

/// What is published on a resource. Most resources never carry a value, so the bytes live on the
/// heap once there are some; the mark does not, since recovery may set it on any resource.
#[derive(Debug)]
pub(crate) struct Store {
    written: Option<Box<(ValueBlock, ValueVersion)>>,
    /// Of the resource, which has room for them here.
    pub(crate) rules: Rules,
    maybe_stale: bool,
    watched: Watched,
}

/// Whether locks watch a value block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Watched {
    No,
    /// They do, or have done so.
    Yes,
    /// And it has changed since they were last asked for.
    Changed,
}

impl Store {
    /// An empty store under the rules of a lockspace.
    ///
    /// # Panics
    /// If its blocks are larger than any lockspace may ask for.
    pub(crate) fn new(rules: Rules) -> Store {
        let store = Store {
            written: None,
            rules,
            maybe_stale: false,
            watched: Watched::No,
        };
        let len = store.len();
        assert!(
            len <= VALUE_LEN_MAX,
            "value blocks of {len} bytes; a lockspace may ask for at most {VALUE_LEN_MAX}"
        );
        store
    }

    pub(crate) fn version(&self) -> ValueVersion {
        self.written.as_ref().map(|w| w.1).unwrap_or_default()
    }

    /// The value as a reader gets it; zeros under version 0 if nothing was ever published.
    pub(crate) fn read(&self) -> Value {
        let block = match &self.written {
            Some(written) => written.0.clone(),
            None => self.filled(ValueBlock::default()),
        };
        Value {
            block,
            version: self.version(),
            maybe_stale: self.maybe_stale,
        }
    }

    /// What was published last, if anything ever was.
    pub(crate) fn block(&self) -> Option<&ValueBlock> {
        self.written.as_ref().map(|written| &written.0)
    }

    /// Publishes a block under the next version and clears the mark. Where there was one, versions
    /// may have been given that are lost: the next one is above the floor of the present series of
    /// tokens, which is above all that an earlier master can have given.
    pub(crate) fn publish(&mut self, block: &ValueBlock, last_token: Token) {
        let mut version = ValueVersion(self.version().0 + 1);
        if self.maybe_stale {
            version = version.max(ValueVersion(Token::floor(last_token.epoch()).0));
        }
        self.set(block, version);
        self.maybe_stale = false;
        self.tell_anew();
    }

    /// As [`Store::publish`], for a block that was made from the present one: it is as doubtful.
    pub(crate) fn publish_successor(&mut self, block: &ValueBlock, last_token: Token) {
        let maybe_stale = self.maybe_stale;
        self.publish(block, last_token);
        self.maybe_stale = maybe_stale;
    }

    /// A write may have been lost.
    pub(crate) fn mark(&mut self) {
        if !self.maybe_stale {
            self.tell_anew();
        }
        self.maybe_stale = true;
    }

    /// Bytes of a block.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.rules.value_len)
    }

    /// Somebody watches from now on.
    pub(crate) fn watch(&mut self) {
        if self.watched == Watched::No {
            self.watched = Watched::Yes;
        }
    }

    /// All who watch are to be told what it is now.
    pub(crate) fn tell_anew(&mut self) {
        if self.watched != Watched::No {
            self.watched = Watched::Changed;
        }
    }

    /// Whether those who watch have something to be told.
    pub(crate) fn changed(&self) -> bool {
        self.watched == Watched::Changed
    }

    /// Those who watch are told. `any`: there are some.
    pub(crate) fn told(&mut self, any: bool) {
        self.watched = if any { Watched::Yes } else { Watched::No };
    }

    /// Puts back a value found in recovery.
    pub(crate) fn restore(&mut self, value: &Value) {
        if value.version == ValueVersion::default() {
            self.written = None;
        } else {
            self.set(&value.block, value.version);
        }
        self.maybe_stale = value.maybe_stale;
    }

    fn set(&mut self, block: &ValueBlock, version: ValueVersion) {
        let block = self.filled(block.clone());
        match &mut self.written {
            Some(written) => **written = (block, version),
            None => self.written = Some(Box::new((block, version))),
        }
    }

    /// A block of this store's length: short ones end in zeros. Only a block from a peer that
    /// disagrees on the length can be longer; it is cut.
    fn filled(&self, block: ValueBlock) -> ValueBlock {
        let len = self.len();
        let bytes = block.as_bytes();
        ValueBlock::new(&bytes[..bytes.len().min(len)])
            .and_then(|b| b.padded(len))
            .unwrap_or(block)
    }
}
