//! Downloads package files into a cache by digest, several at a time.
//!
//! apt's own downloader does the transfer, so whatever the system's apt can reach (proxies,
//! credentials, private authorities, `file:` and `cdrom:` archives) works here too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::LockedPackage;
use crate::control::parallel;
use crate::run::{PATH, run};
use crate::{Control, Digest, Error, Result};

/// Downloads at a time. More connections rarely help and anger mirrors.
const CONNECTIONS: usize = 4;

/// Where apt keeps its downloader.
pub(crate) const HELPER: &str = "/usr/lib/apt/apt-helper";

/// The cached file of a package.
pub(crate) fn cached(cache: &Path, package: &LockedPackage) -> PathBuf {
    cache.join("debs").join(format!("{}.deb", package.sha256))
}

/// Makes sure that every package file is in the cache, and that its bytes are right.
pub(crate) fn fetch(cache: &Path, packages: &[LockedPackage], control: &Control) -> Result<()> {
    let dir = cache.join("debs");
    fs::create_dir_all(&dir).map_err(Error::io("make the directory", &dir))?;
    let good = parallel(packages, control, |package| check(cache, package))?;
    let missing: Vec<&LockedPackage> =
        packages.iter().zip(good).filter(|(_, good)| !good).map(|(package, _)| package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let total: u64 = missing.iter().map(|package| package.size).sum();
    control.phase(format!("downloading {} packages", missing.len()));
    control.done(0, total, "bytes");
    if crate::error::free_space(&dir).is_some_and(|free| free < total) {
        let free = crate::error::free_space(&dir).unwrap_or(0);
        return Err(Error::NoSpace { dir, needed: Some(total), free });
    }
    let temp = tempfile::Builder::new()
        .prefix("fetch-")
        .tempdir_in(&dir)
        .map_err(Error::io("make a directory in", &dir))?;
    let config = temp.path().join("apt.conf");
    let text = "APT::Sandbox::User \"root\";\nAcquire::Retries \"3\";\n";
    fs::write(&config, text).map_err(Error::io("write", &config))?;
    // Small groups keep progress moving and the connections evenly busy.
    let mut by_size = missing;
    by_size.sort_by_key(|package| std::cmp::Reverse(package.size));
    let count = (by_size.len().div_ceil(12)).clamp(CONNECTIONS.min(by_size.len()), 64);
    let mut groups: Vec<Vec<&LockedPackage>> = vec![Vec::new(); count];
    for (index, package) in by_size.into_iter().enumerate() {
        groups[index % count].push(package);
    }
    let done = AtomicU64::new(0);
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (next, failed, groups, config, temp, done) =
            (&next, &failed, &groups, &config, temp.path(), &done);
        let workers: Vec<_> = (0..CONNECTIONS.min(groups.len()))
            .map(|_| {
                scope.spawn(move || {
                    while !failed.load(Ordering::Relaxed)
                        && let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let result = fetch_group(cache, group, config, temp, control);
                        if let Err(error) = result {
                            failed.store(true, Ordering::Relaxed);
                            return Err(error);
                        }
                        let bytes: u64 = group.iter().map(|package| package.size).sum();
                        let now = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
                        control.done(now, total, "bytes");
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })
}

fn check(cache: &Path, package: &LockedPackage) -> Result<bool> {
    let at = cached(cache, package);
    match fs::metadata(&at) {
        Ok(meta) if meta.len() == package.size => Ok(Digest::of_file(&at)? == package.sha256),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("read", &at)(error)),
    }
}

fn fetch_group(
    cache: &Path,
    group: &[&LockedPackage],
    config: &Path,
    temp: &Path,
    control: &Control,
) -> Result<()> {
    let mut command = Command::new(HELPER);
    command.arg("download-file").env_clear().env("PATH", PATH).env("LC_ALL", "C");
    command.env("APT_CONFIG", config);
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    for package in group {
        command
            .arg(&package.url)
            .arg(temp.join(package.sha256.to_string()))
            .arg(format!("SHA256:{}", package.sha256));
    }
    run(&mut command, "apt", control).map_err(|error| match error {
        Error::Command { log, .. } => Error::Packages(format!(
            "downloading packages failed; if the archive no longer has these versions, resolve \
             again (--update). apt said:\n{}",
            log.trim_end()
        )),
        other => other,
    })?;
    for package in group {
        let from = temp.join(package.sha256.to_string());
        let actual = Digest::of_file(&from)?;
        if actual != package.sha256 {
            return Err(Error::Mismatch {
                what: package.url.clone(),
                expected: package.sha256.to_string(),
                actual: actual.to_string(),
                hint: "the archive changed a published file, or something in between did",
            });
        }
        let to = cached(cache, package);
        fs::rename(&from, &to).map_err(Error::io("move", &to))?;
    }
    Ok(())
}
