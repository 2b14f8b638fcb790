//! Connecting to the daemon.

use crate::{args::Global, exit::Failure};
use mainstay_client::{ClientBuilder, asynchronous::Client};
use std::time::Duration;

/// A session with the daemon that the command line selects.
pub(crate) async fn connect(global: &Global) -> Result<Client, Failure> {
    Ok(Client::connect(&global.socket).await?)
}

/// How to get a session that is kept for a while if its connection breaks, or one that is not.
pub(crate) fn builder(global: &Global, keep: Option<Duration>) -> ClientBuilder {
    let builder = ClientBuilder::new(&global.socket);
    match keep {
        Some(grace) => builder.keep(grace),
        None => builder,
    }
}
