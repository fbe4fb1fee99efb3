//! Installs locked packages into a root directory by real `dpkg`, with as little waiting as it can.

use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::{LockedPackage, fetch};
use crate::control::parallel;
use crate::deb::Deb;
use crate::extract::Extractor;
use crate::sandbox::Sandbox;
use crate::{Control, Error, Result};

/// Where the package files are inside the sandbox.
pub(crate) const INSIDE: &str = "/run/karat/debs";

/// How the file of a package is named for dpkg.
fn file_name(package: &LockedPackage) -> String {
    format!("{}_{}.deb", package.name, package.architecture)
}

/// Decompresses the package files into `debs`, and unpacks the essential ones into `root` where
/// one is given, on all processors.
pub(crate) fn prepare(
    cache: &Path,
    packages: &[LockedPackage],
    debs: &Path,
    root: Option<&Path>,
    control: &Control,
) -> Result<()> {
    fs::create_dir_all(debs).map_err(Error::io("make the directory", debs))?;
    // The largest first, so that no processor is left with one big package at the end.
    let by_size = |essential: bool| {
        let mut found: Vec<&LockedPackage> =
            packages.iter().filter(|package| package.essential == essential).collect();
        found.sort_by_key(|package| std::cmp::Reverse(package.size));
        found
    };
    let decompress = |package: &LockedPackage| {
        Deb::open(&fetch::cached(cache, package))?
            .write_uncompressed(&debs.join(file_name(package)), control)
            .map_err(|error| error.needing(package.size * 4))
    };
    parallel(&by_size(true), control, |package| decompress(package))?;
    // One after the other, since packages share directories and the last one decides how those
    // look; the other packages are decompressed meanwhile.
    let unpack = || {
        let Some(root) = root else { return Ok(()) };
        let mut extractor = Extractor::new(root)?;
        for package in packages.iter().filter(|package| package.essential) {
            Deb::open(&debs.join(file_name(package)))?.extract(&mut extractor, control)?;
        }
        Ok(())
    };
    let mut tasks: Vec<Option<&LockedPackage>> = vec![None];
    tasks.extend(by_size(false).into_iter().map(Some));
    parallel(&tasks, control, |task| match task {
        Some(package) => decompress(package),
        None => unpack(),
    })
    .map(drop)
}

/// Unpacks and configures, in the order of the lock.
pub(crate) fn install(
    sandbox: &Sandbox,
    packages: &[LockedPackage],
    control: &Control,
) -> Result<()> {
    const UNSAFE: &str = "--force-unsafe-io";
    let (first, rest): (Vec<_>, Vec<_>) = packages.iter().partition(|package| package.essential);
    let total = packages.len() as u64;
    let paths = |batch: &[&LockedPackage]| -> Vec<String> {
        batch.iter().map(|package| format!("{INSIDE}/{}", file_name(package))).collect()
    };
    let dpkg = |flags: &[&str], names: &[String]| {
        let mut argv = vec!["dpkg", UNSAFE, "--force-confdef", "--force-confold"];
        argv.extend(flags);
        argv.extend(names.iter().map(String::as_str));
        sandbox.run(&argv)
    };
    if !first.is_empty() {
        // The files are in place already, so scripts find their tools whatever the order.
        control.phase(format!("installing {} essential packages", first.len()));
        dpkg(&["--force-depends", "--no-triggers", "--unpack"], &paths(&first))?;
        dpkg(&["--force-depends", "--no-triggers", "--configure", "--pending"], &[])?;
        control.done(first.len() as u64, total, "packages");
    }
    if !rest.is_empty() {
        control.phase(format!("installing {} packages", rest.len()));
        let mut batch: Vec<&LockedPackage> = Vec::new();
        for package in rest {
            if !package.configure_before.is_empty() {
                dpkg(&["--no-triggers", "--unpack"], &paths(&batch))?;
                batch.clear();
                dpkg(&["--no-triggers", "--configure"], &package.configure_before)?;
            }
            batch.push(package);
        }
        dpkg(&["--no-triggers", "--unpack"], &paths(&batch))?;
        control.phase(format!("configuring {} packages", packages.len()));
    }
    dpkg(&["--configure", "--pending"], &[])?;
    control.done(total, total, "packages");
    mark_automatic(sandbox.root(), packages)
}

/// Tells apt which packages nobody asked for, as it would have noted itself.
fn mark_automatic(root: &Path, packages: &[LockedPackage]) -> Result<()> {
    let at = root.join("var/lib/apt/extended_states");
    let mut text = match fs::read_to_string(&at) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::io("read", &at)(error)),
    };
    let before = text.len();
    let mut automatic: Vec<&LockedPackage> = packages.iter().filter(|p| p.automatic).collect();
    automatic.sort_by(|a, b| a.name.cmp(&b.name));
    for package in automatic {
        let name = format!("Package: {}\n", package.name);
        if !text.contains(&name) {
            text.push_str(&format!(
                "{name}Architecture: {}\nAuto-Installed: 1\n\n",
                package.architecture
            ));
        }
    }
    if text.len() == before {
        return Ok(());
    }
    let dir = root.join("var/lib/apt");
    fs::create_dir_all(&dir).map_err(Error::io("make the directory", &dir))?;
    fs::write(&at, text).map_err(Error::io("write", &at))
}

/// Makes the directories and links that every Debian package assumes, and an empty package state.
pub(crate) fn skeleton(root: &Path, architecture: &str) -> Result<()> {
    let make = |path: &str| {
        let at = root.join(path);
        fs::create_dir_all(&at).map_err(Error::io("make the directory", &at)).map(|()| at)
    };
    let mut links = vec!["bin", "sbin", "lib"];
    if architecture == "amd64" {
        links.push("lib64");
    }
    for name in links {
        make(&format!("usr/{name}"))?;
        let at: PathBuf = root.join(name);
        std::os::unix::fs::symlink(format!("usr/{name}"), &at)
            .map_err(Error::io("make the link", &at))?;
    }
    make("var/lib/dpkg/info")?;
    make("var/lib/dpkg/updates")?;
    make("var/lib/dpkg/triggers")?;
    for name in ["status", "available"] {
        let at = root.join("var/lib/dpkg").join(name);
        fs::write(&at, b"").map_err(Error::io("write", &at))?;
    }
    Ok(())
}
