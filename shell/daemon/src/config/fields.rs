//! Typed access to the fields of one TOML table, noting problems on the way.

use super::problem::Problems;
use std::ops::Range;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

/// A value with the place it came from.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
    pub(super) path: String,
}

/// The fields of one table. Every field asked for counts as known; [`Fields::finish`] complains of
/// the rest.
pub(super) struct Fields<'t, 'i> {
    prefix: String,
    span: Range<usize>,
    table: &'t DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'t, 'i> Fields<'t, 'i> {
    pub(super) fn new(prefix: &str, span: Range<usize>, table: &'t DeTable<'i>) -> Fields<'t, 'i> {
        Fields {
            prefix: prefix.to_owned(),
            span,
            table,
            known: Vec::new(),
        }
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(super) fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    fn take(&mut self, name: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.known.push(name);
        self.table.get(name)
    }

    /// Whether the field is there, of whatever type.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Complains that a field is not there.
    pub(super) fn missing(&self, problems: &mut Problems<'_>, name: &str, example: &str) {
        problems.add(self.span(), self.path(name), "is missing", example);
    }

    pub(super) fn string(
        &mut self,
        problems: &mut Problems<'_>,
        name: &'static str,
        example: &str,
    ) -> Option<At<String>> {
        let value = self.take(name)?;
        let path = self.path(name);
        match value.get_ref() {
            DeValue::String(text) => Some(At {
                value: text.clone().into_owned(),
                span: value.span(),
                path,
            }),
            other => {
                problems.add(value.span(), path, wrong_type(other, "a string"), example);
                None
            }
        }
    }

    pub(super) fn boolean(
        &mut self,
        problems: &mut Problems<'_>,
        name: &'static str,
        example: &str,
    ) -> Option<bool> {
        let value = self.take(name)?;
        match value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            other => {
                let message = wrong_type(other, "true or false");
                problems.add(value.span(), self.path(name), message, example);
                None
            }
        }
    }

    pub(super) fn integer(
        &mut self,
        problems: &mut Problems<'_>,
        name: &'static str,
        range: Range<u64>,
        example: &str,
    ) -> Option<At<u64>> {
        let value = self.take(name)?;
        let path = self.path(name);
        let DeValue::Integer(number) = value.get_ref() else {
            let message = wrong_type(value.get_ref(), "a whole number");
            problems.add(value.span(), path, message, example);
            return None;
        };
        let digits = number.as_str().replace('_', "");
        match i128::from_str_radix(&digits, number.radix()) {
            Ok(n) if n >= i128::from(range.start) && n < i128::from(range.end) => Some(At {
                value: u64::try_from(n).unwrap_or(range.start),
                span: value.span(),
                path,
            }),
            _ => {
                problems.add(
                    value.span(),
                    path,
                    format!(
                        "{digits} is outside {} to {}",
                        range.start,
                        range.end.saturating_sub(1)
                    ),
                    example,
                );
                None
            }
        }
    }

    /// The strings of an array of strings.
    pub(super) fn strings(
        &mut self,
        problems: &mut Problems<'_>,
        name: &'static str,
        example: &str,
    ) -> Option<At<Vec<At<String>>>> {
        let value = self.take(name)?;
        let path = self.path(name);
        let DeValue::Array(array) = value.get_ref() else {
            let message = wrong_type(value.get_ref(), "an array of strings");
            problems.add(value.span(), path, message, example);
            return None;
        };
        let array: &DeArray<'i> = array;
        let mut items = Vec::new();
        for (i, item) in array.iter().enumerate() {
            let item_path = format!("{path}[{i}]");
            match item.get_ref() {
                DeValue::String(text) => items.push(At {
                    value: text.clone().into_owned(),
                    span: item.span(),
                    path: item_path,
                }),
                other => problems.add(
                    item.span(),
                    item_path,
                    wrong_type(other, "a string"),
                    example,
                ),
            }
        }
        Some(At {
            value: items,
            span: value.span(),
            path,
        })
    }

    pub(super) fn table(
        &mut self,
        problems: &mut Problems<'_>,
        name: &'static str,
        example: &str,
    ) -> Option<Fields<'t, 'i>> {
        let value = self.take(name)?;
        let path = self.path(name);
        match value.get_ref() {
            DeValue::Table(table) => Some(Fields::new(&path, value.span(), table)),
            other => {
                problems.add(value.span(), path, wrong_type(other, "a table"), example);
                None
            }
        }
    }

    pub(super) fn tables(
        &mut self,
        problems: &mut Problems<'_>,
        name: &'static str,
        example: &str,
    ) -> Option<Vec<Fields<'t, 'i>>> {
        let value = self.take(name)?;
        let path = self.path(name);
        let DeValue::Array(array) = value.get_ref() else {
            let message = wrong_type(value.get_ref(), "an array of tables");
            problems.add(value.span(), path, message, example);
            return None;
        };
        let array: &'t DeArray<'i> = array;
        let mut tables = Vec::new();
        for (i, item) in array.iter().enumerate() {
            let item_path = format!("{path}[{i}]");
            match item.get_ref() {
                DeValue::Table(table) => tables.push(Fields::new(&item_path, item.span(), table)),
                other => problems.add(
                    item.span(),
                    item_path,
                    wrong_type(other, "a table"),
                    example,
                ),
            }
        }
        Some(tables)
    }

    /// Complains of every field that was not asked for.
    pub(super) fn finish(self, problems: &mut Problems<'_>) {
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let nearest = self
                .known
                .iter()
                .min_by_key(|known| distance(known, name))
                .filter(|known| distance(known, name) <= 1 + name.len() / 4);
            let (message, example) = match nearest {
                Some(known) => (
                    format!("there is no such field; did you mean `{known}`?"),
                    (*known).to_owned(),
                ),
                None => (
                    "there is no such field".to_owned(),
                    format!("one of {}", self.known.join(", ")),
                ),
            };
            problems.add(key.span(), self.path(name), message, example);
        }
    }
}

fn wrong_type(found: &DeValue<'_>, wanted: &str) -> String {
    let value = match found {
        DeValue::String(text) => format!(" \"{text}\""),
        DeValue::Integer(number) => format!(" {}", number.as_str()),
        DeValue::Float(number) => format!(" {}", number.as_str()),
        DeValue::Boolean(b) => format!(" {b}"),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => String::new(),
    };
    format!("must be {wanted}, not the {}{value}", found.type_str())
}

/// Edits between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
