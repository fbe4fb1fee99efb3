//! An import task: the disk goes to a bucket, the service makes an image of it, and the image gets
//! its name. For what the disk's blocks alone do not do: drivers and licences of Windows.

use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_ec2::types::{
    AttributeValue, BootModeValues, ImageDiskContainer, ImportImageTask, ResourceType, Tag,
    UserBucket,
};
use karat_saga::{Lifetime, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::Import;
use super::send::{Made, Shared};
use crate::client::s3::{Place, S3};
use crate::client::{Aws, AwsError, Explain, has_code};
use crate::ebs::{Scope, TOKEN_TAG, UNSEEN, message, pause, say};

/// The longest that a task is waited for, unless `aws_polling` says otherwise.
const LIMIT: Duration = Duration::from_secs(3600);

/// Where a disk lies in S3, and how it is encrypted there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) encryption: String,
    pub(super) encryption_key: String,
    /// Whether the object stays.
    pub(super) stays: bool,
}

impl Bucket {
    fn place(&self) -> Place<'_> {
        Place { bucket: &self.name, key: &self.key }
    }

    fn address(&self) -> String {
        format!("s3://{}/{}", self.name, self.key)
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if !self.encryption.is_empty() {
            headers.push(("x-amz-server-side-encryption", self.encryption.clone()));
        }
        if self.encryption == "aws:kms" && !self.encryption_key.is_empty() {
            let name = "x-amz-server-side-encryption-aws-kms-key-id";
            headers.push((name, self.encryption_key.clone()));
        }
        headers
    }
}

/// Step `upload`: the disk as an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Upload {
    pub(super) scope: Scope,
    pub(super) disk: PathBuf,
    pub(super) bucket: Bucket,
    /// The image's name, which has to be free; empty where it gets none.
    pub(super) name: String,
}

impl Upload {
    /// Where the id of an upload in parts stands, from before there is one.
    fn note(&self) -> PathBuf {
        self.scope.folder.join("upload")
    }

    fn write_note(&self, id: &str) -> Result<(), AwsError> {
        let write = || {
            std::fs::create_dir_all(&self.scope.folder)?;
            std::fs::write(self.note(), id)
        };
        write()
            .map_err(|e| AwsError::new(format!("could not write {}: {e}", self.note().display())))
    }

    /// Better now than when all is done.
    async fn check_name(&self, aws: &Aws) -> Result<(), StepError> {
        if self.name.is_empty() {
            return Ok(());
        }
        let old = crate::ebs::old_images(aws, &self.name, &self.scope.token).await;
        match old.or_fail("could not look for images of the name")?.first() {
            Some(old) => Err(StepError::new(format!(
                "the name \"{}\" is taken: {} in {}",
                self.name, old.id, aws.region
            ))
            .with_hint("choose another ami_name, or remove the old image")),
            None => Ok(()),
        }
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

impl Step for Upload {
    const KIND: &'static str = "aws.import-upload";
    const REMOTE: bool = true;
    type Output = ();

    fn lifetime(&self) -> Lifetime {
        if self.bucket.stays { Lifetime::Kept } else { Lifetime::Temporary }
    }

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let (what, to) = (self.disk.display(), self.bucket.address());
        let s3 = S3::of(&aws).or_fail("could not prepare for S3")?;
        self.check_name(&aws).await?;
        say(cx, format!("Uploading {what} to {to}"));
        let headers = self.bucket.headers();
        let begun = |id: &str| self.write_note(id);
        let told = std::sync::atomic::AtomicU64::new(0);
        let progress = |sent: u64, all: u64| {
            let tenth = sent * 10 / all.max(1);
            if told.swap(tenth, std::sync::atomic::Ordering::Relaxed) != tenth {
                message(cx, format!("{} % of {} MiB", tenth * 10, all >> 20));
            }
        };
        let place = self.bucket.place();
        let upload = s3.upload(place, &self.disk, &headers, &begun, &progress);
        cx.unless_cancelled(upload).await?.or_fail(format!("could not upload {what} to {to}"))?;
        self.remove_folder()
    }

    async fn undo(&self, cx: &StepContext, _done: Option<()>) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let s3 = S3::of(&aws).or_fail("could not prepare for S3")?;
        let (place, address) = (self.bucket.place(), self.bucket.address());
        let ids = match std::fs::read_to_string(self.note()) {
            // The answer that named it did not come.
            Ok(id) if id.is_empty() => s3
                .uploads(place)
                .await
                .or_fail(format!("could not look for uploads to {address}"))?,
            Ok(id) => vec![id],
            Err(_) => Vec::new(),
        };
        for id in ids {
            let what = format!("could not give up the upload to {address}");
            s3.give_up(place, &id).await.or_fail(what)?;
        }
        say(cx, format!("Deleting {address}"));
        s3.delete(place).await.or_fail(format!("could not delete {address}"))?;
        self.remove_folder()
    }
}

