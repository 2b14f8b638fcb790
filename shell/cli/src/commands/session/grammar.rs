//! What can be said in a line.

mod owner;
mod sets;

use crate::commands::{lock::seconds, value::bytes_of};
use mainstay_base::{ByteRange, Flags, LockMode, Owner};
use std::time::Duration;

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// A new lock, under a label of its own.
    Lock {
        label: String,
        resource: String,
        mode: LockMode,
        how: How,
    },
    /// Another mode for a lock that is held.
    Convert {
        label: String,
        mode: LockMode,
        how: How,
        value: Option<Vec<u8>>,
    },
    /// Set a range of a lock on ranges to a mode; NL to give it up.
    Range {
        label: String,
        resource: String,
        range: ByteRange,
        mode: LockMode,
        how: How,
    },
    /// Several new locks, all or none.
    Set {
        members: Vec<(String, LockMode)>,
        how: How,
    },
    /// Another mode for several locks, each for itself.
    ConvertMany {
        labels: Vec<String>,
        mode: LockMode,
        how: How,
    },
    Unlock {
        label: String,
        flags: Flags,
        value: Option<Vec<u8>>,
    },
    /// Take over a lock that a process of this node left behind.
    Adopt {
        label: String,
        resource: String,
        mode: LockMode,
        how: How,
        /// Or one that any node left behind.
        anywhere: bool,
    },
    /// List what processes left behind.
    Orphans {
        pattern: Option<String>,
    },
    /// Release what processes left behind in this lockspace.
    Purge {
        pattern: String,
    },
    /// All locks beneath one, and that, too, if `itself`; or all of the session.
    UnlockTree {
        label: Option<String>,
        itself: bool,
    },
    /// Several locks, each for itself.
    UnlockMany {
        labels: Vec<String>,
        flags: Flags,
    },
    /// Take back the request or conversion that is under way.
    Cancel {
        label: String,
    },
    /// Heed each notice within a time, or no longer.
    Promise {
        label: String,
        within: Option<Duration>,
        release: bool,
    },
    /// Read the value block, or publish another.
    Value {
        label: String,
        value: Option<Vec<u8>>,
    },
    /// Publish a value if the present one has this version, in one step.
    Swap {
        label: String,
        expect: u64,
        stale: bool,
        value: Vec<u8>,
    },
    /// Add to the count in the value block, in one step.
    Add {
        label: String,
        delta: i64,
    },
    /// Tell of changes of the value block, or no more.
    Watch {
        label: String,
        on: bool,
    },
    /// List the locks of this session.
    Locks,
    Why {
        resource: String,
    },
    /// Choose the lockspace of later locks.
    Space {
        name: String,
        value_len: Option<u16>,
    },
    Priority {
        priority: u8,
    },
    /// Choose whose later locks are.
    Owner {
        owner: Owner,
    },
    /// Read no further line before calls have ended.
    Wait {
        label: Option<String>,
        limit: Option<Duration>,
    },
    /// Read no further line for a while.
    Sleep {
        time: Duration,
    },
    Help,
    Quit,
}

impl Command {
    /// The locks that must have no call under way for this.
    pub(super) fn needs_idle(&self) -> Vec<&str> {
        match self {
            Command::Unlock { flags, .. } | Command::UnlockMany { flags, .. }
                if flags.contains(Flags::FORCEUNLOCK) =>
            {
                Vec::new()
            }
            Command::ConvertMany { labels, .. } | Command::UnlockMany { labels, .. } => {
                labels.iter().map(String::as_str).collect()
            }
            Command::Lock { resource, .. } => above(resource)
                .map(|(label, _)| label)
                .into_iter()
                .collect(),
            Command::Convert { label, .. }
            | Command::Range { label, .. }
            | Command::Unlock { label, .. }
            | Command::Swap { label, .. }
            | Command::Add { label, .. }
            | Command::Watch { label, .. }
            | Command::Value { label, .. } => vec![label],
            _ => Vec::new(),
        }
    }
}

