//! The thread that owns the journal file.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use mainstay_journal::{BATCH_DATA_MAX, TooLarge, encode_file, record_len};
use rustix::io::Errno;

use crate::{StateDir, StoreError};

/// Records as kind and payload, in order.
pub type Records = Vec<(u8, Vec<u8>)>;

/// Takes completions, on the writer's thread. It must not block for long, for nothing is written
/// meanwhile, and must not drop the [`Writer`].
pub type OnDone = Box<dyn FnMut(Completion) + Send>;

/// Queued writes are put on disk at the latest when they reach this many bytes, so that under
/// steady load the first does not wait for many more than share its fsync anyway.
const GROUP_BYTES: usize = 1 << 20;

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Comes back in the [`Completion`].
    pub token: u64,
    /// What to write.
    pub kind: WriteKind,
}

/// How records get into the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// Add records behind those that are there; after a crash all of them are there or none. At
    /// most [`BATCH_DATA_MAX`] bytes, counted with [`record_len`].
    Append(Records),
    /// Forget every record so far and hold these instead, in one step. Each record is at most
    /// [`mainstay_journal::PAYLOAD_MAX`] bytes long.
    Replace(Records),
}

/// What became of a [`Write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The write's token.
    pub token: u64,
    /// `Ok` when the write and all before it are durable. After an error the write may or may not
    /// be found by the next start, and nothing more is written: the node must stop.
    pub result: Result<(), StoreError>,
}

#[derive(Debug, Default)]
struct Counters {
    queued_bytes: AtomicU64,
    journal_bytes: AtomicU64,
}

/// Hands writes to the thread that owns the journal.
///
/// All appends that are queued when the thread gets to them share one write and one fdatasync.
/// After the first error of a write or fsync nothing more is written, not even when the cause has
/// gone: what the file then holds is known only after it has been read again.
///
/// The queue has no bound of its own, because a caller that had to wait here could not send
/// heartbeats; [`Writer::queued_bytes`] is there to hold back new work on a slow disk.
pub struct Writer {
    queue: Option<Sender<Write>>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
    counters: Arc<Counters>,
}

impl Writer {
    pub(crate) fn start(dir: StateDir, on_done: OnDone) -> Result<Writer, StoreError> {
        let (queue, incoming) = channel();
        let counters = Arc::new(Counters::default());
        counters
            .journal_bytes
            .store(dir.appender.len(), Ordering::Relaxed);
        let path = dir.journal_path();
        let worker = Worker {
            dir,
            on_done,
            counters: Arc::clone(&counters),
            group: Vec::new(),
            group_bytes: 0,
            buffer: Vec::new(),
            failed: None,
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || worker.run(&incoming))
            .map_err(|error| StoreError::System {
                doing: "start a thread for",
                path,
                errno: Errno::from_io_error(&error).unwrap_or(Errno::AGAIN),
            })?;
        Ok(Writer {
            queue: Some(queue),
            thread: Some(thread),
            counters,
        })
    }

