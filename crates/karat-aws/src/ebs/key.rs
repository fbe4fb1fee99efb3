//! Step `key`: a key pair for this build.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_sdk_ec2::types::{KeyFormat, KeyType, ResourceType};
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::node;
use super::scope::{Scope, look, look_for_all, say};
use super::source::SourceImage;
use crate::client::{Aws, AwsError, Explain, has_code};

/// Makes a key pair. AWS keeps its public half; the private one lies in a file that only this user
/// can read, and goes with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MakeKey {
    pub(crate) scope: Scope,
    pub(crate) name: String,
    pub(crate) rsa: bool,
}

/// After so many seconds a pair is seen.
const SEEN: i64 = 5;

/// The key pair.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeyPair {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) file: PathBuf,
    /// When it was made, in seconds since 1970.
    #[serde(default)]
    pub(crate) made: i64,
}

impl MakeKey {
    fn file(&self) -> PathBuf {
        self.scope.folder.join("key.pem")
    }

    /// Names of the key pairs that this build made.
    async fn own(&self, aws: &Aws) -> Result<Vec<String>, AwsError> {
        let answer = aws.ec2.describe_key_pairs().filters(self.scope.own()).send().await?;
        Ok(answer.key_pairs().iter().filter_map(|k| k.key_name().map(str::to_owned)).collect())
    }

    async fn remove(&self, aws: &Aws, names: &[String]) -> Result<(), AwsError> {
        for name in names {
            match aws.ec2.delete_key_pair().key_name(name).send().await {
                Err(e) if !has_code(&e, &["InvalidKeyPair.NotFound"]) => return Err(e.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Step for MakeKey {
    const KIND: &'static str = "aws.key";
    const REMOTE: bool = true;
    type Output = KeyPair;

    async fn run(&self, cx: &StepContext) -> Result<KeyPair, StepError> {
        let aws = self.scope.aws().await?;
        let source: SourceImage = cx.output(node::SOURCE)?;
        say(cx, format!("Creating the key pair {}", self.name));
        let ask = || {
            aws.ec2
                .create_key_pair()
                .key_name(&self.name)
                .key_type(if self.rsa { KeyType::Rsa } else { KeyType::Ed25519 })
                .key_format(KeyFormat::Pem)
                .tag_specifications(
                    self.scope.specification(ResourceType::KeyPair, &source.texts.run_tags),
                )
                .send()
        };
        let what = || format!("could not create the key pair {}", self.name);
        let mut answer = cx.unless_cancelled(ask()).await?;
        if answer.as_ref().is_err_and(|e| has_code(e, &["InvalidKeyPair.Duplicate"])) {
            // An answer that was lost held the private key, which is told once.
            let own = look(cx, || self.own(&aws), &what()).await?;
            if !own.is_empty() {
                self.remove(&aws, &own).await.or_fail(what())?;
                answer = cx.unless_cancelled(ask()).await?;
            }
        }
        let made = match answer {
            Ok(made) => made,
            Err(e) => return Err(aws.decoded(e).await).or_fail(what()),
        };
        let secret = made.key_material().unwrap_or_default();
        let file = self.file();
        write_secret(&file, secret)
            .map_err(|e| StepError::because(format!("could not write {}", file.display()), e))?;
        let id = made.key_pair_id().unwrap_or_default().to_owned();
        let made = jiff::Timestamp::now().as_second();
        Ok(KeyPair { name: self.name.clone(), id, file, made })
    }

    async fn undo(&self, cx: &StepContext, done: Option<KeyPair>) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let what = || format!("could not delete the key pair {}", self.name);
        // AWS says nothing of a pair that it does not see yet.
        let age = |key: &KeyPair| jiff::Timestamp::now().as_second() - key.made;
        let names = match done {
            Some(key) if age(&key) > SEEN => vec![key.name],
            done => {
                let name = done.map(|key| key.name);
                let own = || self.own(&aws);
                let mut names = look_for_all(cx, name.as_ref(), own, &what()).await?;
                names.extend(name.filter(|name| !names.contains(name)));
                names
            }
        };
        if !names.is_empty() {
            say(cx, format!("Deleting the key pair {}", self.name));
        }
        self.remove(&aws, &names).await.or_fail(what())?;
        match std::fs::remove_dir_all(&self.scope.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StepError::because(
                format!("could not remove {}", self.scope.folder.display()),
                e,
            )),
            _ => Ok(()),
        }
    }
}

/// Writes a file that only its owner can read.
fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let _ = std::fs::remove_file(path);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
