//! Step `profile`: an instance profile that is there, or one with a role made for this build.

use std::time::Duration;

use aws_sdk_iam::types::Tag;
use karat_saga::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::node;
use super::scope::{Scope, UNSEEN, pause, say};
use super::source::SourceImage;
use crate::client::{Aws, AwsError, Explain, has_code};

/// Makes a role with a policy, and an instance profile that holds it. All have the build's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MakeProfile {
    pub(crate) scope: Scope,
    /// The policy, as JSON.
    pub(crate) policy: String,
}

const EXISTS: &[&str] = &["EntityAlreadyExists", "LimitExceeded"];
const GONE: &[&str] = &["NoSuchEntity"];

impl MakeProfile {
    async fn make(&self, aws: &Aws, tags: &[Tag]) -> Result<(), AwsError> {
        let (iam, name) = (aws.iam(), self.scope.name());
        let domain =
            if aws.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let trust = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": { "Service": format!("ec2.{domain}") },
                "Action": "sts:AssumeRole",
            }],
        });
        let role = iam
            .create_role()
            .role_name(&name)
            .description("Made by Karat for one build")
            .assume_role_policy_document(trust.to_string())
            .set_tags(Some(tags.to_vec()))
            .send();
        let profile = iam
            .create_instance_profile()
            .instance_profile_name(&name)
            .set_tags(Some(tags.to_vec()))
            .send();
        let (role, profile) = futures::future::join(role, profile).await;
        if let Err(e) = role
            && !has_code(&e, &EXISTS[..1])
        {
            return Err(e.into());
        }
        if let Err(e) = profile
            && !has_code(&e, &EXISTS[..1])
        {
            return Err(e.into());
        }
        iam.put_role_policy()
            .role_name(&name)
            .policy_name(&name)
            .policy_document(&self.policy)
            .send()
            .await?;
        let added =
            iam.add_role_to_instance_profile().role_name(&name).instance_profile_name(&name);
        match added.send().await {
            // A profile holds one role: it is there already.
            Err(e) if !has_code(&e, EXISTS) => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Removes both; tells whether both were seen.
    async fn remove(&self, aws: &Aws) -> Result<bool, AwsError> {
        let (iam, name) = (aws.iam(), self.scope.name());
        let mut seen = true;
        macro_rules! gone {
            ($call:expr) => {
                match $call.send().await {
                    Err(e) if !has_code(&e, GONE) => return Err(e.into()),
                    Err(_) => seen = false,
                    Ok(_) => {}
                }
            };
        }
        gone!(
            iam.remove_role_from_instance_profile().role_name(&name).instance_profile_name(&name)
        );
        gone!(iam.delete_instance_profile().instance_profile_name(&name));
        gone!(iam.delete_role_policy().role_name(&name).policy_name(&name));
        gone!(iam.delete_role().role_name(&name));
        Ok(seen)
    }
}

impl Step for MakeProfile {
    const KIND: &'static str = "aws.profile";
    const REMOTE: bool = true;
    type Output = String;

    async fn run(&self, cx: &StepContext) -> Result<String, StepError> {
        let aws = self.scope.aws().await?;
        let source: SourceImage = cx.output(node::SOURCE)?;
        let name = self.scope.name();
        say(cx, format!("Creating the role and instance profile {name}"));
        let what = format!("could not create the instance profile {name}");
        let tags: Result<Vec<Tag>, _> = self
            .scope
            .tags(&source.texts.run_tags)
            .into_iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .collect();
        let tags = tags.map_err(|e| StepError::because(what.clone(), e))?;
        // Several calls in a row: what they make is found by name, however far they come.
        cx.unless_cancelled(self.make(&aws, &tags)).await?.or_fail(what)?;
        Ok(name)
    }

    async fn undo(&self, cx: &StepContext, _: Option<String>) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let name = self.scope.name();
        say(cx, format!("Deleting the role and instance profile {name}"));
        let begun = tokio::time::Instant::now();
        loop {
            let what = format!("could not delete the instance profile {name}");
            let all = self.remove(&aws).await.or_fail(what)?;
            if all || begun.elapsed() >= UNSEEN {
                return Ok(());
            }
            pause(cx, Duration::from_secs(1)).await?;
        }
    }
}

/// Looks whether an instance profile is there, and makes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FindProfile {
    pub(crate) scope: Scope,
    pub(crate) name: String,
}

impl Step for FindProfile {
    const KIND: &'static str = "aws.find-profile";
    type Output = ();

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let aws = self.scope.aws().await?;
        let name = self.name.rsplit('/').next().unwrap_or(&self.name).to_owned();
        let iam = aws.iam();
        let ask = iam.get_instance_profile().instance_profile_name(name).send();
        cx.unless_cancelled(ask)
            .await?
            .map(|_| ())
            .map_err(AwsError::from)
            .or_fail(format!("could not find the instance profile {}", self.name))
            .map_err(|e| match e.hint() {
                Some(_) => e,
                None => e.with_hint("skip_profile_validation = true does not ask"),
            })
    }

    async fn undo(&self, _: &StepContext, _: Option<()>) -> Result<(), StepError> {
        Ok(())
    }
}
