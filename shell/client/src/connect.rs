//! Making a connection: lease page, hello, welcome.

use crate::{
    ConnectError,
    error::{page_error, pass_error},
    machine::{Happening, Machine},
};
use mainstay_lease::{LeaseView, receive_page};
use mainstay_wire::{
    client::{Answer, Ask, PROTOCOL, PROTOCOL_MIN, Welcome},
    lock::Refusal,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect,
        recv, send, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{
    fs, io,
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Longest command line that the daemon keeps, in bytes.
const COMMAND_MAX: usize = 256;

/// How to connect; the same for every session of a client.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) path: PathBuf,
    pub(crate) command: String,
    pub(crate) timeout: Duration,
    pub(crate) auto_reconnect: bool,
    pub(crate) keep: Option<Duration>,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: UnixStream,
    pub(crate) page: LeaseView,
    pub(crate) welcome: Welcome,
    pub(crate) machine: Machine,
    /// What the daemon said meanwhile, without having been asked.
    pub(crate) early: Vec<Happening>,
}

/// A connection on which a session goes on.
#[derive(Debug)]
pub(crate) struct Continued {
    pub(crate) socket: UnixStream,
    /// The lease page of the daemon that answered.
    pub(crate) page: LeaseView,
    /// The daemon has had calls up to this one.
    pub(crate) asked: u64,
    /// So many messages it has told so far.
    pub(crate) told: u64,
    /// When it was asked.
    pub(crate) asked_at: mainstay_base::Instant,
    /// What it said next.
    pub(crate) rest: Vec<u8>,
}

/// This process' command line, as far as the daemon keeps it.
pub(crate) fn command_line() -> String {
    let raw = fs::read("/proc/self/cmdline").unwrap_or_default();
    let text = String::from_utf8_lossy(&raw).replace('\0', " ");
    shorten(text.trim_end()).to_owned()
}

/// The longest beginning that the daemon keeps.
pub(crate) fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(COMMAND_MAX)]
}

/// Connects and shakes hands, waiting no longer than the configuration says.
pub(crate) fn open(config: &Config) -> Result<Connection, ConnectError> {
    let deadline = Instant::now() + config.timeout;
    let socket = dial(config)?;
    let handshake = Handshake {
        config,
        socket,
        deadline,
    };
    handshake.shake()
}

/// Connects and asks to continue a session of that generation.
pub(crate) fn reattach(
    config: &Config,
    ask: Ask,
    generation: u64,
) -> Result<Continued, ConnectError> {
    let deadline = Instant::now() + config.timeout;
    let socket = dial(config)?;
    let handshake = Handshake {
        config,
        socket,
        deadline,
    };
    handshake.reattach(ask, generation)
}

fn dial(config: &Config) -> Result<UnixStream, ConnectError> {
    let path = || config.path.clone();
    let os = |what| {
        move |errno: Errno| ConnectError::Os {
            what,
            path: path(),
            source: errno.into(),
        }
    };
    let address = SocketAddrUnix::new(&config.path).map_err(|errno| match errno {
        Errno::NAMETOOLONG => ConnectError::PathTooLong { path: path() },
        errno => os("name")(errno),
    })?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(os("make a socket for"))?;
    // The kernel applies it to connecting when the daemon does not accept.
    set_socket_timeout(&socket, Timeout::Send, Some(config.timeout))
        .map_err(os("set a time limit for"))?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => return Ok(UnixStream::from(socket)),
            Err(Errno::INTR) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => {
                return Err(ConnectError::NoSocket { path: path() });
            }
            Err(Errno::CONNREFUSED) => return Err(ConnectError::NobodyListens { path: path() }),
            Err(Errno::ACCESS | Errno::PERM) => {
                let mend = mend_for(&config.path);
                return Err(ConnectError::Denied { path: path(), mend });
            }
            Err(Errno::AGAIN) => {
                let waited = config.timeout;
                return Err(ConnectError::NoAnswer {
                    path: path(),
                    waited,
                });
            }
            Err(errno) => return Err(os("connect to")(errno)),
        }
    }
}

/// What a user who was denied has to do.
fn mend_for(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(meta) => {
            let gid = meta.gid();
            let group = group_name(gid).unwrap_or_else(|| gid.to_string());
            format!(
                "become a member of its group `{group}` (`usermod -aG {group} USER`, then log in again), or run as root"
            )
        }
        Err(_) => {
            "its directory may not be entered; check the directory's mode and group, or run as root"
                .to_owned()
        }
    }
}

fn group_name(gid: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

struct Handshake<'a> {
    config: &'a Config,
    socket: UnixStream,
    deadline: Instant,
}

