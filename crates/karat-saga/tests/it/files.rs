//! A sample saga: a scratch folder, a draft in it, and a finished file that is kept.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use karat_saga::{Lifetime, Saga, Services, Step, StepContext, StepError, StepRegistry};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MakeDir {
    pub(crate) path: PathBuf,
}

impl Step for MakeDir {
    const KIND: &'static str = "test.make_dir";
    type Output = PathBuf;

    async fn run(&self, _: &StepContext) -> Result<PathBuf, StepError> {
        std::fs::create_dir_all(&self.path)
            .map_err(|e| StepError::because("could not make the folder", e))?;
        Ok(self.path.clone())
    }

    async fn undo(&self, _: &StepContext, _: Option<PathBuf>) -> Result<(), StepError> {
        unless_gone(std::fs::remove_dir(&self.path))
    }
}

/// Two effects in a row, with a place for faults between them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WriteDraft {
    pub(crate) name: String,
}

impl Step for WriteDraft {
    const KIND: &'static str = "test.write_draft";
    type Output = (PathBuf, PathBuf);

    async fn run(&self, cx: &StepContext) -> Result<(PathBuf, PathBuf), StepError> {
        let dir: PathBuf = cx.output("scratch")?;
        let (one, two) = (dir.join(&self.name), dir.join(format!("{}.sum", self.name)));
        std::fs::write(&one, "draft").map_err(|e| StepError::because("could not write", e))?;
        cx.fault_point("between")?;
        std::fs::write(&two, "5").map_err(|e| StepError::because("could not write", e))?;
        Ok((one, two))
    }

    async fn undo(&self, cx: &StepContext, _: Option<(PathBuf, PathBuf)>) -> Result<(), StepError> {
        let dir: PathBuf = cx.output("scratch")?;
        unless_gone(std::fs::remove_file(dir.join(&self.name)))?;
        unless_gone(std::fs::remove_file(dir.join(format!("{}.sum", self.name))))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Publish {
    pub(crate) to: PathBuf,
}

impl Step for Publish {
    const KIND: &'static str = "test.publish";
    type Output = u64;

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, cx: &StepContext) -> Result<u64, StepError> {
        let (draft, _): (PathBuf, PathBuf) = cx.output("draft")?;
        std::fs::copy(draft, &self.to).map_err(|e| StepError::because("could not copy", e))
    }

    async fn undo(&self, _: &StepContext, _: Option<u64>) -> Result<(), StepError> {
        unless_gone(std::fs::remove_file(&self.to))
    }
}

fn unless_gone(done: io::Result<()>) -> Result<(), StepError> {
    match done {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(StepError::because("could not remove", e))
        }
        _ => Ok(()),
    }
}

pub(crate) struct Files;

impl karat_saga::harness::Fixture for Files {
    fn saga(&self, world: &Path) -> Saga {
        Saga::new("files")
            .step("scratch", MakeDir { path: world.join("scratch") })
            .step("draft", WriteDraft { name: "page".to_owned() })
            .step("publish", Publish { to: world.join("page") })
            .step("note", MakeDir { path: world.join("note") })
            .build()
            .unwrap()
    }

    fn registry(&self) -> StepRegistry {
        StepRegistry::new().with::<MakeDir>().with::<WriteDraft>().with::<Publish>()
    }

    fn services(&self, _: &Path) -> Services {
        Services::new()
    }

    fn prepare(&self, world: &Path) {
        std::fs::write(world.join("other"), "was here before").unwrap();
    }

    fn snapshot(&self, world: &Path) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut folders = vec![world.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(world).unwrap().display().to_string();
                if path.is_dir() {
                    all.insert(name, "folder".to_owned());
                    folders.push(path);
                } else {
                    all.insert(name, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        all
    }
}
