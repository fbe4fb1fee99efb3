//! Steps `volume` and `attach`: the volume that is filled, and this machine gets it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_ec2::types::{ResourceType, VolumeType};
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::super::node;
use super::super::preflight::Found;
use super::super::scope::{Scope, look, message, pause, say};
use super::super::source::SourceImage;
use super::super::volumes::delete_volume;
use super::config::{Place, Volume};
use super::here::Here;
use crate::client::{Aws, AwsError, Explain, has_code};

/// How long a volume may take to change its state.
const CHANGES: Duration = Duration::from_secs(15 * 60);
/// How long a device may take to appear once its volume is attached.
const APPEARS: Duration = Duration::from_secs(120);
/// Builds of one machine take devices in turn, those of Packer among them.
const LOCK: &str = "/var/lock/packer-chroot/lock";
/// The letters of devices that a machine has free.
const LETTERS: std::ops::RangeInclusive<char> = 'f'..='p';

/// Makes the volume, and deletes it whatever the end is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MakeVolume {
    pub(crate) scope: Scope,
    pub(crate) volume: Volume,
}

/// What is known of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    id: String,
    state: String,
    /// Machine, device and state of each attachment.
    attached: Vec<[String; 3]>,
}

async fn known(aws: &Aws, scope: &Scope) -> Result<Vec<Known>, AwsError> {
    let answer = aws.ec2.describe_volumes().filters(scope.own()).send().await?;
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let all = answer.volumes().iter().map(|volume| Known {
        id: text(volume.volume_id()),
        state: text(volume.state().map(|s| s.as_str())),
        attached: volume
            .attachments()
            .iter()
            .map(|at| {
                let state = at.state().map(|s| s.as_str());
                [text(at.instance_id()), text(at.device()), text(state)]
            })
            .collect(),
    });
    Ok(all.collect())
}

/// Waits until the build's volume is as it should be.
async fn until(
    aws: &Aws,
    scope: &Scope,
    id: &str,
    what: &str,
    cx: &StepContext,
    holds: impl Fn(&Known) -> bool,
) -> Result<Known, StepError> {
    let begun = tokio::time::Instant::now();
    loop {
        let all = cx.unless_cancelled(known(aws, scope)).await?;
        let all = all.or_fail(format!("could not look at {id}"))?;
        let found = all.into_iter().find(|volume| volume.id == id);
        if let Some(found) = &found
            && holds(found)
        {
            return Ok(found.clone());
        }
        if found.as_ref().is_some_and(|volume| volume.state == "error") {
            return Err(StepError::new(format!("{id} is in the state error"))
                .with_hint("the reason is often a KMS key that may not be used"));
        }
        if begun.elapsed() > CHANGES {
            let state = found.map(|volume| volume.state).unwrap_or_default();
            return Err(StepError::new(format!(
                "{id} is not {what} after {} minutes; its state is \"{state}\"",
                CHANGES.as_secs() / 60
            )));
        }
        pause(cx, Duration::from_secs(1)).await?;
    }
}

impl MakeVolume {
    async fn make(&self, aws: &Aws, cx: &StepContext) -> Result<String, StepError> {
        let here: Here = cx.output(node::HERE)?;
        let found: Found = cx.output(node::PREFLIGHT)?;
        let source: SourceImage = cx.output(node::SOURCE)?;
        let wanted = &self.volume;
        let root = source.root_device();
        if root.is_none() && !wanted.empty {
            return Err(StepError::new(format!("{} does not say what its root is", source.id)));
        }
        let root = root.unwrap_or_default();
        let (mut kind, mut iops) = (root.kind.clone(), root.iops);
        if wanted.empty {
            kind = "gp2".to_owned();
        }
        if !wanted.kind.is_empty() && wanted.kind != kind {
            if wanted.kind == "io1" {
                return Err(StepError::new(format!(
                    "Root volume type cannot be io1, because existing root volume type was {kind}"
                )));
            }
            (kind, iops) = (wanted.kind.clone(), None);
        }
        // AWS tells this of volumes that cannot be asked for it.
        let iops = iops.filter(|_| matches!(&*kind, "io1" | "io2" | "gp3"));
        let throughput = root.throughput.filter(|_| kind == "gp3");
        let encrypted = wanted.encrypt.filter(|on| *on).or(root.encrypted.filter(|on| *on));
        let key = Some(found.key).filter(|key| !key.is_empty() && encrypted == Some(true));
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let ask = aws
            .ec2
            .create_volume()
            .client_token(&self.scope.token)
            .availability_zone(&here.zone)
            .set_size(wanted.size.filter(|n| *n != 0).max(root.size))
            .set_snapshot_id(text(&root.snapshot))
            .set_volume_type(text(&kind).map(|kind| VolumeType::from(kind.as_str())))
            .set_iops(iops)
            .set_throughput(throughput)
            .set_encrypted(encrypted)
            .set_kms_key_id(key)
            .tag_specifications(
                self.scope.specification(ResourceType::Volume, &source.texts.volume_tags),
            )
            .send();
        match cx.unless_cancelled(ask).await? {
            Ok(made) => Ok(made.volume_id().unwrap_or_default().to_owned()),
            Err(e) => Err(aws.decoded(e).await).or_fail("could not make the volume"),
        }
    }
}

