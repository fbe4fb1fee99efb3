//! A disk of this computer becomes an image on AWS, without a machine: its blocks go into a
//! snapshot by EBS direct, and the snapshot becomes an image.
//!
//! | file | what |
//! |---|---|
//! | `amazon_import.rs` | the post-processor `amazon-import` |
//! | `disk.rs` | the disk in blocks |
//! | `send.rs` | the step in which it does it |
//! | `task.rs` | the steps of an import task, the other way |
//! | `record.rs` | what was sent, so that the next run goes on, and the next image sends less |
//! | `upload.rs` | blocks, side by side, each with its checksum |

mod amazon_import;
mod disk;
mod record;
mod send;
mod task;
mod upload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::types::{
    ArchitectureValues, BlockDeviceMapping, BootModeValues, EbsBlockDevice, ImdsSupportValues,
    ResourceType, Tag, TagSpecification, VolumeType,
};
use futures::future::try_join_all;
use karat_component::ComponentError;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::client::{Access, Aws, AwsError, Explain, Watched, has_code};
use crate::ebs::{ImageStates, SnapshotStates, TOKEN_TAG, UNSEEN, literal};
pub use karat_disk::Container;

pub use amazon_import::{AmazonImport, AmazonImportConfig, AmazonImportValidated};
use disk::Disk;
use record::Record;

/// The longest that AWS may take for what it does by itself.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// The root of the image.
const ROOT: &str = "/dev/xvda";

/// What is to become of a disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Import {
    /// The disk: raw, qcow2, VMDK, VHD, VHDX, or an OVA with one disk; what it is, is told by what
    /// stands in it.
    pub disk: PathBuf,
    /// What the disk is said to be. One that is nothing of the kind is refused.
    pub format: Option<Container>,
    /// The image's name.
    pub name: String,
    /// What the image says of itself.
    pub description: String,
    /// The regions that it goes to; the first has the blocks sent, the others get copies. Without,
    /// the region of the environment.
    pub regions: Vec<String>,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// `legacy-bios`, `uefi` or `uefi-preferred`; empty for what the disk can.
    pub boot_mode: String,
    /// Whether it is encrypted.
    pub encrypt: bool,
    /// The key that it is encrypted with in the first region, where that is not AWS's own.
    pub key: String,
    /// The keys of copies by region, where they are not AWS's own. They are encrypted, then.
    pub keys: BTreeMap<String, String>,
    /// A snapshot: only blocks that differ from it are sent.
    pub parent: Option<String>,
    /// Tags of the image and its snapshots.
    pub tags: BTreeMap<String, String>,
    /// Where it is written down what was sent.
    pub state_dir: PathBuf,
    /// What marks all that is made for this; made up where empty.
    pub token: String,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Images by region.
    pub images: BTreeMap<String, String>,
    /// The snapshot in the first region.
    pub snapshot: String,
    /// Blocks of 512 KiB that the disk has.
    pub blocks: u64,
    /// Those that were sent.
    pub sent: u64,
    /// Those that an earlier run sent.
    pub resumed: u64,
    /// Those that the parent has.
    pub same: u64,
    /// Those with nothing but zeros, which are not sent.
    pub zero: u64,
}

/// Tells what is done.
pub type Say<'a> = &'a (dyn Fn(String) + Sync);

struct Work<'a> {
    import: &'a Import,
    aws: Arc<Aws>,
    say: Say<'a>,
    cancel: &'a CancellationToken,
}

impl Import {
    /// Sends the disk and makes the image. What was sent stays when it fails, and the next call
    /// for the same disk and name goes on from there; [`Import::forget`] removes it.
    ///
    /// # Errors
    /// What is wrong with the disk, or what AWS says.
    pub async fn run(
        &self,
        say: Say<'_>,
        cancel: &CancellationToken,
    ) -> Result<Imported, ComponentError> {
        let access = self.access();
        self.run_as(&access, say, cancel).await
    }

    /// The same, reaching AWS in a given way.
    pub(crate) async fn run_as(
        &self,
        access: &Access,
        say: Say<'_>,
        cancel: &CancellationToken,
    ) -> Result<Imported, ComponentError> {
        let work = self.work(access, say, cancel).await?;
        if let Some(done) = work.made_before().await? {
            return Ok(done);
        }
        work.check_names().await?;
        let disk = Disk::open(self, cancel).await?;
        let mut done = Imported { blocks: disk.blocks(), ..Imported::default() };
        let boot = match self.boot_mode.as_str() {
            "" => disk.boot_mode,
            given => given,
        };
        let token = work.upload(disk, &mut done).await?;
        let made = work.images(&token, boot, &mut done).await;
        if let Err(error) = made {
            work.remove_images(&token).await;
            return Err(error);
        }
        Record::path(&self.state_dir, &self.key_of(&work.aws)).remove();
        Ok(done)
    }

