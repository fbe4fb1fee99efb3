//! What all steps of a build share: how AWS is reached, and the token that marks what is theirs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_ec2::types::{
    Filter, LaunchPermission, PermissionGroup, ResourceType, Tag, TagSpecification,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use karat_component::{BuildInfo, Events, Generated, SagaContext};
use karat_config::NameRules;
use karat_provisioners::late::Late;
use karat_saga::{StepContext, StepError};
use karat_text::Data;
use serde::{Deserialize, Serialize};

use crate::client::{Access, Aws, AwsError, Explain};
use crate::options::Tags;

/// The tag that everything made for a build has, from the first call on; its value is the build's
/// token.
pub(crate) const TOKEN_TAG: &str = "karat:token";
/// The tag that says which build it was.
pub(crate) const BUILD_TAG: &str = "karat:build";

/// What all steps of a build share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Scope {
    pub(crate) access: Access,
    /// Marks what belongs to this build.
    pub(crate) token: String,
    pub(crate) build: String,
    /// Where files lie that only this build needs.
    pub(crate) folder: PathBuf,
}

impl Scope {
    pub(crate) fn new(access: &Access, cx: &SagaContext) -> Self {
        Self {
            access: access.as_here(|name| std::env::var(name).ok()),
            token: cx.token.clone(),
            build: cx.build.target.clone(),
            folder: cx.state_dir.join("aws").join(&cx.token),
        }
    }

    /// A name for something temporary, which nothing else has.
    pub(crate) fn name(&self) -> String {
        format!("karat-{}", self.token)
    }

    /// The build's region.
    pub(crate) async fn aws(&self) -> Result<Arc<Aws>, StepError> {
        Aws::connect(&self.access).await.or_fail("could not reach AWS")
    }

    /// Another region.
    pub(crate) async fn aws_in(&self, region: &str) -> Result<Arc<Aws>, StepError> {
        let access = self.access.in_region(region);
        Aws::connect(&access).await.or_fail(format!("could not reach AWS in {region}"))
    }

    /// `tags` and the build's own.
    pub(crate) fn tags(&self, tags: &Tags) -> Tags {
        let mut all = tags.clone();
        all.insert(TOKEN_TAG.to_owned(), self.token.clone());
        all.insert(BUILD_TAG.to_owned(), self.build.clone());
        all
    }

    /// The tags for a call that makes something.
    pub(crate) fn specification(&self, kind: ResourceType, tags: &Tags) -> TagSpecification {
        let tags = ec2_tags(&self.tags(tags));
        TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
    }

    /// Finds what belongs to this build.
    pub(crate) fn own(&self) -> Filter {
        filter(&format!("tag:{TOKEN_TAG}"), [self.token.clone()])
    }
}

/// A filter of EC2's.
pub(crate) fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

/// Filters of EC2's, as a template writes them.
pub(crate) fn filters(given: &[(String, Vec<String>)]) -> Vec<Filter> {
    given.iter().map(|(name, values)| filter(name, values.iter().cloned())).collect()
}

/// Tags as EC2 takes them.
pub(crate) fn ec2_tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Tags as EC2 gives them.
pub(crate) fn tag_map(tags: &[Tag]) -> Tags {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    tags.iter().map(|tag| (text(tag.key()), text(tag.value()))).collect()
}

/// Those who may launch an image, as EC2 takes them.
pub(crate) fn launch_permissions(
    users: &[String],
    groups: &[String],
    organisations: &[String],
    units: &[String],
) -> Vec<LaunchPermission> {
    let who = LaunchPermission::builder;
    let users = users.iter().map(|id| who().user_id(id).build());
    let groups = groups.iter().map(|g| who().group(PermissionGroup::from(g.as_str())).build());
    let organisations = organisations.iter().map(|arn| who().organization_arn(arn).build());
    let units = units.iter().map(|arn| who().organizational_unit_arn(arn).build());
    users.chain(groups).chain(organisations).chain(units).collect()
}

/// Tells the user what is done.
pub(crate) fn say(cx: &StepContext, text: impl Into<String>) {
    if let Ok(events) = cx.service::<Events>() {
        events.say(text.into());
    }
}

/// Tells the user a fact.
pub(crate) fn message(cx: &StepContext, text: impl Into<String>) {
    if let Ok(events) = cx.service::<Events>() {
        events.message(text.into());
    }
}

/// Waits, unless the step is to end.
pub(crate) async fn pause(cx: &StepContext, time: Duration) -> Result<(), StepError> {
    cx.unless_cancelled(tokio::time::sleep(time)).await
}

/// How long what was just made may not be seen by calls that look for it.
pub(crate) const UNSEEN: Duration = Duration::from_secs(5);

/// Looks for what a call made whose answer is not known, until something is seen: it may not be at
/// first, though it is there.
pub(crate) async fn look<T, F>(
    cx: &StepContext,
    mut ask: impl FnMut() -> F,
    what: &str,
) -> Result<Vec<T>, StepError>
where
    F: Future<Output = Result<Vec<T>, AwsError>>,
{
    let begun = tokio::time::Instant::now();
    loop {
        let found = ask().await.or_fail(what)?;
        if !found.is_empty() || begun.elapsed() >= UNSEEN {
            return Ok(found);
        }
        pause(cx, Duration::from_secs(1)).await?;
    }
}

/// Looks for all that a call made, which may be more than one where answers were lost and nothing
/// hindered a second: until `newest`, what the last answer told of, is seen, and so all before it;
/// where no answer came, for as long as something may not be seen.
pub(crate) async fn look_for_all<T, F>(
    cx: &StepContext,
    newest: Option<&T>,
    mut ask: impl FnMut() -> F,
    what: &str,
) -> Result<Vec<T>, StepError>
where
    T: PartialEq,
    F: Future<Output = Result<Vec<T>, AwsError>>,
{
    let begun = tokio::time::Instant::now();
    loop {
        let found = ask().await.or_fail(what)?;
        let is_all = newest.is_some_and(|newest| found.contains(newest));
        if is_all || begun.elapsed() >= UNSEEN {
            return Ok(found);
        }
        pause(cx, Duration::from_millis(500)).await?;
    }
}

/// Counts how often a call is tried: of several tries each may have made something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tries(Arc<AtomicU32>);

impl Tries {
    /// What a call has to be given, so that its tries are counted.
    pub(crate) fn counter(&self) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static {
        let tries = Arc::clone(&self.0);
        move |_| {
            tries.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn are_several(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

/// Renders texts that may name the source image.
pub(crate) struct Texts {
    late: Late,
    data: Vec<(&'static str, Data)>,
}

impl Texts {
    pub(crate) fn new(
        cx: &StepContext,
        data: Vec<(&'static str, Data)>,
    ) -> Result<Self, StepError> {
        let build = cx.service::<BuildInfo>()?;
        let late = Late::new(&build, &Generated::new(), cx.services());
        Ok(Self { late: late.with_names(NameRules::Amazon), data })
    }

    pub(crate) fn text(&self, option: &str, text: &str) -> Result<String, StepError> {
        Ok(self.late.render_data(option, text, &self.data)?)
    }

    pub(crate) fn tags(&self, option: &str, tags: &Tags) -> Result<Tags, StepError> {
        let mut rendered = BTreeMap::new();
        for (key, value) in tags {
            rendered.insert(self.text(option, key)?, self.text(option, value)?);
        }
        Ok(rendered)
    }
}
