//! What options a component has, as data.

use karat_hcl::diag::closest;
use karat_value::Type;
use serde::Serialize;

use crate::NameRules;

/// All options of one kind of block.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Schema {
    /// What the block is for: the manual's opening, from the struct's doc comment.
    pub doc: String,
    /// The options in the order in which the manual shows them.
    pub options: Vec<OptionSchema>,
    /// The rules of `{{ clean_resource_name }}` in the options; without any the function is not
    /// there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<NameRules>,
}

/// One option.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OptionSchema {
    /// The name in a template.
    pub name: String,
    /// Older or alternative names that mean the same.
    pub aliases: Vec<String>,
    /// The manual's text, from the field's doc comment.
    pub doc: String,
    /// What may be given.
    pub ty: OptionType,
    /// Whether a block without it is an error.
    pub required: bool,
    /// The default as it would be written in a template; `None` where there is none to show.
    pub default: Option<String>,
    /// How the engine treats it.
    pub kind: OptionKind,
    /// Why it should no longer be used, if so.
    pub deprecated: Option<String>,
}

/// The shape of what may be given for an option.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionType {
    /// An attribute of this type; what is given is converted to it.
    Attribute(#[serde(serialize_with = "type_text")] Type),
    /// A nested block that may stand at most once. A map or object attribute is taken too.
    Block(Schema),
    /// A nested block that may repeat. A list of objects is taken too.
    Blocks(Schema),
}

fn type_text<S: serde::Serializer>(ty: &Type, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(ty)
}

/// How the engine treats an option, beyond handing it over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionKind {
    /// Text is rendered by the `{{ }}` engine before the component sees it.
    #[default]
    Plain,
    /// Text is left as it stands: the component renders it later, with names of its own.
    Late,
    /// Local files or folders that the build reads: they have to exist, and their contents count
    /// in the fingerprint.
    Input,
    /// Local files or folders that the build writes.
    Output,
    /// It does not change what comes out (a timeout, say), so it is not in the fingerprint.
    Volatile,
    /// A secret: masked in all output, never stored.
    Secret,
}

impl Schema {
    /// The option with this name or alias.
    pub fn option(&self, name: &str) -> Option<&OptionSchema> {
        self.options.iter().find(|o| o.name == name || o.aliases.iter().any(|a| a == name))
    }

    /// The option's name closest to a misspelt one.
    pub fn closest(&self, given: &str) -> Option<&str> {
        closest(given, self.options.iter().map(|o| o.name.as_str()))
    }

    /// Adds the options of `other`, which keep their places in the manual.
    pub fn extend(&mut self, other: Self) {
        self.options.extend(other.options);
    }
}

impl OptionSchema {
    /// The shape as the manual shows it: `string`, `list(string)`, `block`, …
    pub fn type_name(&self) -> String {
        match &self.ty {
            OptionType::Attribute(ty) => ty.to_string(),
            OptionType::Block(_) => "block".into(),
            OptionType::Blocks(_) => "blocks".into(),
        }
    }
}
