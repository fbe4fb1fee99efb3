//! What a builder, provisioner, post-processor, data source and communicator is.
//!
//! | file | what |
//! |---|---|
//! | `builder.rs` | [`Builder`]: lays out the steps that make an image |
//! | `provisioner.rs` | [`Provisioner`]: changes a running machine through a [`Communicator`] |
//! | `post_processor.rs` | [`PostProcessor`]: makes something of an [`Artifact`] |
//! | `data_source.rs` | [`DataSource`]: fetches values for a template |
//! | `communicator.rs` | [`Communicator`]: how commands and files reach a machine |
//! | `validate.rs` | [`ValidateContext`]: how a component says what is wrong with its options |
//! | `event.rs`, `mask.rs` | the one stream of [`Event`]s, and what keeps secrets out of it |
//! | `plugins.rs`, `known_plugins.rs` | which plugin of Packer's brings which component |
//! | `registry.rs` | [`Components`]: the components of a program, by type |
//! | `testing.rs` | the compliance harness (feature `testing`) |
//!
//! Each kind has an object-safe twin (`DynBuilder`, …) with a blanket implementation, so that an
//! author writes typed code only. A component that is not written in Rust implements the twin.

mod artifact;
mod builder;
mod communicator;
mod data_source;
mod error;
mod event;
mod known_plugins;
mod mask;
pub mod plugins;
mod post_processor;
mod provisioner;
mod registry;
#[cfg(feature = "testing")]
pub mod testing;
mod validate;

pub use artifact::Artifact;
pub use builder::{
    BuildInfo, Builder, DynBuilder, FingerprintInput, Generated, OnError, PreparedBuilder, Prompt,
    ProvisionHook, SagaContext,
};
pub use communicator::{
    Communicator, CommunicatorError, DISCONNECTED, ExitStatus, NoCommunicator, Output,
    RemoteCommand, RemoteFile, RemoteScript, dir_target,
};
pub use data_source::{DataSource, DynDataSource, PreparedDataSource};
pub use error::ComponentError;
pub use event::{Event, EventKind, Events, Outcome, Stream};
pub use known_plugins::PACKER;
pub use mask::{MASK, Masker};
pub use post_processor::{
    DynPostProcessor, PostProcessContext, PostProcessor, PreparedPostProcessor, Processed, RunSaga,
};
pub use provisioner::{DynProvisioner, PreparedProvisioner, ProvisionContext, Provisioner};
pub use registry::Components;
pub use validate::{PrepareContext, Problem, ValidateContext};