/// The lock above and the last part of its name, of what is to be locked beneath another.
pub(super) fn above(resource: &str) -> Option<(&str, &str)> {
    let own = resource.split("//").last()?;
    let above = resource.strip_suffix(own)?.strip_suffix("//")?;
    Some((above, own))
}

/// How a lock or conversion is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct How {
    pub(super) flags: Flags,
    pub(super) timeout: Option<Duration>,
    pub(super) blocking: bool,
}

/// The words that begin a line, for completion and help: word, arguments, what it does.
pub(super) const WORDS: [(&str, &str, &str); 26] = [
    (
        "lock",
        "NAME[//NAME…] [MODE] [OPTION…]",
        "ask for a lock, or one beneath a lock; MODE is ex unless given",
    ),
    (
        "try",
        "NAME [MODE] [OPTION…]",
        "the same, or nothing if others are in the way",
    ),
    (
        "set",
        "NAME,NAME… [MODE] [,NAME [MODE]…] [OPTION…]",
        "ask for several locks, all or none",
    ),
    (
        "convert",
        "NAME[,NAME…] MODE [OPTION…] [= VALUE]",
        "change the mode of a lock, and publish a value; or of several",
    ),
    (
        "range",
        "NAME FIRST-LAST MODE|none [nowait] [OPTION…]",
        "lock a range of bytes of a resource, or give it up",
    ),
    (
        "unlock",
        "NAME[,NAME…] [all] [ivvalblk] [forceunlock] [= VALUE]",
        "release a lock, even while a call waits, and publish a value; or several; or all beneath it, too",
    ),
    (
        "dequeue",
        "[NAME]",
        "release all locks, or all beneath one, whatever they wait for",
    ),
    (
        "cancel",
        "NAME",
        "take back the request or conversion that waits",
    ),
    (
        "promise",
        "NAME SECS|off [release]",
        "make way within a time when told to, or have the lock taken",
    ),
    (
        "value",
        "NAME [= VALUE]",
        "read the value block of a lock that is held, or publish another",
    ),
    (
        "cas",
        "NAME VERSION [stale] = VALUE",
        "publish a value if the present one has that version, in any mode",
    ),
    (
        "add",
        "NAME NUMBER",
        "count the value block's first eight bytes up or down, in any mode",
    ),
    (
        "watch",
        "NAME [off]",
        "tell of changes of the value block, in any mode",
    ),
    (
        "adopt",
        "NAME [MODE] [OPTION…]",
        "take over a persistent lock that a process of this node left behind; with `anywhere`, of any",
    ),
    (
        "orphans",
        "[PATTERN]",
        "list the persistent locks that processes left behind",
    ),
    (
        "purge",
        "PATTERN",
        "release those of this lockspace whose resources' names match",
    ),
    ("locks", "", "list the locks of this session"),
    ("why", "NAME", "say who blocks whom on a resource"),
    (
        "space",
        "NAME [BYTES]",
        "take later locks in this lockspace, of value blocks so long",
    ),
    (
        "priority",
        "0-255",
        "rank when a victim of a deadlock is chosen; the lowest goes",
    ),
    (
        "as",
        "xid NUMBER|group NUMBER|process|session",
        "ask for later locks as part of that owner, in the search for deadlocks",
    ),
    (
        "wait",
        "[NAME] [SECS]",
        "read on when all calls, or that lock's, have ended",
    ),
    ("sleep", "SECS", "read on after this time"),
    ("help", "", "show this"),
    ("quit", "", "release all and end"),
    ("exit", "", "the same"),
];

