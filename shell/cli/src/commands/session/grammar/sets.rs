//! Lines about several locks.

use super::{Command, Word, Words, mode_of};
use mainstay_base::{Flags, LockMode};

impl Words {
    /// Names with commas between them. A name with a comma in it stands in quotation marks.
    pub(super) fn labels(&mut self, command: &str) -> Result<Vec<String>, String> {
        let missing = || format!("`{command}` needs the name of a lock");
        let mut labels = Vec::new();
        loop {
            let (mut named, comma) = self.names().ok_or_else(missing)?;
            labels.append(&mut named);
            let more =
                matches!(self.words.peek(), Some(Word::Plain(word)) if word.starts_with(','));
            if !comma && !more {
                return Ok(labels);
            }
        }
    }

    /// The names in the next word, and whether a comma follows them.
    fn names(&mut self) -> Option<(Vec<String>, bool)> {
        match self.words.next_if(|word| *word != Word::Equals)? {
            Word::Quoted(text) => Some((vec![text], false)),
            Word::Plain(text) => {
                let names = text.split(',').filter(|name| !name.is_empty());
                Some((names.map(str::to_owned).collect(), text.ends_with(',')))
            }
            Word::Equals => None,
        }
    }

    /// Locks, each with a mode of its own or that of the next which has one, and EX at the end.
    pub(super) fn set(&mut self) -> Result<Command, String> {
        let mut members: Vec<(String, Option<LockMode>)> = Vec::new();
        loop {
            let (names, comma) = self
                .names()
                .ok_or("`set` needs the names of locks, such as `set A,B ex` or `set A ex,B pr`")?;
            members.extend(names.into_iter().map(|name| (name, None)));
            if comma {
                continue;
            }
            let (mode, more) = self.mode_and_comma()?;
            if let Some(mode) = mode {
                let unsaid = members.iter_mut().filter(|(_, mode)| mode.is_none());
                unsaid.for_each(|(_, own)| *own = Some(mode));
            }
            if !more {
                break;
            }
        }
        let (how, label) = self.how(Flags::NONE)?;
        if label.is_some() {
            return Err("`as=` names one lock; the locks of a set have their own names".to_owned());
        }
        let members = members.into_iter();
        Ok(Command::Set {
            members: members
                .map(|(name, mode)| (name, mode.unwrap_or(LockMode::Ex)))
                .collect(),
            how,
        })
    }

    /// The mode of what was named last, if one comes, and whether more is named behind a comma.
    fn mode_and_comma(&mut self) -> Result<(Option<LockMode>, bool), String> {
        let Some(Word::Plain(word)) = self.words.peek() else {
            return Ok((None, false));
        };
        let word = word.clone();
        if word.starts_with(',') {
            return Ok((None, true));
        }
        let Some((mode, rest)) = word.split_once(',') else {
            return Ok(match word.parse::<LockMode>() {
                Ok(mode) => {
                    self.words.next();
                    let more = self.words.peek();
                    let more = matches!(more, Some(Word::Plain(word)) if word.starts_with(','));
                    (Some(mode), more)
                }
                Err(_) => (None, false),
            });
        };
        let mode = mode_of(mode)?;
        self.words.next();
        if !rest.is_empty() {
            self.put_back(Word::Plain(rest.to_owned()));
        }
        Ok((Some(mode), true))
    }

    fn put_back(&mut self, word: Word) {
        let rest: Vec<Word> = std::iter::once(word).chain(self.words.by_ref()).collect();
        self.words = rest.into_iter().peekable();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{How, parse};
    use super::*;
    use std::time::Duration;

    const PLAIN: How = How {
        flags: Flags::NONE,
        timeout: None,
        blocking: true,
    };

    fn parsed(line: &str) -> Command {
        parse(line).expect("right").expect("a command")
    }

    fn set(members: &[(&str, LockMode)], how: How) -> Command {
        let members = members.iter();
        Command::Set {
            members: members
                .map(|(name, mode)| ((*name).to_owned(), *mode))
                .collect(),
            how,
        }
    }

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Protects scripts: which locks a set is of, and in which modes, however the commas stand.
    #[test]
    fn sets_say_what_they_mean() {
        use LockMode::{Cw, Ex, Pr};
        assert_eq!(parsed("set A,B ex"), set(&[("A", Ex), ("B", Ex)], PLAIN));
        assert_eq!(parsed("set A"), set(&[("A", Ex)], PLAIN));
        let two = set(&[("A", Ex), ("B", Pr)], PLAIN);
        for line in ["set A ex,B pr", "set A ex, B pr", "set A ex , B pr"] {
            assert_eq!(parsed(line), two, "{line}");
        }
        let mixed = set(&[("A", Cw), ("B", Cw), ("a, b", Pr), ("ex", Ex)], PLAIN);
        assert_eq!(parsed("set A,B cw, \"a, b\" pr,ex"), mixed);
        let how = How {
            flags: Flags::NOQUEUE | Flags::VALBLK,
            timeout: Some(Duration::from_secs(2)),
            blocking: false,
        };
        let line = "set A,B noqueue valblk wait=2 quiet";
        assert_eq!(parsed(line), set(&[("A", Ex), ("B", Ex)], how));
    }

    /// Protects scripts: several names are several locks, unless they stand in quotation marks.
    #[test]
    fn lists_of_locks_are_told_from_names() {
        let unlocked = Command::UnlockMany {
            labels: labels(&["A", "B", "C"]),
            flags: Flags::FORCEUNLOCK,
        };
        assert_eq!(parsed("unlock A,B, C forceunlock"), unlocked);
        assert!(unlocked.needs_idle().is_empty());
        let one = Command::Unlock {
            label: "A,B".to_owned(),
            flags: Flags::NONE,
            value: None,
        };
        assert_eq!(parsed("unlock \"A,B\""), one);
        let converted = Command::ConvertMany {
            labels: labels(&["A", "B"]),
            mode: LockMode::Pr,
            how: PLAIN,
        };
        assert_eq!(parsed("convert A,B pr"), converted);
        assert_eq!(converted.needs_idle(), ["A", "B"]);
        for (line, expected) in [
            ("set", "`set A,B ex`"),
            ("set A,", "`set A,B ex`"),
            ("set A,B xx", "neither a mode"),
            ("set A xx,B", "is no mode"),
            ("set A,B as=C", "one lock"),
            ("unlock A,B = 7", "no value belongs here"),
            ("convert A,", "the name of a lock"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
