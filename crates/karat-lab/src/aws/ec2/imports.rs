//! Import tasks: an object of a bucket becomes an image, as `ImportImage` has it.
//!
//! A task goes through the stages that AWS shows, each for a while. Its disk is unpacked meanwhile,
//! outside of any call; the image is there when both are over.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use karat_disk::{Container, DiskImage};

use super::model::{
    Content, Ebs, Image, ImageState, ImportStage, ImportTask, Mapping, Protection, Snapshot,
    SnapshotState,
};
use super::page;
use crate::aws::access;
use crate::aws::call::{Call, Job};
use crate::aws::error::{AwsError, Result};
use crate::aws::filters::{Filters, Tags};
use crate::aws::front::Front;
use crate::aws::kms;
use crate::aws::node::{Node, tree};
use crate::aws::params::Params;
use crate::aws::state::{Object, State};
use crate::aws::tags;
use crate::core::blocks::{BlockStore, GIB};
use crate::core::ids;
use crate::core::phase::{Millis, Phase, UNTIL_TOLD, now};

/// Per cent and what is said of it, in order; the disk is unpacked in those up to the middle.
const STAGES: [(u32, &str); 8] = [
    (1, "pending"),
    (5, "validating"),
    (19, "validated"),
    (27, "converting"),
    (50, "updating"),
    (59, "updated"),
    (68, "booting"),
    (93, "preparing ami"),
];
/// The stage that lasts until the disk is unpacked.
const UNPACKING: usize = 3;

/// What a task shows at a time: state, per cent, message.
fn shown(task: &ImportTask, at: Millis) -> (&'static str, Option<u32>, String) {
    match &task.stage {
        ImportStage::Done { .. } => ("completed", None, String::new()),
        ImportStage::Failed { why } => ("deleted", None, format!("ClientError: {why}")),
        ImportStage::Cancelled => ("deleted", None, "Task is cancelled by the user".to_owned()),
        ImportStage::Active { unpacked } => {
            let (passed, lasts) = (at - task.started, (task.due - task.started).max(1));
            let count = i64::try_from(STAGES.len()).unwrap_or(1);
            let stage = if task.due == UNTIL_TOLD { 0 } else { passed * count / lasts };
            let most = if unpacked.is_some() { STAGES.len() - 1 } else { UNPACKING };
            let stage = usize::try_from(stage).unwrap_or(0).min(most);
            let (percent, message) = STAGES[stage];
            ("active", Some(percent), message.to_owned())
        }
    }
}

fn node(task: &ImportTask, at: Millis) -> Node {
    let (status, progress, message) = shown(task, at);
    let (image, snapshot, size) = match &task.stage {
        ImportStage::Done { image, bytes } => (Some(image), Some(&task.snapshot), Some(*bytes)),
        _ => (None, None, None),
    };
    let detail = tree! {
        "format": task.format.to_ascii_uppercase(),
        "deviceName": image.map(|_| ROOT),
        "diskImageSize": size.map(|bytes| bytes as f64),
        "snapshotId": snapshot,
        "status": if image.is_some() { "completed" } else { status },
        "url": task.url.as_ref(),
        "userBucket": tree! { "s3Bucket": &task.bucket, "s3Key": &task.key },
    };
    tree! {
        "importTaskId": &task.id,
        "architecture": &task.architecture,
        "bootMode": task.boot_mode.as_ref(),
        "description": task.description.as_ref(),
        "encrypted": task.encrypted,
        "hypervisor": task.hypervisor.as_ref(),
        "imageId": image,
        "kmsKeyId": task.kms_key.as_ref(),
        "licenseType": task.license.as_ref(),
        "platform": task.platform.as_ref(),
        "progress": progress,
        "snapshotDetailSet": Node::List(vec![detail]),
        "status": status,
        "statusMessage": Some(message).filter(|text| !text.is_empty()),
        "tagSet": tags::node(&task.tags),
    }
}

const ROOT: &str = "/dev/sda1";

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("InvalidParameter", message)
}

