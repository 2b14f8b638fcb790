//! Running a command while a lock is held, and ending it when the lock ends.

use super::{
    deadline::{Rules, Verdict},
    process::{self, Group},
};
use crate::{
    exit::{Failure, INTERNAL, LOST, Outcome},
    output,
    signals::Incoming,
};
use mainstay_base::Instant;
use mainstay_client::{asynchronous::Lock, now};
use rustix::process::Signal;
use std::{
    ffi::OsString, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration,
};
use tokio::signal::unix::SignalKind;

pub(super) async fn hold_and_run(
    names: &[String],
    locks: Vec<Lock>,
    words: &[OsString],
    grace: Duration,
) -> Outcome {
    let started = now();
    let name = &names.join(" ");
    // All are of one session: what may be said of the lease of one is true of all.
    let lock = locks.first().expect("a command line names at least one");
    let tokens: Vec<String> = locks.iter().map(|lock| lock.token().to_string()).collect();
    let mut until = lock.valid_until();
    let rules = Rules::new(grace, until.since(started));
    let mut signals = Signals::listen()?;
    let variables = [
        ("MAINSTAY_TOKEN", tokens.join(" ")),
        ("MAINSTAY_RESOURCE", name.clone()),
        ("MAINSTAY_MODE", lock.mode().to_string()),
    ];
    let mut group = Group::spawn(words, &variables)?;
    // Why the command was told to end, and when it is killed.
    let mut ending: Option<(String, Instant)> = None;
    let mut killed = false;
    let status = loop {
        let wake = match &ending {
            Some((_, kill_at)) if !killed && now() >= *kill_at => {
                group.signal(Signal::KILL);
                killed = true;
                continue;
            }
            Some((_, kill_at)) => *kill_at,
            None => match rules.judge(now(), latest(lock, &mut until)) {
                Verdict::Look(at) => at,
                Verdict::Terminate if lock.is_valid() => {
                    let why = "the node's lease is about to end and was not renewed";
                    ending = Some(terminate(&group, rules, until, why.to_owned()));
                    continue;
                }
                // The session is over; `lost` below says why.
                Verdict::Terminate => now(),
            },
        };
        let timed = !killed && (ending.is_some() || lock.is_valid());
        tokio::select! {
            status = group.child.wait() => break status?,
            lost = lock.lost(), if ending.is_none() => {
                let why = match lost {
                    Ok(lost) => lost.to_string(),
                    Err(error) => error.to_string(),
                };
                ending = Some(terminate(&group, rules, until, why));
            }
            () = tokio::time::sleep(wake.since(now())), if timed => {}
            signal = signals.next() => match signal {
                Some(signal) => group.signal(signal),
                None => {
                    group.follow_stop(|| lock.is_valid());
                }
            },
        }
    };
    let had_terminal = group.reclaim_terminal();
    // Lost in the moment in which the command ended.
    let late = lock.check().err().map(|lost| lost.to_string());
    if let Some(why) = ending.map(|(why, _)| why).or(late) {
        output::note(format_args!("mainstay: the lock on {name} was lost: {why}"));
        return Ok(LOST);
    }
    let unlocked = Lock::unlock_many(locks).await;
    let lost = unlocked.map(|ends| ends.into_iter().find_map(Result::err));
    if let Some(error) = lost.unwrap_or_else(Some) {
        output::note(format_args!(
            "mainstay: the lock on {name} was lost: {error}"
        ));
        return Ok(LOST);
    }
    if had_terminal {
        process::share_key_press(status);
    }
    code_of(status)
}

/// The end of the lease as last seen. A session that is over shows none; its deadline stays what
/// it was, because the node may have gone on without us until then.
fn latest(lock: &Lock, until: &mut Instant) -> Instant {
    let shown = lock.valid_until();
    if shown > Instant::ZERO {
        *until = shown;
    }
    shown
}

fn terminate(group: &Group, rules: Rules, until: Instant, why: String) -> (String, Instant) {
    group.signal(Signal::TERM);
    // A stopped process does not see TERM.
    group.signal(Signal::CONT);
    (why, rules.kill_at(now(), until))
}

fn code_of(status: ExitStatus) -> Outcome {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => i32::from(INTERNAL),
    };
    Ok(u8::try_from(code & 0xff).unwrap_or(INTERNAL))
}

/// Signals to this process that concern the command.
struct Signals {
    interrupt: Incoming,
    terminate: Incoming,
    hangup: Incoming,
    quit: Incoming,
    child: Incoming,
}

impl Signals {
    fn listen() -> Result<Signals, Failure> {
        Ok(Signals {
            interrupt: Incoming::listen(SignalKind::interrupt())?,
            terminate: Incoming::listen(SignalKind::terminate())?,
            hangup: Incoming::listen(SignalKind::hangup())?,
            quit: Incoming::listen(SignalKind::quit())?,
            child: Incoming::listen(SignalKind::child())?,
        })
    }

    /// The next signal to pass on; `None` if a child changed its state.
    async fn next(&mut self) -> Option<Signal> {
        tokio::select! {
            () = self.interrupt.recv() => Some(Signal::INT),
            () = self.terminate.recv() => Some(Signal::TERM),
            () = self.hangup.recv() => Some(Signal::HUP),
            () = self.quit.recv() => Some(Signal::QUIT),
            () = self.child.recv() => None,
        }
    }
}
