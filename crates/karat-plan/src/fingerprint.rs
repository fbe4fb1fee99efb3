//! The digest of everything that goes into a build, and what changed since the last time.

use std::collections::BTreeMap;

use karat_config::{Body, OptionKind, OptionType, Schema};
use karat_hcl::diag::{SourceMap, Span};
use karat_value::{Data, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Changes when what a fingerprint is made of changes, so that older ones match nothing.
const VERSION: &str = "karat-fingerprint-1";

/// What a fingerprint is made of: a name for people, and a digest or short text.
pub type Inputs = BTreeMap<String, String>;

/// The digest of everything that goes into a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Hexadecimal SHA-256 over [`Fingerprint::inputs`].
    pub digest: String,
    /// What it is made of, so that a difference can be named.
    pub inputs: Inputs,
    /// Inputs that are only known once the build runs. With any, nothing can be reused by this
    /// fingerprint.
    pub open: Vec<String>,
}

/// One difference between two fingerprints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", content = "input", rename_all = "snake_case")]
pub enum Change {
    /// It was not there before.
    Added(String),
    /// It is not there any more.
    Removed(String),
    /// It is another now.
    Changed(String),
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Added(name) => write!(f, "{name} is new"),
            Self::Removed(name) => write!(f, "{name} is gone"),
            Self::Changed(name) => write!(f, "{name} changed"),
        }
    }
}

impl Fingerprint {
    /// What is different from an older one, in the order of the names.
    pub fn changes_since(&self, older: &Inputs) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, digest) in &self.inputs {
            match older.get(name) {
                None => changes.push(Change::Added(name.clone())),
                Some(before) if before != digest => changes.push(Change::Changed(name.clone())),
                Some(_) => {}
            }
        }
        let gone = older.keys().filter(|name| !self.inputs.contains_key(*name));
        changes.extend(gone.cloned().map(Change::Removed));
        changes
    }
}

/// Collects what goes into a build.
#[derive(Debug)]
pub struct FingerprintBuilder<'a> {
    sources: &'a SourceMap,
    inputs: Inputs,
    open: Vec<String>,
    files: Vec<(String, String)>,
}

impl<'a> FingerprintBuilder<'a> {
    /// Starts with the version of the format alone.
    pub fn new(sources: &'a SourceMap) -> Self {
        let inputs = Inputs::from([("format".to_owned(), VERSION.to_owned())]);
        Self { sources, inputs, open: Vec::new(), files: Vec::new() }
    }

    /// Adds an input by its digest or a short text.
    pub fn input(&mut self, name: impl Into<String>, digest: impl Into<String>) {
        self.inputs.insert(name.into(), digest.into());
    }

    /// Adds an input that is only known once the build runs.
    pub fn open(&mut self, name: impl Into<String>) {
        self.open.push(name.into());
    }

    /// Adds a component's configuration, evaluated with all that is known beforehand; `name` says
    /// which in words (`source`, `provisioner 1 "shell"`).
    ///
    /// Volatile and secret options do not count, though whether a secret is given does. Of an
    /// option whose value is not known beforehand its text counts.
    pub fn component(&mut self, name: &str, schema: &Schema, body: &Body) {
        self.body(name, schema, body);
    }

    /// The input files and folders that the configurations added so far name: in words, and the
    /// path. Their contents are to be added by [`FingerprintBuilder::input`].
    pub fn files(&self) -> &[(String, String)] {
        &self.files
    }

    /// The digest over all.
    pub fn finish(self) -> Fingerprint {
        let mut hasher = Sha256::new();
        for (name, digest) in &self.inputs {
            hasher.update((name.len() as u64).to_le_bytes());
            hasher.update(name);
            hasher.update((digest.len() as u64).to_le_bytes());
            hasher.update(digest);
        }
        let digest = hex(&hasher.finalize());
        Fingerprint { digest, inputs: self.inputs, open: self.open }
    }

    fn body(&mut self, name: &str, schema: &Schema, body: &Body) {
        for (key, attribute) in &body.attributes {
            let option = schema.option(key);
            let kind = option.map_or(OptionKind::Plain, |o| o.kind);
            let label = format!("{name}: {key}");
            match kind {
                OptionKind::Volatile | OptionKind::Output => {}
                OptionKind::Secret => self.input(label, "given"),
                OptionKind::Input => {
                    self.value(&label, &attribute.value, attribute.value_span);
                    self.note_files(&attribute.value);
                }
                OptionKind::Plain | OptionKind::Late => {
                    self.value(&label, &attribute.value, attribute.value_span);
                }
            }
        }
        let empty = Schema::default();
        for (place, block) in body.blocks.iter().enumerate() {
            let inner = match schema.option(&block.name).map(|o| &o.ty) {
                Some(OptionType::Block(schema) | OptionType::Blocks(schema)) => schema,
                _ => &empty,
            };
            let label = format!("{name}: {} {}", block.name, place + 1);
            self.input(label.clone(), block.labels.join(" "));
            self.body(&label, inner, &block.body);
        }
    }

    fn value(&mut self, label: &str, value: &Value, span: Span) {
        let (value, _) = value.clone().unmark_deep();
        let mut text = String::new();
        canonical(&value, &mut text);
        if !value.is_wholly_known() {
            text.push('\n');
            text.push_str(self.sources.text(span));
        }
        let ty = value.ty().to_string();
        self.input(label, hex(&Sha256::digest(format!("{ty}\n{text}"))));
    }

    fn note_files(&mut self, value: &Value) {
        if let Some(path) = value.as_str() {
            self.files.push((format!("file {path}"), path.to_owned()));
        }
        for item in value.as_slice().unwrap_or_default() {
            self.note_files(item);
        }
    }
}

/// A text that no two different values share.
fn canonical(value: &Value, out: &mut String) {
    match value.data() {
        Data::Null => out.push_str("null"),
        Data::Unknown => out.push('?'),
        Data::Bool(word) => out.push_str(if *word { "true" } else { "false" }),
        Data::Number(number) => out.push_str(&number.to_text()),
        Data::String(text) => out.push_str(&karat_value::json::quote(text)),
        Data::Seq(items) => {
            out.push('[');
            for item in items.iter() {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Data::Map(map) => {
            out.push('{');
            for (key, item) in map.iter() {
                out.push_str(&karat_value::json::quote(key));
                out.push(':');
                canonical(item, out);
                out.push(',');
            }
            out.push('}');
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
