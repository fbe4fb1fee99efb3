//! A language server for templates: what is wrong while it is being written, what stands where,
//! what can be written next.
//!
//! It reads and checks templates as the program's other commands do; what can stand in one comes
//! from the components themselves. It runs nothing and fetches nothing.
//!
//! | file | what |
//! |---|---|
//! | `server.rs` | the protocol: [`serve`] |
//! | `catalog.rs`, `language.rs` | what can stand in a template |
//! | `document.rs`, `cursor.rs` | a text, and what stands at a place of it |
//! | `index.rs` | what the files of a template declare |
//! | `problems.rs` | what is wrong, in the words of the protocol |
//! | `json_schema.rs` | [`json_schema()`], for editors that know no language server |
//! | `names.rs` | all places that name one thing, for references and renaming |
//! | `completion.rs`, `hover.rs`, `definition.rs`, `symbols.rs` | one answer each |

mod catalog;
mod completion;
mod cursor;
mod definition;
mod document;
mod hover;
mod index;
mod json_schema;
mod language;
mod names;
mod problems;
mod server;
mod symbols;

pub use catalog::{Catalog, Component, Function};
pub use json_schema::json_schema;
pub use server::{Checker, serve};
