//! Data source `amazon-ami`: one image.

use std::collections::BTreeMap;

use karat_component::{ComponentError, DataSource, ValidateContext};
use karat_config::Config;
use karat_saga::Services;
use karat_value::{Type, Value};
use tokio_util::sync::CancellationToken;

use crate::client::{Access, Aws, Explain};
use crate::ebs::{SourceImage, find};
use crate::options::{AccessConfig, AmiFilterConfig, FilterConfig, ImageFilter};

/// Finds an image.
///
/// The values are `id`, `name`, `creation_date`, `owner`, `owner_name` and `tags`.
#[derive(Clone, Debug, Config)]
pub struct AmiDataConfig {
    /// How AWS is reached.
    #[option(flatten)]
    pub access: AccessConfig,
    /// One of the `filters`.
    #[option(blocks)]
    pub filter: Vec<FilterConfig>,
    /// Filters by name, in EC2's words. Several values are written with commas between.
    pub filters: BTreeMap<String, String>,
    /// Whose images: ids of accounts, `self`, `amazon`, `aws-marketplace`.
    pub owners: Vec<String>,
    /// Whether the newest of several is taken.
    #[option(default = false)]
    pub most_recent: bool,
    /// Whether deprecated images count.
    #[option(default = false)]
    pub include_deprecated: bool,
}

/// Data source `amazon-ami`.
#[derive(Clone, Copy, Debug)]
pub struct AmazonAmi;

/// What is looked for.
#[derive(Debug)]
pub struct Wanted {
    access: Access,
    filter: ImageFilter,
}

impl DataSource for AmazonAmi {
    const TYPE: &'static str = "amazon-ami";
    type Config = AmiDataConfig;
    type Validated = Wanted;

    fn output(&self) -> Type {
        Type::object([
            ("id", Type::String),
            ("name", Type::String),
            ("creation_date", Type::String),
            ("owner", Type::String),
            ("owner_name", Type::String),
            ("tags", Type::map(Type::String)),
        ])
    }

    fn validate(&self, config: AmiDataConfig, cx: &mut ValidateContext<'_>) -> Option<Wanted> {
        let access = config.access.validate(cx);
        let filter = AmiFilterConfig {
            filters: config.filters,
            filter: config.filter,
            owners: config.owners,
            most_recent: config.most_recent,
            include_deprecated: config.include_deprecated,
        };
        Some(Wanted { access, filter: filter.checked(("owners", "filters"), cx) })
    }

    async fn fetch(
        &self,
        wanted: &Wanted,
        _: &Services,
        cancel: &CancellationToken,
    ) -> Result<Value, ComponentError> {
        let work = async {
            let aws = Aws::connect(&wanted.access).await.or_tell("could not reach AWS")?;
            find(&aws, &wanted.filter).await
        };
        let image =
            cancel.run_until_cancelled(work).await.ok_or_else(ComponentError::cancelled)??;
        let image = SourceImage::of(&image);
        let tags = image.tags.into_iter().map(|(k, v)| (k.into(), Value::string(v)));
        Ok(Value::object_of([
            ("id", Value::string(image.id)),
            ("name", Value::string(image.name)),
            ("creation_date", Value::string(image.created)),
            ("owner", Value::string(image.owner)),
            ("owner_name", Value::string(image.owner_name)),
            ("tags", Value::map(Type::String, tags.collect())),
        ]))
    }
}
