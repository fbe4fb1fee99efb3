//! Step `image`: the machine becomes an image.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::types::ResourceType;
use karat_saga::{Lifetime, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::instance::mapping;
use super::node;
use super::scope::{Scope, ec2_tags, look, message, pause, say};
use super::source::SourceImage;
use super::states::{Ami, ImageStates, Machine};
use crate::client::{Aws, AwsError, Explain, Patience, Seen, Watch, has_code};
use crate::options::{Device, Tags};

/// How long an image may take to be available: large disks take hours.
pub(crate) const AVAILABLE: Duration = Duration::from_secs(4 * 3600);
/// How long AWS may still see a machine that has stopped as running.
const NOT_STOPPED: Duration = Duration::from_secs(120);

/// Makes the image and waits until it is available. It is kept; after a failure it goes, with its
/// snapshots.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MakeImage {
    pub(crate) scope: Scope,
    pub(crate) name: String,
    pub(crate) devices: Vec<Device>,
    pub(crate) tag_with_run_tags: bool,
    /// Whether it goes once its copies stand.
    #[serde(default)]
    pub(crate) goes: bool,
}

/// The tags of an image and of its snapshots.
pub(crate) fn image_tags(source: &SourceImage, with_run_tags: bool) -> (Tags, Tags) {
    let texts = &source.texts;
    let mut image = if with_run_tags { texts.run_tags.clone() } else { Tags::new() };
    image.extend(texts.image_tags.clone());
    let mut snapshots = image.clone();
    snapshots.extend(texts.snapshot_tags.clone());
    (image, snapshots)
}

/// Waits until an image is available.
pub(crate) async fn available(
    aws: &Arc<Aws>,
    id: &str,
    cx: &StepContext,
) -> Result<Ami, StepError> {
    let patience = Patience {
        what: format!("{id} in {} to be available", aws.region),
        limit: AVAILABLE,
        hint: "aws_polling allows more; what was made is removed",
    };
    Watch::<ImageStates>::until(aws, id, &patience, cx, |image| match image {
        Some(image) if image.state == "available" => Seen::Done(image.clone()),
        Some(image) if image.state == "pending" => Seen::NotYet,
        Some(image) => Seen::Never(StepError::new(format!(
            "{} in {} is {}{}{}",
            image.id,
            aws.region,
            image.state,
            if image.reason.is_empty() { "" } else { ": " },
            image.reason
        ))),
        None => Seen::NotYet,
    })
    .await
}

/// Images of this build in a region, with their snapshots.
pub(crate) async fn own_images(scope: &Scope, aws: &Aws) -> Result<Vec<Ami>, AwsError> {
    let answer = aws
        .ec2
        .describe_images()
        .owners("self")
        .include_deprecated(true)
        .filters(scope.own())
        .send()
        .await?;
    Ok(answer.images().iter().map(Ami::of).collect())
}

/// Snapshots of this build in a region.
pub(crate) async fn own_snapshots(scope: &Scope, aws: &Aws) -> Result<Vec<String>, AwsError> {
    let answer = aws.ec2.describe_snapshots().owner_ids("self").filters(scope.own()).send().await?;
    Ok(answer.snapshots().iter().filter_map(|s| s.snapshot_id().map(str::to_owned)).collect())
}

/// Removes images and snapshots of this build from a region: `id`, and what has the build's token.
pub(crate) async fn remove_images(
    scope: &Scope,
    aws: &Aws,
    id: Option<&str>,
    cx: &StepContext,
) -> Result<(), StepError> {
    let what = || format!("could not remove the build's image from {}", aws.region);
    let own = || own_images(scope, aws);
    // A name can be had once, so there is one image at most.
    let mut images = match id {
        Some(_) => own().await.or_fail(what())?,
        None => look(cx, own, &what()).await?,
    };
    if let Some(id) = id.filter(|id| images.iter().all(|i| i.id != *id)) {
        let known = <ImageStates as crate::client::Watched>::ask(aws, vec![id.to_owned()]).await;
        images.extend(known.or_fail(what())?.into_values());
    }
    let mut snapshots = Vec::new();
    for image in images {
        say(cx, format!("Removing {} from {}", image.id, aws.region));
        match aws.ec2.deregister_image().image_id(&image.id).send().await {
            Err(e) if !has_code(&e, &["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"]) => {
                return Err(e).or_fail(format!("could not deregister {}", image.id));
            }
            _ => snapshots.extend(image.snapshots),
        }
    }
    for id in own_snapshots(scope, aws).await.or_fail(what())? {
        if !snapshots.contains(&id) {
            snapshots.push(id);
        }
    }
    for id in snapshots {
        delete_snapshot(aws, &id, cx).await?;
    }
    Ok(())
}

