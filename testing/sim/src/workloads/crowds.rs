//! Many who read a little all the time, each by converting a lock that it keeps, so that somebody always
//! reads; and some who want to write, and have to get through.

use super::{Brain, Hands, Happened};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::client::Handle;

/// Locks of one reader.
const LOCKS: usize = 4;

/// A lock of a reader.
#[derive(Debug)]
struct Reader {
    handle: Handle,
    /// None until it is granted.
    mode: Option<LockMode>,
    busy: bool,
    /// Alarms until it changes its mode.
    rest: u64,
}

/// A reader with several locks, or a writer with one.
#[derive(Debug, Default)]
pub struct Crowds {
    readers: Vec<Reader>,
    writer: Option<Reader>,
}

impl Crowds {
    fn begin(&mut self, hands: &mut Hands<'_>) {
        let range = hands.terrain.crowded.clone();
        let res = hands.one_of(&range);
        let writes = hands.dice.percent(40);
        for place in 0..if writes { 1 } else { LOCKS } {
            let handle = hands.new_handle();
            let mode = if writes { LockMode::Ex } else { LockMode::Nl };
            hands.command(Command::Lock {
                handle,
                res,
                mode,
                flags: Flags::NONE,
                blocking: false,
                timeout_ms: None,
            });
            let lock = Reader {
                handle,
                mode: None,
                busy: true,
                rest: place as u64,
            };
            if writes {
                self.writer = Some(lock);
            } else {
                self.readers.push(lock);
            }
        }
        self.wait(hands);
    }

    fn wait(&mut self, hands: &mut Hands<'_>) {
        hands.command(Command::Sleep(10 * MS));
    }

    /// Some change their mode; all let go when it is time.
    fn act(&mut self, hands: &mut Hands<'_>) {
        for lock in self.readers.iter_mut().chain(&mut self.writer) {
            let Some(mode) = lock.mode.filter(|_| !lock.busy) else {
                continue;
            };
            lock.busy = true;
            if hands.draining || mode == LockMode::Ex {
                hands.unlock(lock.handle);
                continue;
            }
            if lock.rest > 0 {
                lock.rest -= 1;
                lock.busy = false;
                continue;
            }
            let to = match mode {
                LockMode::Nl => LockMode::Pr,
                _ => LockMode::Nl,
            };
            lock.rest = if to == LockMode::Pr { 3 } else { 0 };
            hands.command(Command::Convert {
                handle: lock.handle,
                mode: to,
                flags: Flags::NONE,
                value: None,
                timeout_ms: None,
            });
        }
    }

    fn lock(&mut self, handle: Handle) -> Option<&mut Reader> {
        let mut all = self.readers.iter_mut().chain(&mut self.writer);
        all.find(|lock| lock.handle == handle)
    }

    fn gone(&mut self, handle: Handle) {
        self.readers.retain(|lock| lock.handle != handle);
        self.writer = self.writer.take().filter(|lock| lock.handle != handle);
    }
}

impl Brain for Crowds {
    fn name(&self) -> &'static str {
        "crowds"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.wait(hands),
            Happened::Lost => *self = Crowds::default(),
            Happened::Alarm if self.readers.is_empty() && self.writer.is_none() => {
                if !hands.draining {
                    self.begin(hands);
                }
            }
            Happened::Alarm => {
                self.act(hands);
                self.wait(hands);
            }
            Happened::Granted(handle, granted) => {
                if let Some(lock) = self.lock(handle) {
                    (lock.mode, lock.busy) = (Some(granted.mode), false);
                }
            }
            Happened::Refused(handle, _) => match self.lock(handle) {
                Some(lock) if lock.mode.is_some() => lock.busy = false,
                _ => self.gone(handle),
            },
            Happened::Unlocked(handle) => self.gone(handle),
            _ => {}
        }
    }
}
