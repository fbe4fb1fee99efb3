//! Steps `retire`, `retire-REGION` and `old-snapshots`: images that have the name already give it
//! up, as late as they can.
//!
//! A name is in use once in an account and region, and no image can be renamed. So an old image is
//! deregistered just before the call that makes the new one there, when everything else is done;
//! after a failure it is registered again, of its snapshots, which nobody touched.

use aws_sdk_ec2::types::{
    ArchitectureValues, BootModeValues, Image, ImageAttributeName, ImdsSupportValues,
    LaunchPermission, LaunchPermissionModifications, ResourceType, Tag, TagSpecification,
    TpmSupportValues,
};
use karat_saga::{Lifetime, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::image::{available, delete_snapshot};
use super::instance::mapping;
use super::node;
use super::preflight::{Found, literal};
use super::scope::{Scope, TOKEN_TAG, ec2_tags, filter, launch_permissions, message, say, tag_map};
use super::states::{Ami, ImageStates};
use crate::client::{Aws, AwsError, Explain, Watched, has_code};
use crate::options::{Device, Tags};

/// An image that is in the way, and what it takes to register it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OldImage {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Whether it may not be deregistered.
    pub(crate) protected: bool,
    description: String,
    architecture: String,
    virtualization: String,
    root: String,
    boot: String,
    imds: String,
    tpm: String,
    ena: Option<bool>,
    sriov: Option<String>,
    /// What AWS bills for: `Linux/UNIX`, `Windows`, ….
    platform: String,
    devices: Vec<Device>,
    tags: Tags,
    users: Vec<String>,
    groups: Vec<String>,
    organisations: Vec<String>,
    units: Vec<String>,
}

impl OldImage {
    fn of(image: &Image, shared: &[LaunchPermission]) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let all = |get: fn(&LaunchPermission) -> Option<&str>| -> Vec<String> {
            shared.iter().filter_map(get).map(str::to_owned).collect()
        };
        let protection = image.deregistration_protection().unwrap_or_default();
        Self {
            id: text(image.image_id()),
            name: text(image.name()),
            protected: protection.starts_with("enabled"),
            description: text(image.description()),
            architecture: text(image.architecture().map(|a| a.as_str())),
            virtualization: text(image.virtualization_type().map(|v| v.as_str())),
            root: text(image.root_device_name()),
            boot: text(image.boot_mode().map(|b| b.as_str())),
            imds: text(image.imds_support().map(|i| i.as_str())),
            tpm: text(image.tpm_support().map(|t| t.as_str())),
            ena: image.ena_support(),
            sriov: image.sriov_net_support().map(str::to_owned),
            platform: text(image.platform_details()),
            devices: devices(image),
            // Tags of AWS itself cannot be set.
            tags: tag_map(image.tags())
                .into_iter()
                .filter(|(k, _)| !k.starts_with("aws:"))
                .collect(),
            users: all(|p| p.user_id()),
            groups: all(|p| p.group().map(|g| g.as_str())),
            organisations: all(|p| p.organization_arn()),
            units: all(|p| p.organizational_unit_arn()),
        }
    }

    fn snapshots(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().map(|d| d.snapshot.as_str()).filter(|id| !id.is_empty())
    }

    /// Who may launch it.
    fn shared(&self) -> Vec<LaunchPermission> {
        launch_permissions(&self.users, &self.groups, &self.organisations, &self.units)
    }
}

/// The block devices of an image, as they can be registered.
fn devices(image: &Image) -> Vec<Device> {
    let mappings = image.block_device_mappings().iter();
    mappings
        .filter_map(|m| {
            let name = m.device_name()?.to_owned();
            let Some(ebs) = m.ebs() else {
                let store = m.virtual_name()?.to_owned();
                return Some(Device { name, store, ..Device::default() });
            };
            Some(Device {
                name,
                size: ebs.volume_size(),
                kind: ebs.volume_type().map(|k| k.as_str().to_owned()).unwrap_or_default(),
                iops: ebs.iops().filter(|_| ebs.volume_type().is_some_and(|k| k.as_str() != "gp2")),
                throughput: ebs.throughput(),
                snapshot: ebs.snapshot_id().unwrap_or_default().to_owned(),
                goes_with_machine: ebs.delete_on_termination(),
                ..Device::default()
            })
        })
        .collect()
}

