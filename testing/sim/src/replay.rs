//! Stepping through a run, and the list of past failures.

use crate::{
    Maker, Profile, Run, Trace, Wishes,
    checkers::books::{Claim, Who},
    dice::MS,
    world::World,
};
use clap::ValueEnum;
use std::{
    fmt::Write as _,
    io::{BufRead, Write as _},
    sync::Arc,
};

/// One past failure.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its seed.
    pub seed: u64,
    /// What was fixed besides.
    pub wishes: Wishes,
}

/// Reads a list: one run per line as `seed profile nodes note…`, where profile and nodes may be
/// `-`; `#` begins a comment.
///
/// # Errors
/// If a line is none of these; the message names the line.
pub fn parse_list(text: &str) -> anyhow::Result<Vec<Entry>> {
    let mut list = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let entry = parse_entry(line).ok_or_else(|| {
            anyhow::anyhow!(
                "line {}: `{line}` is not `seed profile nodes note`, as in `17 crashy 3 forgot a waiter`",
                number + 1
            )
        })?;
        list.push(entry);
    }
    Ok(list)
}

fn parse_entry(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let seed = words.next()?.parse().ok()?;
    let profile = match words.next()? {
        "-" => None,
        name => Some(Profile::from_str(name, false).ok()?),
    };
    let nodes = match words.next()? {
        "-" => None,
        count => Some(count.parse().ok()?),
    };
    Some(Entry {
        seed,
        wishes: Wishes { profile, nodes },
    })
}

const HELP: &str = "\
  n [COUNT]     next event, or so many
  t MILLIS      go on until that time
  b WORD        go on until an event's line contains WORD
  e             go on to the end
  nodes         state of every node
  net           state of every connection
  who [RES]     who holds and waits for what
  clients       every client
  stats         counts so far
  q             quit";

/// Steps through a run by commands from standard input. True if no promise was broken.
///
/// # Errors
/// If standard input cannot be read or standard output not be written.
pub fn step(seed: u64, wishes: Wishes, maker: &Arc<Maker>) -> anyhow::Result<bool> {
    let mut run = Run::new(seed, wishes, Arc::clone(maker), Trace::keeping(1000));
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:#?}\n{HELP}", run.world().params())?;
    let mut seen = run.world().trace().events();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (command, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match command {
            "" | "n" => {
                let goal = seen + rest.parse::<u64>().unwrap_or(1);
                while run.world().trace().events() < goal && run.step() {}
                show_since(&mut out, &run, seen)?;
            }
            "t" => match rest.parse::<f64>() {
                Ok(millis) => {
                    let goal = (millis * MS as f64) as u64;
                    while run.world().now() < goal && run.step() {}
                    writeln!(out, "{}", run.world().trace().last().unwrap_or_default())?;
                }
                Err(_) => writeln!(out, "t takes a time in milliseconds")?,
            },
            "b" => {
                loop {
                    let before = run.world().trace().events();
                    let more = run.step();
                    let new = run.world().trace().events() - before;
                    let tail = run.world().trace().tail();
                    let fresh = tail.len().saturating_sub(new as usize);
                    if !more || tail[fresh..].iter().any(|l| l.contains(rest)) {
                        break;
                    }
                }
                writeln!(out, "{}", run.world().trace().last().unwrap_or_default())?;
            }
            "e" => {
                while run.step() {}
                writeln!(out, "{}", run.world().trace().last().unwrap_or_default())?;
            }
            "nodes" => write!(out, "{}", run.world().show_nodes())?,
            "net" => write!(out, "{}", run.world().show_net())?,
            "who" => write!(out, "{}", run.world().show_locks(rest))?,
            "clients" => write!(out, "{}", run.world().show_clients())?,
            "stats" => write!(out, "{}", run.world().stats())?,
            "q" => break,
            _ => writeln!(out, "{HELP}")?,
        }
        if let Some(violation) = run.world().judge().violation() {
            writeln!(out, "BROKEN: {}: {}", violation.promise, violation.what)?;
        }
        writeln!(
            out,
            "[{:.3} ms, {:?}]",
            run.world().now() as f64 / MS as f64,
            run.stage()
        )?;
        out.flush()?;
        seen = run.world().trace().events();
    }
    Ok(run.world().judge().violation().is_none())
}

