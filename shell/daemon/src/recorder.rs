//! Dumps of the flight recorder: files in the state directory, of which the newest are kept.

use crate::config::RecorderConfig;
use mainstay_base::{BootId, Instant};
use mainstay_recorder::{Dump, Recorder};
use rustix::fs::{Mode, OFlags};
use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// The folder of dumps in the state directory.
const FOLDER: &str = "recorder";
/// How names of dumps end.
const SUFFIX: &str = ".mainstay-record";
/// How names of those end that are still being written.
const UNFINISHED: &str = ".new";

/// A recorder as configured.
pub(crate) fn new(config: &RecorderConfig, id: BootId) -> Recorder {
    Recorder::new(config.bytes, id)
}

/// Where dumps go, and how many stay.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
    keep: usize,
    /// Names the clock of this boot of the host.
    clock: [u8; 16],
}

impl Shelf {
    /// The dumps in a state directory that no other daemon uses. Removes what daemons left that
    /// ended while they wrote one; later, another thread may be writing.
    pub(crate) fn new(state_dir: &Path, config: &RecorderConfig) -> Shelf {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let shelf = Shelf {
            folder: state_dir.join(FOLDER),
            keep: config.keep,
            clock: parse_uuid(id.trim()).unwrap_or_default(),
        };
        for (_, path) in shelf.files(UNFINISHED) {
            remove(&path, "a dump that was not finished");
        }
        shelf
    }

    /// Says of a dump what only the host knows: by which clock its times are, and when that was.
    pub(crate) fn date(&self, dump: &mut Dump, now: Instant) {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let passed = mainstay_lease::now().since(now).as_millis();
        dump.head.unix_ms = unix_ms.saturating_sub(u64::try_from(passed).unwrap_or(u64::MAX));
        dump.head.clock = self.clock;
        dump.head.build = concat!("mainstay ", env!("CARGO_PKG_VERSION")).to_owned();
    }

    /// Writes a dump, and removes the oldest beyond those that are kept. Returns file and length.
    ///
    /// # Errors
    /// If it cannot be written, or would take more than half of the room that is left for the journal;
    /// then nothing of it stays.
    pub(crate) fn put(&self, dump: &Dump) -> io::Result<(PathBuf, u64)> {
        let private = Mode::RWXU;
        match rustix::fs::mkdir(&self.folder, private) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let bytes = dump.encode();
        let disk = rustix::fs::statvfs(&self.folder)?;
        check_room(
            bytes.len() as u64,
            disk.f_bavail.saturating_mul(disk.f_frsize),
        )?;
        let name = format!(
            "{}-{:015}-{:08x}{SUFFIX}",
            dump.head.name,
            dump.head.unix_ms,
            dump.head.at.0 as u32 // Two within a millisecond are two.
        );
        let path = self.folder.join(name);
        let mut new = path.clone().into_os_string();
        new.push(UNFINISHED);
        let new = PathBuf::from(new);
        if let Err(error) = write(&new, &bytes).and_then(|()| fs::rename(&new, &path)) {
            remove(&new, "a dump that could not be finished");
            return Err(error);
        }
        self.prune();
        Ok((path, bytes.len() as u64))
    }

    /// Removes the oldest dumps; one that cannot be removed stays.
    fn prune(&self) {
        let mut dumps = self.files(SUFFIX);
        dumps.sort();
        let beyond = dumps.len().saturating_sub(self.keep);
        for (_, path) in &dumps[..beyond] {
            remove(path, "an old dump");
        }
    }

    /// The files whose names end so, and when they were written.
    fn files(&self, suffix: &str) -> Vec<(SystemTime, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(suffix))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect()
    }
}

/// Whether a dump of so many bytes may be written where so many are left: the journal needs room, too,
/// and a node without is worse than one without a dump.
fn check_room(len: u64, left: u64) -> io::Result<()> {
    if len <= left / 2 {
        return Ok(());
    }
    let text = format!(
        "it takes {len} bytes, which is more than half of the {left} that are left on the disk"
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, text))
}

