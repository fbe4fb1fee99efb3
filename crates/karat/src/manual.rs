//! What the manual's reference is made from: the command line, the environment, the components
//! and the functions, as they are in the program.
//!
//! | file | what |
//! |---|---|
//! | `manual/components.rs` | the options of a component, for the terminal and as Markdown |
//! | `manual/functions.rs` | the functions of the language, for the terminal and as Markdown |
//! | `manual/text.rs` | paragraphs that fit the terminal |

pub(crate) mod components;
pub(crate) mod functions;
pub(crate) mod text;

use crate::{cli, env};

/// A page of the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where it belongs, below the folder of the reference: `sources/machine.md`.
    pub path: String,
    /// Markdown.
    pub text: String,
}

/// The command line, with every command and flag.
pub fn command() -> clap::Command {
    cli::command()
}

/// The environment variables that the program reads: name and what it does.
pub fn variables() -> Vec<(&'static str, &'static str)> {
    env::ALL.iter().map(|v| (v.name, v.doc)).collect()
}

/// A page for every component, one for all functions.
pub fn pages() -> Vec<Page> {
    let mut pages: Vec<Page> = components::entries()
        .iter()
        .map(|entry| Page {
            path: format!("{}/{}.md", entry.kind.folder(), entry.name),
            text: components::markdown(entry),
        })
        .collect();
    pages.push(Page { path: "functions.md".into(), text: functions::markdown_of_all() });
    pages
}