/// What a line asks for; nothing, if it is empty or a comment.
///
/// # Errors
/// What is wrong, and what would be right.
pub(super) fn parse(line: &str) -> Result<Option<Command>, String> {
    let words = split(line)?;
    let mut words = Words {
        words: words.into_iter().peekable(),
        anywhere: None,
    };
    let Some(first) = words.plain()? else {
        return words.end().map(|()| None);
    };
    let command = match first.to_ascii_lowercase().as_str() {
        "lock" => words.lock(Flags::NONE)?,
        "try" => words.lock(Flags::NOQUEUE)?,
        "set" => words.set()?,
        "convert" => {
            let labels = words.labels("convert")?;
            let mode = words.wanted("convert", "a mode: nl, cr, cw, pr, pw or ex")?;
            let mode = mode_of(&mode)?;
            let (how, label_again) = words.how(Flags::NONE)?;
            if label_again.is_some() {
                return Err("`as=` names a new lock; a conversion is of an old one".to_owned());
            }
            match one(labels) {
                Ok(label) => Command::Convert {
                    label,
                    mode,
                    how,
                    value: words.value()?,
                },
                Err(labels) => Command::ConvertMany { labels, mode, how },
            }
        }
        "range" => words.range()?,
        "unlock" => {
            let labels = words.labels("unlock")?;
            let mut flags = Flags::NONE;
            let mut all = false;
            while let Some(word) = words.plain()? {
                flags |= match word.to_ascii_lowercase().as_str() {
                    "ivvalblk" => Flags::IVVALBLK,
                    "forceunlock" => Flags::FORCEUNLOCK,
                    "all" => {
                        all = true;
                        Flags::NONE
                    }
                    _ => {
                        return Err(format!(
                            "`unlock` knows only `all`, `ivvalblk` and `forceunlock`, not `{word}`"
                        ));
                    }
                };
            }
            match one(labels) {
                Ok(label) if all && flags == Flags::NONE => Command::UnlockTree {
                    label: Some(label),
                    itself: true,
                },
                _ if all => {
                    return Err("`all` goes with one lock, and with no flag".to_owned());
                }
                Ok(label) => Command::Unlock {
                    label,
                    flags,
                    value: words.value()?,
                },
                Err(labels) => Command::UnlockMany { labels, flags },
            }
        }
        "dequeue" => Command::UnlockTree {
            label: words.plain()?,
            itself: false,
        },
        "cancel" => Command::Cancel {
            label: words.wanted("cancel", "the name of a lock")?,
        },
        "promise" => {
            let label = words.wanted("promise", "the name of a lock")?;
            let word = words.wanted("promise", "a number of seconds, or `off`")?;
            let within = match word.as_str() {
                "off" => None,
                _ => Some(seconds(&word)?),
            };
            let last = words.plain()?;
            if let Some(word) = last.as_ref().filter(|word| *word != "release") {
                return Err(format!("`promise` knows only `release`, not `{word}`"));
            }
            Command::Promise {
                label,
                within,
                release: last.is_some(),
            }
        }
        "value" => Command::Value {
            label: words.wanted("value", "the name of a lock")?,
            value: words.value()?,
        },
        "adopt" => words.adopt()?,
        "orphans" => Command::Orphans {
            pattern: words.plain()?,
        },
        "purge" => Command::Purge {
            pattern: words.wanted("purge", "a pattern, such as 'vm-*' or *")?,
        },
        "locks" => Command::Locks,
        "why" => Command::Why {
            resource: words.wanted("why", "the name of a resource")?,
        },
        "cas" => words.swap()?,
        "add" => {
            let label = words.wanted("add", "the name of a lock")?;
            let word = words.wanted("add", "a number, such as 1 or -1")?;
            let delta = word
                .parse()
                .map_err(|_| format!("`{word}` is no whole number, such as 1 or -1"))?;
            Command::Add { label, delta }
        }
        "watch" => {
            let label = words.wanted("watch", "the name of a lock")?;
            let last = words.plain()?;
            if let Some(word) = last.as_ref().filter(|word| *word != "off") {
                return Err(format!("`watch` knows only `off`, not `{word}`"));
            }
            let on = last.is_none();
            Command::Watch { label, on }
        }
        "space" => {
            let name = words.wanted("space", "the name of a lockspace")?;
            let wrong = |word: String| format!("`{word}` is no number of bytes from 1 to 4096");
            let value_len = words.plain()?;
            let value_len = value_len.map(|word| word.parse().map_err(|_| wrong(word)));
            Command::Space {
                name,
                value_len: value_len.transpose()?,
            }
        }
        "priority" => {
            let word = words.wanted("priority", "a number from 0 to 255")?;
            let priority = word
                .parse()
                .map_err(|_| format!("`{word}` is no priority: a number from 0 to 255"))?;
            Command::Priority { priority }
        }
        "as" => words.owner()?,
        "wait" => words.wait()?,
        "sleep" => {
            let word = words.wanted("sleep", "a number of seconds, such as 0.5")?;
            Command::Sleep {
                time: seconds(&word)?,
            }
        }
        "help" | "?" => Command::Help,
        "quit" | "exit" => Command::Quit,
        _ => return Err(format!("`{first}` is no command; `help` lists them")),
    };
    words.end()?;
    Ok(Some(command))
}

