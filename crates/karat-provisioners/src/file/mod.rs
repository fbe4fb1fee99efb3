//! Sends files and folders to the machine, and fetches them.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | the options |
//! | `validate.rs` | options that were proved |
//! | `upload.rs`, `download.rs` | the two directions |
//! | `progress.rs` | how far a big file got |

mod config;
mod download;
mod progress;
#[cfg(test)]
mod tests;
mod upload;
mod validate;

use karat_component::{ComponentError, ProvisionContext, Provisioner, ValidateContext};

pub use config::FileConfig;
pub use validate::{Direction, FileValidated};

/// The provisioner `file`.
#[derive(Clone, Copy, Debug, Default)]
pub struct File;

impl Provisioner for File {
    const TYPE: &'static str = "file";
    type Config = FileConfig;
    type Validated = FileValidated;

    fn validate(&self, config: FileConfig, cx: &mut ValidateContext<'_>) -> Option<FileValidated> {
        FileValidated::of(config, cx)
    }

    async fn provision(
        &self,
        validated: &FileValidated,
        cx: &ProvisionContext,
    ) -> Result<(), ComponentError> {
        match validated {
            FileValidated::Content { content, destination } => {
                upload::content(content, destination, cx).await
            }
            FileValidated::Upload { sources, destination } => {
                upload::all(sources, destination, cx).await
            }
            FileValidated::Download { sources, destination } => {
                download::all(sources, destination, cx).await
            }
        }
    }
}
