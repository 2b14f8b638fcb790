//! Counts in a value block: keep NL, convert to EX, read, add one, publish while converting down.
//! Every acknowledged increment must be there at the end; the S3 checker watches each of them.

use super::{Brain, Hands, Happened};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode, Value, ValueBlock};
use mainstay_wire::client::Handle;

/// The count in a block.
#[must_use]
pub fn count_of(block: &ValueBlock) -> u64 {
    let mut bytes = [0; 8];
    if let Some(first) = block.as_bytes().first_chunk::<8>() {
        bytes = *first;
    }
    u64::from_le_bytes(bytes)
}

/// A block with a count that no other publication equals.
#[must_use]
pub fn block_of(count: u64, client: u32, serial: u32) -> ValueBlock {
    let mut bytes = Vec::with_capacity(16);
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&client.to_le_bytes());
    bytes.extend_from_slice(&serial.to_le_bytes());
    ValueBlock::new(bytes).expect("sixteen bytes fit")
}

/// One counter at a time.
#[derive(Debug, Default)]
pub struct Counters {
    handle: Option<Handle>,
    mode: Option<LockMode>,
    busy: bool,
    read: u64,
    serial: u32,
    rounds: u64,
}

impl Counters {
    fn rest(&mut self, hands: &mut Hands<'_>, mean_ms: u64) {
        let pause = hands.dice.spread(mean_ms * MS);
        hands.command(Command::Sleep(pause));
    }

    fn publish(&mut self, hands: &mut Hands<'_>, handle: Handle) {
        self.serial += 1;
        let value = block_of(self.read + 1, hands.client, self.serial);
        self.busy = true;
        match hands.dice.below(20) {
            // Writes and leaves.
            0 | 1 => hands.command(Command::Unlock {
                handle,
                flags: Flags::VALBLK,
                value: Some(value),
            }),
            // Gives up without writing and says so.
            2 => hands.command(Command::Convert {
                handle,
                mode: LockMode::Nl,
                flags: Flags::IVVALBLK,
                value: None,
                timeout_ms: None,
            }),
            // Gives up without writing, which loses nothing.
            3 => hands.command(Command::Convert {
                handle,
                mode: LockMode::Nl,
                flags: Flags::NONE,
                value: None,
                timeout_ms: None,
            }),
            n => hands.command(Command::Convert {
                handle,
                mode: match n {
                    4 => LockMode::Pr,
                    5 => LockMode::Cr,
                    6 => LockMode::Pw,
                    _ => LockMode::Nl,
                },
                flags: Flags::VALBLK,
                value: Some(value),
                timeout_ms: None,
            }),
        }
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        let Some(handle) = self.handle else {
            let handle = hands.new_handle();
            let range = hands.terrain.counters.clone();
            let res = hands.one_of(&range);
            self.handle = Some(handle);
            self.busy = true;
            self.rounds = hands.dice.between(1, 30);
            hands.command(Command::Lock {
                handle,
                res,
                mode: LockMode::Nl,
                flags: Flags::VALBLK,
                blocking: false,
                timeout_ms: None,
            });
            return;
        };
        match self.mode {
            Some(LockMode::Ex) => self.publish(hands, handle),
            Some(LockMode::Nl) if hands.draining || self.rounds == 0 => {
                self.busy = true;
                hands.unlock(handle);
            }
            Some(LockMode::Nl) => {
                self.rounds -= 1;
                self.busy = true;
                let mode = match hands.dice.below(8) {
                    0 => LockMode::Pr,
                    1 => LockMode::Cr,
                    _ => LockMode::Ex,
                };
                hands.command(Command::Convert {
                    handle,
                    mode,
                    flags: Flags::VALBLK,
                    value: None,
                    timeout_ms: None,
                });
            }
            // A reader, or a writer that kept PW: back to interest only.
            Some(_) => {
                self.busy = true;
                hands.command(Command::Convert {
                    handle,
                    mode: LockMode::Nl,
                    flags: Flags::NONE,
                    value: None,
                    timeout_ms: None,
                });
            }
            None => {}
        }
    }
}

impl Brain for Counters {
    fn name(&self) -> &'static str {
        "counters"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.rest(hands, 20),
            Happened::Lost => {
                let serial = self.serial;
                *self = Counters {
                    serial,
                    ..Counters::default()
                };
            }
            Happened::Alarm if self.busy => {}
            // A counter is not touched while the locks may be somebody else's.
            Happened::Alarm if !hands.valid => self.rest(hands, 50),
            Happened::Alarm if hands.draining && self.handle.is_none() => {}
            Happened::Alarm => self.act(hands),
            Happened::Granted(_, granted) => {
                self.busy = false;
                self.mode = Some(granted.mode);
                if let Some(Value { block, .. }) = &granted.value {
                    self.read = count_of(block);
                }
                self.rest(hands, if granted.mode == LockMode::Nl { 40 } else { 10 });
            }
            Happened::Refused(..) => {
                self.busy = false;
                if self.mode.is_none() {
                    self.handle = None;
                }
                self.rest(hands, 50);
            }
            Happened::Unlocked(_) => {
                self.busy = false;
                self.handle = None;
                self.mode = None;
                if !hands.draining {
                    self.rest(hands, 40);
                }
            }
            Happened::Drain => self.rest(hands, 5),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the S3 check: the count survives the engine's padding, and blocks are unique.
    #[test]
    fn counts_survive_padding() {
        let block = block_of(77, 3, 4).padded(32).expect("fits");
        assert_eq!(count_of(&block), 77);
        assert_ne!(block_of(77, 3, 4), block_of(77, 3, 5));
        assert_eq!(count_of(&ValueBlock::default()), 0);
    }
}