/// The only name of a list, or the list.
fn one(mut labels: Vec<String>) -> Result<String, Vec<String>> {
    match labels.pop() {
        Some(label) if labels.is_empty() => Ok(label),
        last => {
            labels.extend(last);
            Err(labels)
        }
    }
}

/// A word, or the sign before a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Plain(String),
    Quoted(String),
    Equals,
}

struct Words {
    words: std::iter::Peekable<std::vec::IntoIter<Word>>,
    /// Where it may be said: whether any node is meant.
    anywhere: Option<bool>,
}

impl Words {
    /// The next word, if one comes before the end or a value.
    fn plain(&mut self) -> Result<Option<String>, String> {
        let next = self.words.next_if(|word| *word != Word::Equals);
        Ok(next.map(|word| match word {
            Word::Plain(text) | Word::Quoted(text) => text,
            Word::Equals => unreachable!("filtered out above"),
        }))
    }

    fn wanted(&mut self, command: &str, what: &str) -> Result<String, String> {
        let missing = || format!("`{command}` needs {what}");
        self.plain()?.ok_or_else(missing)
    }

    fn lock(&mut self, flags: Flags) -> Result<Command, String> {
        let resource = self.wanted("lock", "the name of a resource")?;
        let mode = match self.words.peek() {
            Some(Word::Plain(word)) if word.parse::<LockMode>().is_ok() => {
                let word = self.wanted("lock", "a mode")?;
                mode_of(&word)?
            }
            _ => LockMode::Ex,
        };
        let (how, label) = self.how(flags)?;
        Ok(Command::Lock {
            label: label.unwrap_or_else(|| resource.clone()),
            resource,
            mode,
            how,
        })
    }

    fn range(&mut self) -> Result<Command, String> {
        let resource = self.wanted("range", "the name of a resource")?;
        let range = self.wanted("range", "a range of bytes, such as 0-99")?;
        let range = range
            .parse::<ByteRange>()
            .map_err(|error| error.to_string())?;
        let mode = self.wanted("range", "a mode: cr, cw, pr, pw or ex, or `none`")?;
        let mode = match mode.as_str() {
            "none" => LockMode::Nl,
            _ => mode_of(&mode)?,
        };
        let nowait = self
            .words
            .next_if(|word| matches!(word, Word::Plain(word) if word == "nowait"));
        let flags = match nowait {
            Some(_) => Flags::NOQUEUE,
            None => Flags::NONE,
        };
        let (how, label) = self.how(flags)?;
        Ok(Command::Range {
            label: label.unwrap_or_else(|| resource.clone()),
            resource,
            range,
            mode,
            how,
        })
    }

    fn adopt(&mut self) -> Result<Command, String> {
        self.anywhere = Some(false);
        match self.lock(Flags::NONE)? {
            Command::Lock {
                label,
                resource,
                mode,
                how,
            } if how.timeout.is_none() => Ok(Command::Adopt {
                label,
                resource,
                mode,
                how,
                anywhere: self.anywhere == Some(true),
            }),
            _ => Err("`adopt` does not wait, so it has no time limit".to_owned()),
        }
    }

