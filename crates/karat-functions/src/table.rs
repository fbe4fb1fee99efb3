//! The one list of all functions.

use crate::function::Function;
use crate::functions::{
    cidr, collections, crypto, dates, encoding, files, format, json, lists, numbers, regex,
    secrets, sets, strings, yaml,
};

/// The groups, each with its heading in the manual.
const GROUPS: &[(&str, &[Function])] = &[
    ("Numbers", numbers::FUNCTIONS),
    ("Text", strings::FUNCTIONS),
    ("Formatting", format::FUNCTIONS),
    ("Regular expressions", regex::FUNCTIONS),
    ("Lists", lists::FUNCTIONS),
    ("Maps and collections", collections::FUNCTIONS),
    ("Sets", sets::FUNCTIONS),
    ("Encodings", encoding::FUNCTIONS),
    ("JSON", json::FUNCTIONS),
    ("YAML", yaml::FUNCTIONS),
    ("Digests and identifiers", crypto::FUNCTIONS),
    ("Times", dates::FUNCTIONS),
    ("Addresses", cidr::FUNCTIONS),
    ("Files", files::FUNCTIONS),
    ("Secret stores", secrets::FUNCTIONS),
];

/// Functions that take unevaluated arguments, which the evaluator implements itself.
pub const EVALUATED_ELSEWHERE: &[&str] = &["can", "convert", "try"];

/// All functions in their groups, with the heading of each.
pub fn groups() -> impl Iterator<Item = (&'static str, &'static [Function])> {
    GROUPS.iter().copied()
}

const COUNT: usize = {
    let mut count = 0;
    let mut group = 0;
    while group < GROUPS.len() {
        count += GROUPS[group].1.len();
        group += 1;
    }
    count
};

static TABLE: [Function; COUNT] = {
    let mut table = [GROUPS[0].1[0]; COUNT];
    let mut filled = 0;
    let mut group = 0;
    while group < GROUPS.len() {
        let functions = GROUPS[group].1;
        let mut index = 0;
        while index < functions.len() {
            table[filled] = functions[index];
            filled += 1;
            index += 1;
        }
        group += 1;
    }
    table
};

/// All functions of the template language but those of [`EVALUATED_ELSEWHERE`], group by
/// group.
#[must_use]
pub fn table() -> &'static [Function] {
    &TABLE
}

/// Finds a function by its name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Function> {
    table().iter().find(|function| function.name == name)
}

/// The names of all functions, those of [`EVALUATED_ELSEWHERE`] included.
pub fn names() -> impl Iterator<Item = &'static str> {
    table().iter().map(|function| function.name).chain(EVALUATED_ELSEWHERE.iter().copied())
}