/// Writes a file that its owner alone may read.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = fs::File::from(fd);
    file.write_all(bytes)?;
    file.sync_all()
}

fn remove(path: &Path, what: &str) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove {what}");
        }
        _ => {}
    }
}

/// The 16 bytes of `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    let mut bytes = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::try_from(pair[0] << 4 | pair[1]).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{NodeId, NodeName};
    use mainstay_recorder::Head;
    use std::os::unix::fs::PermissionsExt as _;

    fn dump(at: u64) -> Dump {
        let head = Head {
            build: String::new(),
            cluster: "c".to_owned(),
            node: NodeId(1),
            name: NodeName::new("n1").expect("valid"),
            recorder: BootId(1),
            clock: [0; 16],
            at: Instant(at),
            unix_ms: 0,
            reason: "asked for".to_owned(),
            nodes: Vec::new(),
            spaces: Vec::new(),
        };
        Dump::of(&Recorder::new(0, BootId(1)), head)
    }

    /// Protects the disk and what locks are called: dumps are readable by their owner alone, whole, and
    /// no more than are to be kept.
    #[test]
    fn the_newest_dumps_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = RecorderConfig { bytes: 0, keep: 3 };
        let shelf = Shelf::new(dir.path(), &config);
        let mut paths = Vec::new();
        for n in 0..5 {
            let mut dump = dump(n);
            shelf.date(&mut dump, mainstay_lease::now());
            dump.head.unix_ms = n;
            let (path, len) = shelf.put(&dump).expect("written");
            let bytes = fs::read(&path).expect("readable");
            assert_eq!(bytes.len() as u64, len);
            assert_eq!(Dump::decode(&bytes).expect("a dump").0, dump);
            assert_ne!(dump.head.clock, [0; 16]);
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            // The order in which they were made, also where the clock of files is coarse.
            let made = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n);
            fs::File::open(&path)
                .expect("there")
                .set_modified(made)
                .expect("set");
            paths.push(path);
        }
        let there: Vec<bool> = paths.iter().map(|path| path.exists()).collect();
        assert_eq!(there, [false, false, true, true, true]);
        assert_eq!(
            fs::read_dir(dir.path().join(FOLDER))
                .expect("there")
                .count(),
            3
        );
    }

    /// Protects the journal's room: of a dump that cannot be finished nothing stays, nor of one in whose
    /// middle an earlier daemon ended; and none takes most of what is left.
    #[test]
    fn what_is_not_finished_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = RecorderConfig { bytes: 0, keep: 3 };
        let shelf = Shelf::new(dir.path(), &config);
        let (path, _) = shelf.put(&dump(1)).expect("written");
        let names = || -> Vec<PathBuf> {
            let entries = fs::read_dir(dir.path().join(FOLDER)).expect("there");
            entries.map(|entry| entry.expect("read").path()).collect()
        };
        fs::remove_file(&path).expect("removed");
        // A directory cannot be replaced by a file.
        fs::create_dir(&path).expect("made");
        shelf.put(&dump(1)).expect_err("its name is taken");
        assert_eq!(names(), std::slice::from_ref(&path));
        fs::remove_dir(&path).expect("removed");

        let (whole, _) = shelf.put(&dump(2)).expect("written");
        fs::write(path.with_extension("mainstay-record.new"), b"MNST").expect("written");
        Shelf::new(dir.path(), &config);
        assert_eq!(names(), [whole]);

        assert!(check_room(1000, 2000).is_ok());
        let error = check_room(1000, 1999).expect_err("too much");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    /// Protects comparisons of times: a clock is named by the whole of its host's boot.
    #[test]
    fn boots_are_told_apart() {
        let id = parse_uuid("00112233-4455-6677-8899-aabbccddeeff").expect("one");
        assert_eq!((id[0], id[1], id[15]), (0, 0x11, 0xff));
        assert_eq!(parse_uuid(""), None);
    }
}
