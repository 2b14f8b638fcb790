//! Small file systems to be filled.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A file system in memory, unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of so many KiB at `path`, which it makes.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn mount(path: &Path, kib: u32) -> Result<Tmpfs, String> {
        std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={kib}k,mode=700"))
            .arg("mainstay-torture")
            .arg(path)
            .output()
            .map_err(|error| format!("`mount` does not start: {error}"))?;
        if output.status.success() {
            Ok(Tmpfs(path.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a daemon may still have it open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
