//! Steps `fast-launch-templates` and `fast-launch`: machines of a Windows image start from
//! snapshots that AWS keeps ready.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::{
    FastLaunchLaunchTemplateSpecificationRequest, FastLaunchSnapshotConfigurationRequest,
};
use futures::future::try_join_all;
use karat_component::ValidateContext;
use karat_config::Config;
use karat_saga::{Lifetime, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::node;
use super::preflight::Found;
use super::publish::placed;
use super::scope::{Scope, message, pause, say};
use super::states::Ami;
use crate::client::{Aws, AwsError, Explain, has_code};

/// How long AWS may take to prepare the first machines.
const ENABLED: Duration = Duration::from_secs(150 * 60);

/// Makes machines of a Windows image start fast.
#[derive(Clone, Debug, Config)]
pub struct FastLaunchConfig {
    /// Whether it is on. Any other option of the block means it, too.
    #[option(default = false)]
    pub enable_fast_launch: bool,
    /// The id of the launch template for the build's region, by which AWS starts the machines that
    /// it prepares; its default VPC without.
    #[option(default = "")]
    pub template_id: String,
    /// The launch template's name.
    #[option(default = "")]
    pub template_name: String,
    /// The launch template's version; the latest without.
    pub template_version: Option<i64>,
    /// Launch templates of regions.
    #[option(blocks)]
    pub region_launch_templates: Vec<FastLaunchRegionConfig>,
    /// How many machines are prepared at once: 6 or more.
    pub max_parallel_launches: Option<i32>,
    /// How many snapshots are kept ready.
    pub target_resource_count: Option<i32>,
}

/// The launch template of a region.
#[derive(Clone, Debug, Config)]
pub struct FastLaunchRegionConfig {
    /// The region.
    #[option(required)]
    pub region: String,
    /// Whether it is on there.
    pub enable_fast_launch: Option<bool>,
    /// The launch template's id.
    #[option(default = "")]
    pub template_id: String,
    /// The launch template's name.
    #[option(default = "")]
    pub template_name: String,
    /// The launch template's version; the latest without.
    pub template_version: Option<i64>,
}

/// A launch template as the template names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Empty for the build's.
    region: String,
    id: String,
    name: String,
    version: Option<i64>,
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fast {
    pub(crate) templates: Vec<Wanted>,
    /// Regions in which it is off.
    off: Vec<String>,
    parallel: Option<i32>,
    ready: Option<i32>,
}

impl FastLaunchConfig {
    /// Checks the block; nothing where it is off.
    pub(crate) fn validate(
        self,
        region: Option<&str>,
        regions: &[String],
        cx: &mut ValidateContext<'_>,
    ) -> Option<Fast> {
        let option = "fast_launch";
        for (name, number, least) in [
            ("max_parallel_launches", self.max_parallel_launches, 6),
            ("target_resource_count", self.target_resource_count, 1),
        ] {
            if number.is_some_and(|n| n != 0 && n < least) {
                let text = format!("{name} must be >= {least}");
                cx.error(option, text).detail(format!("It is {}.", number.unwrap_or_default()));
            }
        }
        let own = Wanted {
            region: String::new(),
            id: self.template_id,
            name: self.template_name,
            version: self.template_version.filter(|v| *v != 0),
        };
        let has_own = !own.id.is_empty() || !own.name.is_empty() || own.version.is_some();
        let given = has_own
            || !self.region_launch_templates.is_empty()
            || self.max_parallel_launches.is_some_and(|n| n != 0)
            || self.target_resource_count.is_some_and(|n| n != 0);
        if !self.enable_fast_launch && !given {
            return None;
        }
        let mut fast = Fast {
            parallel: self.max_parallel_launches.filter(|n| *n != 0),
            ready: self.target_resource_count.filter(|n| *n != 0),
            ..Fast::default()
        };
        fast.templates.extend(has_own.then_some(own));
        let mut seen = Vec::new();
        for given in self.region_launch_templates {
            let name = given.region;
            let is_own = region == Some(name.as_str());
            if seen.contains(&name) || is_own && has_own {
                let text = format!("launch template specified twice for region \"{name}\"");
                cx.error(option, text);
            }
            if region.is_some() && !is_own && !regions.contains(&name) && cx.is_known("ami_regions")
            {
                cx.error(option, format!("no image goes to the region \"{name}\""))
                    .hint("name it in ami_regions, or remove its launch template");
            }
            seen.push(name.clone());
            if given.enable_fast_launch == Some(false) {
                fast.off.push(name);
                continue;
            }
            let wanted = Wanted {
                region: name,
                id: given.template_id,
                name: given.template_name,
                version: given.template_version.filter(|v| *v != 0),
            };
            if !wanted.id.is_empty() || !wanted.name.is_empty() || wanted.version.is_some() {
                fast.templates.push(wanted);
            }
        }
        for wanted in &fast.templates {
            let place = match wanted.region.as_str() {
                "" => "of the build's region".to_owned(),
                region => format!("of {region}"),
            };
            if !wanted.id.is_empty() && !wanted.name.is_empty() {
                cx.error(option, format!("the launch template {place} has both id and name"));
            }
            if wanted.id.is_empty() && wanted.name.is_empty() {
                cx.error(option, format!("the launch template {place} has a version alone"))
                    .hint("give its template_id or template_name, too");
            }
            if wanted.version.is_some_and(|v| v < 1) {
                cx.error(option, format!("the version of the launch template {place} is below 1"));
            }
        }
        Some(fast)
    }
}

/// A launch template that was found: its id and version, by region.
pub(crate) type Templates = BTreeMap<String, (String, i64)>;

/// Looks for the launch templates, and makes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FindTemplates {
    pub(crate) scope: Scope,
    pub(crate) wanted: Vec<Wanted>,
}