/// Deletes a snapshot; that its image is gone may take a moment to be known.
pub(crate) async fn delete_snapshot(
    aws: &Aws,
    id: &str,
    cx: &StepContext,
) -> Result<(), StepError> {
    let start = tokio::time::Instant::now();
    loop {
        match aws.ec2.delete_snapshot().snapshot_id(id).send().await {
            Ok(_) => return Ok(()),
            Err(e) if has_code(&e, &["InvalidSnapshot.NotFound"]) => return Ok(()),
            Err(e) if has_code(&e, &["InvalidSnapshot.InUse"]) && start.elapsed() < NOT_STOPPED => {
                pause(cx, Duration::from_secs(2)).await?;
            }
            Err(e) => return Err(e).or_fail(format!("could not delete the snapshot {id}")),
        }
    }
}

/// The end of a step that makes an image: it is told, and waited for.
pub(crate) async fn made(aws: &Arc<Aws>, id: &str, cx: &StepContext) -> Result<Ami, StepError> {
    message(cx, format!("{id} is being made"));
    cx.fault_point("made")?;
    available(aws, id, cx).await
}

/// Removes what such a step made.
pub(crate) async fn unmake(
    scope: &Scope,
    done: Option<Ami>,
    cx: &StepContext,
) -> Result<(), StepError> {
    let aws = scope.aws().await?;
    remove_images(scope, &aws, done.as_ref().map(|d| d.id.as_str()), cx).await
}

/// The build's image that has a name already, where an answer was lost; nothing where the image is
/// somebody else's.
pub(crate) async fn made_before(
    scope: &Scope,
    aws: &Aws,
    what: &str,
    cx: &StepContext,
) -> Result<Option<String>, StepError> {
    let own = look(cx, || own_images(scope, aws), what).await?;
    Ok(own.into_iter().next().map(|image| image.id))
}

/// Whether an image that is made stays.
pub(crate) fn lifetime(goes: bool) -> Lifetime {
    if goes { Lifetime::Temporary } else { Lifetime::Kept }
}

impl MakeImage {
    async fn make(&self, aws: &Aws, cx: &StepContext) -> Result<String, StepError> {
        let source: SourceImage = cx.output(node::SOURCE)?;
        let machine: Machine = cx.output(node::INSTANCE)?;
        let (image_tags, snapshot_tags) = image_tags(&source, self.tag_with_run_tags);
        let mappings: Vec<_> = self
            .devices
            .iter()
            .map(|d| {
                mapping(&Device {
                    goes_with_machine: d.goes_with_machine.or(Some(false)),
                    ..d.clone()
                })
            })
            .collect();
        let description = &source.texts.description;
        let what = || format!("could not make the image \"{}\"", self.name);
        let start = tokio::time::Instant::now();
        loop {
            let ask = aws
                .ec2
                .create_image()
                .instance_id(&machine.id)
                .name(&self.name)
                .set_description((!description.is_empty()).then(|| description.clone()))
                .set_block_device_mappings((!mappings.is_empty()).then(|| mappings.clone()))
                .tag_specifications(self.scope.specification(ResourceType::Image, &image_tags))
                .tag_specifications(
                    self.scope.specification(ResourceType::Snapshot, &snapshot_tags),
                )
                .send();
            match cx.unless_cancelled(ask).await? {
                Ok(made) => return Ok(made.image_id().unwrap_or_default().to_owned()),
                Err(e) if has_code(&e, &["InvalidAMIName.Duplicate"]) => {
                    return match made_before(&self.scope, aws, &what(), cx).await? {
                        Some(id) => Ok(id),
                        None => Err(e).or_fail(what()),
                    };
                }
                Err(e)
                    if has_code(&e, &["IncorrectState", "IncorrectInstanceState"])
                        && start.elapsed() < NOT_STOPPED =>
                {
                    pause(cx, Duration::from_secs(3)).await?;
                }
                Err(e) => return Err(aws.decoded(e).await).or_fail(what()),
            }
        }
    }
}

impl Step for MakeImage {
    const KIND: &'static str = "aws.image";
    const REMOTE: bool = true;
    type Output = Ami;

    fn lifetime(&self) -> Lifetime {
        lifetime(self.goes)
    }

    async fn run(&self, cx: &StepContext) -> Result<Ami, StepError> {
        let aws = self.scope.aws().await?;
        say(cx, format!("Making the image \"{}\"", self.name));
        let id = self.make(&aws, cx).await?;
        made(&aws, &id, cx).await
    }

    async fn undo(&self, cx: &StepContext, done: Option<Ami>) -> Result<(), StepError> {
        unmake(&self.scope, done, cx).await
    }
}

/// Adds what is missing of the build's tags to an image that has just been made: not every server
/// takes tags with the call that makes it.
pub(crate) async fn ensure_tags(
    aws: &Aws,
    ids: &[String],
    has: &Tags,
    want: &Tags,
) -> Result<(), AwsError> {
    let missing: Tags = want
        .iter()
        .filter(|(k, v)| has.get(*k) != Some(v))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if missing.is_empty() || ids.is_empty() {
        return Ok(());
    }
    aws.ec2
        .create_tags()
        .set_resources(Some(ids.to_vec()))
        .set_tags(Some(ec2_tags(&missing)))
        .send()
        .await?;
    Ok(())
}
