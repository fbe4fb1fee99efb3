//! Steps `snapshots` and `image` of `amazon-ebssurrogate`: volumes of the machine become snapshots,
//! and these an image.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_ec2::types::{
    ArchitectureValues, BlockDeviceMapping, BootModeValues, ImdsSupportValues, ResourceType,
    TpmSupportValues,
};
use futures::future::try_join_all;
use karat_saga::{Lifetime, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::image::{
    delete_snapshot, image_tags, lifetime, made, made_before, own_snapshots, unmake,
};
use super::instance::mapping;
use super::node;
use super::scope::{Scope, filter, message, say};
use super::source::SourceImage;
use super::states::{Ami, InstanceStates, Machine};
use crate::client::{Aws, AwsError, Explain, Patience, Seen, Watch, Watched, has_code};
use crate::options::{Device, Tags};

/// How long a snapshot may take: large disks take hours.
const COMPLETED: Duration = Duration::from_secs(4 * 3600);

/// Snapshots.
#[derive(Debug)]
pub(crate) struct SnapshotStates;

/// What is known of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// `pending`, `completed`, `error`, ….
    pub(crate) state: String,
    pub(crate) reason: String,
}

impl Watched for SnapshotStates {
    type State = Snapshot;
    const DELAY: Duration = Duration::from_secs(5);

    fn watch(aws: &Aws) -> &Watch<Self> {
        &aws.snapshots
    }

    async fn ask(aws: &Aws, ids: Vec<String>) -> Result<HashMap<String, Snapshot>, AwsError> {
        let mut pages = aws
            .ec2
            .describe_snapshots()
            .owner_ids("self")
            .filters(filter("snapshot-id", ids))
            .into_paginator()
            .send();
        let mut known = HashMap::new();
        while let Some(page) = pages.next().await {
            for snapshot in page?.snapshots() {
                let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
                let state = Snapshot {
                    state: text(snapshot.state().map(|s| s.as_str())),
                    reason: text(snapshot.state_message()),
                };
                known.insert(text(snapshot.snapshot_id()), state);
            }
        }
        Ok(known)
    }
}

/// Waits until a snapshot is completed.
pub(crate) async fn completed(
    aws: &std::sync::Arc<Aws>,
    id: &str,
    cx: &StepContext,
) -> Result<(), StepError> {
    let patience = Patience {
        what: format!("{id} to be completed"),
        limit: COMPLETED,
        hint: "aws_polling allows more; what was made is removed",
    };
    Watch::<SnapshotStates>::until(aws, id, &patience, cx, |snapshot| match snapshot {
        Some(s) if s.state == "completed" => Seen::Done(()),
        Some(s) if s.state.starts_with("error") => {
            Seen::Never(StepError::new(format!("the snapshot {id} failed: {}", s.reason)))
        }
        _ => Seen::NotYet,
    })
    .await
}

/// What stands for the device of a volume that becomes a root and is no machine's.
pub(crate) const ROOT: &str = "root";

/// The volumes of the machine by device, as they are now; without a machine of the build, the volume
/// that it fills.
pub(crate) async fn volumes(
    aws: &Aws,
    cx: &StepContext,
) -> Result<BTreeMap<String, String>, StepError> {
    if cx.outputs().raw(node::ROOT_VOLUME).is_some() {
        return Ok(BTreeMap::from([(ROOT.to_owned(), cx.output(node::ROOT_VOLUME)?)]));
    }
    let machine: Machine = cx.output(node::INSTANCE)?;
    let known = InstanceStates::ask(aws, vec![machine.id.clone()]).await;
    let known = known.or_fail(format!("could not look at the volumes of {}", machine.id))?;
    let machine = known.get(&machine.id).unwrap_or(&machine);
    Ok(machine.volumes.iter().cloned().collect())
}

/// A snapshot of a volume that this build makes; one that it made before is taken again, since a
/// snapshot has no token by which AWS would know it.
pub(crate) async fn snapshot_of(
    scope: &Scope,
    aws: &Aws,
    volume: &str,
    description: &str,
    tags: &Tags,
) -> Result<String, AwsError> {
    let of = |volume: &str| filter("volume-id", [volume.to_owned()]);
    let ask = aws.ec2.describe_snapshots().owner_ids("self");
    let answer = ask.filters(scope.own()).filters(of(volume)).send().await?;
    if let Some(id) = answer.snapshots().iter().find_map(|s| s.snapshot_id()) {
        return Ok(id.to_owned());
    }
    let made = aws
        .ec2
        .create_snapshot()
        .volume_id(volume)
        .set_description((!description.is_empty()).then(|| description.to_owned()))
        .tag_specifications(scope.specification(ResourceType::Snapshot, tags))
        .send()
        .await?;
    Ok(made.snapshot_id().unwrap_or_default().to_owned())
}

