//! The functions, in groups of one file each.

pub(crate) mod cidr;
pub(crate) mod collections;
pub(crate) mod crypto;
pub(crate) mod dates;
pub(crate) mod encoding;
pub(crate) mod files;
pub(crate) mod format;
pub(crate) mod json;
pub(crate) mod lists;
pub(crate) mod numbers;
pub(crate) mod regex;
pub(crate) mod secrets;
pub(crate) mod sets;
pub(crate) mod strings;
pub(crate) mod yaml;
