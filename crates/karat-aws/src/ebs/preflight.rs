//! Step `preflight`: what can be known to be wrong before anything is made, in all regions.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::LocationType;
use futures::future::{try_join_all, try_join4};
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::scope::{Scope, filter, message};
use crate::client::{Aws, AwsError, Explain};

/// Looks, and makes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Preflight {
    pub(crate) scope: Scope,
    pub(crate) image_name: String,
    /// The regions of copies.
    pub(crate) regions: Vec<String>,
    pub(crate) check_regions: bool,
    /// Whether an image is made, so that its name has to be free.
    pub(crate) makes_image: bool,
    /// Whether only copies have the image's name.
    #[serde(default)]
    pub(crate) only_copies: bool,
    pub(crate) kind: String,
    /// The key of the build's region; empty where it stands among the regions' keys, or is AWS's
    /// own.
    #[serde(default)]
    pub(crate) key: String,
    /// Keys by region.
    #[serde(default)]
    pub(crate) region_keys: BTreeMap<String, String>,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The build's region.
    pub(crate) region: String,
    /// The account, where it was asked for.
    pub(crate) account: String,
    /// The regions of copies, without the build's own.
    pub(crate) copies: Vec<String>,
    /// Zones that offer the machine's type.
    pub(crate) zones: Vec<String>,
    /// The key of the build's region; empty for AWS's own.
    #[serde(default)]
    pub(crate) key: String,
}

impl Preflight {
    async fn caller(&self, aws: &Aws, cx: &StepContext) -> Result<String, StepError> {
        if self.scope.access.trusting {
            return Ok(String::new());
        }
        let caller =
            aws.caller().await.or_fail("could not find out who the credentials belong to")?;
        message(cx, format!("working in {} as {}", aws.region, caller.arn));
        Ok(caller.account.clone())
    }

    async fn zones(&self, aws: &Aws) -> Result<Vec<String>, StepError> {
        let answer = aws
            .ec2
            .describe_instance_type_offerings()
            .location_type(LocationType::AvailabilityZone)
            .filters(filter("instance-type", [self.kind.clone()]))
            .send()
            .await
            .or_fail(format!("could not ask where {} is offered", self.kind))?;
        let offers = answer.instance_type_offerings().iter();
        let zones: BTreeSet<String> =
            offers.filter_map(|o| o.location().map(str::to_owned)).collect();
        if zones.is_empty() {
            return Err(StepError::new(format!("{} is not offered in {}", self.kind, aws.region))
                .with_hint("choose another instance_type or region"));
        }
        Ok(zones.into_iter().collect())
    }

    async fn names(&self, aws: &Aws, copies: &[String]) -> Result<(), StepError> {
        if !self.makes_image {
            return Ok(());
        }
        if self.check_regions && !copies.is_empty() {
            self.regions(aws, copies).await?;
        }
        let own = Some(&aws.region).filter(|_| !self.only_copies);
        let all = own.into_iter().chain(copies);
        let taken = try_join_all(all.map(|region| self.name_in(region))).await?;
        let taken: Vec<String> = taken.into_iter().flatten().collect();
        if taken.is_empty() {
            return Ok(());
        }
        Err(StepError::new(format!(
            "the name \"{}\" is taken: {}", self.image_name, taken.join(", ")
        ))
        .with_hint("an account has one image of a name in a region; choose another ami_name, for example with {{timestamp}} in it, or remove the old image"))
    }

