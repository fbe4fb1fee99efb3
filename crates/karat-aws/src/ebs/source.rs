//! Step `source`: the image to start from, and the texts that name it.

use aws_sdk_ec2::types::{BlockDeviceMapping, Image};
use karat_component::ComponentError;
use karat_saga::{Step, StepContext, StepError};
use karat_text::Data;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::node;
use super::preflight::Found;
use super::scope::{Scope, Texts, filters, message, say, tag_map};
use crate::client::{Aws, Explain};
use crate::options::{Device, ImageFilter, Source, Tags};

/// Looks, and makes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FindSource {
    pub(crate) scope: Scope,
    pub(crate) source: Source,
    pub(crate) virtualization: String,
    pub(crate) architecture: String,
    pub(crate) late: LateTexts,
    /// The option that the volume's tags are given by.
    #[serde(default)]
    pub(crate) volume_tags_option: VolumeTagsOption,
}

/// Options for the tags of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum VolumeTagsOption {
    /// `run_volume_tags`
    #[default]
    Run,
    /// `root_volume_tags`
    Root,
}

/// Texts that may name the source image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LateTexts {
    pub(crate) description: String,
    pub(crate) run_tags: Tags,
    pub(crate) volume_tags: Tags,
    pub(crate) image_tags: Tags,
    pub(crate) snapshot_tags: Tags,
    #[serde(default)]
    pub(crate) spot_tags: Tags,
    #[serde(default)]
    pub(crate) fleet_tags: Tags,
}

/// The image to start from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceImage {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: String,
    pub(crate) owner: String,
    pub(crate) owner_name: String,
    pub(crate) tags: Tags,
    pub(crate) root: String,
    /// Its block devices that are EBS volumes, and their sizes.
    pub(crate) devices: Vec<(String, Option<i32>)>,
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) virtualization: String,
    /// Whether it has enhanced networking of the kind ENA.
    #[serde(default)]
    pub(crate) ena: Option<bool>,
    /// Its block devices with all that is known of them.
    #[serde(default)]
    pub(crate) mappings: Vec<Device>,
    /// The texts, rendered.
    #[serde(default)]
    pub(crate) texts: LateTexts,
}

