//! A machine that boots when it must and not before.
//!
//! Most of what a `file` provisioner does needs no system that runs: files go straight into the
//! mounted root, which takes milliseconds. The first command boots it, and so does the first file
//! for a folder that a running system covers with another one.

use std::path::{Component, Path, PathBuf};

use karat_component::ExitStatus;
use tokio::io::AsyncRead;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::error::Result;
use super::exec::Exec;
use super::machine::{BootReport, Machine};
use super::spec::MachineSpec;

/// Folders that a running system mounts something over, and links that lead there.
const COVERED: [&str; 7] = ["/dev", "/proc", "/run", "/sys", "/tmp", "/var/run", "/var/lock"];

/// A prepared machine that boots at the first need.
#[derive(Debug)]
pub struct LazyMachine {
    machine: Machine,
    report: OnceCell<BootReport>,
    cancel: CancellationToken,
}

impl LazyMachine {
    /// Mounts the root; `cancel` also ends a later boot.
    ///
    /// # Errors
    /// As [`Machine::prepare`].
    pub async fn prepare(spec: MachineSpec, cancel: &CancellationToken) -> Result<Self> {
        let machine = Machine::prepare(spec, cancel).await?;
        Ok(Self { machine, report: OnceCell::new(), cancel: cancel.clone() })
    }

    /// The machine as it is, booted or not.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// How it started, once it has.
    pub fn report(&self) -> Option<&BootReport> {
        self.report.get()
    }

    /// Boots it unless it runs already.
    ///
    /// # Errors
    /// As [`Machine::run`]; the next call tries again.
    pub async fn booted(&self) -> Result<&Machine> {
        self.report.get_or_try_init(|| self.machine.run(&self.cancel)).await?;
        Ok(&self.machine)
    }

    /// Makes it run again after it went away.
    ///
    /// # Errors
    /// As [`Machine::revive`].
    pub async fn revive(&self, cancel: &CancellationToken) -> Result<()> {
        self.booted().await?.revive(cancel).await
    }

    /// The machine, booted if the path needs that.
    async fn ready_for(&self, path: &str) -> Result<&Machine> {
        if self.needs_boot(path) { self.booted().await } else { Ok(&self.machine) }
    }

    fn needs_boot(&self, path: &str) -> bool {
        let path = normal(Path::new(path));
        // The folder above all of them holds them too.
        path == Path::new("/")
            || COVERED.iter().any(|covered| path.starts_with(covered))
            || self
                .machine
                .spec()
                .binds
                .iter()
                .any(|bind| path.starts_with(&bind.target) || bind.target.starts_with(&path))
    }

    /// As [`Machine::exec`], after the boot.
    ///
    /// # Errors
    /// As [`Machine::exec`] and [`Machine::run`].
    pub async fn exec(&self, exec: Exec) -> Result<ExitStatus> {
        self.booted().await?.exec(exec).await
    }

    /// As [`Machine::put`].
    ///
    /// # Errors
    /// As [`Machine::put`] and [`Machine::run`].
    pub async fn put(
        &self,
        content: &mut (dyn AsyncRead + Send + Unpin),
        to: &str,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<()> {
        self.ready_for(to).await?.put(content, to, mode, cancel).await
    }

    /// As [`Machine::put_file`].
    ///
    /// # Errors
    /// As [`Machine::put_file`] and [`Machine::run`].
    pub async fn put_file(
        &self,
        from: &Path,
        to: &str,
        mode: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<()> {
        self.ready_for(to).await?.put_file(from, to, mode, cancel).await
    }

    /// As [`Machine::put_dir`].
    ///
    /// # Errors
    /// As [`Machine::put_dir`] and [`Machine::run`].
    pub async fn put_dir(&self, from: &Path, to: &str, cancel: &CancellationToken) -> Result<()> {
        self.ready_for(to).await?.put_dir(from, to, cancel).await
    }

    /// As [`Machine::get_file`].
    ///
    /// # Errors
    /// As [`Machine::get_file`] and [`Machine::run`].
    pub async fn get_file(&self, from: &str, to: &Path, cancel: &CancellationToken) -> Result<()> {
        self.ready_for(from).await?.get_file(from, to, cancel).await
    }

    /// As [`Machine::get_dir`].
    ///
    /// # Errors
    /// As [`Machine::get_dir`] and [`Machine::run`].
    pub async fn get_dir(&self, from: &str, to: &Path, cancel: &CancellationToken) -> Result<()> {
        self.ready_for(from).await?.get_dir(from, to, cancel).await
    }
}

/// The path without `.`, `..` and doubled slashes; relative ones start at root's home.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for part in Path::new("/root").join(path).components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            _ => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain() {
        for (path, expected) in
            [("/a//b/../c/.", "/a/c"), ("x", "/root/x"), ("../tmp/x", "/tmp/x"), ("/../..", "/")]
        {
            assert_eq!(normal(Path::new(path)), Path::new(expected));
        }
    }
}