/// The bucket and key that a container of a disk names.
fn place(part: &Params) -> Result<(String, String)> {
    if let (Some(bucket), Some(key)) =
        (part.text("UserBucket.S3Bucket"), part.text("UserBucket.S3Key"))
    {
        return Ok((bucket.to_owned(), key.to_owned()));
    }
    let url = part.text("Url").unwrap_or_default();
    let inside = url.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
    let (bucket, key) =
        inside.ok_or_else(|| invalid("A disk container needs a UserBucket or an s3:// Url."))?;
    Ok((bucket.to_owned(), key.to_owned()))
}

/// The service's role has to be there, to trust it, and to be allowed to read the object.
fn check_role(call: &Call<'_>, name: &str, bucket: &str, key: &str) -> Result<()> {
    let refused = || {
        invalid(format!(
            "The service role {name} provided does not exist or does not have sufficient \
             permissions"
        ))
    };
    let role = call.state.roles.get(name).ok_or_else(refused)?;
    if !role.trust.contains("vmie.amazonaws.com") {
        return Err(refused());
    }
    let object = format!("arn:aws:s3:::{bucket}/{key}");
    let bucket = format!("arn:aws:s3:::{bucket}");
    let needs = [("s3:GetBucketLocation", &bucket), ("s3:GetObject", &object)];
    match needs.iter().all(|(action, resource)| access::role_may(call, role, action, resource)) {
        true => Ok(()),
        false => Err(refused()),
    }
}

