//! `mainstay events`

use crate::{
    args::Global,
    connect::connect,
    exit::{Failure, LOST, OK, Outcome},
    output::{self, BAD, FAINT, GOOD, ODD, clock, paint},
};
use anstyle::Style;
use clap::Args;
use mainstay_client::ClusterEvent;
use mainstay_wire::event::{Event, What};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "Times are UTC. With --json each event is one line.\n\n\
    Examples:\n  mainstay events\n  mainstay events --backlog 100 --no-follow\n  \
    mainstay events --json | jq -r .reason")]
pub(crate) struct EventsArgs {
    /// Show so many past events first, at most 1000
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) backlog: u32,
    /// Stop after the past events
    #[arg(long)]
    pub(crate) no_follow: bool,
}

/// How long no past event must have come for there to be no more of them.
const QUIET: Duration = Duration::from_millis(200);

pub(crate) async fn run(global: Global, args: EventsArgs) -> Outcome {
    let client = connect(&global).await?;
    let mut events = client.events(args.backlog).await?;
    loop {
        let next = if args.no_follow {
            match tokio::time::timeout(QUIET, events.next()).await {
                Ok(next) => next,
                Err(_) => return Ok(OK),
            }
        } else {
            tokio::select! {
                next = events.next() => next,
                // The next event may be long in coming.
                () = output::reader_gone() => return Ok(OK),
            }
        };
        match next {
            Some(ClusterEvent::Happened(event)) if global.json => output::json_line(&event)?,
            Some(ClusterEvent::Happened(event)) => output::line(render(&event)),
            Some(ClusterEvent::Missed(count)) => {
                output::note(format_args!("{count} events were dropped"));
            }
            None => return Err(Failure::new(LOST, "the session with the daemon has ended")),
        }
    }
}

/// One line for an event.
pub(crate) fn render(event: &Event) -> String {
    let time = paint(FAINT, clock(event.unix_ms));
    format!("{time}  {}", paint(style(&event.what), event))
}

fn style(what: &What) -> Style {
    match what {
        What::View { quorate: true, .. }
        | What::Active
        | What::MemberJoined { .. }
        | What::RecoveryDone { .. } => GOOD,
        What::View { quorate: false, .. }
        | What::Suspended
        | What::MemberLeft { .. }
        | What::Reborn => BAD,
        What::LinkDown { .. } | What::Refused { .. } | What::Fenced { .. } | What::Stopped => ODD,
        _ => Style::new(),
    }
}
