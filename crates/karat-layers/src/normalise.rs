//! Makes a tree forget when and where it was made, so that the same inputs give the same bytes.
//!
//! Removed: what identifies one machine (host keys, machine id, random seed), what a run left
//! (logs, temporary files, package lists and archives, caches that are rebuilt on demand, backup
//! files of dpkg and debconf). Times after the epoch become the epoch; fractions of seconds go.
//!
//! In a layer on top of others a removal means "as the layers below have it": nothing is hidden.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde::{Deserialize, Serialize};

use crate::scan::host_path;
use crate::{Control, Error, Result};

/// How much a layer forgets. The default is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Normalise {
    /// Newest time a file may have, seconds since 1970; `None` takes the parent's, or the newest
    /// time of a base's package lists.
    pub epoch: Option<i64>,
    /// Keep SSH host keys, for images of one machine only.
    pub keep_host_keys: bool,
    /// Keep what is in `/var/log`.
    pub keep_logs: bool,
}

#[expect(clippy::derivable_impls, reason = "the defaults are the contract")]
impl Default for Normalise {
    fn default() -> Self {
        Self { epoch: None, keep_host_keys: false, keep_logs: false }
    }
}

enum Rule {
    /// Remove this name.
    Name(&'static str),
    /// Remove what is in this directory, and keep the directory.
    Below(&'static str),
    /// Remove the files in this directory and below, and keep the directories.
    Files(&'static str),
    /// Remove the names in this directory that begin and end so.
    Like(&'static str, &'static str, &'static str),
}

const ALWAYS: &[Rule] = &[
    Rule::Name("/var/lib/systemd/random-seed"),
    Rule::Name("/var/lib/systemd/credential.secret"),
    Rule::Name("/var/lib/systemd/timesync/clock"),
    Rule::Below("/var/lib/systemd/timers"),
    Rule::Below("/var/lib/systemd/coredump"),
    Rule::Name("/var/lib/urandom/random-seed"),
    Rule::Below("/var/lib/cloud"),
    Rule::Files("/var/lib/apt/lists"),
    Rule::Files("/var/cache/apt"),
    Rule::Name("/var/cache/ldconfig/aux-cache"),
    Rule::Like("/var/lib/dpkg", "", "-old"),
    Rule::Name("/var/lib/dpkg/lock"),
    Rule::Name("/var/lib/dpkg/lock-frontend"),
    Rule::Name("/var/lib/dpkg/triggers/Lock"),
    Rule::Like("/var/cache/debconf", "", "-old"),
    Rule::Like("/etc", ".pwd.lock", ""),
    Rule::Like("/var/lib/dhcp", "", ".leases"),
    Rule::Below("/var/lib/systemd/rfkill"),
    Rule::Below("/var/cache/man"),
    Rule::Name("/root/.bash_history"),
    Rule::Name("/root/.wget-hsts"),
    Rule::Below("/root/.cache"),
    Rule::Below("/tmp"),
    Rule::Below("/var/tmp"),
    Rule::Below("/run"),
    Rule::Below("/dev"),
    Rule::Below("/proc"),
    Rule::Below("/sys"),
];

/// Log files that programs expect to be there: emptied, not removed.
const EMPTIED: &[&str] = &["wtmp", "btmp", "lastlog", "faillog"];

/// Cleans a tree in place. `base` says that it is a whole system and not an overlay's upper
/// directory.
pub(crate) fn normalise(
    root: &Path,
    options: Normalise,
    epoch: i64,
    base: bool,
    control: &Control,
) -> Result<()> {
    for rule in ALWAYS {
        control.check()?;
        match rule {
            Rule::Name(path) => remove(&host_path(root, path.as_bytes()))?,
            Rule::Below(dir) => each(root, dir, |_, at| remove(at))?,
            Rule::Files(dir) => each(root, dir, |_, at| remove_files(at))?,
            Rule::Like(dir, prefix, suffix) => each(root, dir, |name, at| {
                if name.starts_with(prefix) && name.ends_with(suffix) { remove(at) } else { Ok(()) }
            })?,
        }
    }
    if !options.keep_host_keys {
        each(
            root,
            "/etc/ssh",
            |name, at| {
                if name.starts_with("ssh_host_") { remove(at) } else { Ok(()) }
            },
        )?;
    }
    if !options.keep_logs && real_dir(root, "/var/log") {
        clean_logs(&root.join("var/log"))?;
    }
    machine_id(root, base)?;
    clamp(root, epoch, control)?;
    Ok(())
}

/// `/etc/machine-id` is empty: systemd fills it at every first boot.
fn machine_id(root: &Path, base: bool) -> Result<()> {
    let at = root.join("var/lib/dbus/machine-id");
    if real_dir(root, "/var/lib/dbus") && at.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        remove(&at)?;
    }
    if !real_dir(root, "/etc") {
        return Ok(());
    }
    let at = root.join("etc/machine-id");
    remove(&at)?;
    if base {
        fs::write(&at, b"").map_err(Error::io("write", &at))?;
        fs::set_permissions(&at, fs::Permissions::from_mode(0o444))
            .map_err(Error::io("set the mode of", &at))?;
    }
    Ok(())
}

/// Whether the path is a directory with no link on the way, so that a link in the tree never leads
/// the clean-up to files of the host.
fn real_dir(root: &Path, path: &str) -> bool {
    let mut at = root.to_owned();
    path.split('/').filter(|part| !part.is_empty()).all(|part| {
        at.push(part);
        at.symlink_metadata().is_ok_and(|meta| meta.is_dir())
    })
}

fn each(root: &Path, dir: &str, mut act: impl FnMut(&str, &Path) -> Result<()>) -> Result<()> {
    if !real_dir(root, dir) {
        return Ok(());
    }
    let at = host_path(root, dir.as_bytes());
    for entry in fs::read_dir(&at).map_err(Error::io("list", &at))? {
        let entry = entry.map_err(Error::io("list", &at))?;
        act(&entry.file_name().to_string_lossy(), &entry.path())?;
    }
    Ok(())
}

/// Removes a name and what is below it; whiteouts stay, since they hide something in a lower layer.
fn remove(at: &Path) -> Result<()> {
    let Ok(meta) = at.symlink_metadata() else { return Ok(()) };
    if meta.file_type().is_char_device() && meta.rdev() == 0 {
        return Ok(());
    }
    let result = if meta.is_dir() { fs::remove_dir_all(at) } else { fs::remove_file(at) };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", at)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a file, or the files in a directory and below.
fn remove_files(at: &Path) -> Result<()> {
    if !at.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return remove(at);
    }
    for entry in fs::read_dir(at).map_err(Error::io("list", at))? {
        remove_files(&entry.map_err(Error::io("list", at))?.path())?;
    }
    Ok(())
}

fn clean_logs(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let at = entry.path();
        let kind = entry.file_type().map_err(Error::io("read", &at))?;
        if kind.is_dir() {
            if dir.ends_with("var/log/journal") {
                remove(&at)?;
            } else {
                clean_logs(&at)?;
            }
        } else if kind.is_file() && EMPTIED.iter().any(|name| entry.file_name() == *name) {
            fs::File::options()
                .write(true)
                .truncate(true)
                .open(&at)
                .map_err(Error::io("empty", &at))?;
        } else if !kind.is_symlink() {
            remove(&at)?;
        }
    }
    Ok(())
}

/// Sets every time after the epoch to it, and cuts fractions of seconds; children first, since
/// touching a child does not change its directory but removing did.
fn clamp(at: &Path, epoch: i64, control: &Control) -> Result<()> {
    let meta = at.symlink_metadata().map_err(Error::io("read", at))?;
    if meta.is_dir() {
        control.check()?;
        for entry in fs::read_dir(at).map_err(Error::io("list", at))? {
            clamp(&entry.map_err(Error::io("list", at))?.path(), epoch, control)?;
        }
    }
    if meta.mtime() > epoch || meta.mtime_nsec() != 0 {
        let time = Timespec { tv_sec: meta.mtime().min(epoch), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::sys("set the time of", at))?;
    }
    Ok(())
}
