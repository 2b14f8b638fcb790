//! Whose locks are.

use super::{Command, Words};
use mainstay_base::Owner;

/// What is understood behind `as`.
const WANTED: &str = "`xid` or `group` with a number, `process` or `session`";

impl Words {
    /// What stands behind `as`.
    pub(super) fn owner(&mut self) -> Result<Command, String> {
        let word = self.wanted("as", WANTED)?.to_ascii_lowercase();
        let owner = match word.as_str() {
            "xid" => Owner::Transaction(self.number(&word)?),
            "group" => Owner::Group(self.number(&word)?),
            "process" => Owner::Process,
            "session" => Owner::Session,
            _ => return Err(format!("`as` knows {WANTED}, not `{word}`")),
        };
        Ok(Command::Owner { owner })
    }

    fn number(&mut self, of: &str) -> Result<u64, String> {
        let word = self.wanted(&format!("as {of}"), "a number from 0 to 2^64 - 1")?;
        let digits = word.strip_prefix("0x");
        let number = match digits {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => word.parse(),
        };
        number.map_err(|_| format!("`{word}` is no number from 0 to 2^64 - 1, such as 7 or 0xff"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    /// Protects scripts: each owner has its words, and nothing else is taken for one.
    #[test]
    fn owners_are_named() {
        for (line, owner) in [
            ("as xid 7", Owner::Transaction(7)),
            ("as XID 0xffffffffffffffff", Owner::Transaction(u64::MAX)),
            ("as group 3", Owner::Group(3)),
            ("as process", Owner::Process),
            ("as session", Owner::Session),
        ] {
            assert_eq!(parse(line), Ok(Some(Command::Owner { owner })), "{line}");
        }
        for (line, part) in [
            ("as", "needs `xid`"),
            ("as xid", "a number"),
            ("as xid -1", "no number"),
            ("as xid 18446744073709551616", "no number"),
            ("as thread", "not `thread`"),
            ("as process 7", "nothing more"),
        ] {
            let wrong = parse(line).expect_err(line);
            assert!(wrong.contains(part), "{line}: {wrong}");
        }
    }
}