impl FindTemplates {
    async fn find(
        &self,
        wanted: &Wanted,
        found: &Found,
    ) -> Result<(String, (String, i64)), StepError> {
        let region = if wanted.region.is_empty() { &found.region } else { &wanted.region };
        let aws = self.scope.aws_in(region).await?;
        let text = |text: &String| (!text.is_empty()).then(|| vec![text.clone()]);
        let told = if wanted.id.is_empty() { &wanted.name } else { &wanted.id };
        let ask = aws
            .ec2
            .describe_launch_templates()
            .set_launch_template_ids(text(&wanted.id))
            .set_launch_template_names(text(&wanted.name));
        let what = format!("could not find the launch template {told} in {region}");
        let answer = ask.send().await.or_fail(what.clone())?;
        let Some(template) = answer.launch_templates().first() else {
            return Err(StepError::new(what));
        };
        let latest = template.latest_version_number().unwrap_or(1);
        let version = wanted.version.unwrap_or(latest);
        if version > latest {
            return Err(StepError::new(format!(
                "the launch template {told} in {region} has no version {version}: the latest is {latest}"
            )));
        }
        let id = template.launch_template_id().unwrap_or_default().to_owned();
        Ok((region.clone(), (id, version)))
    }
}

impl Step for FindTemplates {
    const KIND: &'static str = "aws.fast-launch-templates";
    type Output = Templates;

    async fn run(&self, cx: &StepContext) -> Result<Templates, StepError> {
        let found: Found = cx.output(node::PREFLIGHT)?;
        let all = try_join_all(self.wanted.iter().map(|wanted| self.find(wanted, &found)));
        Ok(cx.unless_cancelled(all).await??.into_iter().collect())
    }

    async fn undo(&self, _: &StepContext, _: Option<Templates>) -> Result<(), StepError> {
        Ok(())
    }
}

/// Switches it on for the images of all regions, and waits until machines start fast. Undoing
/// switches it off, so that what AWS prepared goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FastLaunch {
    pub(crate) scope: Scope,
    pub(crate) fast: Fast,
    pub(crate) only_copies: bool,
}