    /// Queues a write. Never blocks.
    ///
    /// # Errors
    /// [`StoreError::WriterGone`] if the completion callback has panicked. Every other failure
    /// comes as a [`Completion`].
    pub fn submit(&self, write: Write) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::WriterGone)?;
        let bytes = write.bytes();
        self.counters
            .queued_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        queue.send(write).map_err(|_| StoreError::WriterGone)
    }

    /// Payload bytes submitted and not yet completed.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.counters.queued_bytes.load(Ordering::Relaxed)
    }

    /// Length of the journal in bytes, as of the last completed write: how much a
    /// [`WriteKind::Replace`] could save.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.counters.journal_bytes.load(Ordering::Relaxed)
    }

    /// Finishes all queued writes, ends the thread and gives the directory up. Dropping the writer
    /// does the same.
    ///
    /// # Errors
    /// The failure that stopped the writer, if one did.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        self.queue = None;
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or(Err(StoreError::WriterGone)),
            None => Ok(()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A failure has been logged and reported in a completion.
        let _ = self.finish();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Write {
    fn bytes(&self) -> u64 {
        let (WriteKind::Append(records) | WriteKind::Replace(records)) = &self.kind;
        records
            .iter()
            .map(|(_, payload)| payload.len() as u64)
            .sum()
    }
}

fn view(records: &Records) -> impl Iterator<Item = (u8, &[u8])> {
    records.iter().map(|(kind, payload)| (*kind, &payload[..]))
}

struct Worker {
    dir: StateDir,
    on_done: OnDone,
    counters: Arc<Counters>,
    /// Appends that will share one batch: token, payload bytes, records.
    group: Vec<(u64, u64, Records)>,
    group_bytes: usize,
    buffer: Vec<u8>,
    failed: Option<StoreError>,
}

impl Worker {
    fn run(mut self, incoming: &Receiver<Write>) -> Result<(), StoreError> {
        while let Ok(write) = incoming.recv() {
            self.take(write);
            while let Ok(write) = incoming.try_recv() {
                self.take(write);
            }
            self.flush();
        }
        self.failed.map_or(Ok(()), Err)
    }

    fn take(&mut self, write: Write) {
        let bytes = write.bytes();
        match write.kind {
            WriteKind::Append(records) => {
                let more = records
                    .iter()
                    .map(|(_, payload)| record_len(payload.len()))
                    .fold(0_usize, usize::saturating_add);
                if self.group_bytes.saturating_add(more) > BATCH_DATA_MAX {
                    self.flush();
                }
                self.group.push((write.token, bytes, records));
                self.group_bytes = self.group_bytes.saturating_add(more);
                if self.group_bytes >= GROUP_BYTES {
                    self.flush();
                }
            }
            WriteKind::Replace(records) => {
                self.flush();
                let result = self.unless_stopped(|worker| worker.replace(&records));
                self.complete(write.token, bytes, result);
            }
        }
    }

    /// Makes the group durable and completes its writes.
    fn flush(&mut self) {
        let group = std::mem::take(&mut self.group);
        self.group_bytes = 0;
        if group.is_empty() {
            return;
        }
        let result = self.unless_stopped(|worker| worker.append(&group));
        for (token, bytes, _) in group {
            self.complete(token, bytes, result.clone());
        }
    }

    fn unless_stopped(
        &mut self,
        write: impl FnOnce(&mut Worker) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if let Some(cause) = &self.failed {
            return Err(StoreError::Stopped {
                cause: Box::new(cause.clone()),
            });
        }
        let result = write(self);
        match &result {
            Ok(()) => {
                let len = self.dir.appender.len();
                self.counters.journal_bytes.store(len, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::error!(%error, "the journal has stopped");
                self.failed = Some(error.clone());
            }
        }
        result
    }

    fn append(&mut self, group: &[(u64, u64, Records)]) -> Result<(), StoreError> {
        let at = self.dir.appender.len();
        self.buffer.clear();
        let records = group.iter().flat_map(|(_, _, records)| view(records));
        self.dir
            .appender
            .append(records, &mut self.buffer)
            .map_err(|cause| self.too_large(cause))?;
        if self.buffer.is_empty() {
            // No records: all that came before is durable already.
            return Ok(());
        }
        let (files, journal) = (&self.dir.files, &self.dir.journal);
        let result = files.append_journal(journal, &self.buffer, at);
        // One large write must not keep its memory for the life of the daemon.
        self.buffer.shrink_to(GROUP_BYTES);
        result
    }

    fn replace(&mut self, records: &Records) -> Result<(), StoreError> {
        let generation = self.dir.generation + 1;
        let (bytes, appender) = encode_file(self.dir.disk, generation, view(records))
            .map_err(|cause| self.too_large(cause))?;
        self.dir.journal = self.dir.files.replace_journal(&bytes)?;
        self.dir.generation = generation;
        self.dir.appender = appender;
        Ok(())
    }

    fn too_large(&self, cause: TooLarge) -> StoreError {
        StoreError::TooLarge {
            journal: self.dir.journal_path(),
            cause,
        }
    }

    fn complete(&mut self, token: u64, bytes: u64, result: Result<(), StoreError>) {
        self.counters
            .queued_bytes
            .fetch_sub(bytes, Ordering::Relaxed);
        (self.on_done)(Completion { token, result });
    }
}