impl Handshake<'_> {
    fn shake(self) -> Result<Connection, ConnectError> {
        let path = || self.config.path.clone();
        let page = self.page()?;
        let mut machine = Machine::default();
        let hello = Ask::Hello {
            min: PROTOCOL_MIN,
            max: PROTOCOL,
            command: self.config.command.clone(),
        };
        self.call(&mut machine, hello)?;
        let welcome = match self.answer(&mut machine, &mut Vec::new())? {
            Answer::Welcome(welcome) => welcome,
            other => return Err(self.protocol(format!("it answered {other:?} to hello"))),
        };
        if !(PROTOCOL_MIN..=PROTOCOL).contains(&welcome.protocol) {
            let why = format!(
                "it chose version {}, this client speaks {PROTOCOL_MIN} to {PROTOCOL}",
                welcome.protocol
            );
            return Err(ConnectError::Version { path: path(), why });
        }
        let mut early = Vec::new();
        if let Some(grace) = self.config.keep {
            let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
            // What the daemon does is no longer than what it was asked for.
            let grace = Duration::from_millis(grace_ms.into());
            let asked = mainstay_lease::now();
            self.call(&mut machine, Ask::KeepSession { grace_ms })?;
            match self.answer(&mut machine, &mut early)? {
                Answer::Kept { key } => machine.start_keeping(key, grace, asked),
                other => return Err(self.protocol(format!("it answered {other:?} to keep"))),
            }
        }
        Ok(Connection {
            socket: self.socket,
            page,
            welcome,
            machine,
            early,
        })
    }

    fn reattach(self, ask: Ask, generation: u64) -> Result<Continued, ConnectError> {
        // Only a daemon that goes on with its sessions has their generation.
        let page = self.page()?;
        if page.read().generation != generation {
            return Err(ConnectError::Refused {
                path: self.config.path.clone(),
                refusal: Refusal::NoSuchSession,
            });
        }
        let mut machine = Machine::default();
        let asked_at = mainstay_lease::now();
        machine.ask_to_continue(ask);
        self.send(machine.output())?;
        match self.answer(&mut machine, &mut Vec::new())? {
            Answer::Reattached { asked, told } => Ok(Continued {
                socket: self.socket,
                page,
                asked,
                told,
                asked_at,
                rest: machine.rest().to_owned(),
            }),
            other => Err(self.protocol(format!("it answered {other:?} to reattach"))),
        }
    }

    fn page(&self) -> Result<LeaseView, ConnectError> {
        let path = || self.config.path.clone();
        self.wait(PollFlags::IN)?;
        let fd = receive_page(&self.socket).map_err(|e| pass_error(path(), e))?;
        LeaseView::open(fd).map_err(|e| page_error(path(), &e))
    }

    fn protocol(&self, why: String) -> ConnectError {
        let path = self.config.path.clone();
        ConnectError::Protocol { path, why }
    }

    fn call(&self, machine: &mut Machine, ask: Ask) -> Result<(), ConnectError> {
        machine.call(ask).map_err(|refusal| ConnectError::Refused {
            path: self.config.path.clone(),
            refusal,
        })?;
        self.send(machine.output())
    }

    /// The answer to the one call that was made. The node's lease may come and go meanwhile.
    fn answer(
        &self,
        machine: &mut Machine,
        early: &mut Vec<Happening>,
    ) -> Result<Answer, ConnectError> {
        let path = || self.config.path.clone();
        let protocol = |why| ConnectError::Protocol { path: path(), why };
        let mut buffer = [0; 4096];
        loop {
            match machine.next().map_err(protocol)? {
                Some(Happening::Done { result, .. }) => {
                    return result.map_err(|refusal| ConnectError::Refused {
                        path: path(),
                        refusal,
                    });
                }
                Some(Happening::SessionLost { reason }) => return Err(protocol(reason)),
                Some(lease @ (Happening::Suspended { .. } | Happening::Resumed)) => {
                    early.push(lease);
                    continue;
                }
                Some(other) => return Err(protocol(format!("it said {other:?} before that"))),
                None => {}
            }
            self.wait(PollFlags::IN)?;
            match recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => {
                    return Err(protocol(
                        "it closed the connection before it answered".to_owned(),
                    ));
                }
                Ok((_, len)) => machine.feed(&buffer[..len]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(self.os("read from", errno.into())),
            }
        }
    }

    fn send(&self, output: &mut Vec<u8>) -> Result<(), ConnectError> {
        while !output.is_empty() {
            match send(
                &self.socket,
                output,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(sent) => drop(output.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(errno) => return Err(self.os("write to", errno.into())),
            }
        }
        Ok(())
    }

    fn wait(&self, what: PollFlags) -> Result<(), ConnectError> {
        if wait_for(&mut [PollFd::new(&self.socket, what)], Some(self.deadline))
            .map_err(|e| self.os("wait for", e))?
        {
            return Ok(());
        }
        Err(ConnectError::NoAnswer {
            path: self.config.path.clone(),
            waited: self.config.timeout,
        })
    }

    fn os(&self, what: &'static str, source: io::Error) -> ConnectError {
        ConnectError::Os {
            what,
            path: self.config.path.clone(),
            source,
        }
    }
}

/// Polls until something happens (true) or the deadline passes (false).
pub(crate) fn wait_for(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        match poll(fds, timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the daemon's limit on command lines, and a name of multi-byte characters from
    /// being cut in the middle of one.
    #[test]
    fn command_lines_are_cut_between_characters() {
        let long = "ä".repeat(200);
        assert_eq!(shorten(&long), "ä".repeat(128));
        assert_eq!(shorten(&format!("x{long}")).len(), 255);
        assert_eq!(shorten("sleep 5"), "sleep 5");
        assert!(!command_line().is_empty() && command_line().len() <= COMMAND_MAX);
    }
}
