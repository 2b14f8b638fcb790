//! One resource driven by lines of text.

use mainstay_base::{
    Compat, Epoch, Fairness, LockMode, Token, Value, ValueBlock, ValueUpdate, ValueVersion,
};
use mainstay_lock::{
    Effect, Flags, Invalid, LockView, Refusal, Resource, Restated, Rules, Ticket, UpdateError,
};

pub(crate) struct World {
    resource: Resource<char>,
}

/// The words after a command and its key.
#[derive(Default)]
struct Words {
    mode: Option<LockMode>,
    flags: Flags,
    nobast: bool,
    plain: Vec<String>,
    named: Vec<(String, String)>,
}

impl Words {
    fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Words {
        let mut parsed = Words::default();
        for word in words {
            if let Some((name, value)) = word.split_once('=') {
                parsed.named.push((name.to_owned(), value.to_owned()));
            } else if let Ok(mode) = word.parse() {
                parsed.mode = Some(mode);
            } else if let Some(flag) = Flags::from_name(word) {
                parsed.flags |= flag;
            } else if word == "nobast" {
                parsed.nobast = true;
            } else {
                parsed.plain.push(word.to_owned());
            }
        }
        parsed
    }

    fn mode(&self) -> Result<LockMode, String> {
        self.mode.ok_or_else(|| "a mode is missing".to_owned())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.named.iter().position(|(n, _)| n == name)?;
        Some(self.named.remove(at).1)
    }

    fn take_plain(&mut self, word: &str) -> bool {
        let at = self.plain.iter().position(|w| w == word);
        at.map(|at| self.plain.remove(at)).is_some()
    }

