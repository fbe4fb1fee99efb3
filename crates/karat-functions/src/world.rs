//! What functions may ask of the outside: files, environment, clocks, chance and
//! secret stores. Nothing in this crate reaches outside in any other way.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// What a path leads to, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A file with contents.
    Regular,
    /// A folder.
    Directory,
    /// A device, socket or pipe.
    Other,
}

/// The outside as the template language sees it.
///
/// The evaluator and every function get at files, clocks and secrets only through
/// this trait, so that planning and validation stay free of side effects and tests
/// run against a world of their own.
pub trait World: Sync {
    /// Reads a whole file. Relative paths start at the working folder.
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Says what a path leads to, links followed.
    ///
    /// # Errors
    /// `NotFound` when nothing is there; a dangling link counts as nothing.
    fn file_kind(&self, path: &Path) -> io::Result<FileKind>;

    /// Lists the names in a folder, in any order, without `.` and `..`.
    fn list_folder(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Reads a variable of the environment.
    fn env_var(&self, name: &str) -> Option<String>;

    /// The folder in which the process works.
    fn working_folder(&self) -> io::Result<PathBuf>;

    /// The home folder of the user, if there is one.
    fn home_folder(&self) -> Option<PathBuf>;

    /// The wall clock at this call.
    fn now(&self) -> Timestamp;

    /// The wall clock when the process started; the same at every call.
    fn started(&self) -> Timestamp;

    /// Fills a buffer with bytes fit for keys and identifiers.
    fn random(&self, buffer: &mut [u8]) -> io::Result<()>;

    /// Reads a key of a Consul store.
    ///
    /// # Errors
    /// A sentence that says what is missing or what the store answered.
    fn consul_key(&self, key: &str) -> Result<String, String> {
        let _ = key;
        Err("this command has no access to a Consul server".to_owned())
    }

    /// Reads one field of a Vault secret.
    ///
    /// # Errors
    /// A sentence that says what is missing or what the store answered.
    fn vault(&self, path: &str, key: &str) -> Result<String, String> {
        let _ = (path, key);
        if self.env_var("VAULT_TOKEN").is_none_or(|token| token.is_empty()) {
            return Err("the environment variable VAULT_TOKEN is not set".to_owned());
        }
        Err("this command has no access to a Vault server".to_owned())
    }

    /// Reads a field of a secret of AWS Secrets Manager; without a key, the only field.
    ///
    /// # Errors
    /// A sentence that says what is missing or what the store answered.
    fn aws_secret(&self, name: &str, key: Option<&str>) -> Result<String, String> {
        let _ = (name, key);
        Err("this command has no access to AWS Secrets Manager".to_owned())
    }

    /// Reads a whole secret of AWS Secrets Manager as it is stored.
    ///
    /// # Errors
    /// A sentence that says what is missing or what the store answered.
    fn aws_secret_raw(&self, name: &str) -> Result<String, String> {
        let _ = name;
        Err("this command has no access to AWS Secrets Manager".to_owned())
    }
}

/// A world held in memory, for tests and for rendering without a machine around.
#[derive(Debug, Clone)]
pub struct MemoryWorld {
    /// Contents by absolute, clean path. Folders exist as far as files need them.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The working folder.
    pub working_folder: PathBuf,
    /// The home folder.
    pub home_folder: Option<PathBuf>,
    /// Both clocks.
    pub clock: Timestamp,
}

impl Default for MemoryWorld {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            env: BTreeMap::new(),
            working_folder: PathBuf::from("/templates"),
            home_folder: Some(PathBuf::from("/home/user")),
            clock: Timestamp::UNIX_EPOCH,
        }
    }
}

impl MemoryWorld {
    /// Adds a file; a relative path starts at the working folder.
    #[must_use]
    pub fn with_file(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Self {
        let path = self.absolute(Path::new(path));
        self.files.insert(path, contents.into());
        self
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        let joined = self.working_folder.join(path);
        PathBuf::from(crate::paths::clean(&joined.to_string_lossy()))
    }
}

impl World for MemoryWorld {
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let path = self.absolute(path);
        self.files.get(&path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file_kind(&self, path: &Path) -> io::Result<FileKind> {
        let path = self.absolute(path);
        if self.files.contains_key(&path) {
            return Ok(FileKind::Regular);
        }
        let is_folder =
            path == self.working_folder || self.files.keys().any(|file| file.starts_with(&path));
        if is_folder { Ok(FileKind::Directory) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn list_folder(&self, path: &Path) -> io::Result<Vec<String>> {
        let path = self.absolute(path);
        let mut names: Vec<String> = self
            .files
            .keys()
            .filter_map(|file| file.strip_prefix(&path).ok())
            .filter_map(|rest| rest.components().next())
            .map(|name| name.as_os_str().to_string_lossy().into_owned())
            .collect();
        names.dedup();
        Ok(names)
    }

    fn env_var(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn working_folder(&self) -> io::Result<PathBuf> {
        Ok(self.working_folder.clone())
    }

    fn home_folder(&self) -> Option<PathBuf> {
        self.home_folder.clone()
    }

    fn now(&self) -> Timestamp {
        self.clock
    }

    fn started(&self) -> Timestamp {
        self.clock
    }

    fn random(&self, buffer: &mut [u8]) -> io::Result<()> {
        for (index, byte) in buffer.iter_mut().enumerate() {
            *byte = (index as u8).wrapping_mul(37).wrapping_add(11);
        }
        Ok(())
    }
}