/// Deletes snapshots of a volume whose answer was lost, so that the call was made again.
pub(crate) async fn remove_doubles(
    scope: &Scope,
    aws: &Aws,
    volume: &str,
    keep: &str,
    cx: &StepContext,
) -> Result<(), StepError> {
    let ask = aws.ec2.describe_snapshots().owner_ids("self").filters(scope.own());
    let answer = ask.filters(filter("volume-id", [volume.to_owned()])).send().await;
    let answer = answer.or_fail("could not look for snapshots of this build")?;
    for id in answer.snapshots().iter().filter_map(|s| s.snapshot_id()).filter(|id| *id != keep) {
        delete_snapshot(aws, id, cx).await?;
    }
    Ok(())
}

/// Makes snapshots of the machine's volumes and waits for them. They are kept; after a failure
/// they go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotVolumes {
    pub(crate) scope: Scope,
    /// The devices whose volumes are wanted.
    pub(crate) devices: Vec<String>,
    pub(crate) description: String,
    pub(crate) tag_with_run_tags: bool,
    /// Whether they go once copies of the image stand.
    pub(crate) goes: bool,
}

impl Step for SnapshotVolumes {
    const KIND: &'static str = "aws.snapshots";
    const REMOTE: bool = true;
    /// Snapshots by device.
    type Output = BTreeMap<String, String>;

    fn lifetime(&self) -> Lifetime {
        lifetime(self.goes)
    }

    async fn run(&self, cx: &StepContext) -> Result<BTreeMap<String, String>, StepError> {
        let aws = self.scope.aws().await?;
        let source: SourceImage = cx.output(node::SOURCE)?;
        let tags = image_tags(&source, self.tag_with_run_tags).1;
        let volumes = cx.unless_cancelled(volumes(&aws, cx)).await??;
        let made = try_join_all(self.devices.iter().map(|device| {
            let (aws, tags, volumes) = (&aws, &tags, &volumes);
            async move {
                let volume = volumes.get(device).ok_or_else(|| {
                    StepError::new(format!("the machine has no volume at {device}"))
                })?;
                say(cx, format!("Making a snapshot of {device}"));
                let what = format!("could not make a snapshot of {volume}");
                let ask = snapshot_of(&self.scope, aws, volume, &self.description, tags);
                let id = match cx.unless_cancelled(ask).await? {
                    Ok(id) => id,
                    Err(e) => return Err(aws.decoded(e).await).or_fail(what),
                };
                message(cx, format!("{id} is being made of {volume}"));
                completed(aws, &id, cx).await?;
                remove_doubles(&self.scope, aws, volume, &id, cx).await?;
                Ok::<_, StepError>((device.clone(), id))
            }
        }))
        .await?;
        Ok(made.into_iter().collect())
    }

    async fn undo(
        &self,
        cx: &StepContext,
        _: Option<BTreeMap<String, String>>,
    ) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let own = own_snapshots(&self.scope, &aws).await;
        for id in own.or_fail("could not look for snapshots of this build")? {
            delete_snapshot(&aws, &id, cx).await?;
        }
        Ok(())
    }
}

/// What an image of snapshots is, beside its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kind {
    pub(crate) architecture: String,
    pub(crate) virtualization: String,
    pub(crate) boot: String,
    pub(crate) uefi_data: String,
    pub(crate) tpm: String,
    pub(crate) imds: String,
    pub(crate) ena: Option<bool>,
    pub(crate) sriov: bool,
}

/// Makes an image of snapshots and waits until it is available. It is kept; after a failure it
/// goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RegisterImage {
    pub(crate) scope: Scope,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The device whose snapshot becomes the root.
    pub(crate) from: String,
    /// The root as the image has it.
    pub(crate) root: Device,
    /// The machine's other devices that the image has.
    pub(crate) launch_devices: Vec<Device>,
    /// Devices of the image alone.
    pub(crate) image_devices: Vec<Device>,
    pub(crate) tag_with_run_tags: bool,
    pub(crate) goes: bool,
    /// Whether it has the source image's devices.
    #[serde(default)]
    pub(crate) of_source: bool,
    /// Whether it is for the same machines as the source image, where nothing else is said.
    #[serde(default)]
    pub(crate) like_source: bool,
}