impl Step for MakeVolume {
    const KIND: &'static str = "aws.root-volume";
    const REMOTE: bool = true;
    type Output = String;

    async fn run(&self, cx: &StepContext) -> Result<String, StepError> {
        let aws = self.scope.aws().await?;
        say(cx, "Making the root volume");
        let id = self.make(&aws, cx).await?;
        message(cx, format!("{id} is being made"));
        cx.fault_point("made")?;
        until(&aws, &self.scope, &id, "available", cx, |volume| {
            matches!(&*volume.state, "available" | "in-use")
        })
        .await?;
        Ok(id)
    }

    async fn undo(&self, cx: &StepContext, done: Option<String>) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let what = "could not delete the volume of this build";
        let ids: BTreeSet<String> = match done {
            Some(id) => BTreeSet::from([id]),
            None => {
                let found = look(cx, || known(&aws, &self.scope), what).await?;
                found.into_iter().map(|volume| volume.id).collect()
            }
        };
        for id in ids {
            let begun = tokio::time::Instant::now();
            loop {
                match delete_volume(&aws, &id).await {
                    // That it is detached may take a moment to be known everywhere.
                    Err(e) if e.code == "VolumeInUse" && begun.elapsed() < APPEARS => {}
                    deleted => {
                        deleted.or_fail(what)?;
                        break;
                    }
                }
                pause(cx, Duration::from_secs(2)).await?;
            }
        }
        Ok(())
    }
}

/// Attaches the volume to this machine, and detaches it whatever the end is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AttachVolume {
    pub(crate) scope: Scope,
    pub(crate) place: Place,
}

/// A volume that this machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    /// What it was asked to be called: `/dev/xvdf`.
    pub(crate) device: String,
    /// What it is called: `/dev/nvme1n1`.
    pub(crate) node: String,
}

/// Devices that nothing has, the first of which is taken.
fn free_devices(block: &Path, dev: &Path) -> Vec<String> {
    let names: Vec<String> = std::fs::read_dir(block)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    // Where neither is used, Xen's is what AWS shows.
    let prefix = if names.iter().any(|n| n.starts_with("sd")) { "sd" } else { "xvd" };
    let taken = |letter: char| {
        ["sd", "xvd"].iter().any(|prefix| {
            let name = format!("{prefix}{letter}");
            dev.join(&name).exists() || dev.join(format!("{name}1")).exists()
        })
    };
    let free = LETTERS.filter(|letter| !taken(*letter));
    free.map(|letter| format!("/dev/{prefix}{letter}")).collect()
}

/// Holds the lock of a machine's devices until it is dropped.
async fn lock() -> Result<File, StepError> {
    let taken = tokio::task::spawn_blocking(|| {
        let path = PathBuf::from(LOCK);
        // Who is not root cannot write there, and goes by what is attached alone.
        let place = match std::fs::create_dir_all(path.parent().unwrap_or(&path)) {
            Ok(()) => path,
            Err(_) => std::env::temp_dir().join("karat-chroot.lock"),
        };
        let file = File::options().write(true).create(true).truncate(false).open(&place)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    });
    let what = "could not lock the devices of this machine";
    taken.await.map_err(|e| StepError::because(what, e))?.map_err(|e| StepError::because(what, e))
}

impl AttachVolume {
    /// Asks for the attachment; gives the device.
    async fn ask(&self, aws: &Aws, id: &str, cx: &StepContext) -> Result<String, StepError> {
        let here: Here = cx.output(node::HERE)?;
        let found = cx.unless_cancelled(known(aws, &self.scope)).await?;
        let found = found.or_fail(format!("could not look at {id}"))?;
        let before = found.iter().filter(|v| v.id == id).flat_map(|v| &v.attached);
        if let Some([_, device, _]) = before.into_iter().find(|[to, ..]| *to == here.instance) {
            return Ok(self.told(device));
        }
        let devices = match self.place.device.as_str() {
            "" => free_devices(Path::new("/sys/block"), Path::new("/dev")),
            given if Path::new(given).exists() => {
                return Err(StepError::new(format!("Device is in use: {given}"))
                    .with_hint("leave device_path out, or name another"));
            }
            given => vec![given.to_owned()],
        };
        for device in devices {
            // AWS knows them by this name.
            let asked = device.replacen("/xvd", "/sd", 1);
            say(cx, format!("Attaching the root volume to {asked}"));
            let ask = aws.ec2.attach_volume().instance_id(&here.instance).volume_id(id);
            match cx.unless_cancelled(ask.device(&asked).send()).await? {
                Ok(_) => return Ok(device),
                // The answer to a first call was lost.
                Err(e) if has_code(&e, &["VolumeInUse"]) => {
                    let found = known(aws, &self.scope).await;
                    let found = found.or_fail(format!("could not look at {id}"))?;
                    let mine = |v: &Known| v.attached.iter().any(|[to, ..]| *to == here.instance);
                    if found.iter().any(|v| v.id == id && mine(v)) {
                        return Ok(device);
                    }
                    return Err(e).or_fail(format!("could not attach {id}"));
                }
                // Something has the name that is not to be seen here.
                Err(e)
                    if has_code(&e, &["InvalidParameterValue"]) && self.place.device.is_empty() =>
                {
                    message(cx, format!("{asked} is not free: {}", AwsError::from(e)));
                }
                Err(e) => {
                    let what = format!("could not attach {id} to {}", here.instance);
                    return Err(aws.decoded(e).await).or_fail(what);
                }
            }
        }
        Err(StepError::new("this machine has no free device")
            .with_hint("device_path names one, such as \"/dev/xvdf\""))
    }

