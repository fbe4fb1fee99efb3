//! The one way in which the template language reaches outside.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use karat_functions::{FileKind, World};

use crate::stores::Stores;

/// The machine that the program runs on.
#[derive(Debug)]
pub(crate) struct System {
    started: Timestamp,
    /// Nothing where no network is to be reached.
    stores: Option<Stores>,
    secrets: karat_aws::Secrets,
}

impl System {
    pub(crate) fn new() -> Self {
        Self {
            started: Timestamp::now(),
            stores: Some(Stores::default()),
            secrets: karat_aws::Secrets::default(),
        }
    }

    /// The machine without its network.
    pub(crate) fn offline() -> Self {
        Self { stores: None, ..Self::new() }
    }

    fn stores(&self) -> Result<&Stores, String> {
        self.stores.as_ref().ok_or_else(|| "only the syntax is checked".to_owned())
    }
}

impl World for System {
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn file_kind(&self, path: &Path) -> io::Result<FileKind> {
        let meta = std::fs::metadata(path)?;
        Ok(if meta.is_file() {
            FileKind::Regular
        } else if meta.is_dir() {
            FileKind::Directory
        } else {
            FileKind::Other
        })
    }

    fn list_folder(&self, path: &Path) -> io::Result<Vec<String>> {
        std::fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn env_var(&self, name: &str) -> Option<String> {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn working_folder(&self) -> io::Result<PathBuf> {
        std::env::current_dir()
    }

    fn home_folder(&self) -> Option<PathBuf> {
        std::env::home_dir()
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn started(&self) -> Timestamp {
        self.started
    }

    fn random(&self, buffer: &mut [u8]) -> io::Result<()> {
        getrandom::fill(buffer).map_err(|e| io::Error::other(e.to_string()))
    }

    fn consul_key(&self, key: &str) -> Result<String, String> {
        self.stores()?.consul_key(key, self)
    }

    fn vault(&self, path: &str, key: &str) -> Result<String, String> {
        self.stores()?.vault(path, key, self)
    }

    fn aws_secret(&self, name: &str, key: Option<&str>) -> Result<String, String> {
        self.stores()?;
        self.secrets.field(name, key)
    }

    fn aws_secret_raw(&self, name: &str) -> Result<String, String> {
        self.stores()?;
        self.secrets.raw(name)
    }
}

/// The same machine at a fixed moment and without chance: what a template gives in it depends on
/// its inputs alone, so it is what fingerprints are made of.
#[derive(Debug)]
pub(crate) struct Frozen(pub(crate) Arc<System>);

impl World for Frozen {
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.read_file(path)
    }

    fn file_kind(&self, path: &Path) -> io::Result<FileKind> {
        self.0.file_kind(path)
    }

    fn list_folder(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.list_folder(path)
    }

    fn env_var(&self, name: &str) -> Option<String> {
        self.0.env_var(name)
    }

    fn working_folder(&self) -> io::Result<PathBuf> {
        self.0.working_folder()
    }

    fn home_folder(&self) -> Option<PathBuf> {
        self.0.home_folder()
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn started(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn random(&self, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        Ok(())
    }

    // What was answered once is not asked again.

    fn consul_key(&self, key: &str) -> Result<String, String> {
        self.0.consul_key(key)
    }

    fn vault(&self, path: &str, key: &str) -> Result<String, String> {
        self.0.vault(path, key)
    }

    fn aws_secret(&self, name: &str, key: Option<&str>) -> Result<String, String> {
        self.0.aws_secret(name, key)
    }

    fn aws_secret_raw(&self, name: &str) -> Result<String, String> {
        self.0.aws_secret_raw(name)
    }
}
