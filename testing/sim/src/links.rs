//! Frames and connections between daemons.

use crate::{
    dice::{Dice, MS},
    network::{Fate, Stalled},
    process::Arrived,
    trace::mix_bytes,
    world::{Ev, World},
};
use mainstay_base::{LinkId, NodeId};
use mainstay_node::{Input, PersistSeq};
use std::collections::VecDeque;

impl World {
    pub(crate) fn release_sends(&mut self, host: usize, seq: PersistSeq) {
        let Some(process) = &mut self.hosts[host].process else {
            return;
        };
        process.durable = seq;
        let held = std::mem::take(&mut process.held);
        let (go, stay): (VecDeque<_>, VecDeque<_>) =
            held.into_iter().partition(|(after, ..)| *after <= seq);
        process.held = stay;
        for (_, to, link, frame) in go {
            self.send(host, to, link, frame);
        }
    }

    pub(crate) fn send(&mut self, host: usize, to: NodeId, link: LinkId, bytes: Vec<u8>) {
        let Some(peer) = self.hosts.iter().position(|h| h.id == to) else {
            return;
        };
        let link = usize::from(link.0);
        if link >= self.params.links || peer == host {
            let what = format!("a frame for node {to} on link {link} has no way to go");
            self.judge.complain("driver's contract", self.now, what);
            return;
        }
        let words = [host as u64, peer as u64, link as u64, mix_bytes(0, &bytes)];
        self.trace.note(self.now, "send", &words, || {
            format!(
                "{} -> {} link {link}, {} bytes",
                host + 1,
                peer + 1,
                bytes.len()
            )
        });
        self.stats.count("frames");
        let conn = self.net.conn(host, peer, link);
        if !conn.ends[usize::from(host > peer)] || !conn.alive {
            return;
        }
        let conn = conn.number;
        match self
            .net
            .send(&mut self.dice.net, self.now, (host, peer, link))
        {
            Fate::Stalls => {
                self.net.stall((host, peer, link), Stalled { conn, bytes });
            }
            Fate::Arrives([first, second]) => {
                if first.is_none() {
                    self.stats.count("frames lost");
                }
                if let Some(at) = second {
                    self.stats.count("frames repeated");
                    let bytes = bytes.clone();
                    self.at(
                        at - self.now,
                        Ev::Frame {
                            from: host,
                            to: peer,
                            link,
                            conn,
                            bytes,
                        },
                    );
                }
                if let Some(at) = first {
                    self.at(
                        at - self.now,
                        Ev::Frame {
                            from: host,
                            to: peer,
                            link,
                            conn,
                            bytes,
                        },
                    );
                }
            }
        }
    }

    pub(crate) fn frame_arrives(
        &mut self,
        from: usize,
        to: usize,
        link: usize,
        conn: u64,
        bytes: Vec<u8>,
    ) {
        let present = self.net.conn(from, to, link);
        if present.number != conn || !present.ends[usize::from(to > from)] {
            return;
        }
        if self.net.is_cut((from, to, link)) {
            if self.net.stream() {
                self.net.stall((from, to, link), Stalled { conn, bytes });
            }
            return;
        }
        let (peer, link) = (self.hosts[from].id, LinkId(link as u8));
        self.push(to, Arrived::Input(Input::Frame { peer, link, bytes }));
    }

    pub(crate) fn mend_path(&mut self, a: usize, b: usize, link: usize) {
        for stalled in self.net.set_cut((a, b, link), false) {
            if let Fate::Arrives([Some(at), _]) =
                self.net.send(&mut self.dice.net, self.now, (a, b, link))
            {
                self.at(
                    at - self.now,
                    Ev::Frame {
                        from: a,
                        to: b,
                        link,
                        conn: stalled.conn,
                        bytes: stalled.bytes,
                    },
                );
            }
        }
    }

    /// Two hosts without a connection try to make one.
    pub(crate) fn dial(&mut self, a: usize, b: usize, link: usize) {
        let wait = self.dice.net.between(20 * MS, 300 * MS);
        self.at(wait, Ev::Dial { a, b, link });
        let conn = self.net.conn(a, b, link);
        let up = |w: &World, host: usize| {
            w.hosts[host].process.is_some() && w.hosts[host].node_pause.is_none()
        };
        // A side that still believes in a dead connection learns better when the other calls.
        if conn.alive || conn.ends == [true, true] || !self.net.passable(a, b, link) {
            return;
        }
        if !up(self, a) || !up(self, b) {
            return;
        }
        let number = self.unique();
        let conn = self.net.conn_mut(a, b, link);
        let before = std::mem::replace(&mut conn.ends, [true, true]);
        conn.number = number;
        conn.alive = true;
        self.trace.note(
            self.now,
            "connect",
            &[a as u64, b as u64, link as u64],
            || format!("{} and {} on link {link}", a + 1, b + 1),
        );
        self.stats.count("connections");
        for (host, peer, was_up) in [(a, b, before[0]), (b, a, before[1])] {
            let (peer, link) = (self.hosts[peer].id, LinkId(link as u8));
            if was_up {
                let detail = "replaced by a new connection".to_owned();
                self.push(host, Arrived::Input(Input::LinkDown { peer, link, detail }));
            }
            self.push(host, Arrived::Input(Input::LinkUp { peer, link }));
        }
    }

    /// Breaks a connection; each end notices within the given time.
    pub(crate) fn break_conn(&mut self, a: usize, b: usize, link: usize, within: [u64; 2]) {
        let (a, b) = (a.min(b), a.max(b));
        let conn = self.net.conn_mut(a, b, link);
        conn.alive = false;
        let (number, ends) = (conn.number, conn.ends);
        for (at, peer, up, within) in [(a, b, ends[0], within[0]), (b, a, ends[1], within[1])] {
            if up {
                let wait = self.dice.net.below(within.max(1));
                self.at(
                    wait,
                    Ev::EndDown {
                        at,
                        peer,
                        link,
                        conn: number,
                    },
                );
            }
        }
    }

    pub(crate) fn end_down(&mut self, at: usize, peer: usize, link: usize, number: u64) {
        let conn = self.net.conn_mut(at, peer, link);
        let end = usize::from(at > peer);
        if conn.number != number || !conn.ends[end] {
            return;
        }
        conn.ends[end] = false;
        let (peer, link) = (self.hosts[peer].id, LinkId(link as u8));
        let detail = "connection reset".to_owned();
        self.push(at, Arrived::Input(Input::LinkDown { peer, link, detail }));
    }

    /// Tells a new node which links were up before it came to be.
    pub(crate) fn tell_links(&mut self, host: usize) {
        for peer in 0..self.hosts.len() {
            for link in 0..self.params.links {
                if peer == host {
                    continue;
                }
                let conn = self.net.conn(host, peer, link);
                if conn.ends[usize::from(host > peer)] {
                    let (peer, link) = (self.hosts[peer].id, LinkId(link as u8));
                    self.push(host, Arrived::Input(Input::LinkUp { peer, link }));
                }
            }
        }
    }
}
