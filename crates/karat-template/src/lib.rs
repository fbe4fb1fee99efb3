//! Template files to builds: block schemas, variables, locals, data sources. Pure.
//!
//! | file | what |
//! |---|---|
//! | `load.rs` | which files belong to a template, read through a `World` |
//! | `blocks.rs` | the blocks of all files: [`Template`] |
//! | `build_block.rs` | the inside of a `build` block |
//! | `variables.rs` | declarations; values from defaults, environment, files and flags; rules |
//! | `evaluate.rs` | locals and data sources in the order in which they need each other |
//! | `expand.rs` | one [`Build`] per source of a build block |
//! | `body.rs` | a component's block to its evaluated [`karat_config::Body`], `dynamic` expanded |
//! | `packer_block.rs`, `plugin_requirement.rs` | `required_version`, `required_plugins` |
//! | `version.rs` | versions and constraints |
//! | `data.rs` | data sources, side by side where they do not need each other |
//! | `uses.rs` | which components a template uses, and where |
//! | `text.rs` | `{{ }}` in text options |
//! | `legacy/` | `packer.json` to the same builds |

mod blocks;
mod body;
mod build;
mod build_block;
mod data;
mod evaluate;
mod expand;
mod legacy;
mod load;
mod names;
mod packer_block;
mod plugin_requirement;
mod registry;
mod text;
mod uses;
mod variables;
mod version;

pub use blocks::{LocalBlock, Template};
pub use build::{
    ArtifactKey, ArtifactRef, Build, BuildOutline, ComponentBlock, PostProcessorBlock,
    ProvisionerBlock,
};
pub use build_block::{
    POST_PROCESSOR as POST_PROCESSOR_OPTIONS, PROVISIONER as PROVISIONER_OPTIONS,
};
pub use data::{DataFetcher, DataRequest, Fetched, NoData};
pub use evaluate::{Evaluated, Inputs, bare_console_scope};
pub use legacy::Legacy;
pub use load::{Load, Loaded, TemplateKind, load};
pub use packer_block::PACKER_VERSION;
pub use plugin_requirement::{PluginRequirement, check_source};
pub use text::TextContext;
pub use uses::ComponentUse;
pub use variables::{Given, Variable, VariableBlock};
pub use version::{Constraint, Version};
