//! Finding a lab from another process: the file that a lab writes when it serves.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The header in which the lab's own questions carry the secret.
pub const SECRET_HEADER: &str = "x-karat-lab-secret";

/// A lab that serves, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// When that was started, in clock ticks since boot, so that another process with the number
    /// is not taken for it.
    pub started: u64,
    /// Where it serves.
    pub address: SocketAddr,
    /// The access key of the account.
    pub access_key: String,
    /// Its secret, which is also that of the lab's own questions.
    pub secret_key: String,
    /// The region that clients are told.
    pub region: String,
}

/// Where a lab keeps what it has, in a state directory.
#[must_use]
pub fn dir(state_dir: &Path) -> PathBuf {
    state_dir.join("lab")
}

fn file(dir: &Path) -> PathBuf {
    dir.join("lab.json")
}

/// When a process was started; `None` when it is no more.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The lab of a folder, if its process lives.
#[must_use]
pub fn find(dir: &Path) -> Option<Running> {
    let text = fs::read(file(dir)).ok()?;
    let running: Running = serde_json::from_slice(&text).ok()?;
    running.lives().then_some(running)
}

impl Running {
    /// Whether the process is still there.
    #[must_use]
    pub fn lives(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// The address of the lab, as clients take it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What AWS's own clients need in their environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_ACCESS_KEY_ID", self.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_key.clone()),
            ("AWS_REGION", self.region.clone()),
            ("AWS_DEFAULT_REGION", self.region.clone()),
            // Not the metadata service of the machine we are on.
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ]
    }

    /// Variables that would lead clients past what [`Self::environment`] says.
    #[must_use]
    pub fn unset() -> [&'static str; 3] {
        ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"]
    }

    /// Writes the file, for its owner alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let draft = dir.join(format!(".lab.json.{}", self.pid));
        let mut options = fs::OpenOptions::new();
        let mut to = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        to.write_all(&serde_json::to_vec_pretty(self)?)?;
        fs::rename(draft, file(dir))
    }
}

/// Removes the file.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn forget(dir: &Path) -> io::Result<()> {
    match fs::remove_file(file(dir)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_is_found_as_long_as_its_process_lives() {
        let dir = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        let mut running = Running {
            pid,
            started: start_time(pid).unwrap(),
            address: "127.0.0.1:4566".parse().unwrap(),
            access_key: "AKIA".into(),
            secret_key: "s".into(),
            region: "us-east-1".into(),
        };
        assert_eq!(find(dir.path()), None);
        running.write(dir.path()).unwrap();
        assert_eq!(find(dir.path()), Some(running.clone()));
        running.started += 1;
        running.write(dir.path()).unwrap();
        assert_eq!(find(dir.path()), None);
        forget(dir.path()).unwrap();
        forget(dir.path()).unwrap();
    }
}
