//! A machine with WinRM: the protocol is real, what is behind it is `sh` instead of Windows.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The user that may log in.
pub const USER: &str = "Administrator";

/// The password of [`USER`], unless [`Winrm::set_password`] gives another.
pub const PASSWORD: &str = "Correct;horse 1";

/// A server that ends when dropped.
#[derive(Debug)]
pub struct Winrm {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Winrm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Winrm {
    /// Starts one; `way` is how it lets in: `basic` or `ntlm`.
    ///
    /// # Errors
    /// When `python3` is missing or the server does not come up.
    pub fn start(way: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("karat-winrm-").tempdir()?;
        let script = folder.path().join("winrm.py");
        fs::write(&script, include_str!("winrm.py"))?;
        fs::write(folder.path().join("password"), PASSWORD)?;
        let mut child = Command::new("python3")
            .arg(script)
            .arg(folder.path())
            .args([USER, way])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let mut server = Self { child, port: 0, folder };
        server.port = line.trim().parse().map_err(io::Error::other)?;
        Ok(server)
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets the user in by another password from now on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_password(&self, password: &str) -> io::Result<()> {
        let (new, at) = (self.folder.path().join("new"), self.folder.path().join("password"));
        fs::write(&new, password)?;
        fs::rename(new, at)
    }

    /// A file or folder of `C:`.
    pub fn place(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join("C").join(path)
    }
}