    fn done(self) -> Result<(), String> {
        match (self.plain.first(), self.named.first()) {
            (None, None) => Ok(()),
            (word, named) => Err(format!("unknown words {word:?} {named:?}")),
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// `7` or, in a later epoch, `2.7`.
fn token(text: &str) -> Result<Token, String> {
    match text.split_once('.') {
        Some((epoch, count)) => Ok(Token(
            Token::floor(Epoch(number(epoch)?)).0 + number::<u64>(count)?,
        )),
        None => Ok(Token(number(text)?)),
    }
}

fn show_token(token: Token) -> String {
    match token.epoch().0 {
        0 => token.0.to_string(),
        epoch => format!("{epoch}.{}", token.0 - Token::floor(token.epoch()).0),
    }
}

/// `mode/token`.
fn granted(text: &str) -> Result<(LockMode, Token), String> {
    let (mode, number) = text.split_once('/').ok_or("want MODE/TOKEN")?;
    Ok((mode.parse().map_err(|e| format!("{e}"))?, token(number)?))
}

fn block(text: &str) -> Result<ValueBlock, String> {
    ValueBlock::new(text).map_err(|e| e.to_string())
}

/// `text/version` or `text/version/stale`.
fn value(text: &str) -> Result<Value, String> {
    let mut parts = text.split('/');
    Ok(Value {
        block: block(parts.next().unwrap_or_default())?,
        version: ValueVersion(number(parts.next().ok_or("want TEXT/VERSION")?)?),
        maybe_stale: parts.next() == Some("stale"),
    })
}

fn show_value(value: &Value) -> String {
    let bytes = value.block.as_bytes();
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches('\0');
    let stale = if value.maybe_stale { " stale" } else { "" };
    if text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
        format!(
            "count {}[{}] v{}{stale}",
            value.count(),
            bytes.len(),
            value.version
        )
    } else if text.is_empty() {
        format!("zeros[{}] v{}{stale}", bytes.len(), value.version)
    } else {
        format!("\"{text}\"[{}] v{}{stale}", bytes.len(), value.version)
    }
}

fn show_effect(effect: &Effect<char>) -> String {
    match effect {
        Effect::Granted { key, grant } => {
            let value = match &grant.value {
                Some(value) => format!(", value {}", show_value(value)),
                None => String::new(),
            };
            format!(
                "{key} granted {}, token {}{value}",
                grant.mode,
                show_token(grant.token)
            )
        }
        Effect::Queued { key, ticket } => format!("{key} queued, ticket {ticket}"),
        Effect::Refused { key, why } => format!(
            "{key} refused: {}",
            match why {
                Refusal::NotQueued => "would have to wait",
                Refusal::Deadlock => "conversion deadlock",
                Refusal::Cancelled => "cancelled",
            }
        ),
        Effect::Unlocked { key, version } => format!("{key} unlocked, value v{version}"),
        Effect::Blocking { key, mode } => format!("{key} told: blocks {mode}"),
        Effect::BlockingRange { .. } => unreachable!("a whole resource has no ranges"),
    }
}

fn show_lock(lock: LockView<char>) -> String {
    let mut text = lock.key.to_string();
    if let Some((mode, token)) = lock.granted {
        text += &format!(" {mode}/{}", show_token(token));
    }
    if let Some(mode) = lock.requested {
        text += &format!(" ->{mode}");
    }
    if let Some(ticket) = lock.ticket {
        text += &format!(" #{ticket}");
    }
    text
}

fn queue(name: &str, locks: impl Iterator<Item = LockView<char>>, into: &mut Vec<String>) {
    let locks: Vec<String> = locks.map(show_lock).collect();
    if !locks.is_empty() {
        into.push(format!("{name}: {}", locks.join(", ")));
    }
}

const VALUE_LEN: usize = 8;

impl World {
    pub(crate) fn new() -> World {
        World {
            resource: Resource::new(Token::NONE, VALUE_LEN),
        }
    }

    /// Carries out a command and gives its trace.
    pub(crate) fn run(&mut self, line: &str) -> Result<Vec<String>, String> {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        let with_key = !matches!(
            command,
            "new" | "floor" | "restate_value" | "rebuild" | "state"
        );
        let key = match (with_key, words.clone().next()) {
            (true, Some(word)) if word.chars().count() == 1 => {
                words.next();
                word.chars().next().ok_or("no key")?
            }
            (true, _) => return Err("a key of one letter is missing".to_owned()),
            (false, _) => '?',
        };
        let mut words = Words::parse(words);
        let mut out = Vec::new();
        let mut trace = Vec::new();
        let bast = !words.nobast;
        let flags = words.flags;
        let mut valid: Result<(), Invalid> = Ok(());
        match command {
            "new" => {
                let len = words
                    .take("len")
                    .map_or(Ok(VALUE_LEN as u16), |l| number(&l))?;
                let floor = words.take("floor").map_or(Ok(Token::NONE), |f| token(&f))?;
                let compat = words.take("compat");
                let compat = compat.map_or(Ok(Compat::Strict), |c| c.parse());
                let compat = compat.map_err(|e| format!("{e}"))?;
                let overtake = words.take("overtake");
                let fairness = Fairness {
                    overtake: overtake.map_or(Ok(compat.fairness().overtake), |n| number(&n))?,
                    ..compat.fairness()
                };
                self.resource = Resource::new(floor, Rules::new(len, fairness, compat));
            }
            "request" => {
                let mode = words.mode()?;
                valid = self.resource.request(key, mode, flags, bast, &mut out);
            }
            "convert" => {
                let mode = words.mode()?;
                let value = words.take("value").map(|t| block(&t)).transpose()?;
                valid = self
                    .resource
                    .convert(key, mode, flags, bast, value.as_ref(), &mut out);
            }
            "convert_demoted" => {
                let mode = words.mode()?;
                valid = self
                    .resource
                    .convert_demoted(key, mode, flags, bast, &mut out);
            }
            "unlock" => {
                let value = words.take("value").map(|t| block(&t)).transpose()?;
                valid = self.resource.unlock(key, flags, value.as_ref(), &mut out);
            }
            "force_unlock" => {
                let invalidate = words.take_plain("invalidate");
                if !self.resource.force_unlock(key, invalidate, &mut out) {
                    trace.push(format!("{key} is not known"));
                }
            }
            "cancel" => {
                if !self.resource.cancel(key, &mut out) {
                    trace.push(format!("{key}: nothing to cancel"));
                }
            }
            "floor" => {
                let floor = words.take("to").ok_or("want to=TOKEN")?;
                self.resource.raise_floor(token(&floor)?);
            }
            "restate" => {
                let pending = words.take("pending");
                let lock = Restated {
                    granted: words.take("granted").map(|t| granted(&t)).transpose()?,
                    pending: match pending {
                        Some(mode) => Some((mode.parse().map_err(|e| format!("{e}"))?, flags)),
                        None => None,
                    },
                    ticket: match words.take("ticket") {
                        Some(text) => Some(Ticket(number(&text)?)),
                        None => None,
                    },
                    wants_bast: bast,
                    valblk: words.take_plain("copy"),
                    value: words.take("value").map(|t| value(&t)).transpose()?,
                    publish: words.take("publish").map(|t| block(&t)).transpose()?,
                    unsure: words.take_plain("unsure"),
                    watches: words.take_plain("watches"),
                };
                self.resource.restate(key, lock);
            }
            "swap" => {
                let expect = words.take("expect").ok_or("want expect=VERSION")?;
                let (version, mark) = expect.split_once('/').unwrap_or((&expect, ""));
                let text = words.take("value").ok_or("want value=TEXT")?;
                let update = ValueUpdate::Swap {
                    expect: ValueVersion(number(version)?),
                    expect_stale: mark == "stale",
                    block: block(&text)?,
                };
                valid = self.update(key, &update, &mut trace);
            }
            "add" => {
                let delta = number(&words.take("by").ok_or("want by=NUMBER")?)?;
                valid = self.update(key, &ValueUpdate::Add { delta }, &mut trace);
            }
            "watch" => {
                let on = !words.take_plain("off");
                if !self.resource.watch(key, on) {
                    trace.push(format!("{key} is not granted"));
                }
            }
            "restate_value" => {
                let text = words.take("value").ok_or("want value=TEXT/VERSION")?;
                self.resource.restate_value(value(&text)?);
            }
            "rebuild" => {
                let died = words.take_plain("died");
                self.resource.finish_rebuild(died, &mut out);
            }
            "state" => {
                queue("granted", self.resource.granted(), &mut trace);
                queue("converting", self.resource.converting(), &mut trace);
                queue("waiting", self.resource.waiting(), &mut trace);
                trace.push(format!("value: {}", show_value(&self.resource.value())));
                trace.push(format!(
                    "last token: {}",
                    show_token(self.resource.last_token())
                ));
            }
            "why" => {
                let keys: Vec<String> = self
                    .resource
                    .waits_for(key)
                    .iter()
                    .map(char::to_string)
                    .collect();
                trace.push(format!("{key} waits for: {}", keys.join(", ")));
            }
            other => return Err(format!("`{other}` is no command")),
        }
        words.done()?;
        self.resource.check();
        if let Err(invalid) = valid {
            assert!(out.is_empty(), "an invalid operation had effects: {out:?}");
            trace.push(format!("invalid: {invalid}"));
        }
        trace.extend(out.iter().map(show_effect));
        if self.resource.has_news() {
            let value = show_value(&self.resource.value());
            let watching = self.resource.take_watching();
            trace.extend(watching.iter().map(|key| format!("{key} sees {value}")));
        }
        Ok(trace)
    }

    fn update(
        &mut self,
        key: char,
        update: &ValueUpdate,
        trace: &mut Vec<String>,
    ) -> Result<(), Invalid> {
        match self.resource.update(key, update) {
            Ok(updated) => {
                let word = match (update, updated.done) {
                    (ValueUpdate::Add { .. }, _) => "counts",
                    (ValueUpdate::Swap { .. }, true) => "swapped",
                    (ValueUpdate::Swap { .. }, false) => "not swapped",
                };
                trace.push(format!(
                    "{key} {word}, value {}",
                    show_value(&updated.value)
                ));
                Ok(())
            }
            Err(UpdateError::Held) => {
                trace.push(format!("{key} refused: others rely on the value"));
                Ok(())
            }
            Err(UpdateError::Invalid(invalid)) => Err(invalid),
        }
    }
}
