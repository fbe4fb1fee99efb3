//! The parts of a `packer.json`. Order and places are those of the text.

use karat_config::Duration;
use karat_hcl::diag::Span;
use karat_hcl::json_text::{Member, Text, Value};

/// A whole template.
#[derive(Clone, Debug)]
pub struct Template {
    /// `min_packer_version`
    pub min_packer_version: Option<Text>,
    /// `description`
    pub description: Option<Text>,
    /// Keys of the root that begin with `_`, and their texts.
    pub comments: Vec<(Text, Text)>,
    /// `variables`
    pub variables: Vec<Variable>,
    /// `sensitive-variables`, also those that no variable has.
    pub sensitive: Vec<Text>,
    /// `builders`. No two have one name.
    pub builders: Vec<Builder>,
    /// `provisioners`
    pub provisioners: Vec<Provisioner>,
    /// `error-cleanup-provisioner`
    pub error_cleanup: Option<Provisioner>,
    /// `post-processors`. Each is a chain; a single post-processor is a chain of one, and an empty
    /// array an empty chain.
    pub post_processors: Vec<Vec<PostProcessor>>,
    /// `push`, which nothing uses any more.
    pub push: Vec<Member>,
    /// The whole text.
    pub span: Span,
}

/// A user variable.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: Text,
    /// Nothing if it is `null`: such a variable has to be given.
    pub default: Option<Text>,
    /// Whether `sensitive-variables` names it.
    pub sensitive: bool,
}

/// A builder.
#[derive(Clone, Debug)]
pub struct Builder {
    /// `type`, such as `amazon-ebs`.
    pub type_name: Text,
    /// `name`, with its `{{ }}`; the type where there is none.
    pub name: Text,
    /// Every other key.
    pub options: Vec<Member>,
    /// The whole object.
    pub span: Span,
}

/// A provisioner.
#[derive(Clone, Debug)]
pub struct Provisioner {
    /// `type`, such as `shell`.
    pub type_name: Text,
    /// `only`: names of builders.
    pub only: Vec<Text>,
    /// `except`: names of builders.
    pub except: Vec<Text>,
    /// `override`: names of builders and the options that hold there.
    pub overrides: Vec<Member>,
    /// `pause_before`
    pub pause_before: Option<Duration>,
    /// `max_retries`, with its `{{ }}`.
    pub max_retries: Option<Text>,
    /// `timeout`
    pub timeout: Option<Duration>,
    /// Every other key.
    pub options: Vec<Member>,
    /// The whole object.
    pub span: Span,
}

/// A post-processor.
#[derive(Clone, Debug)]
pub struct PostProcessor {
    /// `type`, such as `manifest`.
    pub type_name: Text,
    /// `name`; the type where there is none.
    pub name: Text,
    /// `only`: names of builders.
    pub only: Vec<Text>,
    /// `except`: names of builders.
    pub except: Vec<Text>,
    /// `keep_input_artifact`
    pub keep_input_artifact: Option<bool>,
    /// Every other key.
    pub options: Vec<Member>,
    /// The whole object, or the string that stands for it.
    pub span: Span,
}

impl Template {
    /// The variable of this name.
    pub fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|v| v.name.text == name)
    }

    /// The builder of this name.
    pub fn builder(&self, name: &str) -> Option<&Builder> {
        self.builders.iter().find(|b| b.name.text == name)
    }
}

impl Builder {
    /// The option of this name.
    pub fn option(&self, name: &str) -> Option<&Value> {
        find(&self.options, name)
    }
}

impl Provisioner {
    /// Whether it runs in the builder of this name (as it is written, with its `{{ }}`).
    pub fn runs_in(&self, builder: &str) -> bool {
        selected(&self.only, &self.except, builder)
    }

    /// What `override` has for the builder of this name.
    pub fn overridden(&self, builder: &str) -> Option<&Value> {
        find(&self.overrides, builder)
    }

    /// The option of this name.
    pub fn option(&self, name: &str) -> Option<&Value> {
        find(&self.options, name)
    }
}

impl PostProcessor {
    /// Whether it runs for the builder of this name (as it is written, with its `{{ }}`).
    pub fn runs_in(&self, builder: &str) -> bool {
        selected(&self.only, &self.except, builder)
    }

    /// The option of this name.
    pub fn option(&self, name: &str) -> Option<&Value> {
        find(&self.options, name)
    }
}

fn find<'a>(members: &'a [Member], name: &str) -> Option<&'a Value> {
    members.iter().find(|m| m.name.text == name).map(|m| &m.value)
}

fn selected(only: &[Text], except: &[Text], name: &str) -> bool {
    let named = |list: &[Text]| list.iter().any(|n| n.text == name);
    if only.is_empty() { !named(except) } else { named(only) }
}