fn one_of(params: &Params, name: &str, known: &[&str]) -> Result<Option<String>> {
    match params.text(name) {
        Some(text) if !known.iter().any(|k| k.eq_ignore_ascii_case(text)) => {
            Err(invalid(format!("The value {text} of {name} is not one of {}", known.join(", "))))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

pub(super) fn import(call: &mut Call<'_>) -> Result<Node> {
    let params = call.params;
    let disks = params.members("DiskContainer");
    let [disk] = disks.as_slice() else {
        return Err(invalid("The lab imports images of one disk."));
    };
    let (bucket, key) = place(disk)?;
    let architecture = one_of(params, "Architecture", &["x86_64", "arm64", "i386"])?;
    let platform = one_of(params, "Platform", &["Linux", "Windows"])?;
    let license = one_of(params, "LicenseType", &["AWS", "BYOL"])?;
    let boot_mode = one_of(params, "BootMode", &["legacy-bios", "uefi", "uefi-preferred"])?;
    let format = disk.text("Format").unwrap_or("raw").to_ascii_lowercase();
    if !["ova", "raw", "vhd", "vhdx", "vmdk"].contains(&format.as_str()) {
        return Err(invalid(format!("The format {format} is not supported")));
    }
    let role = params.text("RoleName").unwrap_or("vmimport");
    check_role(call, role, &bucket, &key)?;
    let object = format!("{bucket}/{key}");
    if call.state.objects.get(&object).is_none() {
        return Err(invalid(format!("The specified key s3://{object} does not exist.")));
    }
    let named = params.text("KmsKeyId");
    let encrypted = params.on("Encrypted")?;
    if named.is_some() && !encrypted {
        return Err(AwsError::combination("KmsKeyId needs Encrypted."));
    }
    let kms_key = match encrypted {
        true => Some(kms::usable_key(call, named.unwrap_or(kms::EBS_ALIAS))?),
        false => None,
    };
    let text = |name: &str| params.text(name).map(str::to_owned);
    let lasts = call.settings.durations.import;
    let task = ImportTask {
        id: ids::resource("import-ami"),
        snapshot: ids::resource("snap"),
        region: call.region.to_owned(),
        bucket,
        key,
        url: disk.text("Url").map(str::to_owned),
        format,
        architecture: architecture.unwrap_or_else(|| "x86_64".to_owned()),
        platform,
        license,
        boot_mode,
        hypervisor: text("Hypervisor"),
        description: text("Description"),
        encrypted,
        kms_key,
        started: call.now,
        due: if call.stuck { UNTIL_TOLD } else { call.now + lasts },
        stage: ImportStage::Active { unpacked: None },
        tags: tags::specified(params, "import-image-task", &["import-image-task"])?,
    };
    let node = node(&task, call.now);
    call.state.imports.insert(task);
    Ok(node)
}

fn missing(id: &str) -> AwsError {
    AwsError::new("InvalidConversionTaskId.NotFound", format!("The import task {id} is not found"))
}

fn find<'a>(call: &'a Call<'_>, id: &str) -> Result<&'a ImportTask> {
    let found = call.state.imports.get(id).filter(|task| task.region == call.region);
    found.filter(|task| call.sees(task.started)).ok_or_else(|| missing(id))
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Node> {
    let asked = call.params.texts("ImportTaskId");
    for id in &asked {
        find(call, id)?;
    }
    let filters = Filters::of(call.params)?;
    let mut items = Vec::new();
    for task in call.state.imports.iter() {
        let wanted = asked.is_empty() || asked.contains(&task.id);
        let here = task.region == call.region && call.sees(task.started);
        let value = |name: &str| match name {
            "task-state" => Some(vec![shown(task, call.now).0.to_owned()]),
            _ => None,
        };
        if wanted && here && filters.pass(&task.tags, value)? {
            items.push(node(task, call.now));
        }
    }
    page(call, "importImageTaskSet", items)
}

pub(super) fn cancel(call: &mut Call<'_>) -> Result<Node> {
    let id = call.params.need("ImportTaskId")?.to_owned();
    let before = shown(find(call, &id)?, call.now).0;
    if before == "completed" {
        return Err(AwsError::new(
            "IncorrectState",
            format!("The import task {id} is completed and cannot be cancelled"),
        ));
    }
    if before == "active"
        && let Some(task) = call.state.imports.get_mut(&id)
    {
        task.stage = ImportStage::Cancelled;
        let snapshot = task.snapshot.clone();
        call.jobs.push(Job::DropBlocks { snapshot });
    }
    Ok(tree! { "importTaskId": id, "previousState": before, "state": "deleting" })
}

/// A disk in blocks, by their numbers and digests.
struct Unpacked {
    blocks: Vec<(u32, Vec<u8>)>,
    bytes: u64,
}

/// Unpacks an object's disk.
fn unpack(
    object: &Object,
    format: &str,
    folder: &Path,
    blocks: &BlockStore,
) -> std::result::Result<Unpacked, String> {
    let failed = |e: std::io::Error| format!("The disk cannot be read [{e}]");
    let mut whole = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    for blob in &object.blobs {
        let mut part = std::fs::File::open(folder.join(&blob.file)).map_err(failed)?;
        std::io::copy(&mut part, &mut whole).map_err(failed)?;
    }
    let invalid = |why: String| format!("Disk validation failed [{why}]");
    let kind = Container::of(whole.path()).map_err(|e| invalid(e.to_string()))?;
    if kind.name() != format {
        return Err(invalid(format!("Unsupported {} file, and not {format}", kind.name())));
    }
    let image = DiskImage::open_nameless(whole.path(), folder, &AtomicBool::new(false));
    let image = image.map_err(|e| invalid(e.to_string()))?;
    let bytes = image.file().metadata().map_err(failed)?.len();
    if bytes == 0 {
        return Err(invalid("The disk is empty".to_owned()));
    }
    let raw = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(image.file()));
    let blocks = blocks.take_apart(Path::new(&raw), &[(0, bytes)]).map_err(failed)?;
    Ok(Unpacked { blocks, bytes })
}

impl Front {
    /// Goes on with the import tasks: unpacks what was not, and makes images whose time has come.
    pub(crate) fn go_on_with_imports(&self) {
        let begun = |task: &ImportTask| matches!(task.stage, ImportStage::Active { .. });
        let tasks: Vec<ImportTask> = {
            let inner = self.lock();
            inner.state.imports.iter().filter(|task| begun(task)).cloned().collect()
        };
        for task in tasks {
            match &task.stage {
                ImportStage::Active { unpacked: None } => self.unpack_import(&task),
                ImportStage::Active { unpacked: Some(bytes) } if task.due <= now() => {
                    let account = self.settings.account.clone();
                    self.change(|inner, time| {
                        // It may be cancelled by now.
                        if inner.state.imports.get(&task.id).is_some_and(begun) {
                            finish(&mut inner.state, &task, *bytes, &account, time);
                        }
                    });
                }
                _ => {}
            }
        }
    }

    fn unpack_import(&self, task: &ImportTask) {
        let object = {
            let inner = self.lock();
            inner.state.objects.get(&format!("{}/{}", task.bucket, task.key)).cloned()
        };
        let folder = self.settings.dir.join("objects");
        let made = object
            .ok_or_else(|| format!("The object s3://{}/{} is gone", task.bucket, task.key))
            .and_then(|object| unpack(&object, &task.format, &folder, &self.blocks));
        self.change(|inner, _| {
            let begun = inner.state.imports.get(&task.id);
            if !begun.is_some_and(|task| matches!(task.stage, ImportStage::Active { .. })) {
                return;
            }
            let stage = match made {
                Ok(Unpacked { blocks, bytes }) => {
                    match inner.database.put_blocks(&task.snapshot, &blocks) {
                        Ok(()) => ImportStage::Active { unpacked: Some(bytes) },
                        Err(error) => ImportStage::Failed { why: error.to_string() },
                    }
                }
                Err(why) => ImportStage::Failed { why },
            };
            if let Some(task) = inner.state.imports.get_mut(&task.id) {
                task.stage = stage;
            }
        });
    }
}

/// Makes the snapshot and the image of a task.
fn finish(state: &mut State, task: &ImportTask, bytes: u64, account: &str, time: Millis) {
    let size = u32::try_from(bytes.div_ceil(GIB)).unwrap_or(u32::MAX);
    let snapshot = Snapshot {
        id: task.snapshot.clone(),
        region: task.region.clone(),
        owner: account.to_owned(),
        volume: "vol-ffffffff".into(),
        size,
        phase: Phase::fixed(SnapshotState::Completed),
        failure: None,
        started: time,
        description: format!("Created by AWS-VMImport service for {}", task.id),
        encrypted: task.encrypted,
        key: task.kms_key.clone(),
        permissions: Vec::new(),
        content: Content::Blocks(task.snapshot.clone()),
        laid_out: false,
        writing: None,
        parent: None,
        copied: false,
        tags: Tags::new(),
    };
    let root = Ebs {
        snapshot: Some(snapshot.id.clone()),
        size,
        kind: "gp2".into(),
        iops: None,
        throughput: None,
        encrypted: task.encrypted,
        key: task.kms_key.clone(),
        delete_on_termination: true,
    };
    let windows = task.platform.as_ref().filter(|p| p.eq_ignore_ascii_case("windows"));
    let image = Image {
        id: ids::resource("ami"),
        region: task.region.clone(),
        name: task.id.clone(),
        owner: account.to_owned(),
        owner_alias: None,
        description: Some(format!("AWS-VMImport service: {}", task.id)),
        architecture: task.architecture.clone(),
        virtualization: "hvm".into(),
        root_device: ROOT.into(),
        mappings: vec![Mapping { device: ROOT.into(), virtual_name: None, ebs: Some(root) }],
        phase: Phase::fixed(ImageState::Available),
        failure: None,
        created: time,
        ena: true,
        sriov: None,
        boot_mode: task.boot_mode.clone(),
        tpm: None,
        uefi_data: None,
        imds: None,
        deprecation: None,
        protection: Protection::Off,
        permissions: Vec::new(),
        source_instance: None,
        source_image: None,
        source_region: None,
        last_launched: None,
        platform: windows.map(|_| "windows".to_owned()),
        fast_launch: None,
        tags: Tags::new(),
    };
    let stage = ImportStage::Done { image: image.id.clone(), bytes };
    state.snapshots.insert(snapshot);
    state.images.insert(image);
    if let Some(task) = state.imports.get_mut(&task.id) {
        task.stage = stage;
    }
}