/// Step `task`: the service makes an image of the object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RunTask {
    pub(super) scope: Scope,
    pub(super) bucket: Bucket,
    pub(super) format: String,
    pub(super) architecture: String,
    pub(super) boot_mode: String,
    pub(super) platform: String,
    pub(super) license: String,
    pub(super) role: String,
    pub(super) encrypt: bool,
    pub(super) key: String,
    /// Whether its image is copied to get a name, and goes then.
    pub(super) renamed: bool,
}

/// What a task made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Raw {
    pub(super) image: String,
    pub(super) snapshots: Vec<String>,
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn is_role_error(error: &AwsError) -> bool {
    error.message.contains("service role")
}

impl RunTask {
    async fn begin(&self, aws: &Aws) -> Result<String, StepError> {
        let bucket = &self.bucket;
        let place = UserBucket::builder().s3_bucket(&bucket.name).s3_key(&bucket.key).build();
        let disk = ImageDiskContainer::builder().format(&self.format).user_bucket(place).build();
        let mark = Tag::builder().key(TOKEN_TAG).value(&self.scope.token).build();
        let tags = aws_sdk_ec2::types::TagSpecification::builder()
            .resource_type(ResourceType::ImportImageTask)
            .tags(mark)
            .build();
        let ask = aws
            .ec2
            .import_image()
            .client_token(&self.scope.token)
            .disk_containers(disk)
            .architecture(&self.architecture)
            .set_boot_mode(some(&self.boot_mode).map(|mode| BootModeValues::from(mode.as_str())))
            .set_platform(some(&self.platform))
            .set_license_type(some(&self.license))
            .set_role_name(some(&self.role))
            .set_encrypted(self.encrypt.then_some(true))
            .set_kms_key_id(some(&self.key))
            .tag_specifications(tags)
            .send();
        let begun = ask.await.map_err(AwsError::from).map_err(|mut error| {
            if is_role_error(&error) {
                let text = "make a role \"vmimport\" that vmie.amazonaws.com may assume and that \
                            may read the bucket, or name another by role_name";
                error.hint = Some(text.to_owned());
            }
            error
        });
        let begun = begun.or_fail(format!("could not begin the import of {}", bucket.address()))?;
        Ok(begun.import_task_id().unwrap_or_default().to_owned())
    }

    async fn look(&self, aws: &Aws, id: &str) -> Result<Option<ImportImageTask>, AwsError> {
        let answer = aws.ec2.describe_import_image_tasks().import_task_ids(id).send().await;
        match answer {
            Err(e) if has_code(&e, &["InvalidConversionTaskId.NotFound"]) => Ok(None),
            Err(e) => Err(e.into()),
            Ok(answer) => Ok(answer.import_image_tasks().first().cloned()),
        }
    }

