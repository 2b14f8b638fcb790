//! `mainstay session`

mod calls;
mod grammar;
mod input;
mod show;

use crate::{
    args::Global,
    commands::lock::{Where, seconds},
    connect::builder,
    exit::{Failure, LOST, OK, Outcome, USAGE},
    output,
};
use calls::{Calls, Ended};
use clap::Args;
use grammar::Command;
use input::{Input, Line};
use mainstay_client::{Notice, asynchronous::Client};
use show::{Screen, Shown, ShownValue};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long a session that ends waits for its calls.
const PATIENCE: Duration = Duration::from_secs(1);

/// The lesson of the manual page.
const LESSON: &str = "\
Each line is a command; `help` lists them. What becomes of a call is told when it is known, while \
later lines are read. When the input is a file or a pipe, a line about a lock waits until the call \
before it on that lock has ended, except `cancel`; `wait` makes the next line wait for all calls; a \
line that cannot be understood ends the session, a second later at most if there are calls under way, \
and so does the end of the input once all calls \
have ended. On a terminal, lines can be edited and repeated.

Options of `lock`, `try` and `convert`: valblk reads the value block with the grant; quecvt, \
headque, noorder, expedite, persistent, survive, nodlckwt, nodlckblk, noqueuebast, altpr, altcw and convdeadlk are the \
flags of these names; priority1 to priority7 are for lockspaces that grant by priorities; \
wait=SECS gives up after a time; quiet asks for no notices when the lock blocks others; as=NAME \
gives a new lock a name of its own, for a second lock on the same resource. `range` knows the last \
three. `as xid 7`, a line of its own, makes later locks part of that transaction, wherever its other \
locks are: in the search for deadlocks they are released by one will. A value is a word, \
\"some words\", or 0x and hexadecimal digits.

THE SIX MODES

A lock says what its holder wants to do with a resource, and what others may do meanwhile. Start \
`mainstay dev` and open a session on two of its nodes, in two terminals:

  $ mainstay --socket DIR/n1.sock session      $ mainstay --socket DIR/n2.sock session

EX, exclusive: I alone. Type `lock disk ex` on the left, and it is granted; type it on the right, \
and nothing is said there, because it waits. On the left a notice appears: the lock blocks another. \
`unlock disk` on the left, and the right has it, with a larger token.

PR, protected read: readers together, no writer. `convert disk pr` on the right and `lock disk pr` \
on the left are granted at once. `convert disk ex` on the left waits until the right lets go; it \
keeps PR while it waits. `cancel disk` takes it back.

PW, protected write: one writer, beside readers that take care (CR). It suits updates in place: \
others may read on, nobody else may write.

CR, concurrent read: I read, and bear with whoever writes. It conflicts only with EX.

CW, concurrent write: I write, and bear with others who do. It conflicts with PR, PW and EX. \
Neither CW nor PR is the stronger one.

NL, null: I am interested. It conflicts with nothing, keeps the resource and its value block \
alive, and is a place to convert from: `lock disk nl`, then `convert disk ex` and back.

The modes together; + can be held at once:

       NL  CR  CW  PR  PW  EX
  NL   +   +   +   +   +   +
  CR   +   +   +   +   +   -
  CW   +   +   +   -   -   -
  PR   +   +   -   +   -   -
  PW   +   +   -   -   -   -
  EX   +   -   -   -   -   -

SETS

`set A,B ex` asks for both or none, and tells of both at once; `set A ex,B pr` in two modes. While \
it waits it holds at most what comes before the one it waits for, by name, and however others \
order the same names, sets never wait for each other in a circle: `set B,A` on the right has its turn \
when the left has done `unlock A,B`. A refusal names the lock that was the reason; `cancel A` takes \
all of the set back. `convert A,B pr` and `unlock A,B` are calls for several locks that are held, and \
each ends for itself. A name with a comma in it stands in quotation marks.

RANGES

