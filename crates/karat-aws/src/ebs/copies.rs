//! Steps `copy-REGION` and `copies`: the image in other regions, all at once.

use std::time::Duration;

use aws_sdk_ec2::types::ResourceType;
use futures::future::try_join_all;
use karat_saga::{Lifetime, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::image::{available, ensure_tags, image_tags, remove_images};
use super::instance::Encryption;
use super::node;
use super::preflight::Found;
use super::scope::{Scope, message, pause, say};
use super::source::SourceImage;
use super::states::{Ami, ImageStates};
use crate::client::{Aws, AwsError, Explain, Watched};

/// How many copies are asked for before it is given up: each try that was undone took one.
const TOKENS: u32 = 5;
/// How long a new copy may not be seen.
const UNSEEN: Duration = Duration::from_secs(30);

/// Asks for a copy in one region. It is kept; after a failure it goes, with its snapshots.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Copy {
    pub(crate) scope: Scope,
    pub(crate) region: String,
    pub(crate) name: String,
    pub(crate) encryption: Encryption,
    pub(crate) tag_with_run_tags: bool,
    /// Within how many minutes AWS is to make it.
    #[serde(default)]
    pub(crate) minutes: Option<i64>,
}

impl Copy {
    /// Asks for the `nth` copy of this build: a token gives the same copy each time, even when it
    /// is gone.
    async fn ask(
        &self,
        aws: &Aws,
        source: &SourceImage,
        image: &Ami,
        found: &Found,
        nth: u32,
    ) -> Result<String, AwsError> {
        let (image_tags, snapshot_tags) = image_tags(source, self.tag_with_run_tags);
        let description = &source.texts.description;
        let key = (!self.encryption.key.is_empty()).then(|| self.encryption.key.clone());
        let token = match nth {
            0 => format!("{}-{}", self.scope.name(), self.region),
            nth => format!("{}-{}-{nth}", self.scope.name(), self.region),
        };
        let made = aws
            .ec2
            .copy_image()
            .name(&self.name)
            .set_description((!description.is_empty()).then(|| description.clone()))
            .source_image_id(&image.id)
            .source_region(&found.region)
            .client_token(token)
            .set_encrypted(self.encryption.on.then_some(true))
            .set_kms_key_id(key)
            .set_snapshot_copy_completion_duration_minutes(self.minutes)
            .tag_specifications(self.scope.specification(ResourceType::Image, &image_tags))
            .tag_specifications(self.scope.specification(ResourceType::Snapshot, &snapshot_tags))
            .send()
            .await?;
        Ok(made.image_id().unwrap_or_default().to_owned())
    }

    /// The copy, once it can be seen; `None` where it cannot, since it is one that was removed.
    async fn seen(&self, aws: &Aws, id: &str, cx: &StepContext) -> Result<Option<Ami>, StepError> {
        let start = tokio::time::Instant::now();
        loop {
            let known = ImageStates::ask(aws, vec![id.to_owned()]).await;
            let known = known.or_fail(format!("could not look for {id} in {}", self.region))?;
            if let Some(copy) = known.get(id).filter(|c| c.state != "deregistered") {
                return Ok(Some(copy.clone()));
            }
            if start.elapsed() >= UNSEEN {
                return Ok(None);
            }
            pause(cx, Duration::from_secs(2)).await?;
        }
    }

    /// Whether this region is a further one: the build's own may stand in the list too.
    fn is_needed(&self, found: &Found) -> bool {
        found.copies.contains(&self.region)
    }
}

impl Step for Copy {
    const KIND: &'static str = "aws.copy";
    const REMOTE: bool = true;
    /// The image's id; nothing where there is nothing to copy.
    type Output = Option<String>;

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, cx: &StepContext) -> Result<Option<String>, StepError> {
        let found: Found = cx.output(node::PREFLIGHT)?;
        if !self.is_needed(&found) {
            return Ok(None);
        }
        let aws = self.scope.aws_in(&self.region).await?;
        let (source, image) =
            (cx.output::<SourceImage>(node::SOURCE)?, cx.output::<Ami>(node::IMAGE)?);
        say(cx, format!("Copying {} to {}", image.id, self.region));
        let what = format!("could not copy {} to {}", image.id, self.region);
        let tags = image_tags(&source, self.tag_with_run_tags);
        for nth in 0..TOKENS {
            let id = match cx.unless_cancelled(self.ask(&aws, &source, &image, &found, nth)).await?
            {
                Ok(id) => id,
                Err(e) => return Err(aws.decoded(e).await).or_fail(what),
            };
            let Some(copy) = self.seen(&aws, &id, cx).await? else { continue };
            let want = self.scope.tags(&tags.0);
            let tagged = ensure_tags(&aws, std::slice::from_ref(&id), &copy.tags, &want).await;
            tagged.or_fail(what)?;
            return Ok(Some(id));
        }
        Err(StepError::new(what).with_hint("AWS gives a copy that is not there"))
    }

    async fn undo(&self, cx: &StepContext, done: Option<Option<String>>) -> Result<(), StepError> {
        if done == Some(None) {
            return Ok(());
        }
        let found: Result<Found, StepError> = cx.output(node::PREFLIGHT);
        if found.is_ok_and(|f| !self.is_needed(&f)) {
            return Ok(());
        }
        let aws = self.scope.aws_in(&self.region).await?;
        remove_images(&self.scope, &aws, done.flatten().as_deref(), cx).await
    }
}

/// Waits until all copies are available.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Copies {
    pub(crate) scope: Scope,
    pub(crate) regions: Vec<String>,
}

/// An image and where it is.
pub(crate) type Placed = (String, Ami);

impl Step for Copies {
    const KIND: &'static str = "aws.copies";
    type Output = Vec<Placed>;

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, cx: &StepContext) -> Result<Vec<Placed>, StepError> {
        let waits = self.regions.iter().map(|region| async move {
            let id: Option<String> = cx.output(&node::copy(region))?;
            let Some(id) = id else { return Ok(None) };
            let aws = self.scope.aws_in(region).await?;
            let ami = available(&aws, &id, cx).await?;
            message(cx, format!("{id} in {region} is available"));
            Ok::<_, StepError>(Some((region.clone(), ami)))
        });
        let copies = try_join_all(waits).await?;
        Ok(copies.into_iter().flatten().collect())
    }

    /// Each copy is its own step's.
    async fn undo(&self, _: &StepContext, _: Option<Vec<Placed>>) -> Result<(), StepError> {
        Ok(())
    }
}