impl RegisterImage {
    /// The same with what is known of the source image.
    fn with(&self, source: &SourceImage) -> Self {
        let mut with = self.clone();
        if self.like_source {
            with.kind.architecture.clone_from(&source.architecture);
            if with.kind.virtualization.is_empty() {
                with.kind.virtualization.clone_from(&source.virtualization);
            }
            with.kind.ena = with.kind.ena.or(source.ena);
        }
        if self.of_source {
            let plain = |device: &Device| Device { encrypted: None, ..device.clone() };
            let root = source.root_device().unwrap_or_default();
            with.root = Device { size: self.root.size.max(root.size), ..plain(&root) };
            let others = source.mappings.iter().filter(|d| d.name != root.name);
            with.image_devices = others.map(plain).collect();
        }
        with
    }

    fn mappings(
        &self,
        snapshots: &BTreeMap<String, String>,
    ) -> Result<Vec<BlockDeviceMapping>, StepError> {
        let mut devices: BTreeMap<String, Device> = BTreeMap::new();
        for device in &self.image_devices {
            devices.insert(device.name.clone(), device.clone());
        }
        // What a snapshot has of encryption stays.
        let from = |device: &Device, source: &str| Device {
            snapshot: snapshots.get(source).cloned().unwrap_or_default(),
            encrypted: None,
            key: String::new(),
            ..device.clone()
        };
        for device in self.launch_devices.iter().filter(|d| d.name != self.from) {
            let made = snapshots.contains_key(&device.name);
            let device = if made { from(device, &device.name) } else { device.clone() };
            devices.insert(device.name.clone(), device);
        }
        let root = from(&self.root, &self.from);
        if root.snapshot.is_empty() {
            return Err(StepError::new(format!("there is no snapshot of {}", self.from)));
        }
        devices.insert(root.name.clone(), root);
        let all = devices.into_values().map(|mut device| {
            // As in Packer: volumes of the image's machines stay unless that is said.
            device.goes_with_machine.get_or_insert(false);
            mapping(&device)
        });
        Ok(all.collect())
    }

    async fn register(&self, aws: &Aws, cx: &StepContext) -> Result<String, StepError> {
        let source: SourceImage = cx.output(node::SOURCE)?;
        let snapshots: BTreeMap<String, String> = cx.output(node::SNAPSHOTS)?;
        let tags = image_tags(&source, self.tag_with_run_tags).0;
        let wanted = self.with(&source);
        let (kind, description) = (&wanted.kind, &source.texts.description);
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let what = || format!("could not register the image \"{}\"", self.name);
        let ask = aws
            .ec2
            .register_image()
            .name(&self.name)
            .set_description(text(description))
            .architecture(ArchitectureValues::from(kind.architecture.as_str()))
            .virtualization_type(&kind.virtualization)
            .root_device_name(&wanted.root.name)
            .set_block_device_mappings(Some(wanted.mappings(&snapshots)?))
            .set_boot_mode(text(&kind.boot).map(|b| BootModeValues::from(b.as_str())))
            .set_uefi_data(text(&kind.uefi_data))
            .set_tpm_support(text(&kind.tpm).map(|t| TpmSupportValues::from(t.as_str())))
            .set_imds_support(text(&kind.imds).map(|i| ImdsSupportValues::from(i.as_str())))
            .set_ena_support(kind.ena)
            .set_sriov_net_support(kind.sriov.then(|| "simple".to_owned()))
            .tag_specifications(self.scope.specification(ResourceType::Image, &tags))
            .send();
        match cx.unless_cancelled(ask).await? {
            Ok(made) => Ok(made.image_id().unwrap_or_default().to_owned()),
            Err(e) if has_code(&e, &["InvalidAMIName.Duplicate"]) => {
                match made_before(&self.scope, aws, &what(), cx).await? {
                    Some(id) => Ok(id),
                    None => Err(e).or_fail(what()),
                }
            }
            Err(e) => Err(aws.decoded(e).await).or_fail(what()),
        }
    }
}

impl Step for RegisterImage {
    const KIND: &'static str = "aws.register";
    const REMOTE: bool = true;
    type Output = Ami;

    fn lifetime(&self) -> Lifetime {
        lifetime(self.goes)
    }

    async fn run(&self, cx: &StepContext) -> Result<Ami, StepError> {
        let aws = self.scope.aws().await?;
        say(cx, format!("Registering the image \"{}\"", self.name));
        let id = self.register(&aws, cx).await?;
        made(&aws, &id, cx).await
    }

    async fn undo(&self, cx: &StepContext, done: Option<Ami>) -> Result<(), StepError> {
        unmake(&self.scope, done, cx).await
    }
}
