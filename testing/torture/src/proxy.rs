//! What lies between nodes that have no network of their own to be broken: each direction of each
//! pair can be delayed, stalled now and then as by lost packets, or cut. A cut is silent, as behind
//! a dead switch: connections stay, and what was on its way arrives after the mend.

use crate::free;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::Instant,
};

/// Bytes carried at once.
const CHUNK: usize = 16 << 10;
/// Chunks under way in one direction of one connection.
const WINDOW: usize = 1024;

/// What one direction between two nodes is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Nothing passes.
    pub cut: bool,
    /// How long everything takes.
    pub delay: Duration,
    /// Every so many chunks one waits for a further [`Route::stall`], as a lost packet does until it
    /// is sent again; 0 for never.
    pub stall_every: u32,
    /// How long a stalled chunk, and all behind it, waits.
    pub stall: Duration,
}

type Switches = BTreeMap<(u16, u16), watch::Sender<Route>>;

/// All routes of a cluster.
#[derive(Debug)]
pub struct Proxy {
    switches: Arc<Switches>,
    doors: BTreeMap<(u16, u16), Vec<SocketAddr>>,
}

impl Proxy {
    /// Between nodes 1, 2, … with these addresses. Must be called in the async runtime, which does
    /// the carrying.
    pub async fn start(nodes: &[Vec<SocketAddr>]) -> Proxy {
        let ids = || (1_u16..).zip(nodes);
        let mut switches = Switches::new();
        for (a, _) in ids() {
            for (b, _) in ids().filter(|&(b, _)| a != b) {
                switches.insert((a, b), watch::channel(Route::default()).0);
            }
        }
        let mut doors = BTreeMap::new();
        for (a, _) in ids() {
            // The lower node calls the higher.
            for (b, targets) in ids().filter(|&(b, _)| a < b) {
                let mut addresses = free(targets.len());
                for (door, &target) in addresses.iter_mut().zip(targets) {
                    let listener = TcpListener::bind(*door).await.expect("a free port");
                    *door = listener.local_addr().expect("a bound socket");
                    let there = switches[&(a, b)].subscribe();
                    let back = switches[&(b, a)].subscribe();
                    tokio::spawn(accept(listener, target, there, back));
                }
                doors.insert((a, b), addresses);
            }
        }
        Proxy {
            switches: Arc::new(switches),
            doors,
        }
    }

    /// Where node `from` finds node `to`, if it has to call there.
    #[must_use]
    pub fn door(&self, from: u16, to: u16) -> Option<&[SocketAddr]> {
        self.doors.get(&(from, to)).map(Vec::as_slice)
    }

    /// Changes one direction.
    ///
    /// # Panics
    /// If there are no such nodes.
    pub fn set(&self, from: u16, to: u16, change: impl FnOnce(&mut Route)) {
        self.switches[&(from, to)].send_modify(change);
    }

    /// Changes every direction.
    pub fn set_all(&self, change: impl Fn(&mut Route)) {
        for switch in self.switches.values() {
            switch.send_modify(&change);
        }
    }

    /// Cuts a node off from all others, or mends that.
    pub fn isolate(&self, node: u16, cut: bool) {
        for (&(from, to), switch) in self.switches.iter() {
            if from == node || to == node {
                switch.send_modify(|route| route.cut = cut);
            }
        }
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    there: watch::Receiver<Route>,
    back: watch::Receiver<Route>,
) {
    while let Ok((caller, _)) = listener.accept().await {
        tokio::spawn(carry(caller, target, there.clone(), back.clone()));
    }
}

async fn carry(
    caller: TcpStream,
    target: SocketAddr,
    mut there: watch::Receiver<Route>,
    mut back: watch::Receiver<Route>,
) {
    // A call is answered only if both directions are whole.
    open(&mut there).await;
    open(&mut back).await;
    // The caller sees a refused call as a connection that closes at once.
    let Ok(called) = TcpStream::connect(target).await else {
        return;
    };
    let _ = caller.set_nodelay(true);
    let _ = called.set_nodelay(true);
    let (caller_read, caller_write) = caller.into_split();
    let (called_read, called_write) = called.into_split();
    // The nodes never close only one direction.
    tokio::select! {
        () = copy(caller_read, called_write, there.clone()) => {}
        () = copy(called_read, caller_write, back.clone()) => {}
    }
    // The end of a connection is silent too while it is cut off.
    open(&mut there).await;
    open(&mut back).await;
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut route: watch::Receiver<Route>,
) {
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(WINDOW);
    let mut reading = route.clone();
    let read = async {
        let mut count = 0_u32;
        loop {
            let mut buffer = vec![0; CHUNK];
            let Ok(len @ 1..) = from.read(&mut buffer).await else {
                return;
            };
            buffer.truncate(len);
            let now = *reading.borrow_and_update();
            count += 1;
            let stalled = now.stall_every > 0 && count.is_multiple_of(now.stall_every);
            let wait = now.delay + if stalled { now.stall } else { Duration::ZERO };
            if queue.send((Instant::now() + wait, buffer)).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            open(&mut route).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

async fn open(route: &mut watch::Receiver<Route>) {
    // An error means that the proxy is gone.
    let _ = route.wait_for(|route| !route.cut).await;
}
