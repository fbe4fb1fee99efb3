//! Step `publish`: who may use the images, their snapshots' tags, when they end.

use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::{
    AttributeValue, CreateVolumePermission, CreateVolumePermissionModifications,
    LaunchPermissionModifications, PermissionGroup, SnapshotAttributeName,
};
use futures::future::try_join_all;
use karat_saga::{Lifetime, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::copies::Placed;
use super::image::{ensure_tags, image_tags};
use super::node;
use super::preflight::Found;
use super::scope::{Scope, filter, launch_permissions, say, tag_map};
use super::source::SourceImage;
use super::states::Ami;
use crate::client::{Aws, AwsError, Explain, has_code};
use crate::options::Image;

/// Shares, tags, deprecates and protects the images of all regions, all at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Publish {
    pub(crate) scope: Scope,
    pub(crate) image: Image,
    pub(crate) tag_with_run_tags: bool,
}

/// All images that the build leaves.
pub(super) fn placed(cx: &StepContext, only_copies: bool) -> Result<Vec<Placed>, StepError> {
    let mut all = Vec::new();
    if !only_copies {
        let found: Found = cx.output(node::PREFLIGHT)?;
        all.push((found.region, cx.output::<Ami>(node::IMAGE)?));
    }
    if cx.outputs().raw(node::COPIES).is_some() {
        all.extend(cx.output::<Vec<Placed>>(node::COPIES)?);
    }
    Ok(all)
}

impl Publish {
    async fn in_region(
        &self,
        region: &str,
        ami: &Ami,
        source: &SourceImage,
    ) -> Result<(), StepError> {
        let aws = self.scope.aws_in(region).await?;
        let what = |what: &str| format!("could not {what} {} in {region}", ami.id);
        let snapshots = self.tag_snapshots(&aws, ami, source);
        let shared = async {
            self.share(&aws, ami).await.or_fail(what("share"))?;
            self.share_snapshots(&aws, ami).await.or_fail(what("share the snapshots of"))?;
            self.metadata(&aws, ami).await.or_fail(what("set imds_support of"))?;
            self.deprecate(&aws, ami).await.or_fail(what("deprecate"))
        };
        let tagged = async { snapshots.await.or_fail(what("tag the snapshots of")) };
        futures::future::try_join(shared, tagged).await?;
        Ok(())
    }

    async fn share(&self, aws: &Aws, ami: &Ami) -> Result<(), AwsError> {
        let image = &self.image;
        let who =
            launch_permissions(&image.users, &image.groups, &image.organisations, &image.units);
        if who.is_empty() {
            return Ok(());
        }
        let add = LaunchPermissionModifications::builder().set_add(Some(who)).build();
        aws.ec2.modify_image_attribute().image_id(&ami.id).launch_permission(add).send().await?;
        Ok(())
    }

    async fn share_snapshots(&self, aws: &Aws, ami: &Ami) -> Result<(), AwsError> {
        let image = &self.image;
        if image.snapshot_users.is_empty() && image.snapshot_groups.is_empty() {
            return Ok(());
        }
        let users = image.snapshot_users.iter();
        let mut who: Vec<_> =
            users.map(|id| CreateVolumePermission::builder().user_id(id).build()).collect();
        who.extend(image.snapshot_groups.iter().map(|group| {
            CreateVolumePermission::builder().group(PermissionGroup::from(group.as_str())).build()
        }));
        for snapshot in &ami.snapshots {
            let add =
                CreateVolumePermissionModifications::builder().set_add(Some(who.clone())).build();
            aws.ec2
                .modify_snapshot_attribute()
                .snapshot_id(snapshot)
                .attribute(SnapshotAttributeName::CreateVolumePermission)
                .create_volume_permission(add)
                .send()
                .await?;
        }
        Ok(())
    }

    async fn metadata(&self, aws: &Aws, ami: &Ami) -> Result<(), AwsError> {
        if self.image.imds.is_empty() {
            return Ok(());
        }
        let value = AttributeValue::builder().value(&self.image.imds).build();
        aws.ec2
            .modify_image_attribute()
            .image_id(&ami.id)
            .attribute("imdsSupport")
            .imds_support(value)
            .send()
            .await?;
        Ok(())
    }

    async fn deprecate(&self, aws: &Aws, ami: &Ami) -> Result<(), AwsError> {
        let Some(at) = self.image.deprecate_at else { return Ok(()) };
        let at = DateTime::from_secs(at);
        aws.ec2.enable_image_deprecation().image_id(&ami.id).deprecate_at(at).send().await?;
        Ok(())
    }

    /// The snapshots got their tags when they were made, where the server takes tags then.
    async fn tag_snapshots(
        &self,
        aws: &Aws,
        ami: &Ami,
        source: &SourceImage,
    ) -> Result<(), AwsError> {
        if ami.snapshots.is_empty() {
            return Ok(());
        }
        let want = self.scope.tags(&image_tags(source, self.tag_with_run_tags).1);
        let answer = aws
            .ec2
            .describe_snapshots()
            .filters(filter("snapshot-id", ami.snapshots.clone()))
            .send()
            .await?;
        for id in &ami.snapshots {
            let known = answer.snapshots().iter().find(|s| s.snapshot_id() == Some(id));
            let has = known.map(|s| tag_map(s.tags())).unwrap_or_default();
            ensure_tags(aws, std::slice::from_ref(id), &has, &want).await?;
        }
        Ok(())
    }

    async fn protect(&self, region: &str, ami: &Ami) -> Result<(), StepError> {
        let Some(cooldown) = self.image.protect else { return Ok(()) };
        let aws = self.scope.aws_in(region).await?;
        let ask = aws.ec2.enable_image_deregistration_protection().image_id(&ami.id);
        let ask = ask.with_cooldown(cooldown).send();
        ask.await.map(|_| ()).or_fail(format!("could not protect {} in {region}", ami.id))
    }
}

impl Step for Publish {
    const KIND: &'static str = "aws.publish";
    type Output = ();

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let source: SourceImage = cx.output(node::SOURCE)?;
        let all = placed(cx, self.image.only_copies)?;
        say(cx, "Setting tags and permissions");
        let source = &source;
        let work =
            try_join_all(all.iter().map(|(region, ami)| self.in_region(region, ami, source)));
        cx.unless_cancelled(work).await??;
        // Last, since what is protected cannot be taken back.
        let work = try_join_all(all.iter().map(|(region, ami)| self.protect(region, ami)));
        cx.unless_cancelled(work).await??;
        Ok(())
    }

    /// What is set goes with the image; protection would keep it.
    async fn undo(&self, cx: &StepContext, _: Option<()>) -> Result<(), StepError> {
        if self.image.protect.is_none() {
            return Ok(());
        }
        let Ok(all) = placed(cx, self.image.only_copies) else { return Ok(()) };
        for (region, ami) in all {
            let aws = self.scope.aws_in(&region).await?;
            match aws.ec2.disable_image_deregistration_protection().image_id(&ami.id).send().await {
                Err(e) if !has_code(&e, &["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"]) => {
                    return Err(e)
                        .or_fail(format!("could not take the protection of {} back", ami.id));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