/// The state of an image, and why it is in it; nothing where it was never switched on.
async fn state(aws: &Aws, image: &str) -> Result<Option<(String, String)>, AwsError> {
    let answer = aws.ec2.describe_fast_launch_images().image_ids(image).send().await?;
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let known = answer.fast_launch_images().iter().find(|i| i.image_id() == Some(image));
    Ok(known.map(|i| (text(i.state().map(|s| s.as_str())), text(i.state_transition_reason()))))
}

impl FastLaunch {
    async fn enable(
        &self,
        region: &str,
        ami: &Ami,
        templates: &Templates,
        cx: &StepContext,
    ) -> Result<(), StepError> {
        if self.fast.off.iter().any(|off| off == region) {
            return Ok(());
        }
        let aws = self.scope.aws_in(region).await?;
        let id = &ami.id;
        let what = format!("could not switch fast launch on for {id} in {region}");
        let template = templates.get(region).map(|(template, version)| {
            FastLaunchLaunchTemplateSpecificationRequest::builder()
                .launch_template_id(template)
                .version(version.to_string())
                .build()
        });
        let ready = self.fast.ready.map(|count| {
            FastLaunchSnapshotConfigurationRequest::builder().target_resource_count(count).build()
        });
        message(cx, format!("machines of {id} in {region} are being prepared"));
        let ask = aws
            .ec2
            .enable_fast_launch()
            .image_id(id)
            .resource_type("snapshot")
            .set_max_parallel_launches(self.fast.parallel)
            .set_snapshot_configuration(ready)
            .set_launch_template(template)
            .send();
        match cx.unless_cancelled(ask).await? {
            Ok(_) => {}
            Err(e) => {
                let error = aws.decoded(e).await;
                return Err(error).or_fail(what).map_err(|e: StepError| match e.hint() {
                    Some(_) => e,
                    None => {
                        e.with_hint("fast launch is for images of Windows that sysprep shut down")
                    }
                });
            }
        }
        let begun = tokio::time::Instant::now();
        let mut delay = Duration::from_secs(1);
        loop {
            let now = cx.unless_cancelled(state(&aws, id)).await?;
            match now.or_fail(what.clone())? {
                Some((state, _)) if state == "enabled" => return Ok(()),
                Some((state, reason)) if state != "enabling" => {
                    return Err(StepError::new(format!("{what}: it is {state}: {reason}")));
                }
                _ => {}
            }
            if begun.elapsed() > aws.access.limit(ENABLED) {
                return Err(StepError::timed_out(format!(
                    "waited too long for fast launch of {id}"
                ))
                .with_hint("aws_polling allows more"));
            }
            pause(cx, delay).await?;
            delay = (delay * 2).min(Duration::from_secs(10));
        }
    }
}

impl Step for FastLaunch {
    const KIND: &'static str = "aws.fast-launch";
    const REMOTE: bool = true;
    type Output = ();

    fn lifetime(&self) -> Lifetime {
        Lifetime::Kept
    }

    async fn run(&self, cx: &StepContext) -> Result<(), StepError> {
        let all = placed(cx, self.only_copies)?;
        let templates: Templates = match cx.outputs().raw(node::FIND_TEMPLATES) {
            Some(_) => cx.output(node::FIND_TEMPLATES)?,
            None => Templates::new(),
        };
        say(cx, "Switching fast launch on");
        let work = all.iter().map(|(region, ami)| self.enable(region, ami, &templates, cx));
        try_join_all(work).await?;
        Ok(())
    }

    async fn undo(&self, cx: &StepContext, _: Option<()>) -> Result<(), StepError> {
        let Ok(all) = placed(cx, self.only_copies) else { return Ok(()) };
        for (region, ami) in all {
            let aws = self.scope.aws_in(&region).await?;
            let what = format!("could not switch fast launch off for {} in {region}", ami.id);
            match state(&aws, &ami.id).await.or_fail(what.clone())? {
                None => continue,
                Some((state, _)) if state.starts_with("disabl") => continue,
                Some(_) => {}
            }
            say(cx, format!("Switching fast launch off for {} in {region}", ami.id));
            match aws.ec2.disable_fast_launch().image_id(&ami.id).force(true).send().await {
                Err(e) if !has_code(&e, &["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"]) => {
                    return Err(e).or_fail(what);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
