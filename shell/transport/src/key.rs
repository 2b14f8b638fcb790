//! The cluster key and its file.

use core::fmt;
use rustix::fs::{Mode, OFlags};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Bytes of a cluster key.
pub const KEY_LEN: usize = 32;
/// Larger files are refused unread.
const FILE_LEN_MAX: usize = 4096;
const TAG: &str = "mainstay-key-v1";
const HEADER: &str = "\
# The key of a Mainstay cluster. All nodes of the cluster have the same one.
# Who can read it can join the cluster and listen to it: keep it at mode 0600.
";

/// The secret that all nodes of a cluster share. Wiped from memory when dropped, never printed.
#[derive(Clone)]
pub struct ClusterKey(Zeroizing<[u8; KEY_LEN]>);

/// What is wrong with the text of a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Only comments and empty lines, or nothing.
    #[error("it has no key line")]
    Missing,
    /// A key line without the tag of a version that this build knows.
    #[error("line {line} does not begin with `{TAG} `")]
    Tag {
        /// Line number, from 1.
        line: usize,
    },
    /// Not exactly 64 hexadecimal digits.
    #[error(
        "line {line} has {found} of the 64 hexadecimal digits after `{TAG} `, or other characters"
    )]
    Digits {
        /// Line number, from 1.
        line: usize,
        /// Hexadecimal digits found.
        found: usize,
    },
    /// Something after the key line.
    #[error("line {line} comes after the key line")]
    Trailing {
        /// Line number, from 1.
        line: usize,
    },
    /// All bits zero: a file that was made by hand or damaged.
    #[error("the key is all zeros")]
    Zero,
    /// Not text.
    #[error("it is not text")]
    NotText,
    /// More than a key file can have.
    #[error("it has more than {FILE_LEN_MAX} bytes")]
    Long,
}

/// Why a key file could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No such file.
    #[error(
        "there is no key file {}: copy it from a node of the cluster, or make one with \
         `mainstay init` if the cluster is new",
        .0.display()
    )]
    Missing(PathBuf),
    /// Users other than the owner may read or write it.
    #[error(
        "the key file {} has mode {mode:04o}, so others than its owner have access: \
         chmod 600 {}",
        .path.display(), .path.display()
    )]
    Access {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to somebody else than the daemon's user or root.
    #[error(
        "the key file {} belongs to user {owner}, who could replace it: chown {expected} {}",
        .path.display(), .path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The user id that this process runs under.
        expected: u32,
    },
    /// A directory, a pipe or the like.
    #[error("{} is not a regular file; name the cluster key file", .0.display())]
    NotAFile(PathBuf),
    /// The content is not that of a key file.
    #[error(
        "the key file {} cannot be used: {error}. It must hold comment lines that begin with `#` \
         and one line `{TAG} ` with 64 hexadecimal digits; copy it again from a working node",
        .path.display()
    )]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: KeyTextError,
    },
    /// The file is there already, and is never overwritten.
    #[error(
        "{} exists already and is not overwritten: a cluster that uses it would be locked out. \
         Move it away first if no cluster needs it",
        .0.display()
    )]
    Exists(PathBuf),
    /// The system refused.
    #[error("cannot {what} the key file {}: {error}", .path.display())]
    Io {
        /// "open", "read" or "write".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl ClusterKey {
    /// A key from the system's random source.
    ///
    /// # Errors
    /// If the system has no random numbers to give.
    pub fn generate() -> io::Result<ClusterKey> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        crate::random::fill(bytes.as_mut_slice())?;
        Ok(ClusterKey(bytes))
    }

    /// A key from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> ClusterKey {
        ClusterKey(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Reads the key file at `path`.
    ///
    /// # Errors
    /// If it is missing, unreadable, accessible to others, somebody else's, or not a whole key file.
    pub fn load(path: &Path) -> Result<ClusterKey, KeyError> {
        let fail = |what| {
            let path = path.to_owned();
            move |error: io::Error| KeyError::Io { what, path, error }
        };
        // Without NONBLOCK a named pipe in the file's place would hang the daemon.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Err(KeyError::Missing(path.to_owned())),
            Err(error) => return Err(fail("open")(error.into())),
        };
        let meta = file.metadata().map_err(fail("read"))?;
        if !meta.is_file() {
            return Err(KeyError::NotAFile(path.to_owned()));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(KeyError::Access {
                path: path.to_owned(),
                mode: meta.mode() & 0o7777,
            });
        }
        let user = rustix::process::geteuid().as_raw();
        if meta.uid() != 0 && meta.uid() != user {
            return Err(KeyError::Owner {
                path: path.to_owned(),
                owner: meta.uid(),
                expected: user,
            });
        }
        // Of full size from the start: growing would leave copies of the key behind.
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_LEN_MAX + 1));
        (&mut file)
            .take(FILE_LEN_MAX as u64 + 1)
            .read_to_end(&mut text)
            .map_err(fail("read"))?;
        parse_key_text(&text).map_err(|error| KeyError::Text {
            path: path.to_owned(),
            error,
        })
    }

    /// Makes a new key file at `path` with mode 0600 and waits until it is on the disk.
    ///
    /// # Errors
    /// If something is there already, or the system refuses; nothing is left behind then.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
            _ => KeyError::Io {
                what: "write",
                path: path.to_owned(),
                error,
            },
        };
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(fail)?;
        let mut text = Zeroizing::new(String::with_capacity(FILE_LEN_MAX));
        text.push_str(HEADER);
        text.push_str(TAG);
        text.push(' ');
        for &byte in self.0.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        text.push('\n');
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| {
                let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
                File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
            });
        written.map_err(|error| {
            // Best effort: the error that is reported matters more than a failing clean-up.
            let _ = std::fs::remove_file(path);
            fail(error)
        })
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(secret)")
    }
}

/// Reads the content of a key file.
///
/// # Errors
/// If it is not one, with the line where that shows.
pub fn parse_key_text(text: &[u8]) -> Result<ClusterKey, KeyTextError> {
    if text.len() > FILE_LEN_MAX {
        return Err(KeyTextError::Long);
    }
    let text = str::from_utf8(text).map_err(|_| KeyTextError::NotText)?;
    let mut key: Option<ClusterKey> = None;
    for (index, raw) in text.lines().enumerate() {
        let (line, content) = (index + 1, raw.trim());
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if key.is_some() {
            return Err(KeyTextError::Trailing { line });
        }
        let digits = content
            .strip_prefix(TAG)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or(KeyTextError::Tag { line })?
            .trim_start();
        key = Some(parse_digits(digits).ok_or_else(|| KeyTextError::Digits {
            line,
            found: digits.chars().filter(char::is_ascii_hexdigit).count(),
        })?);
    }
    let key = key.ok_or(KeyTextError::Missing)?;
    if key.0.iter().all(|&b| b == 0) {
        return Err(KeyTextError::Zero);
    }
    Ok(key)
}

fn parse_digits(digits: &str) -> Option<ClusterKey> {
    if digits.len() != 2 * KEY_LEN {
        return None;
    }
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(ClusterKey(bytes))
}