A resource can be locked in ranges of bytes, as records of a file are: `range file 0-99 ex` on the \
left and `range file 200- pr` on the right do not meet, and both are granted. `range file 50-250 ex` \
on the right waits for the bytes that the left holds; until then the right keeps what it had. \
`range file 50-99 none` on the left gives a part up, and the right has its range. A lock's own \
ranges are never in its way: another mode for a part of them replaces what was there. NL is to \
hold nothing, as `none` is; `nowait` refuses rather than wait; `unlock file` gives up all. A \
resource is locked as a whole or in ranges, not both at a time.

TREES

Beneath a lock, parts of its resource can be locked: `lock db cr`, then `lock db//row ex`. What stands \
before the last `//` is the name of a lock of this session, in whatever mode; whoever has a lock on \
`db` means the same by `db//row`, and nobody gets there otherwise. Modes above and beneath have nothing to do with \
each other but by convention: CR above what one reads, CW above what one writes, and who locks the \
whole in PR or EX has no writer, or nobody, beneath. `unlock db` is refused while there is a lock beneath; \
`unlock db all` releases all of it, `dequeue db` what is beneath, and `dequeue` everything. A slash \
that belongs to a name, and not between two, is `\\x2f` where it would be mistaken.

VALUE BLOCKS

A few bytes belong to a resource. `value disk = \"generation 8\"` publishes them under PW or EX; \
`value disk` reads them under any lock from CR up. A value is marked as possibly stale if a \
later one may have been lost with its writer.

`watch disk` on the right, in any mode, and each change made on the left is told there. `cas disk 3 = \"generation 9\"` \
publishes if the value still has version 3, and `add disk 1` counts its first eight bytes up: both in one \
step and in any mode, unless another holds CW, PR, PW or EX and so relies on the value as it is.

ORPHANS

`lock disk ex persistent` on the left, and kill that session from a third terminal: the lock stays, as \
an orphan of its node, and keeps others waiting. `orphans` lists it with the process that left it \
behind. A process of the same node takes it over with `adopt disk ex`, in the mode in which it is held, and one of any \
node with `adopt disk ex anywhere`; \
`purge disk` releases it, wherever it is. Whether a lock outlives its session its last lock, \
convert or adopt decides: `convert disk pr` makes it go with the session again, `convert disk pr \
persistent` does not.

LOCKS THAT SURVIVE THEIR NODE

`lock disk ex survive` is answered when the cluster's log has the lock. Kill the node, or all of them: once \
its end is proved, `orphans` lists the lock, it still keeps others waiting, and `adopt disk ex anywhere` takes \
it over on any node. `purge disk` releases it. Such a lock is not converted, and has no value block.

KEPT SESSIONS

A session ends with its connection to the daemon. One that was begun with `--keep 10` goes on, with all its locks and calls, if the connection breaks and can be made again within ten seconds: that is told. Others see it as disconnected meanwhile, and wait for its locks. If the session is killed, they wait for ten seconds, too.

DEADLOCKS

On the left `lock A`, on the right `lock B`, on the left `lock B`, on the right `lock A`: each \
waits for the other. One of them is refused at once, and told the whole circle.";

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mainstay session\n  \
        printf 'lock A pr valblk\\nwait\\nconvert A ex\\n' | mainstay session\n  \
        mainstay session --json < script.txt\n\n`mainstay help session` teaches the six modes.",
    after_long_help = LESSON
)]
pub(crate) struct SessionArgs {
    #[command(flatten)]
    pub(crate) place: Where,
    /// Keep the session for so many seconds if its connection to the daemon breaks
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(crate) keep: Option<Duration>,
}