    async fn regions(&self, aws: &Aws, copies: &[String]) -> Result<(), StepError> {
        let answer =
            aws.ec2.describe_regions().send().await.or_fail("could not ask for the regions")?;
        let known: Vec<&str> = answer.regions().iter().filter_map(|r| r.region_name()).collect();
        let unknown: Vec<&str> =
            copies.iter().map(String::as_str).filter(|r| !known.contains(r)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(StepError::new(format!(
            "ami_regions has regions that this account cannot use: {}",
            unknown.join(", ")
        ))
        .with_hint(format!(
            "it can use {}; skip_region_validation = true does not ask",
            known.join(", ")
        )))
    }

    /// The key that a region's volumes are encrypted with.
    fn key_of(&self, region: &str, own: bool) -> Option<&str> {
        let key = if own && !self.key.is_empty() {
            Some(&self.key)
        } else {
            self.region_keys.get(region)
        };
        key.map(String::as_str).filter(|key| !key.is_empty())
    }

    /// Looks whether the keys can be used: AWS tells it when the machine or a copy is there
    /// already, by ending it.
    async fn keys(&self, aws: &Aws, copies: &[String], cx: &StepContext) -> Result<(), StepError> {
        let own = self.key_of(&aws.region, true).map(|key| (aws.region.as_str(), key));
        let others = copies.iter().filter_map(|r| Some((r.as_str(), self.key_of(r, false)?)));
        let all = own.into_iter().chain(others);
        try_join_all(all.map(|(region, key)| self.key_in(region, key, cx))).await?;
        Ok(())
    }

    async fn key_in(&self, region: &str, key: &str, cx: &StepContext) -> Result<(), StepError> {
        let aws = self.scope.aws_in(region).await?;
        let answer = match aws.kms().describe_key().key_id(key).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = AwsError::from(error);
                if error.is_refusal() {
                    // Who may encrypt with it need not be allowed to look at it.
                    message(cx, format!("the key {key} in {region} may not be looked at: {error}"));
                    return Ok(());
                }
                let found = Err(error).or_fail(format!("could not find the key {key} in {region}"));
                return found.map_err(|e: StepError| match e.hint() {
                    Some(_) => e,
                    None => e.with_hint(
                        "a key belongs to one region; region_kms_key_ids names the others'",
                    ),
                });
            }
        };
        let key_state = answer.key_metadata().and_then(|m| m.key_state());
        match key_state.map(|state| state.as_str()) {
            None | Some("Enabled") => Ok(()),
            Some(state) => Err(StepError::new(format!(
                "the key {key} in {region} cannot be used: its state is {state}"
            ))
            .with_hint("enable it, or name another")),
        }
    }

    /// The image that has the name already, and where.
    async fn name_in(&self, region: &str) -> Result<Option<String>, StepError> {
        let aws = self.scope.aws_in(region).await?;
        let answer = aws
            .ec2
            .describe_images()
            .owners("self")
            .include_deprecated(true)
            .filters(filter("name", [literal(&self.image_name)]))
            .send()
            .await
            .or_fail(format!("could not ask whether the image's name is free in {region}"))?;
        let ids: Vec<&str> = answer.images().iter().filter_map(|i| i.image_id()).collect();
        Ok(ids.first().map(|id| format!("{id} in {region}")))
    }
}

/// A text for a filter, in which `*` and `?` stand for themselves.
pub(crate) fn literal(text: &str) -> String {
    text.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?")
}

impl Step for Preflight {
    const KIND: &'static str = "aws.preflight";
    type Output = Found;

    async fn run(&self, cx: &StepContext) -> Result<Found, StepError> {
        let aws = self.scope.aws().await?;
        let copies: Vec<String> =
            self.regions.iter().filter(|r| **r != aws.region).cloned().collect();
        let named = self.names(&aws, &copies);
        let keys = self.keys(&aws, &copies, cx);
        let work = try_join4(self.caller(&aws, cx), self.zones(&aws), named, keys);
        let (account, zones, (), ()) = cx.unless_cancelled(work).await??;
        let key = self.key_of(&aws.region, true).unwrap_or_default().to_owned();
        Ok(Found { region: aws.region.clone(), account, copies, zones, key })
    }

    async fn undo(&self, _: &StepContext, _: Option<Found>) -> Result<(), StepError> {
        Ok(())
    }
}
