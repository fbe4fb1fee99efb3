//! Step `here`: which of EC2's machines this program runs on.

use aws_config::imds;
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::super::scope::{Scope, message};
use super::super::states::InstanceStates;
use crate::client::{Explain, Watched};

/// Looks, and makes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FindHere {
    pub(crate) scope: Scope,
}

/// The machine that this program runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Here {
    pub(crate) instance: String,
    pub(crate) zone: String,
}

async fn told(client: &imds::Client, what: &str) -> Result<String, StepError> {
    let answer = client.get(format!("/latest/meta-data/{what}")).await;
    let answer = answer.map_err(|e| {
        StepError::because("could not ask the metadata service which machine this is", e)
            .with_hint("amazon-chroot builds on a machine of EC2; elsewhere use amazon-ebs")
    })?;
    Ok(answer.as_ref().to_owned())
}

impl Step for FindHere {
    const KIND: &'static str = "aws.here";
    type Output = Here;

    async fn run(&self, cx: &StepContext) -> Result<Here, StepError> {
        let aws = self.scope.aws().await?;
        let client = aws.metadata();
        let ask = async {
            let instance = told(&client, "instance-id").await?;
            let zone = told(&client, "placement/availability-zone").await?;
            Ok::<_, StepError>(Here { instance, zone })
        };
        let here = cx.unless_cancelled(ask).await??;
        let what = format!("could not look at this machine, {}", here.instance);
        let ask = InstanceStates::ask(&aws, vec![here.instance.clone()]);
        let known = cx.unless_cancelled(ask).await?.or_fail(what)?;
        if !known.contains_key(&here.instance) {
            return Err(StepError::new(format!(
                "this machine, {}, is not in {}, or belongs to another account",
                here.instance, aws.region
            ))
            .with_hint("set \"region\" to the machine's own, and use its account's credentials"));
        }
        message(cx, format!("working on {} in {}", here.instance, here.zone));
        Ok(here)
    }

    async fn undo(&self, _: &StepContext, _: Option<Here>) -> Result<(), StepError> {
        Ok(())
    }
}