    /// Flags, time limit, and the label of a new lock.
    fn how(&mut self, flags: Flags) -> Result<(How, Option<String>), String> {
        let mut label = None;
        let mut how = How {
            flags,
            timeout: None,
            blocking: true,
        };
        while let Some(word) = self.plain()? {
            if let Some(flag) = Flags::from_name(&word.to_ascii_uppercase()) {
                how.flags |= flag;
            } else if let Some(limit) = word.strip_prefix("wait=") {
                how.timeout = Some(seconds(limit)?);
            } else if let Some(name) = word.strip_prefix("as=") {
                label = Some(name.to_owned());
            } else if word == "quiet" {
                how.blocking = false;
            } else if word == "anywhere" && self.anywhere.is_some() {
                self.anywhere = Some(true);
            } else {
                return Err(format!(
                    "`{word}` is neither a mode (nl, cr, cw, pr, pw, ex), nor a flag ({}), nor \
                     `wait=SECS`, `as=NAME` or `quiet`",
                    Flags::ALL
                        .to_string()
                        .to_ascii_lowercase()
                        .replace('|', ", ")
                ));
            }
        }
        Ok((how, label))
    }

    fn value(&mut self) -> Result<Option<Vec<u8>>, String> {
        if self.words.next_if_eq(&Word::Equals).is_none() {
            return Ok(None);
        }
        match self.words.next() {
            Some(Word::Plain(word)) => match word.strip_prefix("0x") {
                Some(digits) => bytes_of(digits, true).map(Some).map_err(|e| e.message),
                None => Ok(Some(word.into_bytes())),
            },
            Some(Word::Quoted(text)) => Ok(Some(text.into_bytes())),
            Some(Word::Equals) | None => {
                Err("a value is missing behind `=`: a word, \"some words\", or 0x00ff17".to_owned())
            }
        }
    }

    fn swap(&mut self) -> Result<Command, String> {
        let label = self.wanted("cas", "the name of a lock")?;
        let word = self.wanted("cas", "the version that is expected")?;
        let expect = word
            .parse()
            .map_err(|_| format!("`{word}` is no version: a number, as values come with"))?;
        let mark = self.plain()?;
        if let Some(word) = mark.as_ref().filter(|word| *word != "stale") {
            return Err(format!(
                "`cas` knows only `stale`, not `{word}`; a value comes behind `=`"
            ));
        }
        let value = self.value()?;
        Ok(Command::Swap {
            label,
            expect,
            stale: mark.is_some(),
            value: value.ok_or("`cas` needs `=` and a value to publish")?,
        })
    }

    fn wait(&mut self) -> Result<Command, String> {
        let words = [self.plain()?, self.plain()?];
        let (label, limit) = match words {
            [None, _] => (None, None),
            [Some(label), Some(limit)] => (Some(label), Some(seconds(&limit)?)),
            // A number is a time; a lock of such a name can be waited for with a time.
            [Some(word), None] => match seconds(&word) {
                Ok(limit) => (None, Some(limit)),
                Err(_) => (Some(word), None),
            },
        };
        Ok(Command::Wait { label, limit })
    }

    fn end(&mut self) -> Result<(), String> {
        match self.words.next() {
            None => Ok(()),
            Some(Word::Plain(word) | Word::Quoted(word)) => {
                Err(format!("nothing more was expected at `{word}`"))
            }
            Some(Word::Equals) => Err("no value belongs here".to_owned()),
        }
    }
}

fn mode_of(word: &str) -> Result<LockMode, String> {
    word.parse()
        .map_err(|_| format!("`{word}` is no mode: nl, cr, cw, pr, pw or ex"))
}

