//! Step `swap`: the disk that was filled takes the place of the machine's root, so that an image of
//! the machine is an image of that disk.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_ec2::types::{
    EbsInstanceBlockDeviceSpecification, InstanceBlockDeviceMappingSpecification,
};
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::node;
use super::scope::{Scope, filter, pause, say};
use super::snapshots::volumes;
use super::source::SourceImage;
use super::states::Machine;
use crate::client::{Aws, AwsError, Explain, has_code};

/// How long a volume may take to come or go.
const MOVED: Duration = Duration::from_secs(600);

/// Takes volumes from the stopped machine, and gives it its new root. What is taken belongs to the
/// build by its tags and goes with the machine's step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SwapVolumes {
    pub(crate) scope: Scope,
    /// The device that becomes the root.
    pub(crate) from: String,
    /// The root's name.
    pub(crate) root: String,
    /// Devices that the image does not have.
    pub(crate) omitted: Vec<String>,
    /// Whether the volume goes with machines of the image.
    pub(crate) goes_with_machine: bool,
}

/// Where a volume is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Nowhere, so that it can be attached.
    Free,
    /// On this machine and device.
    On(String, String),
    /// On its way.
    Between,
}

async fn place(aws: &Aws, volume: &str) -> Result<Place, AwsError> {
    let ask = aws.ec2.describe_volumes().filters(filter("volume-id", [volume.to_owned()]));
    let answer = ask.send().await?;
    let Some(known) = answer.volumes().first() else { return Ok(Place::Between) };
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    if known.state().is_some_and(|state| state.as_str() == "available") {
        return Ok(Place::Free);
    }
    let at =
        known.attachments().iter().find(|a| a.state().is_some_and(|s| s.as_str() == "attached"));
    Ok(at.map_or(Place::Between, |a| Place::On(text(a.instance_id()), text(a.device()))))
}

impl SwapVolumes {
    /// Waits until a volume is on a device of a machine, or on none.
    async fn moved(
        &self,
        aws: &Aws,
        volume: &str,
        to: &Place,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        let begun = tokio::time::Instant::now();
        loop {
            let at = cx.unless_cancelled(place(aws, volume)).await?;
            if at.or_fail(format!("could not look at {volume}"))? == *to {
                return Ok(());
            }
            if begun.elapsed() > aws.access.limit(MOVED) {
                return Err(StepError::timed_out(format!(
                    "waited too long for {volume} to be moved"
                ))
                .with_hint("aws_polling allows more"));
            }
            pause(cx, Duration::from_secs(1)).await?;
        }
    }

    async fn take(&self, aws: &Aws, volume: &str, cx: &StepContext) -> Result<(), StepError> {
        let ask = aws.ec2.detach_volume().volume_id(volume).send();
        match cx.unless_cancelled(ask).await? {
            // It is free already.
            Err(e) if !has_code(&e, &["IncorrectState"]) => {
                return Err(aws.decoded(e).await)
                    .or_fail(format!("could not take {volume} from the machine"));
            }
            _ => {}
        }
        self.moved(aws, volume, &Place::Free, cx).await
    }
}

impl Step for SwapVolumes {
    const KIND: &'static str = "aws.swap";
    type Output = ();

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let source: SourceImage = cx.output(node::SOURCE)?;
        let machine: Machine = cx.output(node::INSTANCE)?;
        if self.root != source.root {
            return Err(StepError::new(format!(
                "the root of {} is {}, and ami_root_device calls it {}",
                source.id, source.root, self.root
            ))
            .with_hint(format!(
                "with use_create_image the image has the machine's root: device_name = \"{}\"",
                source.root
            )));
        }
        // Which volume was filled is known from the start: this step may run again.
        let first: HashMap<&String, &String> =
            machine.volumes.iter().map(|(device, volume)| (device, volume)).collect();
        let now = cx.unless_cancelled(volumes(&aws, cx)).await??;
        let of = |device: &String| first.get(device).copied().or_else(|| now.get(device)).cloned();
        let filled = of(&self.from)
            .ok_or_else(|| StepError::new(format!("the machine has no volume at {}", self.from)))?;
        if now.get(&self.root) != Some(&filled) {
            say(cx, format!("Making {} the root of {}", self.from, machine.id));
            let gone = std::iter::once(&self.root).chain(&self.omitted).chain([&self.from]);
            for volume in gone.filter_map(|device| now.get(device)) {
                self.take(&aws, volume, cx).await?;
            }
            let ask = aws.ec2.attach_volume().instance_id(&machine.id).volume_id(&filled);
            let ask = ask.device(&self.root).send();
            // In use it is where an answer was lost.
            if let Err(e) = cx.unless_cancelled(ask).await?
                && !has_code(&e, &["VolumeInUse"])
            {
                return Err(aws.decoded(e).await)
                    .or_fail(format!("could not make {filled} the root of {}", machine.id));
            }
        }
        let root = Place::On(machine.id.clone(), self.root.clone());
        self.moved(&aws, &filled, &root, cx).await?;
        let goes = EbsInstanceBlockDeviceSpecification::builder()
            .delete_on_termination(self.goes_with_machine)
            .build();
        let mapping = InstanceBlockDeviceMappingSpecification::builder()
            .device_name(&self.root)
            .ebs(goes)
            .build();
        let ask = aws
            .ec2
            .modify_instance_attribute()
            .instance_id(&machine.id)
            .block_device_mappings(mapping)
            .send();
        cx.unless_cancelled(ask)
            .await?
            .map(|_| ())
            .or_fail("could not set delete_on_termination of the root")
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        Ok(())
    }
}
