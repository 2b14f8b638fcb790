//! `mainstay dev-proxy`: carries the traffic between the nodes of a development cluster, and cuts
//! links on order. A cut link stays connected and silent, as behind a dead switch: what was on its
//! way arrives after the mend, if the nodes still care.

use super::cluster::{Cluster, Route};
use crate::exit::{CANNOT_CREATE, Failure, INTERNAL, Outcome};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
};

/// Bytes carried at once.
const CHUNK: usize = 64 << 10;

/// Whether the link of a pair is cut, by pair.
type Switches = Arc<BTreeMap<(u16, u16), watch::Sender<bool>>>;

/// Runs until it is killed.
pub(crate) async fn run(dir: PathBuf) -> Outcome {
    let cluster = Cluster::load(&dir)?;
    let switches: Switches = Arc::new(
        cluster
            .proxy
            .routes
            .iter()
            .map(|r| ((r.from, r.to), watch::channel(false).0))
            .collect(),
    );
    for &route in &cluster.proxy.routes {
        let listener = TcpListener::bind(route.listen).await.map_err(|error| {
            Failure::new(
                CANNOT_CREATE,
                format!("cannot listen on {}: {error}", route.listen),
            )
        })?;
        if let Some(switch) = switches.get(&(route.from, route.to)) {
            tokio::spawn(carry_route(listener, route, switch.subscribe()));
        }
    }
    let control = &cluster.proxy.control;
    let _ = std::fs::remove_file(control);
    let listener = UnixListener::bind(control).map_err(|error| {
        Failure::new(
            CANNOT_CREATE,
            format!("cannot listen on {}: {error}", control.display()),
        )
    })?;
    loop {
        let (stream, _) = listener.accept().await?;
        if let Err(error) = take_order(stream, &switches).await {
            crate::output::note(format_args!("an order was not understood: {error}"));
        }
    }
}

/// An order is one line: the pairs to be cut, as JSON. All others are mended.
async fn take_order(stream: UnixStream, switches: &Switches) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let cut: Vec<(u16, u16)> = serde_json::from_str(&line)?;
    for (pair, switch) in switches.iter() {
        switch.send_replace(cut.contains(pair));
    }
    stream.get_mut().write_all(b"ok\n").await
}

/// Tells the proxy which pairs to cut, and waits until it has.
pub(super) async fn order(control: &Path, cut: &[(u16, u16)]) -> Result<(), Failure> {
    let talk = async {
        let mut stream = BufReader::new(UnixStream::connect(control).await?);
        let line = serde_json::to_string(cut)? + "\n";
        stream.get_mut().write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        if answer == "ok\n" {
            Ok(())
        } else {
            Err(io::Error::other("it ended"))
        }
    };
    talk.await.map_err(|error: io::Error| {
        Failure::new(
            INTERNAL,
            format!("the cluster's proxy does not take orders: {error}; see proxy.log"),
        )
    })
}

async fn carry_route(listener: TcpListener, route: Route, cut: watch::Receiver<bool>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(carry(stream, route, cut.clone()));
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

async fn carry(caller: TcpStream, route: Route, mut cut: watch::Receiver<bool>) {
    // A call into a cut link is neither answered nor refused.
    mended(&mut cut).await;
    // The caller sees a refused call as a connection that closes at once.
    let Ok(called) = TcpStream::connect(route.target).await else {
        return;
    };
    let _ = caller.set_nodelay(true);
    let _ = called.set_nodelay(true);
    let (caller_read, caller_write) = caller.into_split();
    let (called_read, called_write) = called.into_split();
    // Both directions end when one does: the nodes never close only one.
    tokio::select! {
        () = copy(caller_read, called_write, cut.clone()) => {}
        () = copy(called_read, caller_write, cut.clone()) => {}
    }
    // The end of a connection is silent too while the link is cut.
    mended(&mut cut).await;
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => {
                mended(&mut cut).await;
                if to.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Waits until the link is not cut.
async fn mended(cut: &mut watch::Receiver<bool>) {
    // An error means that the proxy ends.
    let _ = cut.wait_for(|cut| !cut).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Protects the meaning of `partition`: nothing passes while the link is cut, the connection
    /// stays, and what was sent meanwhile arrives after the mend.
    #[tokio::test]
    async fn a_cut_link_is_silent_and_comes_back() {
        let target = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let route = Route {
            from: 1,
            to: 2,
            listen: listener.local_addr().expect("address"),
            target: target.local_addr().expect("address"),
        };
        let (switch, cut) = watch::channel(false);
        tokio::spawn(carry_route(listener, route, cut));
        let mut caller = TcpStream::connect(route.listen).await.expect("connected");
        let (mut called, _) = target.accept().await.expect("accepted");
        let mut byte = [0];
        caller.write_all(b"a").await.expect("sent");
        called.read_exact(&mut byte).await.expect("arrived");

        switch.send_replace(true);
        caller.write_all(b"b").await.expect("taken");
        // A second connection through the same proxy shows that it had time to carry the first.
        let mut other = TcpStream::connect(route.listen).await.expect("connected");
        other.write_all(b"c").await.expect("taken");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(called.try_read(&mut byte).is_err(), "nothing passes");

        switch.send_replace(false);
        called.read_exact(&mut byte).await.expect("arrived");
        assert_eq!(&byte, b"b");
        let (mut late, _) = target.accept().await.expect("accepted after the mend");
        late.read_exact(&mut byte).await.expect("arrived");
        assert_eq!(&byte, b"c");
    }
}
