//! The clients' socket: where it is, and who may connect.

use super::{DEFAULT_SOCKET, fields::Fields, problem::Problems, read::read_path};
use std::path::{Path, PathBuf};

/// Who may connect to the clients' socket. What they may do there, lockspaces say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketAccess {
    /// The permissions of the socket.
    pub mode: u32,
    /// Its group, by number; that of the daemon without this.
    pub group: Option<u32>,
}

impl Default for SocketAccess {
    fn default() -> SocketAccess {
        SocketAccess {
            mode: 0o660,
            group: None,
        }
    }
}

pub(super) fn read_socket(
    root: &mut Fields<'_, '_>,
    problems: &mut Problems<'_>,
    base: &Path,
) -> (PathBuf, SocketAccess) {
    let example = "socket = \"/run/mainstay/mainstay.sock\"";
    let socket = read_path(root, problems, "socket", base, example)
        .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET));
    // sun_path has 108 bytes with its closing NUL.
    if socket.as_os_str().len() > 107 {
        problems.add(
            0..0,
            "socket",
            format!(
                "`{}` has {} bytes, more than the 107 that the name of a UNIX socket may have",
                socket.display(),
                socket.as_os_str().len()
            ),
            example,
        );
    }
    (socket, read_access(root, problems))
}

fn read_access(root: &mut Fields<'_, '_>, problems: &mut Problems<'_>) -> SocketAccess {
    let mut access = SocketAccess::default();
    let example = "socket-mode = \"660\"";
    if let Some(mode) = root.string(problems, "socket-mode", example) {
        match mode.value.trim_start_matches('0') {
            "600" => access.mode = 0o600,
            "660" => access.mode = 0o660,
            "666" => access.mode = 0o666,
            _ => {
                let message = format!(
                    "`{}` is not \"600\" (the daemon's user), \"660\" (and the socket's group) or \"666\" (everybody)",
                    mode.value
                );
                problems.add(mode.span, mode.path, message, example);
            }
        }
    }
    let groups = 0..u64::from(u32::MAX);
    let group = root.integer(problems, "socket-group", groups, "socket-group = 1000");
    access.group = group.and_then(|group| u32::try_from(group.value).ok());
    access
}