pub(crate) async fn run(global: Global, args: SessionArgs) -> Outcome {
    let client = builder(&global, args.keep).connect().await?;
    let (input, printer) = Input::open()?;
    let screen = Screen::new(global.json, printer);
    let mut session = Session {
        client: &client,
        calls: Calls::new(&client, &args.place).await?,
        screen,
        gate: None,
        held: None,
        script: input.is_script(),
    };
    let outcome = session.converse(input).await;
    match &outcome {
        Ok(_) => session.end().await,
        Err(wrong) if wrong.code == USAGE => session.hear_out().await,
        Err(_) => {}
    }
    outcome
}

/// No further line is read until then.
struct Gate {
    /// All calls have ended, or this lock's.
    calls: Option<Option<String>>,
    until: Option<Instant>,
}

struct Session<'a> {
    client: &'a Client,
    calls: Calls,
    screen: Screen,
    gate: Option<Gate>,
    /// A line of a script that waits for the gate to open.
    held: Option<Line>,
    script: bool,
}

impl Session<'_> {
    async fn converse(&mut self, mut input: Input) -> Outcome {
        let mut notices = self.client.notices();
        let mut ended = false;
        loop {
            self.open_gate();
            if self.gate.is_none()
                && let Some(line) = self.held.take()
            {
                self.obey(line).await?;
                continue;
            }
            if ended && (self.gate.is_none() && !self.calls.under_way(None) || !self.script) {
                return Ok(OK);
            }
            let until = self.gate.as_ref().and_then(|gate| gate.until);
            tokio::select! {
                // What has happened is told before more is asked for.
                biased;
                Some(call) = self.calls.next() => self.ended(call)?,
                Some(notice) = notices.next() => self.noticed(notice)?,
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
                line = input.next(), if self.gate.is_none() && !ended => match line {
                    Some(line) => {
                        if !self.obey(line).await? {
                            return Ok(OK);
                        }
                    }
                    None => ended = true,
                },
                () = output::reader_gone() => return Ok(OK),
            }
        }
    }

    fn open_gate(&mut self) {
        let Some(gate) = &self.gate else { return };
        let late = gate.until.is_some_and(|until| until <= Instant::now());
        let done = match &gate.calls {
            Some(label) => !self.calls.under_way(label.as_deref()),
            None => false,
        };
        if late && let Some(label) = &gate.calls {
            let waiting = self.calls.labels_under_way(label.as_deref());
            self.screen.show(&Shown::StillWaiting { locks: waiting });
        }
        if late || done {
            self.gate = None;
        }
    }

    /// Whether the session goes on.
    async fn obey(&mut self, line: Line) -> Result<bool, Failure> {
        let command = match grammar::parse(&line.text) {
            Ok(None) => return Ok(true),
            Ok(Some(command)) => command,
            Err(message) => return self.wrong(line.number, &message).map(|()| true),
        };
        let mut needed = command.needs_idle().into_iter();
        if let Some(label) = needed.find(|label| self.calls.under_way(Some(label))) {
            if !self.script {
                let message =
                    format!("a call on {label} is under way; `cancel {label}` takes it back");
                return self.wrong(line.number, &message).map(|()| true);
            }
            self.gate = Some(Gate {
                calls: Some(Some(label.to_owned())),
                until: None,
            });
            self.held = Some(line);
            return Ok(true);
        }
        match command {
            Command::Quit => return Ok(false),
            Command::Help => self.screen.help(),
            Command::Locks => self.screen.show(&Shown::Locks {
                locks: self.calls.list(),
            }),
            Command::Wait { label, limit } => {
                self.gate = Some(Gate {
                    calls: Some(label),
                    until: limit.map(|limit| Instant::now() + limit),
                });
            }
            Command::Sleep { time } => {
                self.gate = Some(Gate {
                    calls: None,
                    until: Some(Instant::now() + time),
                });
            }
            Command::Why { resource } => match self.calls.why(self.client, &resource).await {
                Ok(sentences) => self.screen.show(&Shown::Why { sentences }),
                Err(message) => self.wrong(line.number, &message)?,
            },
            Command::Orphans { pattern } => match self.calls.orphans(self.client, pattern).await {
                Ok(report) => self.screen.show(&Shown::Orphans {
                    orphans: report.orphans,
                }),
                Err(message) => self.wrong(line.number, &message)?,
            },
            Command::Purge { pattern } => match self.calls.purge(self.client, pattern).await {
                Ok(report) => self.screen.show(&Shown::Purged {
                    purged: report.purged,
                    denied: report.denied,
                }),
                Err(message) => self.wrong(line.number, &message)?,
            },
            Command::Space { name, value_len } => {
                let place = Where {
                    lockspace: name,
                    value_len,
                };
                if let Err(message) = self.calls.choose_space(self.client, &place).await {
                    self.wrong(line.number, &message)?;
                }
            }
            Command::Priority { priority } => self.client.set_deadlock_priority(priority).await?,
            Command::Owner { owner } => self.client.set_owner(owner).await?,
            call => {
                if let Err(message) = self.calls.make(call) {
                    self.wrong(line.number, &message)?;
                }
            }
        }
        Ok(true)
    }

    /// On a terminal people see what is wrong; a script must not go on as if nothing were.
    fn wrong(&mut self, line: u64, message: &str) -> Result<(), Failure> {
        if self.script {
            return Err(Failure::new(USAGE, format!("line {line}: {message}")));
        }
        self.screen.show(&Shown::Error { line, message });
        Ok(())
    }

    fn ended(&mut self, call: Ended) -> Result<(), Failure> {
        for shown in self.calls.settle(call)? {
            self.screen.show(&shown);
        }
        Ok(())
    }

    fn noticed(&mut self, notice: Notice) -> Result<(), Failure> {
        let shown = match notice {
            Notice::Blocking { handle, mode } => match self.calls.label_of(handle) {
                Some(lock) => Shown::Blocking { lock, mode },
                None => return Ok(()),
            },
            Notice::RangeBlocking {
                handle,
                range,
                mode,
            } => match self.calls.label_of(handle) {
                Some(lock) => Shown::RangeBlocking { lock, range, mode },
                None => return Ok(()),
            },
            Notice::Demoted { handle } => match self.calls.demoted(handle) {
                Some(lock) => Shown::Demoted { lock },
                None => return Ok(()),
            },
            Notice::Overdue {
                handle,
                mode,
                released,
            } => match self.calls.overdue(handle, released) {
                Some(lock) => Shown::Overdue {
                    lock,
                    mode,
                    released,
                },
                None => return Ok(()),
            },
            Notice::ValueChanged { handle, value } => match self.calls.label_of(handle) {
                Some(lock) => Shown::ValueChanged {
                    lock,
                    value: ShownValue::of(&value),
                },
                None => return Ok(()),
            },
            Notice::Suspended { reason } => Shown::Suspended { reason },
            Notice::Resumed => Shown::Resumed,
            Notice::Disconnected { reason } => Shown::Disconnected { reason },
            Notice::Continued => Shown::Continued,
            Notice::Missed(count) => Shown::Missed { count },
            Notice::SessionLost { reason, .. } => {
                let text = format!("the session is lost, and all its locks with it: {reason}");
                return Err(Failure::new(LOST, text));
            }
            Notice::Reconnected { .. } => return Ok(()),
        };
        self.screen.show(&shown);
        Ok(())
    }

    /// Tells what becomes of the calls before a wrong line, as far as that is soon known.
    async fn hear_out(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.calls.under_way(None) {
            tokio::select! {
                // Whatever else goes wrong now, the line is what the session ends for.
                Some(call) = self.calls.next() => if self.ended(call).is_err() {
                    return;
                },
                () = sleep_until(until) => return,
            }
        }
    }

    /// Releases everything, so that whoever looks next finds it free.
    async fn end(&mut self) {
        // The daemon releases what is left when the session closes.
        let _ = tokio::time::timeout(PATIENCE, self.calls.release_all()).await;
    }
}
