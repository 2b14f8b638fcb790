//! Trying to continue a session on another connection: what both clients do, but for the waiting.

use crate::{
    ConnectError,
    connect::{self, Config},
    core::RETRY_FIRST,
    session::Session,
};
use std::time::Duration;

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// How an attempt went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// There is nothing more to be tried: the session goes on or is over.
    Ended,
    /// Try again after this pause.
    Failed(Duration),
}

/// Tries once; `pause` is that before the attempt. Blocks for the handshake.
pub(crate) fn attempt(session: &Session, config: &Config, pause: Duration) -> Attempt {
    let Some((ask, give_up_at)) = session.to_continue() else {
        return Attempt::Ended;
    };
    match connect::reattach(config, ask, session.welcome.generation) {
        Ok(new) => session.continue_on(new),
        Err(ConnectError::Refused { refusal, .. }) => {
            session.close(&format!("it could not be continued: {refusal}"));
        }
        Err(error) if mainstay_lease::now() >= give_up_at => {
            session.close(&format!("it could not be continued in time: {error}"));
        }
        Err(error) => {
            tracing::debug!(%error, "cannot continue the session yet");
            return Attempt::Failed((pause * 2).clamp(RETRY_FIRST / 2, PAUSE_MAX));
        }
    }
    Attempt::Ended
}