    /// Removes what an earlier run sent that did not come to its end. Whether there was something.
    ///
    /// # Errors
    /// What AWS says.
    pub async fn forget(
        &self,
        say: Say<'_>,
        cancel: &CancellationToken,
    ) -> Result<bool, ComponentError> {
        self.forget_as(&self.access(), say, cancel).await
    }

    /// The same, reaching AWS in a given way.
    pub(crate) async fn forget_as(
        &self,
        access: &Access,
        say: Say<'_>,
        cancel: &CancellationToken,
    ) -> Result<bool, ComponentError> {
        let work = self.work(access, say, cancel).await?;
        let place = Record::path(&self.state_dir, &self.key_of(&work.aws));
        let Some(record) = place.read() else { return Ok(false) };
        work.remove_images(&record.token).await;
        work.delete_snapshots(&work.aws, &record.token).await?;
        place.remove();
        Ok(true)
    }

    /// Copies an image within the first region, to this import's name.
    pub(crate) async fn copy_as(
        &self,
        access: &Access,
        image: &str,
        say: Say<'_>,
        cancel: &CancellationToken,
    ) -> Result<String, ComponentError> {
        let work = self.work(access, say, cancel).await?;
        if let Some(done) = work.made_before().await? {
            return Ok(done.images.into_values().next().unwrap_or_default());
        }
        let copy = work.copy(&work.aws, &self.token, image).await?;
        work.available(&work.aws, &copy).await?;
        Ok(copy)
    }

    /// Removes all that was made with this import's token, also where it is not known what that is.
    pub(crate) async fn remove_as(
        &self,
        access: &Access,
        say: Say<'_>,
        doubt: bool,
    ) -> Result<(), ComponentError> {
        let never = CancellationToken::new();
        let work = self.work(access, say, &never).await?;
        let place = Record::path(&self.state_dir, &self.key_of(&work.aws));
        let record = place.read();
        let begun = tokio::time::Instant::now();
        loop {
            let (images, snapshots) = work.remove_own(&work.aws, &self.token).await?;
            // What a call made whose answer did not come may not be seen at first.
            let seen = match &record {
                Some(record) if record.snapshot.is_empty() => snapshots > 0,
                Some(record) if record.complete => images > 0,
                _ => images > 0 || !doubt,
            };
            if seen || begun.elapsed() >= UNSEEN {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        place.remove();
        Ok(())
    }

    /// How AWS is reached where nothing is said but the region.
    fn access(&self) -> Access {
        let region = self.regions.first().cloned();
        Access { region, attempts: 10, ..Access::default() }
    }

    async fn work<'a>(
        &'a self,
        access: &Access,
        say: Say<'a>,
        cancel: &'a CancellationToken,
    ) -> Result<Work<'a>, ComponentError> {
        let aws = Aws::connect(access).await.or_tell("could not reach AWS")?;
        Ok(Work { import: self, aws, say, cancel })
    }

    /// What tells this import from others.
    fn key_of(&self, aws: &Aws) -> String {
        let disk = std::fs::canonicalize(&self.disk).unwrap_or_else(|_| self.disk.clone());
        record::digest(&format!("{}\n{}\n{}", disk.display(), self.name, aws.region))
    }
}

fn cancelled() -> ComponentError {
    ComponentError::new("it was cancelled").with_hint("run it again to go on")
}