/// The images of this account that have a name, less those of the build itself.
pub(crate) async fn old_images(
    aws: &Aws,
    name: &str,
    token: &str,
) -> Result<Vec<OldImage>, AwsError> {
    let ask = aws.ec2.describe_images().owners("self").include_deprecated(true);
    let answer = ask.filters(filter("name", [literal(name)])).send().await?;
    let mut old = Vec::new();
    for image in answer.images() {
        let own = |tag: &Tag| tag.key() == Some(TOKEN_TAG) && tag.value() == Some(token);
        if image.tags().iter().any(own) {
            continue;
        }
        let shared = aws
            .ec2
            .describe_image_attribute()
            .set_image_id(image.image_id().map(str::to_owned))
            .attribute(ImageAttributeName::LaunchPermission)
            .send()
            .await;
        let shared = match shared {
            Ok(answer) => answer.launch_permissions().to_vec(),
            Err(error) => {
                let error = AwsError::from(error);
                if !error.is_refusal() {
                    return Err(error);
                }
                Vec::new()
            }
        };
        old.push(OldImage::of(image, &shared));
    }
    Ok(old)
}

/// Deregisters what has the image's name in a region. Their snapshots stay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Retire {
    pub(crate) scope: Scope,
    /// Where; the build's own region without.
    pub(crate) region: Option<String>,
    pub(crate) name: String,
}

impl Retire {
    fn region<'a>(&'a self, found: &'a Found) -> &'a str {
        self.region.as_deref().unwrap_or(&found.region)
    }

    /// Whether this region is one of its own: the build's may stand in the list too.
    fn is_needed(&self, found: &Found) -> bool {
        self.region.as_ref().is_none_or(|region| found.copies.contains(region))
    }

    /// Registers an image again that was there before.
    async fn restore(
        &self,
        aws: &std::sync::Arc<Aws>,
        old: &OldImage,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let snapshots: Vec<&str> = old.snapshots().collect();
        let stays = format!("its snapshots are there: {}", snapshots.join(", "));
        if !matches!(&*old.platform, "" | "Linux/UNIX") {
            let text = "cannot be registered again as what it was";
            message(cx, format!("{} ({}) {text}; {stays}", old.id, old.platform));
            return Ok(());
        }
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let mut ask = aws
            .ec2
            .register_image()
            .name(&old.name)
            .set_description(text(&old.description))
            .set_architecture(text(&old.architecture).map(|a| ArchitectureValues::from(a.as_str())))
            .set_virtualization_type(text(&old.virtualization))
            .set_root_device_name(text(&old.root))
            .set_block_device_mappings(Some(old.devices.iter().map(mapping).collect()))
            .set_boot_mode(text(&old.boot).map(|b| BootModeValues::from(b.as_str())))
            .set_imds_support(text(&old.imds).map(|i| ImdsSupportValues::from(i.as_str())))
            .set_tpm_support(text(&old.tpm).map(|t| TpmSupportValues::from(t.as_str())))
            .set_ena_support(old.ena)
            .set_sriov_net_support(old.sriov.clone());
        if !old.tags.is_empty() {
            let tags = TagSpecification::builder().resource_type(ResourceType::Image);
            ask = ask.tag_specifications(tags.set_tags(Some(ec2_tags(&old.tags))).build());
        }
        let what = format!("could not register \"{}\" again in {}; {stays}", old.name, aws.region);
        let id = match ask.send().await {
            Ok(made) => made.image_id().unwrap_or_default().to_owned(),
            Err(e) if has_code(&e, &["InvalidAMIName.Duplicate"]) => {
                // It was registered again before, or somebody took the name.
                let there = old_images(aws, &old.name, &self.scope.token).await.or_fail(&what)?;
                let same = |o: &&OldImage| o.snapshots().eq(old.snapshots());
                match there.iter().find(same) {
                    Some(image) => image.id.clone(),
                    None => return Ok(()),
                }
            }
            Err(e) => return Err(aws.decoded(e).await).or_fail(what),
        };
        available(aws, &id, cx).await?;
        let shared = old.shared();
        if !shared.is_empty() {
            let add = LaunchPermissionModifications::builder().set_add(Some(shared)).build();
            let ask = aws.ec2.modify_image_attribute().image_id(&id).launch_permission(add);
            ask.send().await.or_fail(format!("could not share {id} again"))?;
        }
        say(cx, format!("{} is registered again in {} as {id}", old.id, aws.region));
        Ok(())
    }
}

