//! Sets of named values: attributes, options, parameters, utilization.

use crate::{
    rules::Rule,
    text::Str,
    value::Score,
    xml::{Attr, element},
};

element! {
    /// A named value.
    pub struct NvPair {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The name. Absent if the pair refers to another one.
            name: Option<Str> = "name",
            /// The value. Without one, the name counts as not set.
            value: Option<Str> = "value",
            /// The id of the pair to use in place of this one; a name here renames it.
            id_ref: Option<Str> = "id-ref",
        }
        children {}
    }
}

element! {
    /// A set of named values, which may hold under a rule only. Of several sets for one purpose, the
    /// value of the set with the highest score counts for each name.
    pub struct AttributeSet {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The id of the set to use in place of this one.
            id_ref: Option<Str> = "id-ref",
            /// Which set comes first; 0 if absent.
            score: Attr<Score> = "score",
        }
        children {
            /// When the set counts: one rule at most, or always.
            rules: Vec<Rule> = "rule",
            /// The values.
            pairs: Vec<NvPair> = "nvpair",
        }
    }
}

impl NvPair {
    /// A named value; the id is that of the set and the name.
    #[must_use]
    pub fn new(set: &str, name: &str, value: &str) -> NvPair {
        NvPair {
            id: Some(Str::from(format!("{set}-{name}"))),
            name: Some(Str::from(name)),
            value: Some(Str::from(value)),
            ..NvPair::default()
        }
    }
}

impl AttributeSet {
    /// An empty set.
    #[must_use]
    pub fn new(id: &str) -> AttributeSet {
        AttributeSet {
            id: Some(Str::from(id)),
            ..AttributeSet::default()
        }
    }

    /// The value of a name in this very set. The rule is not asked.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let named = |p: &&NvPair| p.name.as_deref() == Some(name);
        self.pairs.iter().find(named)?.value.as_deref()
    }

    /// Sets the value of a name in this very set.
    pub fn set(&mut self, name: &str, value: &str) {
        let named = |p: &&mut NvPair| p.name.as_deref() == Some(name);
        match self.pairs.iter_mut().find(named) {
            Some(pair) => pair.value = Some(Str::from(value)),
            None => {
                let id = self.id.clone().unwrap_or_default();
                self.pairs.push(NvPair::new(&id, name, value));
            }
        }
    }

    /// Takes a name out and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<Str> {
        let index = self
            .pairs
            .iter()
            .position(|p| p.name.as_deref() == Some(name))?;
        self.pairs.remove(index).value
    }
}

/// The value of a name in several sets without regard to rules: that of the set with the highest
/// score, and of equal ones the first. For looking around; what holds at a moment, a policy engine
/// finds out by the rules.
#[must_use]
pub fn lookup<'a>(sets: &'a [AttributeSet], name: &str) -> Option<&'a str> {
    let mut best: Option<(Score, &str)> = None;
    for set in sets {
        if let Some(value) = set.get(name) {
            let score = set.score.or(Score::ZERO);
            if best.is_none_or(|(b, _)| score > b) {
                best = Some((score, value));
            }
        }
    }
    best.map(|(_, value)| value)
}
