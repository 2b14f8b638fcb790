//! What can go wrong with a state directory, and what the operator can do about it.

use std::fmt;
use std::path::PathBuf;

use mainstay_journal::{Damage, TooLarge};
use rustix::io::Errno;

/// Why a state directory cannot be used, or can no longer be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The system refused an operation.
    #[error("cannot {doing} {}: {errno}; {}", path.display(), mend(*errno))]
    System {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
    },
    /// The state could not grow.
    #[error(
        "cannot {doing} {}: {errno}; {}: {}, then start the node again",
        path.display(), free_text(*free, dir), room(*errno)
    )]
    Full {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The state directory.
        dir: PathBuf,
        /// `ENOSPC`, `EDQUOT` or `EFBIG`.
        errno: Errno,
        /// Bytes that the file system had left for this user afterwards, if it would say.
        free: Option<u64>,
    },
    /// Another process has the directory.
    #[error(
        "state directory {} is in use by {}; two daemons never share one: stop that one, or give \
         this one a directory of its own",
        dir.display(), Owner(*pid)
    )]
    InUse {
        /// The state directory.
        dir: PathBuf,
        /// The process that has it, if it has already said so.
        pid: Option<u32>,
    },
    /// There is no state, and none was to be made.
    #[error(
        "no journal in state directory {}; if this node is new or lost its disk, start it with \
         permission to create one, else correct the path",
        dir.display()
    )]
    NoState {
        /// The state directory.
        dir: PathBuf,
    },
    /// The journal is not what was written.
    #[error(
        "{} is damaged {damage}. The node does not start, because it may have forgotten what it \
         promised. If the same bytes can still be had (another half of the mirror, another cable), \
         repair the file. Do not put an older copy in its place. Otherwise move the directory \
         away (mv {} {}.damaged) and start the node with an empty one: it then rejoins as a node \
         that lost its disk",
        journal.display(), dir.display(), dir.display()
    )]
    Damaged {
        /// The state directory.
        dir: PathBuf,
        /// The journal.
        journal: PathBuf,
        /// What is wrong, and where.
        damage: Damage,
    },
    /// The journal was written by another version of the program.
    #[error(
        "{} has format version {found}, but this program reads version {}; start the version of \
         Mainstay that wrote it",
        journal.display(), mainstay_journal::FORMAT_VERSION
    )]
    Version {
        /// The journal.
        journal: PathBuf,
        /// The version of the file.
        found: u32,
    },
    /// A write that the journal format has no room for.
    #[error("cannot write to {}: {cause}", journal.display())]
    TooLarge {
        /// The journal.
        journal: PathBuf,
        /// By how much.
        cause: TooLarge,
    },
    /// An earlier write failed, so nothing more is written.
    #[error("not written, because the journal has stopped: {cause}")]
    Stopped {
        /// The failure that stopped it.
        cause: Box<StoreError>,
    },
    /// The writer's thread ended by a panic in the completion callback.
    #[error("the journal's writer thread is gone: its completion callback panicked")]
    WriterGone,
}

/// What usually helps against an error of the system.
fn mend(errno: Errno) -> &'static str {
    match errno {
        Errno::ACCESS | Errno::PERM => {
            "let the daemon's user own the state directory (chown) with mode 700"
        }
        Errno::ROFS => {
            "the file system is read-only: see the kernel log for the reason, then remount it"
        }
        Errno::NOTDIR | Errno::EXIST => "name a directory as the state directory",
        Errno::ISDIR => "only regular files belong there: move it away",
        Errno::NOENT => "create the directory above it, or correct the path",
        Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL => "correct the path",
        Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS => {
            "the state directory must lie on a local file system that knows flock and fsync"
        }
        Errno::MFILE | Errno::NFILE => "raise the limit of open files (ulimit -n)",
        Errno::IO => "the disk failed: see the kernel log",
        _ => "see the kernel log, and check the state directory and its file system",
    }
}

/// How to make room after a failure to grow.
fn room(errno: Errno) -> &'static str {
    match errno {
        Errno::DQUOT => "raise the quota of the daemon's user",
        Errno::FBIG => "raise the limit of file sizes (ulimit -f)",
        _ => "make room there (16 MiB is plenty)",
    }
}

fn free_text(free: Option<u64>, dir: &std::path::Path) -> String {
    let dir = dir.display();
    match free {
        Some(bytes) => format!("the file system of {dir} has {} KiB free", bytes / 1024),
        None => format!("the free space of the file system of {dir} is unknown"),
    }
}

struct Owner(Option<u32>);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process, which has not yet written its id"),
        }
    }
}
