//! How to connect.

use crate::{
    ConnectError, asynchronous, blocking,
    connect::{Config, command_line, shorten},
};
use std::{path::Path, time::Duration};

/// How a client connects; made into one by [`ClientBuilder::connect`] or
/// [`ClientBuilder::connect_blocking`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder {
    pub(crate) config: Config,
}

impl ClientBuilder {
    /// For the daemon whose socket is at `path`.
    pub fn new(path: impl AsRef<Path>) -> ClientBuilder {
        ClientBuilder {
            config: Config {
                path: path.as_ref().to_owned(),
                command: command_line(),
                timeout: Duration::from_secs(5),
                auto_reconnect: false,
                keep: None,
            },
        }
    }

    /// What people see as the owner of this client's locks, in place of the process' command line.
    /// Cut to 256 bytes.
    pub fn command(mut self, command: &str) -> ClientBuilder {
        self.config.command = shorten(command).to_owned();
        self
    }

    /// How long to wait for the daemon to accept and welcome; 5 s unless said otherwise.
    pub fn connect_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.config.timeout = timeout;
        self
    }

    /// Whether to make a new session when one is lost, trying until the daemon is back. That is
    /// told by [`Notice::SessionLost`](crate::Notice::SessionLost) and
    /// [`Notice::Reconnected`](crate::Notice::Reconnected). Locks of the lost session stay lost:
    /// they are never taken again silently, because another may have held them meanwhile.
    pub fn auto_reconnect(mut self, on: bool) -> ClientBuilder {
        self.config.auto_reconnect = on;
        self
    }

    /// Have the session kept for so long when its connection breaks (at least half a second, and no
    /// longer than the daemon allows): the client connects again and goes on with the same session,
    /// locks and calls; see [`Notice::Disconnected`](crate::Notice::Disconnected). It asks the daemon
    /// four times in that time whether it is there, and locks are only valid for that time after the
    /// last question that was answered.
    ///
    /// The price: when this process dies, its locks end only after that time. A kept session cannot
    /// listen to the cluster's events.
    pub fn keep(mut self, grace: Duration) -> ClientBuilder {
        self.config.keep = Some(grace);
        self
    }

    /// Connects, for use with tokio. Must be called in a tokio runtime with I/O and time, which
    /// must live as long as the client.
    ///
    /// # Errors
    /// If there is no daemon, or it does not want this client; the text says what to do.
    pub async fn connect(self) -> Result<asynchronous::Client, ConnectError> {
        asynchronous::Client::build(self).await
    }

    /// Connects, for use with threads.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub fn connect_blocking(self) -> Result<blocking::Client, ConnectError> {
        blocking::Client::build(self)
    }
}