impl Step for Retire {
    const KIND: &'static str = "aws.retire";
    const REMOTE: bool = true;
    type Output = Vec<OldImage>;

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, cx: &StepContext) -> Result<Vec<OldImage>, StepError> {
        let found: Found = cx.output(node::PREFLIGHT)?;
        if !self.is_needed(&found) {
            return Ok(Vec::new());
        }
        let region = self.region(&found);
        let aws = self.scope.aws_in(region).await?;
        let ask = old_images(&aws, &self.name, &self.scope.token);
        let what = format!("could not ask which image has the name in {region}");
        let old = cx.unless_cancelled(ask).await?.or_fail(what)?;
        for image in &old {
            say(cx, format!("Deregistering {} in {region}: the new image gets its name", image.id));
            let ask = aws.ec2.deregister_image().image_id(&image.id).send();
            match cx.unless_cancelled(ask).await? {
                Err(e) if !has_code(&e, &["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"]) => {
                    return Err(aws.decoded(e).await)
                        .or_fail(format!("could not deregister {} in {region}", image.id));
                }
                _ => {}
            }
        }
        Ok(old)
    }

    async fn undo(&self, cx: &StepContext, done: Option<Vec<OldImage>>) -> Result<(), StepError> {
        let Ok(found) = cx.output::<Found>(node::PREFLIGHT) else { return Ok(()) };
        if !self.is_needed(&found) {
            return Ok(());
        }
        let region = self.region(&found);
        // A first try that was cut off told nothing; the preflight saw the same images.
        let mut old = done.unwrap_or_default();
        let seen = found.old.get(region).into_iter().flatten();
        for image in seen {
            if old.iter().all(|o| o.id != image.id) {
                old.push(image.clone());
            }
        }
        if old.is_empty() {
            return Ok(());
        }
        let aws = self.scope.aws_in(region).await?;
        let ids = old.iter().map(|image| image.id.clone()).collect();
        let known = ImageStates::ask(&aws, ids).await;
        let known = known.or_fail(format!("could not look for images in {region}"))?;
        let there = |ami: &Ami| !matches!(&*ami.state, "deregistered" | "failed");
        for image in old.iter().filter(|o| !known.get(&o.id).is_some_and(there)) {
            self.restore(&aws, image, cx).await?;
        }
        Ok(())
    }
}

/// Deletes the snapshots of images that gave up their name. It does so as what is temporary goes:
/// when the build has succeeded, and nothing can take the new images back any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OldSnapshots {
    pub(crate) scope: Scope,
    /// The regions of copies.
    pub(crate) regions: Vec<String>,
}

impl Step for OldSnapshots {
    const KIND: &'static str = "aws.old-snapshots";
    type Output = ();

    async fn run(&self, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    async fn undo(&self, cx: &StepContext, done: Option<()>) -> Result<(), StepError> {
        // It is the last step: unless it ended, the build did not succeed.
        if done.is_none() {
            return Ok(());
        }
        let found: Found = cx.output(node::PREFLIGHT)?;
        let own = (found.region.clone(), node::RETIRE.to_owned());
        let copies = self.regions.iter().map(|region| (region.clone(), node::retire(region)));
        for (region, node) in std::iter::once(own).chain(copies) {
            if cx.outputs().raw(&node).is_none() {
                continue;
            }
            let old: Vec<OldImage> = cx.output(&node)?;
            if old.is_empty() {
                continue;
            }
            let aws = self.scope.aws_in(&region).await?;
            for id in old.iter().flat_map(OldImage::snapshots) {
                say(cx, format!("Deleting {id} in {region}, of an image that is replaced"));
                delete_snapshot(&aws, id, cx).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{BlockDeviceMapping, DeviceType, EbsBlockDevice, VolumeType};

    use super::*;

    #[test]
    fn an_image_is_known_well_enough_to_be_registered_again() {
        let disk = EbsBlockDevice::builder()
            .snapshot_id("snap-1")
            .volume_size(8)
            .volume_type(VolumeType::Gp2)
            .iops(100)
            .delete_on_termination(true)
            .encrypted(true)
            .build();
        let image = Image::builder()
            .image_id("ami-1")
            .name("web")
            .root_device_type(DeviceType::Ebs)
            .root_device_name("/dev/xvda")
            .deregistration_protection("enabled-with-cooldown")
            .block_device_mappings(
                BlockDeviceMapping::builder().device_name("/dev/xvda").ebs(disk).build(),
            )
            .block_device_mappings(
                BlockDeviceMapping::builder()
                    .device_name("/dev/sdb")
                    .virtual_name("ephemeral0")
                    .build(),
            )
            .build();
        let shared = [LaunchPermission::builder().user_id("123456789012").build()];
        let old = OldImage::of(&image, &shared);
        assert!(old.protected);
        assert_eq!(old.snapshots().collect::<Vec<_>>(), ["snap-1"]);
        // A snapshot's encryption is its own, and a gp2 volume's operations are not chosen.
        let root = mapping(&old.devices[0]);
        let ebs = root.ebs().unwrap();
        assert_eq!((ebs.encrypted(), ebs.iops(), ebs.volume_size()), (None, None, Some(8)));
        assert_eq!(mapping(&old.devices[1]).virtual_name(), Some("ephemeral0"));
        assert_eq!(old.shared(), shared);
    }
}
