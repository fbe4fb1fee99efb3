//! What came out of a build, and removing it.

use std::collections::BTreeMap;

use karat_component::{Artifact, ComponentError};
use karat_saga::{Outputs, StepError};
use serde_json::json;

use super::config::{Product, Validated};
use super::copies::Placed;
use super::node;
use super::preflight::Found;
use super::source::SourceImage;
use super::states::{Ami, ImageStates};
use crate::client::{Access, Aws, Explain, Watched, has_code};
use crate::options::Image;

/// What post-processors know these images by.
const BUILDER_ID: &str = "mitchellh.amazonebs";
/// What they know images of other disks by.
const SURROGATE_ID: &str = "mitchellh.amazon.ebssurrogate";

/// The artifact of a finished build.
pub(crate) fn artifact(validated: &Validated, outputs: &Outputs) -> Result<Artifact, StepError> {
    let builder = match validated.product {
        Product::Surrogate(_) => SURROGATE_ID,
        _ => BUILDER_ID,
    };
    images_artifact(&validated.access, &validated.image, builder, outputs)
}

/// The images that a build made.
pub(crate) fn images_artifact(
    access: &Access,
    wanted: &Image,
    builder: &str,
    outputs: &Outputs,
) -> Result<Artifact, StepError> {
    let found: Found = outputs.get(node::PREFLIGHT)?;
    let source: SourceImage = outputs.get(node::SOURCE)?;
    let image: Ami = outputs.get(node::IMAGE)?;
    let mut images = BTreeMap::new();
    if !wanted.only_copies {
        images.insert(found.region.clone(), image.id);
    }
    if outputs.raw(node::COPIES).is_some() {
        let copies: Vec<Placed> = outputs.get(node::COPIES)?;
        images.extend(copies.into_iter().map(|(region, ami)| (region, ami.id)));
    }
    let own = images.get(&found.region).or_else(|| images.values().next());
    let own = own.cloned().unwrap_or_default();
    let id: Vec<String> = images.iter().map(|(region, id)| format!("{region}:{id}")).collect();
    let lines: Vec<String> = images.iter().map(|(region, id)| format!("{region}: {id}")).collect();
    let access = serde_json::to_value(access)
        .map_err(|e| StepError::because("could not write down how AWS is reached", e))?;
    let facts: serde_json::Map<String, serde_json::Value> =
        source.facts(&found.region).into_iter().map(|(k, v)| (k.to_owned(), v.into())).collect();
    Ok(Artifact {
        builder_id: builder.into(),
        id: id.join(","),
        description: format!("AMIs were created:\n{}\n", lines.join("\n")),
        attributes: BTreeMap::from([
            ("ami".into(), own.into()),
            ("amis".into(), json!(images)),
            ("region".into(), found.region.into()),
            ("name".into(), wanted.name.clone().into()),
        ]),
        state: BTreeMap::from([("access".into(), access), ("generated_data".into(), facts.into())]),
        ..Artifact::default()
    })
}

/// The images by region.
fn images(artifact: &Artifact) -> Vec<(&str, &str)> {
    artifact.id.split(',').filter_map(|pair| pair.split_once(':')).collect()
}

pub(crate) fn access(artifact: &Artifact) -> Access {
    let stored = artifact.state.get("access").cloned();
    stored.and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default()
}

/// Whether every image is available.
pub(crate) async fn is_intact(artifact: &Artifact) -> bool {
    let (access, images) = (access(artifact), images(artifact));
    for (region, id) in &images {
        let Ok(aws) = Aws::connect(&access.in_region(region)).await else { return false };
        let known = ImageStates::ask(&aws, vec![(*id).to_owned()]).await.unwrap_or_default();
        if known.get(*id).is_none_or(|image| image.state != "available") {
            return false;
        }
    }
    !images.is_empty()
}

/// Removes the images and their snapshots.
pub(crate) async fn destroy(artifact: &Artifact) -> Result<(), ComponentError> {
    let access = access(artifact);
    for (region, id) in images(artifact) {
        let what = || format!("could not remove {id} from {region}");
        let aws = Aws::connect(&access.in_region(region)).await.or_tell(what())?;
        let known = ImageStates::ask(&aws, vec![id.to_owned()]).await.or_tell(what())?;
        match aws.ec2.deregister_image().image_id(id).send().await {
            Err(e) if !has_code(&e, &["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"]) => {
                return Err(e).or_tell(what());
            }
            _ => {}
        }
        for snapshot in known.get(id).iter().flat_map(|image| &image.snapshots) {
            match aws.ec2.delete_snapshot().snapshot_id(snapshot).send().await {
                Err(e) if !has_code(&e, &["InvalidSnapshot.NotFound"]) => {
                    return Err(e).or_tell(what());
                }
                _ => {}
            }
        }
    }
    Ok(())
}