    /// A device as the template would write it.
    fn told(&self, device: &str) -> String {
        match self.place.device.as_str() {
            "" => {
                let plain = device.replacen("/sd", "/xvd", 1);
                if Path::new(device).exists() { device.to_owned() } else { plain }
            }
            given => given.to_owned(),
        }
    }

    /// Waits until the device is there; gives what it is called.
    async fn node(&self, id: &str, device: &str, cx: &StepContext) -> Result<String, StepError> {
        let by_id = format!(
            "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{}",
            id.replacen("vol-", "vol", 1)
        );
        let names = match self.place.nvme_device.as_str() {
            "" => vec![
                device.to_owned(),
                device.replacen("/sd", "/xvd", 1),
                device.replacen("/xvd", "/sd", 1),
                by_id,
            ],
            given => vec![given.to_owned()],
        };
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(name) = names.iter().find(|name| Path::new(name).exists()) {
                // What stands by its id is a link.
                let real = std::fs::canonicalize(name).ok().filter(|_| name.contains("/by-id/"));
                return Ok(real.map_or_else(|| name.clone(), |p| p.display().to_string()));
            }
            if begun.elapsed() > APPEARS {
                return Err(StepError::new(format!("{id} is attached, and {device} is not there"))
                    .with_hint("nvme_device_path says what a disk of NVMe is called"));
            }
            pause(cx, Duration::from_millis(200)).await?;
        }
    }
}

impl Step for AttachVolume {
    const KIND: &'static str = "aws.attach";
    const REMOTE: bool = true;
    type Output = Attached;

    async fn run(&self, cx: &StepContext) -> Result<Attached, StepError> {
        let aws = self.scope.aws().await?;
        let id: String = cx.output(node::ROOT_VOLUME)?;
        let held = cx.unless_cancelled(lock()).await??;
        let device = self.ask(&aws, &id, cx).await?;
        cx.fault_point("asked")?;
        until(&aws, &self.scope, &id, "attached", cx, |volume| {
            volume.attached.iter().any(|[_, _, state]| state == "attached")
        })
        .await?;
        let node = self.node(&id, &device, cx).await?;
        drop(held);
        Ok(Attached { device, node })
    }

    async fn undo(&self, cx: &StepContext, _: Option<Attached>) -> Result<(), StepError> {
        detach(&self.scope, cx).await
    }
}

/// Detaches the build's volume and waits until it is free.
pub(super) async fn detach(scope: &Scope, cx: &StepContext) -> Result<(), StepError> {
    let aws = scope.aws().await?;
    let what = "could not detach the volume of this build";
    for volume in known(&aws, scope).await.or_fail(what)? {
        let asks = volume.attached.iter().any(|[_, _, state]| state != "detaching");
        if volume.attached.is_empty() {
            continue;
        }
        if asks {
            say(cx, format!("Detaching {}", volume.id));
            match aws.ec2.detach_volume().volume_id(&volume.id).send().await {
                Err(e) if !has_code(&e, &["IncorrectState", "InvalidVolume.NotFound"]) => {
                    return Err(e).or_fail(what);
                }
                _ => {}
            }
        }
        until(&aws, scope, &volume.id, "detached", cx, |volume| {
            volume.attached.is_empty() && volume.state == "available"
        })
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_something_has_is_not_free() {
        let dir = tempfile::tempdir().unwrap();
        let (block, dev) = (dir.path().join("block"), dir.path().join("dev"));
        for folder in [&block, &dev] {
            std::fs::create_dir(folder).unwrap();
        }
        assert_eq!(free_devices(&block, &dev).first().unwrap(), "/dev/xvdf");
        std::fs::write(block.join("sda"), "").unwrap();
        std::fs::write(dev.join("sdf"), "").unwrap();
        std::fs::write(dev.join("xvdg1"), "").unwrap();
        let free = free_devices(&block, &dev);
        assert_eq!((free.first().unwrap().as_str(), free.len()), ("/dev/sdh", 9));
    }
}
