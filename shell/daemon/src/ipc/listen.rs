//! Taking the socket's name.

use crate::config::SocketAccess;
use rustix::{fs::Mode, process::umask};
use std::{
    fs::Permissions,
    io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// Why the clients' socket could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error(
        "another daemon answers on the client socket {}; stop it, or give this one another \
         `socket` in its configuration",
        .0.display()
    )]
    Alive(PathBuf),
    #[error(
        "{} is there and is not a socket; move it away, or choose another `socket` in the \
         configuration",
        .0.display()
    )]
    NotASocket(PathBuf),
    #[error("cannot {doing} {}: {error}; choose another `socket` in the configuration, or let the daemon's user write there", .path.display())]
    System {
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

/// Listens at `path`, after removing what a dead daemon left there. A directory that has to be made
/// has mode 0755.
pub(crate) fn bind(path: &Path, access: SocketAccess) -> Result<UnixListener, SocketError> {
    let system = |doing| {
        let path = path.to_owned();
        move |error| SocketError::System { doing, path, error }
    };
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .map_err(system("make the directory of"))?;
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system("look at")(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(SocketError::Alive(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tracing::info!(socket = %path.display(), "removing the socket of a dead daemon");
                std::fs::remove_file(path).map_err(system("remove the old"))?;
            }
            // A full queue of a living daemon, or no permission to ask.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(SocketError::Alive(path.to_owned()));
            }
            Err(error) => return Err(system("connect to the old")(error)),
        },
    }
    // Narrow from the first moment on; it is opened to others once it is their group's.
    let before = umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(system("listen on"))?;
    if let Some(group) = access.group {
        chown(path, None, Some(group)).map_err(system("give to `socket-group`"))?;
    }
    let mode = Permissions::from_mode(access.mode);
    std::fs::set_permissions(path, mode).map_err(system("set the mode of"))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime")
    }

    /// Protects against a second daemon taking a living one's clients, and against a dead one's
    /// socket file stopping the next start.
    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let runtime = runtime();
        let _guard = runtime.enter();
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("new/m.sock");
        let bind = |mode| bind(&path, SocketAccess { mode, group: None });
        let mode = || {
            std::fs::metadata(&path)
                .expect("there")
                .permissions()
                .mode()
                & 0o777
        };
        let listener = bind(0o660).expect("bound");
        assert_eq!(mode(), 0o660);
        assert!(matches!(bind(0o660), Err(SocketError::Alive(_))));
        drop(listener);
        assert!(path.exists(), "a killed daemon leaves its socket");
        let listener = bind(0o666).expect("bound again");
        assert_eq!(mode(), 0o666);
        drop(listener);
    }

    /// Protects files that happen to lie where the socket should.
    #[test]
    fn other_files_are_left_alone() {
        let runtime = runtime();
        let _guard = runtime.enter();
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("m.sock");
        std::fs::write(&path, "precious").expect("written");
        let bound = bind(&path, SocketAccess::default());
        assert!(matches!(bound, Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "precious");
    }
}
