//! Opening a state directory.

use std::fs::File;
use std::path::{Path, PathBuf};

use mainstay_base::DiskId;
use mainstay_journal::{Appender, Damage, Torn, encode_file, scan};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::files::Files;
use crate::writer::{OnDone, Writer};
use crate::{Records, StoreError};

/// Below this many free bytes, opening a state directory logs a warning.
pub const LOW_SPACE: u64 = 16 << 20;

/// How to open a state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Make the directory and a journal if they are missing. Without it, that is
    /// [`StoreError::NoState`].
    pub create: bool,
}

/// What an opened state directory held.
#[derive(Debug)]
pub struct Recovered {
    /// Identity of the directory, drawn at random when it was made. Never zero.
    pub disk: DiskId,
    /// Whether the journal was made just now.
    pub fresh: bool,
    /// Kind and payload of every record, oldest first.
    pub records: Records,
    /// The unfinished write that was cut off, if there was one. None of it was acknowledged.
    pub torn: Option<Torn>,
    /// Free bytes on the file system, if it says; see [`LOW_SPACE`].
    pub free_bytes: Option<u64>,
}

/// A state directory that this process, and no other, uses.
#[derive(Debug)]
pub struct StateDir {
    pub(crate) files: Files,
    pub(crate) journal: File,
    pub(crate) disk: DiskId,
    pub(crate) generation: u64,
    pub(crate) appender: Appender,
    /// Held, not read: closing it gives the directory up.
    _lock: File,
}

impl StateDir {
    /// Takes the directory and reads its journal. A torn tail is cut off, durably, and reported.
    /// The records are durable when they are returned, those of a last write that was never
    /// acknowledged included.
    ///
    /// # Errors
    /// If the directory cannot be used, another process has it, or its journal is damaged. A
    /// damaged journal is left exactly as it is.
    pub fn open(
        path: impl AsRef<Path>,
        options: OpenOptions,
    ) -> Result<(StateDir, Recovered), StoreError> {
        let files = Files::open(path.as_ref(), options.create)?;
        let lock = files.lock()?;
        let free_bytes = files.free_bytes();
        warn_early(&files, free_bytes);

        let Some((journal, bytes)) = files.read_journal()? else {
            if !options.create {
                return Err(StoreError::NoState {
                    dir: files.path().to_owned(),
                });
            }
            return StateDir::make(files, lock, free_bytes);
        };
        let found = scan(&bytes).map_err(|damage| match damage {
            Damage::Version { found } => StoreError::Version {
                journal: files.journal_path(),
                found,
            },
            damage => StoreError::Damaged {
                dir: files.path().to_owned(),
                journal: files.journal_path(),
                damage,
            },
        })?;
        if let Some(torn) = found.torn {
            tracing::warn!(
                journal = %files.journal_path().display(), offset = torn.offset, bytes = torn.bytes,
                "cutting off a write that did not finish before the last stop"
            );
        }
        // Within the bytes: the scan has read them.
        let last = &bytes[found.last_batch as usize..found.valid_len() as usize];
        files.settle_journal(&journal, found.valid_len(), last)?;
        // Only now: beside a damaged journal, the new one may be what the operator needs.
        files.remove_unfinished()?;
        let recovered = Recovered {
            disk: found.header.disk,
            fresh: false,
            records: found
                .records
                .into_iter()
                .map(|record| (record.kind, record.payload))
                .collect(),
            torn: found.torn,
            free_bytes,
        };
        let dir = StateDir {
            files,
            journal,
            disk: found.header.disk,
            generation: found.header.generation,
            appender: found.appender,
            _lock: lock,
        };
        Ok((dir, recovered))
    }

    fn make(
        files: Files,
        lock: File,
        free_bytes: Option<u64>,
    ) -> Result<(StateDir, Recovered), StoreError> {
        let disk = random_disk_id().map_err(|errno| StoreError::System {
            doing: "draw an identity for",
            path: files.path().to_owned(),
            errno,
        })?;
        let generation = 1;
        let (bytes, appender) =
            encode_file(disk, generation, []).map_err(|cause| StoreError::TooLarge {
                journal: files.journal_path(),
                cause,
            })?;
        let journal = files.replace_journal(&bytes)?;
        let recovered = Recovered {
            disk,
            fresh: true,
            records: Records::new(),
            torn: None,
            free_bytes,
        };
        let dir = StateDir {
            files,
            journal,
            disk,
            generation,
            appender,
            _lock: lock,
        };
        Ok((dir, recovered))
    }

    /// The directory's path, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.files.path()
    }

    /// The journal's path.
    #[must_use]
    pub fn journal_path(&self) -> PathBuf {
        self.files.journal_path()
    }

    /// Starts the thread that writes; `on_done` is called on it, once per write, in the order of
    /// submission.
    ///
    /// # Errors
    /// If the system starts no thread.
    pub fn start(self, on_done: OnDone) -> Result<Writer, StoreError> {
        Writer::start(self, on_done)
    }
}

fn warn_early(files: &Files, free_bytes: Option<u64>) {
    let dir = files.path().display();
    if let Some(free_bytes) = free_bytes
        && free_bytes < LOW_SPACE
    {
        tracing::warn!(%dir, free_bytes, "little space left for the state directory: the node stops when it can write no more");
    }
    if files.others_may_write() {
        tracing::warn!(%dir, "others may write to the state directory: run chmod 700 on it");
    }
}

fn random_disk_id() -> Result<DiskId, Errno> {
    loop {
        let mut bytes = [0; 8];
        // Requests of up to 256 bytes are never cut short.
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
        let id = u64::from_ne_bytes(bytes);
        if id != 0 {
            return Ok(DiskId(id));
        }
    }
}