    /// Waits for a task's end and gives its image.
    async fn follow(&self, cx: &StepContext, aws: &Aws, id: &str) -> Result<Raw, StepError> {
        let limit = aws.access.limit(LIMIT);
        let begun = tokio::time::Instant::now();
        let most = aws.access.delay_seconds.map_or(15, u64::from);
        let (mut delay, mut last) = (Duration::from_millis(300), String::new());
        loop {
            let what = || format!("could not look at {id}");
            if let Some(task) = self.look(aws, id).await.or_fail(what())? {
                let status = task.status().unwrap_or_default();
                let text = task.status_message().unwrap_or_default();
                match status {
                    "completed" => return self.made(aws, &task).await,
                    "active" | "" => {
                        let shown = match task.progress() {
                            Some(progress) => format!("{id}: {text} ({progress} %)"),
                            None => format!("{id}: {text}"),
                        };
                        if shown != last {
                            message(cx, shown.clone());
                            last = shown;
                        }
                    }
                    _ => {
                        return Err(StepError::new(format!("the import task {id} failed: {text}"))
                            .with_hint(
                                "AWS's guide \"VM Import/Export\" lists what a disk has to be",
                            ));
                    }
                }
            }
            if begun.elapsed() > limit {
                let text = format!("the import task {id} took longer than {} s", limit.as_secs());
                return Err(StepError::timed_out(text).with_hint("give it longer by aws_polling"));
            }
            pause(cx, delay).await?;
            delay = (delay * 3 / 2).min(Duration::from_secs(most));
        }
    }

    /// The image of a task, and its snapshots.
    async fn made(&self, aws: &Aws, task: &ImportImageTask) -> Result<Raw, StepError> {
        let image = task.image_id().unwrap_or_default().to_owned();
        let mut snapshots: Vec<String> = task
            .snapshot_details()
            .iter()
            .filter_map(|detail| detail.snapshot_id().map(str::to_owned))
            .collect();
        let answer = aws.ec2.describe_images().image_ids(&image).send().await;
        let answer = answer.or_fail(format!("could not look at {image}"))?;
        let devices = answer.images().iter().flat_map(|i| i.block_device_mappings());
        for id in devices.filter_map(|device| device.ebs()?.snapshot_id()) {
            if !snapshots.iter().any(|known| known == id) {
                snapshots.push(id.to_owned());
            }
        }
        Ok(Raw { image, snapshots })
    }

    /// The task that an earlier call began.
    async fn own(&self, aws: &Aws) -> Result<Option<ImportImageTask>, AwsError> {
        let mut pages = aws.ec2.describe_import_image_tasks().into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page?;
            let own = page.import_image_tasks().iter().find(|task| {
                let mark = |t: &Tag| {
                    t.key() == Some(TOKEN_TAG) && t.value() == Some(self.scope.token.as_str())
                };
                task.tags().iter().any(mark)
            });
            if let Some(own) = own {
                return Ok(Some(own.clone()));
            }
        }
        Ok(None)
    }

    /// Ends a task, whichever way; gives what it made if that was quicker.
    async fn end(&self, cx: &StepContext, aws: &Aws) -> Result<Option<Raw>, StepError> {
        let begun = tokio::time::Instant::now();
        let mut asked = false;
        loop {
            let own = self.own(aws).await.or_fail("could not look for import tasks")?;
            let Some(task) = own else {
                // What was just begun may not be seen yet.
                if begun.elapsed() >= UNSEEN {
                    return Ok(None);
                }
                pause(cx, Duration::from_millis(500)).await?;
                continue;
            };
            let id = task.import_task_id().unwrap_or_default().to_owned();
            match task.status().unwrap_or_default() {
                "completed" => return self.made(aws, &task).await.map(Some),
                "active" | "" if !asked => {
                    say(cx, format!("Cancelling the import task {id}"));
                    let ended = aws.ec2.cancel_import_task().import_task_id(&id).send().await;
                    // It may have come to its end just now.
                    if let Err(error) = ended
                        && !has_code(&error, &["IncorrectState"])
                    {
                        return Err(error).or_fail(format!("could not cancel {id}"));
                    }
                    asked = true;
                }
                "deleted" | "cancelled" => return Ok(None),
                _ => {}
            }
            pause(cx, Duration::from_millis(500)).await?;
        }
    }
}