fn show_since(out: &mut impl std::io::Write, run: &Run, seen: u64) -> std::io::Result<()> {
    let tail = run.world().trace().tail();
    let new = (run.world().trace().events() - seen) as usize;
    for line in &tail[tail.len().saturating_sub(new)..] {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Joins lines; writing to a string cannot fail.
fn lines(items: impl IntoIterator<Item = String>) -> String {
    items.into_iter().fold(String::new(), |mut text, line| {
        text.push_str(&line);
        text.push('\n');
        text
    })
}

impl World {
    /// Every node: power, pause, life, incarnation, lease, disk.
    #[must_use]
    pub fn show_nodes(&self) -> String {
        lines(self.hosts.iter().map(|host| {
            let mut line = format!("node {}: ", host.id);
            let state = match (&host.process, host.power) {
                (_, false) => "no power".to_owned(),
                (None, true) => "no daemon".to_owned(),
                (Some(process), true) => {
                    let life = self.books.lives.get(process.life as usize);
                    let incarnation = life
                        .and_then(|life| life.incarnation)
                        .map_or_else(|| "none".to_owned(), |i| i.to_string());
                    let page = &self.books.pages[process.page as usize];
                    format!(
                        "life {}, incarnation {incarnation}, lease for {:.1} ms",
                        process.life,
                        page.over_at.saturating_sub(self.now) as f64 / MS as f64
                    )
                }
            };
            line.push_str(&state);
            if host.node_pause.is_some() {
                line.push_str(", daemon paused");
            }
            if host.clients_pause.is_some() {
                line.push_str(", clients paused");
            }
            let written = write!(
                line,
                "; clock {} ({:+} ppm), journal {} bytes{}{}",
                self.local_of(host),
                host.clock.rate_ppm(),
                host.disk.len(),
                if host.disk.full { ", disk full" } else { "" },
                if host.damaged { ", damaged" } else { "" },
            );
            debug_assert!(written.is_ok(), "a string takes everything");
            line
        }))
    }

    fn local_of(&self, host: &crate::world::Host) -> mainstay_base::Instant {
        host.clock.local(self.now)
    }

    /// Every connection and cut path.
    #[must_use]
    pub fn show_net(&self) -> String {
        let mut text = Vec::new();
        for a in 0..self.hosts.len() {
            for b in a + 1..self.hosts.len() {
                for link in 0..self.params.links {
                    let conn = self.net.conn(a, b, link);
                    let cut = |from, to| {
                        if self.net.is_cut((from, to, link)) {
                            "cut"
                        } else {
                            "open"
                        }
                    };
                    text.push(format!(
                        "{} - {} link {link}: alive {}, up at {:?}; there {}, back {}",
                        a + 1,
                        b + 1,
                        conn.alive,
                        conn.ends,
                        cut(a, b),
                        cut(b, a)
                    ));
                }
            }
        }
        lines(text)
    }

    /// Who holds and who waits, on all resources whose name contains a word.
    #[must_use]
    pub fn show_locks(&self, word: &str) -> String {
        let mut text = Vec::new();
        for (res, (space, name)) in self.terrain.resources.iter().enumerate() {
            let full = format!("{}/{name}", self.terrain.spaces[*space]);
            if !full.contains(word) {
                continue;
            }
            let res = res as u32;
            let held: Vec<String> = self
                .books
                .on(res)
                .map(|(who, claim)| self.show_claim(*who, claim))
                .collect();
            let waiting: Vec<String> = self
                .clients
                .iter()
                .flat_map(|client| {
                    let locks = client.locks.iter().filter(move |(_, l)| l.res == res);
                    locks.filter_map(|(handle, lock)| match lock.phase {
                        crate::client::Phase::Held(_) => None,
                        phase => Some(format!(
                            "  client {} lock {}: {phase:?}",
                            client.no, handle.0
                        )),
                    })
                })
                .collect();
            if !held.is_empty() || !waiting.is_empty() {
                text.push(format!("resource {res}, {full}"));
                text.extend(held);
                text.extend(waiting);
            }
        }
        lines(text)
    }

    fn show_claim(&self, who: Who, claim: &Claim) -> String {
        format!(
            "  client {} on node {} lock {}: {} token {:?}{}{}",
            who.client,
            self.books.lives[claim.life as usize].node,
            who.handle.0,
            claim.mode,
            claim.token,
            if self.books.active(claim, self.now) {
                ", relied on"
            } else {
                ", not relied on"
            },
            if claim.standing { "" } else { ", ended" },
        )
    }

    /// Every client.
    #[must_use]
    pub fn show_clients(&self) -> String {
        lines(self.clients.iter().map(|client| format!("{client:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the list of past failures: a line that cannot be read is named, not skipped.
    #[test]
    fn the_list_is_read_strictly() {
        let list = parse_list("# past failures\n17 crashy 3 forgot a waiter\n4 - - any\n");
        let list = list.expect("sound");
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].seed, list[0].wishes.nodes), (17, Some(3)));
        assert_eq!(list[0].wishes.profile, Some(Profile::Crashy));
        assert!(list[1].wishes.profile.is_none() && list[1].wishes.nodes.is_none());
        let error = parse_list("17 crashy 3\nx lossy 3").expect_err("no seed");
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
