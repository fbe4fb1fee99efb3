//! Step `import`: a disk becomes an image by its blocks, of which nothing is left after a failure.

use karat_component::ComponentError;
use karat_saga::{Lifetime, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::Import;
use crate::client::{Aws, AwsError, Explain};
use crate::ebs::{Scope, launch_permissions, message, say};

/// Who may launch an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shared {
    pub(super) users: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) organisations: Vec<String>,
    pub(super) units: Vec<String>,
}

impl Shared {
    /// Lets them launch it.
    pub(super) async fn share(&self, aws: &Aws, id: &str) -> Result<(), StepError> {
        let who = launch_permissions(&self.users, &self.groups, &self.organisations, &self.units);
        if who.is_empty() {
            return Ok(());
        }
        let add = aws_sdk_ec2::types::LaunchPermissionModifications::builder();
        let add = add.set_add(Some(who)).build();
        let ask = aws.ec2.modify_image_attribute().image_id(id).launch_permission(add).send();
        ask.await.map(|_| ()).map_err(AwsError::from).or_fail(format!("could not share {id}"))
    }
}

/// Sends a disk and registers it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SendDisk {
    /// Its folder is where it is written down what was sent.
    pub(super) scope: Scope,
    /// Has the scope's token.
    pub(super) import: Import,
    pub(super) shared: Shared,
}

/// An image that was made of a disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) image: String,
    pub(super) region: String,
    pub(super) name: String,
}

impl SendDisk {
    fn import(&self, region: &str) -> Import {
        Import { regions: vec![region.to_owned()], ..self.import.clone() }
    }

    fn remove_folder(&self) -> Result<(), StepError> {
        let folder = &self.scope.folder;
        match std::fs::remove_dir_all(folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(StepError::because(format!("could not remove {}", folder.display()), e))
            }
            _ => Ok(()),
        }
    }
}

impl Step for SendDisk {
    const KIND: &'static str = "aws.import-disk";
    const REMOTE: bool = true;
    type Output = Made;

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, cx: &StepContext) -> Result<Made, StepError> {
        let aws = self.scope.aws().await?;
        let tell = |text: String| message(cx, text);
        let import = self.import(&aws.region);
        say(cx, format!("Sending {} to {}", import.disk.display(), aws.region));
        let done = match import.run_as(&self.scope.access, &tell, cx.token()).await {
            Err(_) if cx.token().is_cancelled() => return Err(StepError::cancelled()),
            done => done?,
        };
        say(cx, format!("{} blocks of {} were sent", done.sent, done.blocks));
        let image = done.images.get(&aws.region).cloned().unwrap_or_default();
        self.shared.share(&aws, &image).await?;
        self.remove_folder()?;
        Ok(Made { image, region: aws.region.clone(), name: import.name })
    }

    async fn undo(&self, cx: &StepContext, _done: Option<Made>) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let tell = |text: String| message(cx, text);
        let removed: Result<(), ComponentError> =
            self.import(&aws.region).remove_as(&self.scope.access, &tell, false).await;
        removed?;
        self.remove_folder()
    }
}