async fn remove(cx: &StepContext, aws: &Aws, raw: &Raw) -> Result<(), StepError> {
    let image = &raw.image;
    if !image.is_empty() {
        say(cx, format!("Removing {image}, which the import task made"));
        match aws.ec2.deregister_image().image_id(image).send().await {
            Err(e) if !has_code(&e, &["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"]) => {
                return Err(e).or_fail(format!("could not remove {image}"));
            }
            _ => {}
        }
    }
    for id in &raw.snapshots {
        match aws.ec2.delete_snapshot().snapshot_id(id).send().await {
            Err(e) if !has_code(&e, &["InvalidSnapshot.NotFound"]) => {
                return Err(e).or_fail(format!("could not delete the snapshot {id}"));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Step for RunTask {
    const KIND: &'static str = "aws.import-task";
    const REMOTE: bool = true;
    type Output = Raw;

    fn lifetime(&self) -> Lifetime {
        if self.renamed { Lifetime::Temporary } else { Lifetime::Kept }
    }

    async fn run(&self, cx: &StepContext) -> Result<Raw, StepError> {
        let aws = self.scope.aws().await?;
        let id = self.begin(&aws).await?;
        say(cx, format!("Importing {} as {id}", self.bucket.address()));
        self.follow(cx, &aws, &id).await
    }

    async fn undo(&self, cx: &StepContext, done: Option<Raw>) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let raw = match done {
            Some(raw) => Some(raw),
            None => self.end(cx, &aws).await?,
        };
        match raw {
            Some(raw) => remove(cx, &aws, &raw).await,
            None => Ok(()),
        }
    }
}

/// Step `publish`: the image gets its name, its tags, and those who may launch it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Publish {
    pub(super) scope: Scope,
    /// Has the scope's token.
    pub(super) import: Import,
    pub(super) shared: Shared,
    pub(super) renamed: bool,
    /// Whether machines of the image have the metadata service in version 2 alone.
    pub(super) imds: bool,
}

impl Publish {
    fn import(&self, region: &str) -> Import {
        let mut import = Import { regions: vec![region.to_owned()], ..self.import.clone() };
        if !import.key.is_empty() {
            import.keys.insert(region.to_owned(), import.key.clone());
        }
        import
    }

    /// Tags the image that the task made, and what it consists of.
    async fn tag(&self, aws: &Aws, raw: &Raw) -> Result<(), StepError> {
        let id = &raw.image;
        if !self.import.description.is_empty() {
            let text = AttributeValue::builder().value(&self.import.description).build();
            let ask = aws.ec2.modify_image_attribute().image_id(id).description(text).send();
            ask.await.or_fail(format!("could not describe {id}"))?;
        }
        let tags = crate::ebs::ec2_tags(&self.import.tags);
        if tags.is_empty() {
            return Ok(());
        }
        let all = raw.snapshots.iter().chain([id]).cloned().collect();
        let ask = aws.ec2.create_tags().set_resources(Some(all)).set_tags(Some(tags)).send();
        ask.await.map(|_| ()).or_fail(format!("could not tag {id}"))
    }
}

impl Step for Publish {
    const KIND: &'static str = "aws.import-publish";
    const REMOTE: bool = true;
    type Output = Made;

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, cx: &StepContext) -> Result<Made, StepError> {
        let aws = self.scope.aws().await?;
        let raw: Raw = cx.output("task")?;
        let tell = |text: String| message(cx, text);
        let import = self.import(&aws.region);
        let image = if self.renamed {
            say(cx, format!("Copying {} to \"{}\"", raw.image, import.name));
            match import.copy_as(&self.scope.access, &raw.image, &tell, cx.token()).await {
                Err(_) if cx.token().is_cancelled() => return Err(StepError::cancelled()),
                copy => copy?,
            }
        } else {
            self.tag(&aws, &raw).await?;
            raw.image
        };
        if self.imds {
            let value = AttributeValue::builder().value("v2.0").build();
            let ask = aws.ec2.modify_image_attribute().image_id(&image).imds_support(value).send();
            ask.await.or_fail(format!("could not set imds_support of {image}"))?;
        }
        self.shared.share(&aws, &image).await?;
        let name = if self.renamed { import.name } else { String::new() };
        Ok(Made { image, region: aws.region.clone(), name })
    }

    async fn undo(&self, cx: &StepContext, done: Option<Made>) -> Result<(), StepError> {
        if !self.renamed {
            return Ok(());
        }
        let aws = self.scope.aws().await?;
        let tell = |text: String| message(cx, text);
        let import = self.import(&aws.region);
        import.remove_as(&self.scope.access, &tell, done.is_none()).await.map_err(StepError::from)
    }
}