impl Work<'_> {
    fn say(&self, text: impl Into<String>) {
        (self.say)(text.into());
    }

    async fn pause(&self, time: Duration) -> Result<(), ComponentError> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.cancel.cancelled() => Err(cancelled()),
        }
    }

    /// Asks again and again, less often later.
    async fn until<T, F>(&self, what: &str, mut ask: impl FnMut() -> F) -> Result<T, ComponentError>
    where
        F: Future<Output = Result<Option<T>, ComponentError>>,
    {
        let begun = tokio::time::Instant::now();
        let mut delay = Duration::from_millis(300);
        loop {
            if let Some(done) = ask().await? {
                return Ok(done);
            }
            if begun.elapsed() > PATIENCE {
                return Err(ComponentError::new(format!("waited too long for {what}")));
            }
            self.pause(delay).await?;
            delay = (delay * 3 / 2).min(Duration::from_secs(10));
        }
    }

    /// The clients of another region.
    async fn in_region(&self, region: &str) -> Result<Arc<Aws>, ComponentError> {
        let access = self.aws.access.in_region(region);
        Aws::connect(&access).await.or_tell(format!("could not reach AWS in {region}"))
    }

    fn copies(&self) -> impl Iterator<Item = &String> {
        self.import.regions.iter().filter(|r| **r != self.aws.region)
    }

    /// The image that an earlier call made which was cut off after it.
    async fn made_before(&self) -> Result<Option<Imported>, ComponentError> {
        if self.import.token.is_empty() {
            return Ok(None);
        }
        let own = self.own_images(&self.aws, &self.import.token).await;
        let own = own.or_tell("could not look for images")?;
        let Some(id) = own.into_iter().next() else { return Ok(None) };
        self.available(&self.aws, &id).await?;
        let images = BTreeMap::from([(self.aws.region.clone(), id)]);
        Ok(Some(Imported { images, ..Imported::default() }))
    }

    /// Removes the images and the snapshots of a token from a region; how many of each.
    async fn remove_own(&self, aws: &Aws, token: &str) -> Result<(usize, usize), ComponentError> {
        let images = self.own_images(aws, token).await.or_tell("could not look for images")?;
        for id in &images {
            self.say(format!("Removing {id} from {}", aws.region));
            match aws.ec2.deregister_image().image_id(id).send().await {
                Err(e) if !has_code(&e, &["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"]) => {
                    return Err(e).or_tell(format!("could not remove {id}"));
                }
                _ => {}
            }
        }
        let snapshots = self.delete_snapshots(aws, token).await?;
        Ok((images.len(), snapshots))
    }

    /// All regions have to be free of the name.
    async fn check_names(&self) -> Result<(), ComponentError> {
        let all = std::iter::once(&self.aws.region).chain(self.copies());
        try_join_all(all.map(|region| async move {
            let aws = self.in_region(region).await?;
            let name = crate::ebs::filter("name", [literal(&self.import.name)]);
            let ask = aws.ec2.describe_images().owners("self").include_deprecated(true);
            let answer = ask.filters(name).send().await;
            let answer = answer.or_tell(format!("could not look for images in {region}"))?;
            match answer.images().iter().find_map(|i| i.image_id()) {
                Some(id) => Err(ComponentError::new(format!(
                    "the name \"{}\" is taken: {id} in {region}",
                    self.import.name
                ))
                .with_hint("choose another -name, or remove the old image")),
                None => Ok(()),
            }
        }))
        .await?;
        Ok(())
    }

    fn tags(&self, token: &str) -> Vec<Tag> {
        let mut tags = self.import.tags.clone();
        tags.insert(TOKEN_TAG.to_owned(), token.to_owned());
        tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
    }

    fn specification(&self, kind: ResourceType, token: &str) -> TagSpecification {
        TagSpecification::builder().resource_type(kind).set_tags(Some(self.tags(token))).build()
    }

    async fn completed(&self, snapshot: &str) -> Result<(), ComponentError> {
        let what = format!("the snapshot {snapshot} to be completed");
        self.until(&what, || async {
            let known = SnapshotStates::ask(&self.aws, vec![snapshot.to_owned()]).await;
            let known = known.or_tell(format!("could not look at {snapshot}"))?;
            match known.get(snapshot) {
                Some(s) if s.state == "completed" => Ok(Some(())),
                Some(s) if s.state.starts_with("error") => Err(ComponentError::new(format!(
                    "the snapshot {snapshot} failed: {}",
                    s.reason
                ))),
                _ => Ok(None),
            }
        })
        .await
    }

    async fn available(&self, aws: &Aws, id: &str) -> Result<(), ComponentError> {
        let what = format!("{id} in {} to be available", aws.region);
        self.until(&what, || async {
            let known = ImageStates::ask(aws, vec![id.to_owned()]).await;
            let known = known.or_tell(format!("could not look at {id}"))?;
            match known.get(id) {
                Some(i) if i.state == "available" => Ok(Some(())),
                Some(i) if i.state == "pending" => Ok(None),
                None => Ok(None),
                Some(i) => Err(ComponentError::new(format!(
                    "{id} in {} is {}: {}",
                    aws.region, i.state, i.reason
                ))),
            }
        })
        .await
    }

    /// Makes the image of the snapshot, and its copies.
    async fn images(
        &self,
        token: &str,
        boot: &str,
        done: &mut Imported,
    ) -> Result<(), ComponentError> {
        let id = self.register(token, boot, &done.snapshot).await?;
        self.say(format!("{id} is being made"));
        self.available(&self.aws, &id).await?;
        done.images.insert(self.aws.region.clone(), id.clone());
        let copies = try_join_all(self.copies().map(|region| {
            let id = &id;
            async move {
                let aws = self.in_region(region).await?;
                let copy = self.copy(&aws, token, id).await?;
                self.say(format!("{copy} in {region} is being made"));
                self.available(&aws, &copy).await?;
                Ok::<_, ComponentError>((region.clone(), copy))
            }
        }))
        .await?;
        done.images.extend(copies);
        Ok(())
    }

    async fn register(
        &self,
        token: &str,
        boot: &str,
        snapshot: &str,
    ) -> Result<String, ComponentError> {
        let import = self.import;
        let root = EbsBlockDevice::builder()
            .snapshot_id(snapshot)
            .volume_type(VolumeType::Gp3)
            .delete_on_termination(true)
            .build();
        let ask = self
            .aws
            .ec2
            .register_image()
            .name(&import.name)
            .set_description((!import.description.is_empty()).then(|| import.description.clone()))
            .architecture(ArchitectureValues::from(import.architecture.as_str()))
            .virtualization_type("hvm")
            .ena_support(true)
            .imds_support(ImdsSupportValues::V20)
            .boot_mode(BootModeValues::from(boot))
            .root_device_name(ROOT)
            .block_device_mappings(
                BlockDeviceMapping::builder().device_name(ROOT).ebs(root).build(),
            )
            .tag_specifications(self.specification(ResourceType::Image, token))
            .send();
        let what = format!("could not register the image \"{}\"", import.name);
        match ask.await {
            Ok(made) => Ok(made.image_id().unwrap_or_default().to_owned()),
            Err(e) if has_code(&e, &["InvalidAMIName.Duplicate"]) => {
                // An answer that was lost.
                let own = self.own_images(&self.aws, token).await.or_tell(what.clone())?;
                own.into_iter().next().map_or_else(|| Err(e).or_tell(what), Ok)
            }
            Err(e) => Err(e).or_tell(what),
        }
    }

    async fn copy(&self, aws: &Aws, token: &str, id: &str) -> Result<String, ComponentError> {
        let import = self.import;
        let key = import.keys.get(&aws.region).filter(|key| !key.is_empty()).cloned();
        let ask = aws
            .ec2
            .copy_image()
            .name(&import.name)
            .set_description((!import.description.is_empty()).then(|| import.description.clone()))
            .source_image_id(id)
            .source_region(&self.aws.region)
            .client_token(format!("{token}-{}", aws.region))
            .set_encrypted((import.encrypt || key.is_some()).then_some(true))
            .set_kms_key_id(key)
            .tag_specifications(self.specification(ResourceType::Image, token))
            .tag_specifications(self.specification(ResourceType::Snapshot, token))
            .send();
        let made = ask.await.or_tell(format!("could not copy {id} to {}", aws.region))?;
        Ok(made.image_id().unwrap_or_default().to_owned())
    }

    async fn own_images(&self, aws: &Aws, token: &str) -> Result<Vec<String>, AwsError> {
        let own = crate::ebs::filter(&format!("tag:{TOKEN_TAG}"), [token.to_owned()]);
        let answer = aws.ec2.describe_images().owners("self").filters(own).send().await?;
        Ok(answer.images().iter().filter_map(|i| i.image_id().map(str::to_owned)).collect())
    }

    /// Removes images and copies; the snapshot stays, so that nothing has to be sent again.
    async fn remove_images(&self, token: &str) {
        let all = std::iter::once(&self.aws.region).chain(self.copies());
        for region in all {
            let Ok(aws) = self.in_region(region).await else { continue };
            for id in self.own_images(&aws, token).await.unwrap_or_default() {
                self.say(format!("Removing {id} from {region}"));
                if let Err(error) = aws.ec2.deregister_image().image_id(&id).send().await {
                    self.say(format!(
                        "could not remove {id} from {region}: {}",
                        AwsError::from(error)
                    ));
                }
            }
            if *region != self.aws.region
                && let Err(error) = self.delete_snapshots(&aws, token).await
            {
                self.say(error.chain());
            }
        }
    }

    async fn delete_snapshots(&self, aws: &Aws, token: &str) -> Result<usize, ComponentError> {
        let own = crate::ebs::filter(&format!("tag:{TOKEN_TAG}"), [token.to_owned()]);
        let answer = aws.ec2.describe_snapshots().owner_ids("self").filters(own).send().await;
        let answer = answer.or_tell(format!("could not look for snapshots in {}", aws.region))?;
        for id in answer.snapshots().iter().filter_map(|s| s.snapshot_id()) {
            match aws.ec2.delete_snapshot().snapshot_id(id).send().await {
                Err(e) if !has_code(&e, &["InvalidSnapshot.NotFound"]) => {
                    return Err(e).or_tell(format!("could not delete the snapshot {id}"));
                }
                _ => self.say(format!("Deleted the snapshot {id} in {}", aws.region)),
            }
        }
        Ok(answer.snapshots().len())
    }
}
