//! The files of a state directory: making, reading and replacing them, with errors that name them.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::StoreError;

pub(crate) const JOURNAL: &str = "journal";
const JOURNAL_NEW: &str = "journal.new";
const LOCK: &str = "lock";

/// An open state directory. Files are reached through the descriptor, so that renaming the
/// directory under a running daemon harms nothing.
#[derive(Debug)]
pub(crate) struct Files {
    path: PathBuf,
    fd: OwnedFd,
}

impl Files {
    /// Opens the directory; makes it with mode 0700, durably, if it is missing and `create`.
    pub(crate) fn open(path: &Path, create: bool) -> Result<Files, StoreError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) if create => {
                make_dir(path)?;
                rustix::fs::open(path, flags, Mode::empty())
            }
            Err(Errno::NOENT) => {
                return Err(StoreError::NoState {
                    dir: path.to_owned(),
                });
            }
            other => other,
        };
        let fd = fd.map_err(|errno| system("open state directory", path, errno))?;
        Ok(Files {
            path: path.to_owned(),
            fd,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn journal_path(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// Takes the exclusive lock, held until the returned file is closed.
    pub(crate) fn lock(&self) -> Result<File, StoreError> {
        let lock = self.open_file(LOCK, OFlags::RDWR | OFlags::CREATE)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let pid = match (&lock).take(32).read_to_string(&mut text) {
                    Ok(_) => text.trim().parse().ok(),
                    Err(_) => None,
                };
                return Err(StoreError::InUse {
                    dir: self.path.clone(),
                    pid,
                });
            }
            Err(errno) => return Err(self.error("lock", LOCK, errno)),
        }
        // The id only makes the other daemon's message better: a full disk is no reason to fail
        // here, it has a message of its own when it matters.
        let text = format!("{}\n", std::process::id());
        let written = rustix::fs::ftruncate(&lock, 0)
            .and_then(|()| rustix::io::pwrite(&lock, text.as_bytes(), 0));
        if let Err(errno) = written {
            tracing::warn!(dir = %self.path.display(), %errno, "cannot write the process id into the lock file");
        }
        Ok(lock)
    }

    /// The journal and its bytes; `None` if there is none.
    pub(crate) fn read_journal(&self) -> Result<Option<(File, Vec<u8>)>, StoreError> {
        let mut file = match self.open_file(JOURNAL, OFlags::RDWR) {
            Ok(file) => file,
            Err(StoreError::System {
                errno: Errno::NOENT,
                ..
            }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            self.error("read", JOURNAL, errno)
        })?;
        Ok(Some((file, bytes)))
    }

    /// Makes `bytes` the journal: all of them or, after a crash, the journal of before. On return
    /// they are durable.
    pub(crate) fn replace_journal(&self, bytes: &[u8]) -> Result<File, StoreError> {
        let file = self.open_file(JOURNAL_NEW, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)?;
        write_all_at(&file, bytes, 0).map_err(|errno| self.error("write", JOURNAL_NEW, errno))?;
        rustix::fs::fsync(&file).map_err(|errno| self.error("fsync", JOURNAL_NEW, errno))?;
        rustix::fs::renameat(&self.fd, JOURNAL_NEW, &self.fd, JOURNAL)
            .map_err(|errno| self.error("rename to its final name", JOURNAL_NEW, errno))?;
        self.sync_dir()?;
        Ok(file)
    }

    /// Removes what an interrupted replacement has left.
    pub(crate) fn remove_unfinished(&self) -> Result<(), StoreError> {
        match rustix::fs::unlinkat(&self.fd, JOURNAL_NEW, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.error("remove", JOURNAL_NEW, errno)),
        }
    }

    /// Writes at the end of the journal; durable on return.
    pub(crate) fn append_journal(
        &self,
        file: &File,
        bytes: &[u8],
        at: u64,
    ) -> Result<(), StoreError> {
        write_all_at(file, bytes, at).map_err(|errno| self.error("append to", JOURNAL, errno))?;
        // fdatasync also writes the new length, without which the data could not be read.
        rustix::fs::fdatasync(file).map_err(|errno| self.error("fdatasync", JOURNAL, errno))
    }

    /// Makes what the reader has seen of the journal the truth: cuts it to `len`, and writes `last`,
    /// the bytes up to there of the last write, once more. Durable on return.
    ///
    /// Reading proves nothing about the disk. The process before may have ended between write and
    /// fsync; or its fsync failed, and then the system may keep the pages and call them clean, so
    /// that only writing them again brings them to the disk. Its earlier writes were all durable,
    /// or it would not have gone on to the last.
    pub(crate) fn settle_journal(
        &self,
        file: &File,
        len: u64,
        last: &[u8],
    ) -> Result<(), StoreError> {
        rustix::fs::ftruncate(file, len)
            .and_then(|()| write_all_at(file, last, len - last.len() as u64))
            .and_then(|()| rustix::fs::fsync(file))
            .map_err(|errno| self.error("settle", JOURNAL, errno))?;
        self.sync_dir()
    }

    fn sync_dir(&self) -> Result<(), StoreError> {
        rustix::fs::fsync(&self.fd)
            .map_err(|errno| self.full_or_system("fsync", self.path.clone(), errno))
    }

    /// Bytes that the file system has left for this user, if it says.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.fd).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whether users other than the owner may write to the directory.
    pub(crate) fn others_may_write(&self) -> bool {
        rustix::fs::fstat(&self.fd).is_ok_and(|stat| stat.st_mode & 0o022 != 0)
    }

    fn open_file(&self, name: &'static str, flags: OFlags) -> Result<File, StoreError> {
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::openat(&self.fd, name, flags | OFlags::CLOEXEC, mode)
            .map(File::from)
            .map_err(|errno| self.error("open", name, errno))
    }

    fn error(&self, doing: &'static str, name: &str, errno: Errno) -> StoreError {
        self.full_or_system(doing, self.path.join(name), errno)
    }

    fn full_or_system(&self, doing: &'static str, path: PathBuf, errno: Errno) -> StoreError {
        match errno {
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => StoreError::Full {
                doing,
                path,
                dir: self.path.clone(),
                errno,
                free: self.free_bytes(),
            },
            errno => StoreError::System { doing, path, errno },
        }
    }
}

fn system(doing: &'static str, path: &Path, errno: Errno) -> StoreError {
    StoreError::System {
        doing,
        path: path.to_owned(),
        errno,
    }
}

/// Makes `path` and every missing directory above it, each durable before the next is made.
fn make_dir(path: &Path) -> Result<(), StoreError> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    let mut made = rustix::fs::mkdir(path, Mode::RWXU);
    if made == Err(Errno::NOENT) {
        make_dir(parent)?;
        made = rustix::fs::mkdir(path, Mode::RWXU);
    }
    match made {
        // Another daemon may make the same directory now; the lock decides which one gets it.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(system("create state directory", path, errno)),
    }
    rustix::fs::open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .and_then(rustix::fs::fsync)
        .map_err(|errno| system("fsync", parent, errno))
}

fn write_all_at(file: impl AsFd, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(&file, bytes, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