/// Words, quoted or not. `#` begins a comment.
fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '#' => break,
            '=' => {
                words.push(Word::Equals);
                &rest[1..]
            }
            '"' => {
                let (text, behind) = rest[1..]
                    .split_once('"')
                    .ok_or("a quotation mark is not closed")?;
                words.push(Word::Quoted(text.to_owned()));
                behind
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(Word::Plain(rest[..end].to_owned()));
                &rest[end..]
            }
        }
        .trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(label: &str, resource: &str, mode: LockMode, how: How) -> Command {
        Command::Lock {
            label: label.to_owned(),
            resource: resource.to_owned(),
            mode,
            how,
        }
    }

    const PLAIN: How = How {
        flags: Flags::NONE,
        timeout: None,
        blocking: true,
    };

    /// Protects scripts: what each form of a line means.
    #[test]
    fn lines_say_what_they_mean() {
        let parsed = |line: &str| parse(line).expect("right").expect("a command");
        assert_eq!(parsed("lock A"), lock("A", "A", LockMode::Ex, PLAIN));
        assert_eq!(
            parsed(" LOCK A PR # c"),
            lock("A", "A", LockMode::Pr, PLAIN)
        );
        let how = How {
            flags: Flags::NOQUEUE | Flags::VALBLK,
            timeout: Some(Duration::from_millis(2500)),
            blocking: false,
        };
        let adopted = Command::Adopt {
            label: "A".to_owned(),
            resource: "A".to_owned(),
            mode: LockMode::Pr,
            how: How {
                flags: Flags::PERSISTENT,
                ..PLAIN
            },
            anywhere: false,
        };
        assert_eq!(parsed("adopt A pr persistent"), adopted);
        assert!(matches!(
            parsed("adopt A anywhere"),
            Command::Adopt { anywhere: true, .. }
        ));
        let line = "try \"two words\" cw valblk wait=2.5 quiet as=x";
        assert_eq!(parsed(line), lock("x", "two words", LockMode::Cw, how));
        let converted = Command::Convert {
            label: "A".to_owned(),
            mode: LockMode::Nl,
            how: PLAIN,
            value: Some(b"seven of nine".to_vec()),
        };
        assert_eq!(parsed("convert A nl = \"seven of nine\""), converted);
        let unlocked = Command::Unlock {
            label: "A".to_owned(),
            flags: Flags::NONE,
            value: Some(vec![0, 255]),
        };
        assert_eq!(parsed("unlock A =0x00ff"), unlocked);
        let promised = |within, release| Command::Promise {
            label: "A".to_owned(),
            within,
            release,
        };
        let half = Some(Duration::from_millis(500));
        assert_eq!(parsed("promise A 0.5 release"), promised(half, true));
        assert_eq!(parsed("promise A off"), promised(None, false));
        let forced = Command::Unlock {
            label: "A".to_owned(),
            flags: Flags::FORCEUNLOCK,
            value: None,
        };
        assert_eq!(parsed("unlock A forceunlock"), forced);
        let ranged = |label: &str, range: &str, mode, how| Command::Range {
            label: label.to_owned(),
            resource: "A".to_owned(),
            range: range.parse().expect("a range"),
            mode,
            how,
        };
        let line = "range A 0-99 ex nowait wait=2.5 quiet as=x";
        let how = How {
            flags: Flags::NOQUEUE,
            timeout: Some(Duration::from_millis(2500)),
            blocking: false,
        };
        assert_eq!(parsed(line), ranged("x", "0-99", LockMode::Ex, how));
        let given_up = ranged("A", "7-", LockMode::Nl, PLAIN);
        assert_eq!(parsed("range A 7- none"), given_up);
        assert!(forced.needs_idle().is_empty());
        let child = lock("db//row", "db//row", LockMode::Pr, PLAIN);
        assert_eq!(parsed("lock db//row pr"), child);
        assert_eq!(child.needs_idle(), ["db"]);
        assert_eq!(above("a//b/c//d"), Some(("a//b/c", "d")));
        assert_eq!((above("a/b"), above("/a")), (None, None));
        let tree = |label: Option<&str>, itself| Command::UnlockTree {
            label: label.map(str::to_owned),
            itself,
        };
        assert_eq!(parsed("unlock A all"), tree(Some("A"), true));
        assert_eq!(parsed("dequeue A"), tree(Some("A"), false));
        assert_eq!(parsed("dequeue"), tree(None, false));
        let swapped = Command::Swap {
            label: "A".to_owned(),
            expect: 7,
            stale: true,
            value: b"new".to_vec(),
        };
        assert_eq!(parsed("cas A 7 stale = new"), swapped);
        assert_eq!(swapped.needs_idle(), ["A"]);
        let added = |delta| Command::Add {
            label: "A".to_owned(),
            delta,
        };
        assert_eq!(parsed("add A -3"), added(-3));
        let watched = |on| Command::Watch {
            label: "A".to_owned(),
            on,
        };
        assert_eq!(parsed("watch A"), watched(true));
        assert_eq!(parsed("watch A off"), watched(false));
        let space = |value_len| Command::Space {
            name: "big".to_owned(),
            value_len,
        };
        assert_eq!(parsed("space big"), space(None));
        assert_eq!(parsed("space big 4096"), space(Some(4096)));
        let waited = |label: Option<&str>, limit: Option<u64>| Command::Wait {
            label: label.map(str::to_owned),
            limit: limit.map(Duration::from_secs),
        };
        assert_eq!(parsed("wait"), waited(None, None));
        assert_eq!(parsed("wait 3"), waited(None, Some(3)));
        assert_eq!(parsed("wait A"), waited(Some("A"), None));
        assert_eq!(parsed("wait A 3"), waited(Some("A"), Some(3)));
        assert_eq!(parse(" # nothing"), Ok(None));
        assert_eq!(parse(""), Ok(None));
    }

    /// Protects people from guessing: every wrong line is refused, with a word of what is right.
    #[test]
    fn wrong_lines_are_explained() {
        let wrong = [
            ("frob A", "`help` lists them"),
            ("adopt A ex wait=2", "has no time limit"),
            ("lock A ex anywhere", "neither a mode"),
            ("purge", "needs a pattern"),
            ("lock", "needs the name of a resource"),
            ("lock A xx", "neither a mode"),
            ("convert A", "needs a mode"),
            ("convert A xx", "nl, cr, cw, pr, pw or ex"),
            ("convert A ex as=B", "of an old one"),
            ("range A", "such as 0-99"),
            ("range A 9-3 ex", "no bytes"),
            ("range A 0-9", "`none`"),
            ("range A x ex", "FIRST-LAST"),
            ("unlock A valblk", "only `all`, `ivvalblk`"),
            ("unlock A,B all", "with one lock"),
            ("unlock A all = 7", "no value belongs here"),
            ("promise A", "or `off`"),
            ("promise A 1 kill", "only `release`"),
            ("unlock A =", "behind `=`"),
            ("unlock A = a b", "at `b`"),
            ("value A = 0x0", "not hexadecimal"),
            ("lock A = 7", "no value belongs here"),
            ("= 7", "no value belongs here"),
            ("lock \"A", "not closed"),
            ("wait A soon", "a number of seconds"),
            ("cas A", "the version"),
            ("cas A one = 2", "is no version"),
            ("cas A 1 2", "behind `=`"),
            ("cas A 1", "needs `=`"),
            ("add A 1.5", "no whole number"),
            ("watch A on", "only `off`"),
            ("space A many", "1 to 4096"),
            ("sleep -1", "a number of seconds"),
            ("priority 300", "0 to 255"),
            ("quit now", "at `now`"),
        ];
        for (line, expected) in wrong {
            let error = parse(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    /// Protects the help: it lists what there is, and nothing else.
    #[test]
    fn every_word_is_known() {
        for (word, ..) in WORDS {
            let known = match parse(word) {
                Ok(command) => command.is_some(),
                Err(error) => error.contains(" needs "),
            };
            assert!(known, "{word}");
        }
    }
}