impl SourceImage {
    pub(crate) fn of(image: &Image) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let devices = image.block_device_mappings().iter();
        let devices =
            devices.filter_map(|m| Some((m.device_name()?.to_owned(), m.ebs()?.volume_size())));
        Self {
            id: text(image.image_id()),
            name: text(image.name()),
            created: text(image.creation_date()),
            owner: text(image.owner_id()),
            owner_name: text(image.image_owner_alias()),
            tags: tag_map(image.tags()),
            root: text(image.root_device_name()),
            devices: devices.collect(),
            architecture: text(image.architecture().map(|a| a.as_str())),
            virtualization: text(image.virtualization_type().map(|t| t.as_str())),
            ena: image.ena_support().filter(|on| *on),
            mappings: image.block_device_mappings().iter().map(device).collect(),
            texts: LateTexts::default(),
        }
    }

    /// Its root.
    pub(crate) fn root_device(&self) -> Option<Device> {
        self.mappings.iter().find(|device| device.name == self.root).cloned()
    }

    /// The values that a text may name.
    pub(crate) fn data(&self, region: &str) -> Vec<(&'static str, Data)> {
        let mut data: Vec<(&'static str, Data)> =
            self.facts(region).into_iter().map(|(name, value)| (name, Data::Text(value))).collect();
        let tags: BTreeMap<String, String> = self.tags.clone();
        data.push(("SourceAMITags", Data::Map(tags)));
        data
    }

    /// What `build.*` has of it.
    pub(crate) fn facts(&self, region: &str) -> [(&'static str, String); 6] {
        [
            ("BuildRegion", region.to_owned()),
            ("SourceAMI", self.id.clone()),
            ("SourceAMIName", self.name.clone()),
            ("SourceAMICreationDate", self.created.clone()),
            ("SourceAMIOwner", self.owner.clone()),
            ("SourceAMIOwnerName", self.owner_name.clone()),
        ]
    }
}

/// A device as an image has it.
fn device(mapping: &BlockDeviceMapping) -> Device {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let ebs = mapping.ebs();
    Device {
        name: text(mapping.device_name()),
        size: ebs.and_then(|e| e.volume_size()),
        kind: text(ebs.and_then(|e| e.volume_type()).map(|k| k.as_str())),
        iops: ebs.and_then(|e| e.iops()),
        throughput: ebs.and_then(|e| e.throughput()),
        encrypted: ebs.and_then(|e| e.encrypted()),
        key: text(ebs.and_then(|e| e.kms_key_id())),
        snapshot: text(ebs.and_then(|e| e.snapshot_id())),
        goes_with_machine: ebs.and_then(|e| e.delete_on_termination()),
        left_out: mapping.no_device().is_some(),
        store: text(mapping.virtual_name()),
    }
}

/// The one image that a filter finds.
pub(crate) async fn find(aws: &Aws, filter: &ImageFilter) -> Result<Image, ComponentError> {
    let mut pages = aws
        .ec2
        .describe_images()
        .set_owners(Some(filter.owners.clone()))
        .set_filters(Some(filters(&filter.filters)))
        .include_deprecated(filter.deprecated)
        .into_paginator()
        .send();
    let mut images = Vec::new();
    while let Some(page) = pages.next().await {
        images.extend(page.or_tell("could not look for images")?.images.unwrap_or_default());
    }
    let told = || {
        let filters =
            filter.filters.iter().map(|(name, values)| format!("{name} = {}", values.join(",")));
        let filters: Vec<String> = filters.collect();
        format!("owners {}; {}", filter.owners.join(", "), filters.join("; "))
    };
    if images.len() > 1 && !filter.newest {
        return Err(ComponentError::new(format!(
            "{} images in {} match the filter ({})",
            images.len(),
            aws.region,
            told()
        ))
        .with_hint("make the filter narrower, or set most_recent = true"));
    }
    images.sort_by(|a, b| {
        let key =
            |i: &Image| (i.creation_date().map(str::to_owned), i.image_id().map(str::to_owned));
        key(b).cmp(&key(a))
    });
    images.into_iter().next().ok_or_else(|| {
        ComponentError::new(format!("no image in {} matches the filter ({})", aws.region, told()))
            .with_hint("look with: aws ec2 describe-images --owners … --filters …")
    })
}

impl FindSource {
    async fn image(&self, aws: &Aws) -> Result<Image, StepError> {
        let id = match &self.source {
            Source::Filter(filter) => {
                let mut filter = filter.clone();
                let named = filter.filters.iter().any(|(name, _)| name == "architecture");
                if !self.architecture.is_empty() && !named {
                    let wanted = vec![self.architecture.clone()];
                    filter.filters.push(("architecture".to_owned(), wanted));
                }
                return Ok(find(aws, &filter).await?);
            }
            Source::Id(id) => id,
            Source::Nothing => return Ok(Image::builder().build()),
        };
        let answer = aws
            .ec2
            .describe_images()
            .image_ids(id)
            .include_deprecated(true)
            .send()
            .await
            .or_fail(format!("could not find the source image {id} in {}", aws.region))?;
        answer.images.unwrap_or_default().into_iter().next().ok_or_else(|| {
            StepError::new(format!("there is no image {id} in {}", aws.region))
                .with_hint("an image has another id in each region")
        })
    }
}

impl Step for FindSource {
    const KIND: &'static str = "aws.source";
    type Output = SourceImage;

    async fn run(&self, cx: &StepContext) -> Result<SourceImage, StepError> {
        let aws = self.scope.aws().await?;
        let found: Found = cx.output(node::PREFLIGHT)?;
        let image = cx.unless_cancelled(self.image(&aws)).await??;
        let mut source = SourceImage::of(&image);
        if self.source != Source::Nothing {
            self.check(&image, &source, cx)?;
        }
        let texts = Texts::new(cx, source.data(&found.region))?;
        let late = &self.late;
        let volume_tags = match self.volume_tags_option {
            VolumeTagsOption::Run => "run_volume_tags",
            VolumeTagsOption::Root => "root_volume_tags",
        };
        source.texts = LateTexts {
            description: texts.text("ami_description", &late.description)?,
            run_tags: texts.tags("run_tags", &late.run_tags)?,
            volume_tags: texts.tags(volume_tags, &late.volume_tags)?,
            image_tags: texts.tags("tags", &late.image_tags)?,
            snapshot_tags: texts.tags("snapshot_tags", &late.snapshot_tags)?,
            spot_tags: texts.tags("spot_tags", &late.spot_tags)?,
            fleet_tags: texts.tags("fleet_tags", &late.fleet_tags)?,
        };
        Ok(source)
    }

    async fn undo(&self, _: &StepContext, _: Option<SourceImage>) -> Result<(), StepError> {
        Ok(())
    }
}

impl FindSource {
    /// Whether a build can start from an image.
    fn check(
        &self,
        image: &Image,
        source: &SourceImage,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        say(cx, format!("Starting from {} ({})", source.id, source.name));
        let root = image.root_device_type().map(|t| t.as_str()).unwrap_or_default();
        if root != "ebs" {
            return Err(StepError::new(format!(
                "the root of {} is of the kind \"{root}\", and a build needs an EBS volume",
                source.id
            )));
        }
        let kind = image.virtualization_type().map(|t| t.as_str()).unwrap_or_default();
        if !self.virtualization.is_empty() && kind != self.virtualization {
            return Err(StepError::new(format!(
                "{} is of the virtualization \"{kind}\", and ami_virtualization_type asks for \"{}\"",
                source.id, self.virtualization
            )));
        }
        if !self.architecture.is_empty() && source.architecture != self.architecture {
            return Err(StepError::new(format!(
                "{} is for {}, and \"architecture\" asks for {}",
                source.id, source.architecture, self.architecture
            )));
        }
        if let Some(time) = image.deprecation_time() {
            message(cx, format!("{} is deprecated as of {time}", source.id));
        }
        Ok(())
    }
}
