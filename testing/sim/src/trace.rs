//! Every event of a run, as a hash always and as text when asked.

use crate::dice::MS;
use std::collections::VecDeque;

/// Records what happens. The hash covers every event's time, kind and numbers, so two runs with
/// the same hash did the same things in the same order.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    text: bool,
    print: bool,
    keep: usize,
    tail: VecDeque<String>,
}

/// Mixes bytes into a hash, eight at a time.
#[must_use]
pub fn mix_bytes(mut hash: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    for &byte in rest {
        hash = mix(hash, u64::from(byte) | 0x100);
    }
    mix(hash, bytes.len() as u64)
}

fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

impl Trace {
    /// A trace that only hashes.
    #[must_use]
    pub fn quiet() -> Trace {
        Trace {
            hash: 0x6d61_696e_7374_6179,
            events: 0,
            text: false,
            print: false,
            keep: 0,
            tail: VecDeque::new(),
        }
    }

    /// A trace that also remembers the text of the last `keep` events.
    #[must_use]
    pub fn keeping(keep: usize) -> Trace {
        Trace {
            text: true,
            keep,
            ..Trace::quiet()
        }
    }

    /// A trace that prints every event to standard output as it happens.
    #[must_use]
    pub fn printing() -> Trace {
        Trace {
            print: true,
            ..Trace::keeping(200)
        }
    }

    /// Records one event. `text` is called only if text is wanted.
    pub fn note(
        &mut self,
        at: u64,
        kind: &'static str,
        words: &[u64],
        text: impl FnOnce() -> String,
    ) {
        self.events += 1;
        self.hash = mix_bytes(mix(self.hash, at), kind.as_bytes());
        for &word in words {
            self.hash = mix(self.hash, word);
        }
        if self.text {
            let line = format!("{:>12.6} {kind:<10} {}", at as f64 / MS as f64, text());
            if self.print {
                print_line(&line);
            }
            if self.tail.len() == self.keep {
                self.tail.pop_front();
            }
            self.tail.push_back(line);
        }
    }

    /// The hash so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last lines of text, oldest first.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// The text of the last event.
    #[must_use]
    pub fn last(&self) -> Option<&str> {
        self.tail.back().map(String::as_str)
    }
}

#[expect(clippy::print_stdout, reason = "printing is what this trace is for")]
fn print_line(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects replay: the hash must tell apart order, time, kind and numbers, but not whether
    /// text was wanted.
    #[test]
    fn the_hash_is_of_what_happened() {
        let run = |mut trace: Trace, events: &[(u64, &'static str, u64)]| {
            for &(at, kind, word) in events {
                trace.note(at, kind, &[word], String::new);
            }
            trace.hash()
        };
        let base = run(Trace::quiet(), &[(1, "a", 1), (2, "b", 2)]);
        assert_eq!(base, run(Trace::keeping(3), &[(1, "a", 1), (2, "b", 2)]));
        assert_ne!(base, run(Trace::quiet(), &[(1, "b", 1), (2, "a", 2)]));
        assert_ne!(base, run(Trace::quiet(), &[(2, "a", 1), (2, "b", 2)]));
        assert_ne!(base, run(Trace::quiet(), &[(1, "a", 1), (2, "b", 3)]));
        assert_ne!(mix_bytes(0, b"ab"), mix_bytes(0, b"ab\0"));
    }
}
