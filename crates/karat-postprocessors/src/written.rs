//! Files that appear whole or not at all.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use karat_component::ComponentError;
use tempfile::NamedTempFile;

/// A file on its way. Dropped before [`Written::finish`], nothing of it is left, nor of the
/// folders that were made for it.
#[derive(Debug)]
pub(crate) struct Written {
    file: Option<NamedTempFile>,
    goal: PathBuf,
    /// Folders that were made for it, the innermost first.
    made: Vec<PathBuf>,
}

impl Written {
    /// Begins the file `goal`, in a folder that is made if it is missing.
    pub(crate) fn begin(goal: &Path) -> Result<Self, ComponentError> {
        let failed = |e: io::Error| cannot_write(goal, e);
        let folder = match goal.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let missing = folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists());
        let made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        let mut written = Self { file: None, goal: goal.to_owned(), made };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let file = tempfile::Builder::new()
            .prefix(".karat-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(failed)?;
        written.file = Some(file);
        Ok(written)
    }

    /// The file, to be written to.
    pub(crate) fn file(&self) -> Result<std::fs::File, ComponentError> {
        let file = self.file.as_ref().ok_or_else(|| ComponentError::new("the file is gone"))?;
        file.as_file().try_clone().map_err(|e| cannot_write(&self.goal, e))
    }

    /// Adds to the file.
    pub(crate) fn write(&self, content: &[u8]) -> Result<(), ComponentError> {
        self.file()?.write_all(content).map_err(|e| cannot_write(&self.goal, e))
    }

    /// Puts the file at its place, over one that is there.
    pub(crate) fn finish(mut self) -> Result<(), ComponentError> {
        let Some(file) = self.file.take() else { return Ok(()) };
        file.persist(&self.goal).map_err(|e| cannot_write(&self.goal, e.error))?;
        self.made.clear();
        Ok(())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        drop(self.file.take());
        for folder in &self.made {
            // One that another build uses by now is not empty, and stays.
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

pub(crate) fn cannot_write(path: &Path, error: io::Error) -> ComponentError {
    let full = error.kind() == io::ErrorKind::StorageFull;
    let error = ComponentError::because(format!("cannot write \"{}\"", path.display()), error);
    if full {
        error.with_hint("the file system is full; nothing of the file was left")
    } else {
        error
    }
}

pub(crate) fn cannot_read(path: &Path, error: io::Error) -> ComponentError {
    ComponentError::because(format!("cannot read \"{}\"", path.display()), error)
}
