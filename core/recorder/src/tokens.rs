//! Tokens of one resource: whether each is larger than those of all conflicting grants before.

use mainstay_base::{LockMode, Token};

/// The largest tokens granted so far, per mode to two different locks; `W` names a lock.
#[derive(Clone, Debug)]
pub struct Tokens<W> {
    seen: [[Option<(Token, W)>; 2]; 6],
}

impl<W> Default for Tokens<W> {
    fn default() -> Tokens<W> {
        Tokens {
            seen: [const { [const { None }; 2] }; 6],
        }
    }
}

impl<W: Copy + PartialEq> Tokens<W> {
    /// An earlier grant to another lock, in a mode that conflicts and with a token that is not
    /// smaller, if there was one. A lock's own earlier grant does not conflict with its next: it may
    /// keep its token when it converts down.
    #[must_use]
    pub fn unsurpassed(&self, who: W, mode: LockMode, token: Token) -> Option<(LockMode, Token)> {
        let conflicting = LockMode::ALL.into_iter().filter(|m| !m.compatible(mode));
        let mut before = conflicting.filter_map(|earlier| {
            let others = self.seen[earlier as usize].iter().flatten();
            let others = others.filter(|(_, whose)| *whose != who);
            let largest = others.map(|(token, _)| *token).max()?;
            (largest >= token).then_some((earlier, largest))
        });
        before.next()
    }

    /// A lock goes on under another name: but for locks in NL, tokens are of one lock each.
    pub fn passes(&mut self, to: W, token: Token) {
        let seen = self.seen.iter_mut().flatten().flatten();
        for (_, whose) in seen.filter(|(known, _)| *known == token) {
            *whose = to;
        }
    }

    /// A lock was granted.
    pub fn granted(&mut self, who: W, mode: LockMode, token: Token) {
        let [first, second] = &mut self.seen[mode as usize];
        match first {
            Some((largest, whose)) if *whose == who => *largest = (*largest).max(token),
            Some((largest, _)) if *largest > token => {
                if second.is_none_or(|(next, whose)| whose == who || next < token) {
                    *second = Some((token, who));
                }
            }
            _ => *second = first.replace((token, who)),
        }
    }
}
