//! Connecting to the daemon.

use crate::{args::Global, exit::Failure};
use mainstay_client::asynchronous::Client;

/// A session with the daemon that the command line selects.
pub(crate) async fn connect(global: &Global) -> Result<Client, Failure> {
    Ok(Client::connect(&global.socket).await?)
}
