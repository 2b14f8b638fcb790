//! The network: one path per direction, pair of hosts and link, and connections over them.
//!
//! A path delays, loses, repeats and reorders, or behaves as TCP does (in order, nothing lost while
//! the connection lives). It can be cut in one direction. Frames belong to a connection; when that
//! breaks, what was in flight is lost.

use crate::dice::{Dice, MS};
use mainstay_base::Entropy;

/// How paths behave during a run.
#[derive(Clone, Debug)]
pub struct NetParams {
    /// In order and without loss while a connection lives, as over TCP.
    pub stream: bool,
    /// Typical one-way delay, in nanoseconds.
    pub delay: u64,
    /// Lost frames, in parts per thousand. Not with `stream`.
    pub loss: u64,
    /// Repeated frames, in parts per thousand. Not with `stream`.
    pub repeat: u64,
}

/// A directed path: from host, to host, link; hosts counted from 0.
pub type Path = (usize, usize, usize);

/// A connection between two hosts over one link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conn {
    /// Counts the connections of this pair and link.
    pub number: u64,
    /// Frames pass.
    pub alive: bool,
    /// Whether the end at the lower and at the higher host believes that it is up.
    pub ends: [bool; 2],
}

/// A frame that waits for a cut to heal, as TCP would keep and repeat it.
#[derive(Debug)]
pub struct Stalled {
    /// The connection it belongs to.
    pub conn: u64,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at these times; none if it is lost, two if it is repeated.
    Arrives([Option<u64>; 2]),
    /// It waits until the path is whole again.
    Stalls,
}

/// All paths and connections.
#[derive(Debug)]
pub struct Network {
    hosts: usize,
    links: usize,
    params: NetParams,
    /// Loss and delay as drawn are in force; afterwards the network is a good one.
    pub calm: bool,
    /// Extra delay on all paths, in nanoseconds.
    pub slow: u64,
    cut: Vec<bool>,
    last: Vec<u64>,
    conns: Vec<Conn>,
    stalled: Vec<Vec<Stalled>>,
}

impl Network {
    /// A whole network without connections.
    #[must_use]
    pub fn new(hosts: usize, links: usize, params: NetParams) -> Network {
        let paths = hosts * hosts * links;
        Network {
            hosts,
            links,
            params,
            calm: false,
            slow: 0,
            cut: vec![false; paths],
            last: vec![0; paths],
            conns: vec![Conn::default(); paths],
            stalled: (0..paths).map(|_| Vec::new()).collect(),
        }
    }

    fn index(&self, (from, to, link): Path) -> usize {
        (from * self.hosts + to) * self.links + link
    }

    /// The connection of a pair, in either order.
    #[must_use]
    pub fn conn(&self, a: usize, b: usize, link: usize) -> Conn {
        self.conns[self.index((a.min(b), a.max(b), link))]
    }

    /// The connection of a pair, to be changed.
    pub fn conn_mut(&mut self, a: usize, b: usize, link: usize) -> &mut Conn {
        let at = self.index((a.min(b), a.max(b), link));
        &mut self.conns[at]
    }

    /// Whether nothing passes in this direction.
    #[must_use]
    pub fn is_cut(&self, path: Path) -> bool {
        self.cut[self.index(path)]
    }

    /// Cuts or mends a path. Returns what had waited for the mending.
    pub fn set_cut(&mut self, path: Path, cut: bool) -> Vec<Stalled> {
        let at = self.index(path);
        self.cut[at] = cut;
        if cut {
            Vec::new()
        } else {
            std::mem::take(&mut self.stalled[at])
        }
    }

    /// Whether a connection could be made now.
    #[must_use]
    pub fn passable(&self, a: usize, b: usize, link: usize) -> bool {
        !self.is_cut((a, b, link)) && !self.is_cut((b, a, link))
    }

    /// Draws a one-way delay.
    pub fn delay(&self, dice: &mut Entropy) -> u64 {
        let drawn = dice.spread(self.params.delay);
        if self.calm {
            MS / 5 + drawn.min(MS)
        } else {
            MS / 20 + drawn + self.slow
        }
    }

    /// What becomes of a frame that is sent now.
    pub fn send(&mut self, dice: &mut Entropy, now: u64, path: Path) -> Fate {
        let at = self.index(path);
        let delay = self.delay(dice);
        let (lost, repeated) = (dice.below(1000), dice.below(1000));
        let again = dice.spread(self.params.delay * 4);
        if self.params.stream {
            if self.cut[at] {
                return Fate::Stalls;
            }
            let arrival = (now + delay).max(self.last[at] + 1);
            self.last[at] = arrival;
            return Fate::Arrives([Some(arrival), None]);
        }
        if self.cut[at] || (!self.calm && lost < self.params.loss) {
            return Fate::Arrives([None, None]);
        }
        let arrival = now + delay;
        let repeat = (!self.calm && repeated < self.params.repeat).then_some(arrival + again);
        Fate::Arrives([Some(arrival), repeat])
    }

    /// Keeps a frame until the path is mended.
    pub fn stall(&mut self, path: Path, frame: Stalled) {
        let at = self.index(path);
        self.stalled[at].push(frame);
    }

    /// Whether cut paths keep frames rather than drop them.
    #[must_use]
    pub fn stream(&self) -> bool {
        self.params.stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(stream: bool) -> Network {
        Network::new(
            3,
            2,
            NetParams {
                stream,
                delay: 2 * MS,
                loss: 100,
                repeat: 100,
            },
        )
    }

    /// Protects the claim that the simulator loses, repeats and reorders.
    #[test]
    fn datagrams_are_lost_repeated_and_reordered() {
        let mut net = network(false);
        let mut dice = Entropy::new(1);
        let (mut lost, mut twice, mut swapped, mut last) = (0, 0, 0, 0);
        for now in 0..1000 {
            match net.send(&mut dice, now, (0, 1, 0)) {
                Fate::Arrives([None, _]) => lost += 1,
                Fate::Arrives([Some(at), again]) => {
                    twice += u32::from(again.is_some());
                    swapped += u32::from(at < last);
                    last = at;
                }
                Fate::Stalls => panic!("a datagram does not wait"),
            }
        }
        assert!(
            lost > 50 && twice > 50 && swapped > 50,
            "{lost} {twice} {swapped}"
        );
        net.calm = true;
        for now in 0..1000 {
            assert!(matches!(
                net.send(&mut dice, now, (0, 1, 0)),
                Fate::Arrives([Some(_), None])
            ));
        }
    }

    /// Protects streams: order holds, and a cut keeps frames until it is mended, in one direction.
    #[test]
    fn streams_keep_order_and_wait() {
        let mut net = network(true);
        let mut dice = Entropy::new(1);
        let mut last = 0;
        for now in 0..500 {
            let Fate::Arrives([Some(at), None]) = net.send(&mut dice, now, (0, 1, 1)) else {
                panic!("streams lose nothing");
            };
            assert!(at > last);
            last = at;
        }
        assert!(net.set_cut((0, 1, 1), true).is_empty());
        assert_eq!(net.send(&mut dice, 0, (0, 1, 1)), Fate::Stalls);
        net.stall(
            (0, 1, 1),
            Stalled {
                conn: 1,
                bytes: vec![1],
            },
        );
        assert!(!net.passable(1, 0, 1) && net.passable(0, 1, 0));
        assert!(matches!(
            net.send(&mut dice, 0, (1, 0, 1)),
            Fate::Arrives(_)
        ));
        assert_eq!(net.set_cut((0, 1, 1), false).len(), 1);
    }
}
