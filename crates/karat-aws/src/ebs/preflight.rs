//! Step `preflight`: what can be known to be wrong before anything is made, in all regions.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::LocationType;
use futures::future::{try_join_all, try_join5};
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::quota::{is_small, room};
use super::retire::{OldImage, old_images};
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
    /// Whether an image that has the name gives it up.
    #[serde(default)]
    pub(crate) replaces: bool,
    pub(crate) kind: String,
    /// The types that a spot machine may have, where there are several.
    #[serde(default)]
    pub(crate) kinds: Vec<String>,
    /// Whether it is a spot machine.
    #[serde(default)]
    pub(crate) spot: bool,
    /// Whether it runs on a host of its own, which no quota of processors counts.
    #[serde(default)]
    pub(crate) on_host: bool,
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
    /// Images that have the name and give it up, by region.
    #[serde(default)]
    pub(crate) old: BTreeMap<String, Vec<OldImage>>,
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

    /// The types that the machine may have; none where no machine is started.
    fn kinds(&self) -> Vec<String> {
        if self.kind.is_empty() && self.kinds.is_empty() {
            return Vec::new();
        }
        if self.kinds.is_empty() { vec![self.kind.clone()] } else { self.kinds.clone() }
    }

    async fn zones(&self, aws: &Aws) -> Result<Vec<String>, StepError> {
        let kinds = self.kinds();
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        let told = kinds.join(" or ");
        let answer = aws
            .ec2
            .describe_instance_type_offerings()
            .location_type(LocationType::AvailabilityZone)
            .filters(filter("instance-type", kinds))
            .send()
            .await
            .or_fail(format!("could not ask where {told} is offered"))?;
        let offers = answer.instance_type_offerings().iter();
        let zones: BTreeSet<String> =
            offers.filter_map(|o| o.location().map(str::to_owned)).collect();
        if zones.is_empty() {
            return Err(StepError::new(format!("{told} is not offered in {}", aws.region))
                .with_hint("choose another instance_type or region"));
        }
        Ok(zones.into_iter().collect())
    }

    /// Whether the quota has room for the machine. Who may not look is told only when it starts.
    async fn room(&self, aws: &Aws, cx: &StepContext) -> Result<(), StepError> {
        let kinds = self.kinds();
        if kinds.is_empty() || self.on_host || kinds.iter().any(|kind| is_small(kind)) {
            return Ok(());
        }
        match room(aws, &kinds, self.spot).await {
            Ok(Some(room)) if !room.is_enough() => Err(StepError::new(format!(
                "{} needs {} vCPUs, and of the {} that the account may have in {} {} are in use",
                kinds.join(" or "),
                room.needed,
                room.allowed,
                aws.region,
                room.used
            ))
            .with_hint("ask AWS for a higher quota, choose a smaller instance_type, or wait")),
            Ok(_) => Ok(()),
            Err(error) => {
                message(cx, format!("the quota of vCPUs could not be looked at: {error}"));
                Ok(())
            }
        }
    }

    async fn names(
        &self,
        aws: &Aws,
        copies: &[String],
        cx: &StepContext,
    ) -> Result<BTreeMap<String, Vec<OldImage>>, StepError> {
        if !self.makes_image {
            return Ok(BTreeMap::new());
        }
        if self.check_regions && !copies.is_empty() {
            self.regions(aws, copies).await?;
        }
        let own = Some(&aws.region).filter(|_| !self.only_copies);
        let all = own.into_iter().chain(copies);
        if self.replaces {
            let old = try_join_all(all.map(|region| self.old_in(region, cx))).await?;
            return Ok(old.into_iter().filter(|(_, images)| !images.is_empty()).collect());
        }
        let taken = try_join_all(all.map(|region| self.name_in(region))).await?;
        let taken: Vec<String> = taken.into_iter().flatten().collect();
        if taken.is_empty() {
            return Ok(BTreeMap::new());
        }
        Err(StepError::new(format!(
            "the name \"{}\" is taken: {}", self.image_name, taken.join(", ")
        ))
        .with_hint("an account has one image of a name in a region; choose another ami_name, for example with {{timestamp}} in it, or set force_deregister = true to replace the old image"))
    }

    /// The images of a region that have the name and are to give it up.
    async fn old_in(
        &self,
        region: &str,
        cx: &StepContext,
    ) -> Result<(String, Vec<OldImage>), StepError> {
        let aws = self.scope.aws_in(region).await?;
        let old = old_images(&aws, &self.image_name, &self.scope.token).await;
        let old = old.or_fail(format!("could not ask which image has the name in {region}"))?;
        for image in &old {
            if image.protected {
                return Err(StepError::new(format!(
                    "{} in {region} has the name \"{}\" and is protected from being deregistered",
                    image.id, self.image_name
                ))
                .with_hint("take its protection away, or choose another ami_name"));
            }
            message(cx, format!("{} in {region} has the name and will be replaced", image.id));
        }
        Ok((region.to_owned(), old))
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
        let named = self.names(&aws, &copies, cx);
        let keys = self.keys(&aws, &copies, cx);
        let room = self.room(&aws, cx);
        let work = try_join5(self.caller(&aws, cx), self.zones(&aws), named, keys, room);
        let (account, zones, old, (), ()) = cx.unless_cancelled(work).await??;
        let key = self.key_of(&aws.region, true).unwrap_or_default().to_owned();
        Ok(Found { region: aws.region.clone(), account, copies, zones, key, old })
    }

    async fn undo(&self, _: &StepContext, _: Option<Found>) -> Result<(), StepError> {
        Ok(())
    }
}
