//! `karat schema`

use clap::Args;

use crate::commands::lsp::catalog;
use crate::error::Failure;
use crate::report::out;

/// Prints a JSON schema of templates in JSON syntax (.pkr.json), for editors.
///
/// It has all components with their options and what there is to say of them. In an editor it
/// belongs to the files *.pkr.json. For .pkr.hcl files there is karat lsp.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {}

pub(crate) fn run(_: &SchemaArgs) -> Result<(), Failure> {
    out::stdout_line(&serde_json::to_string_pretty(&karat_lsp::json_schema(&catalog()))?);
    Ok(())
}
