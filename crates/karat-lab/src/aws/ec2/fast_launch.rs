//! Fast launch: instances of Windows images from snapshots that are kept ready.

use super::image_changes::asked_image;
use super::images::own;
use super::model::{FastLaunch, Image, LaunchTemplate};
use super::page;
use super::resource::seen;
use crate::aws::call::Call;
use crate::aws::error::{AwsError, Result};
use crate::aws::node::{Node, tree};
use crate::core::phase::rfc3339;

/// How many snapshots are kept ready where nothing is said.
const READY: u32 = 5;
/// How many instances are prepared at once at least.
const PARALLEL: u32 = 6;

fn parts(call: &Call<'_>, image: &Image, fast: &FastLaunch, state: &'static str) -> Node {
    tree! {
        "imageId": &image.id,
        "resourceType": "snapshot",
        "snapshotConfiguration": tree! { "targetResourceCount": fast.ready },
        "launchTemplate": fast.template.as_ref().map(|(id, version)| {
            tree! { "launchTemplateId": id, "version": version }
        }),
        "maxParallelLaunches": fast.parallel,
        "ownerId": call.account(),
        "state": state,
        "stateTransitionReason": "Client.UserInitiated",
        "stateTransitionTime": rfc3339(fast.since),
    }
}

fn state(call: &Call<'_>, fast: &FastLaunch) -> &'static str {
    if fast.due <= call.now { "enabled" } else { "enabling" }
}

pub(super) fn enable(call: &mut Call<'_>) -> Result<Node> {
    let image = own(call, call.params.need("ImageId")?)?.clone();
    if image.platform.is_none() {
        return Err(AwsError::new(
            "InvalidParameter",
            format!("{} is no image of Windows, and fast launch is for these.", image.id),
        ));
    }
    let parallel: u32 = call.params.number("MaxParallelLaunches")?.unwrap_or(PARALLEL);
    if parallel < PARALLEL {
        return Err(AwsError::value(
            &parallel.to_string(),
            "MaxParallelLaunches",
            "It has to be 6 or more.",
        ));
    }
    let ready = call.params.number("SnapshotConfiguration.TargetResourceCount")?;
    let template = match call.params.part("LaunchTemplate") {
        None => None,
        Some(part) => {
            let (id, name) = (part.text("LaunchTemplateId"), part.text("LaunchTemplateName"));
            let same = |t: &&LaunchTemplate| id == Some(&t.id) || name == Some(&t.name);
            let found = seen::<LaunchTemplate>(call).find(same).ok_or_else(|| {
                AwsError::new(
                    "InvalidLaunchTemplateId.NotFound",
                    "The specified launch template does not exist.",
                )
            })?;
            Some((found.id.clone(), part.need("Version")?.to_owned()))
        }
    };
    let fast = FastLaunch {
        parallel,
        ready: ready.unwrap_or(READY),
        template,
        since: call.now,
        due: call.now + call.settings.durations.image,
    };
    let node = parts(call, &image, &fast, "enabling");
    asked_image(call)?.fast_launch = Some(fast);
    Ok(node)
}

pub(super) fn disable(call: &mut Call<'_>) -> Result<Node> {
    let image = own(call, call.params.need("ImageId")?)?.clone();
    let Some(fast) = asked_image(call)?.fast_launch.take() else {
        return Err(AwsError::new(
            "InvalidRequest",
            format!("Fast launch is not on for {}.", image.id),
        ));
    };
    Ok(parts(call, &image, &fast, "disabling"))
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Node> {
    let asked = call.params.texts("ImageId");
    let mut all = Vec::new();
    for image in seen::<Image>(call).filter(|i| i.owner == call.account()) {
        let Some(fast) = &image.fast_launch else { continue };
        if asked.is_empty() || asked.contains(&image.id) {
            all.push(parts(call, image, fast, state(call, fast)));
        }
    }
    page(call, "fastLaunchImageSet", all)
}
