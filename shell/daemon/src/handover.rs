//! What a daemon leaves to the next one of its host, in its state directory (`docs/protocol/restart.md`).
//!
//! One line says of which start of the host it is, since it tells times by that host's clock, and the
//! generation of the lease page, which goes on. Then comes what the node wrote.

use rustix::fs::{Mode, OFlags};
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

const NAME: &str = "sessions";
const NEW: &str = "sessions.new";
const MAGIC: &str = "mainstay-sessions 1";
/// A number that the kernel draws whenever it starts.
const HOST: &str = "/proc/sys/kernel/random/boot_id";

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// The generation of the lease page of the daemon before.
    pub(crate) generation: u64,
    /// What its node wrote.
    pub(crate) bytes: Vec<u8>,
}

/// Where it stands.
#[derive(Clone, Debug)]
pub(crate) struct HandOver {
    dir: PathBuf,
}

impl HandOver {
    pub(crate) fn new(state_dir: &Path) -> HandOver {
        HandOver {
            dir: state_dir.to_owned(),
        }
    }

    /// Makes this durable, or that there is nothing.
    pub(crate) fn put(&self, generation: u64, bytes: Option<&[u8]>) -> io::Result<()> {
        let (path, new) = (self.dir.join(NAME), self.dir.join(NEW));
        let Some(bytes) = bytes else {
            return self.remove(&path);
        };
        let host = fs::read_to_string(HOST)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&new, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = fs::File::from(fd);
        let head = format!("{MAGIC} {} {generation}\n", host.trim());
        let written = file
            .write_all(head.as_bytes())
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, &path));
        if let Err(error) = written {
            // What is left over is not looked at.
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        self.sync()
    }

    /// Takes what there is: it is used once, however that goes on. Nothing, if it is of another start of
    /// the host or cannot be read.
    pub(crate) fn take(&self) -> Option<Left> {
        let path = self.dir.join(NAME);
        let found = match fs::read(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot read the sessions that were kept: they end");
                return None;
            }
        };
        if let Err(error) = self.remove(&path) {
            // It could be found again by a later daemon, which must not believe it.
            tracing::error!(path = %path.display(), %error, "cannot remove the sessions that were kept: they end");
            return None;
        }
        let left = fs::read_to_string(HOST)
            .ok()
            .and_then(|host| parse(&found, host.trim()));
        if left.is_none() {
            tracing::warn!(
                "the sessions that were kept are of an earlier start of this host, or not readable: they end"
            );
        }
        left
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.dir)?.sync_all()
    }
}

fn parse(found: &[u8], host: &str) -> Option<Left> {
    let end = found.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&found[..end]).ok()?;
    let generation = head
        .strip_prefix(MAGIC)?
        .strip_prefix(' ')?
        .strip_prefix(host)?
        .strip_prefix(' ')?;
    Some(Left {
        generation: generation.parse().ok()?,
        bytes: found[end + 1..].to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects locks from being claimed twice, or by a daemon to whose clock the times mean nothing.
    #[test]
    fn it_is_found_once_and_only_by_the_same_host_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let left = HandOver::new(dir.path());
        assert_eq!(left.take(), None);
        left.put(3, Some(b"\n\x00words")).expect("written");
        let found = left.take().expect("there");
        assert_eq!(
            (found.generation, &found.bytes[..]),
            (3, &b"\n\x00words"[..])
        );
        assert_eq!(left.take(), None, "used up");
        left.put(3, Some(b"words")).expect("written");
        left.put(3, None).expect("removed");
        assert_eq!(left.take(), None, "taken back");
        assert_eq!(parse(b"mainstay-sessions 1 other 3\nwords", "this"), None);
        assert_eq!(parse(b"mainstay-sessions 1 this x\nwords", "this"), None);
        assert_eq!(parse(b"mainstay-sessions 1 this 3", "this"), None);
    }
}
