//! What the files of a template declare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use karat_eval::{Reference, ReferenceStep};
use karat_hcl::ast::{Attribute, Block, Body, Item, NativeBody};
use karat_hcl::diag::Span;

use crate::document::Document;

/// Something that other places can refer to.
#[derive(Clone, Debug)]
pub(crate) struct Declaration {
    /// Its file.
    pub(crate) file: PathBuf,
    /// Where it begins: the header of its block, or the name of its attribute.
    pub(crate) span: Span,
    /// What a person reads of it, as Markdown.
    pub(crate) text: String,
}

/// What the files of a template declare, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) variables: BTreeMap<String, Declaration>,
    pub(crate) locals: BTreeMap<String, Declaration>,
    pub(crate) data: BTreeMap<(String, String), Declaration>,
    pub(crate) sources: BTreeMap<(String, String), Declaration>,
    pub(crate) builds: BTreeMap<String, Declaration>,
}

impl Index {
    /// Reads the declarations of all files.
    pub(crate) fn new<'a>(files: impl IntoIterator<Item = (&'a Path, &'a Document)>) -> Self {
        let mut index = Self::default();
        for (path, document) in files {
            let mut file = File { path, document, index: &mut index };
            if let Some(body) = document.native() {
                file.body(body);
            }
        }
        index
    }

    /// What a name in an expression refers to.
    pub(crate) fn of_reference(&self, reference: &Reference) -> Option<&Declaration> {
        let step = |i: usize| reference.steps.get(i).and_then(ReferenceStep::name);
        match (reference.root.name.as_str(), step(0), step(1), step(2)) {
            ("var", Some(name), ..) => self.variables.get(name),
            ("local", Some(name), ..) => self.locals.get(name),
            ("data", Some(kind), Some(name), _) => {
                self.data.get(&(kind.to_owned(), name.to_owned()))
            }
            ("artifact", Some(build), kind, name) => self
                .builds
                .get(build)
                .or_else(|| self.sources.get(&(kind?.to_owned(), name?.to_owned()))),
            _ => None,
        }
    }

    /// What `source.TYPE.NAME` or `TYPE.NAME` refers to.
    pub(crate) fn source(&self, text: &str) -> Option<&Declaration> {
        let parts: Vec<&str> = text.split('.').collect();
        let (kind, name) = match parts.as_slice() {
            [kind, name] | [_, kind, name] => (*kind, *name),
            _ => return None,
        };
        self.sources.get(&(kind.to_owned(), name.to_owned()))
    }
}

struct File<'a> {
    path: &'a Path,
    document: &'a Document,
    index: &'a mut Index,
}

impl File<'_> {
    fn declaration(&self, span: Span, text: String) -> Declaration {
        Declaration { file: self.path.to_owned(), span, text }
    }

    fn source_text(&self, span: Span) -> &str {
        self.document.text.get(span.range()).unwrap_or_default()
    }

    fn body(&mut self, body: &NativeBody) {
        for item in &body.items {
            if let Item::Block(block) = item {
                self.block(block);
            }
        }
    }

    fn block(&mut self, block: &Block) {
        let label = |n: usize| block.labels.get(n).map(|l| l.text.clone());
        match (block.kind.name.as_str(), label(0), label(1)) {
            ("variable", Some(name), _) => {
                let text = self.variable(&name, block);
                let declaration = self.declaration(block.header, text);
                self.index.variables.entry(name).or_insert(declaration);
            }
            ("variables", ..) => {
                for attribute in attributes(&block.body) {
                    let (name, found) = self.value("var", attribute);
                    self.index.variables.entry(name).or_insert(found);
                }
            }
            ("locals", ..) => {
                for attribute in attributes(&block.body) {
                    let (name, found) = self.value("local", attribute);
                    self.index.locals.entry(name).or_insert(found);
                }
            }
            ("local", Some(name), _) => {
                let text = fenced(self.source_text(block.span));
                let declaration = self.declaration(block.header, text);
                self.index.locals.entry(name).or_insert(declaration);
            }
            (kind @ ("data" | "source"), Some(type_name), Some(name)) => {
                let text = fenced(self.source_text(block.header));
                let declaration = self.declaration(block.header, text);
                let all =
                    if kind == "data" { &mut self.index.data } else { &mut self.index.sources };
                all.entry((type_name, name)).or_insert(declaration);
            }
            ("build", ..) => {
                let name = attributes(&block.body).find(|a| a.name.name == "name");
                if let Some(name) = name.and_then(|a| a.expr.as_literal_str()) {
                    let text = fenced(&format!("build \"{name}\""));
                    let declaration = self.declaration(block.header, text);
                    self.index.builds.entry(name.to_owned()).or_insert(declaration);
                }
            }
            _ => {}
        }
    }

    fn value(&self, root: &str, attribute: &Attribute) -> (String, Declaration) {
        let name = attribute.name.name.clone();
        let value = self.source_text(attribute.expr.span);
        let text = fenced(&format!("{root}.{name} = {value}"));
        (name, self.declaration(attribute.name.span, text))
    }

    fn variable(&self, name: &str, block: &Block) -> String {
        let (mut head, mut description) = (format!("var.{name}"), None);
        for attribute in attributes(&block.body) {
            match attribute.name.name.as_str() {
                "type" => head = format!("{head}: {}", self.source_text(attribute.expr.span)),
                "description" => description = attribute.expr.as_literal_str(),
                _ => {}
            }
        }
        if let Some(default) = attributes(&block.body).find(|a| a.name.name == "default") {
            head = format!("{head} = {}", self.source_text(default.expr.span));
        }
        match description {
            Some(description) => format!("{}\n\n{description}", fenced(&head)),
            None => fenced(&head),
        }
    }
}

fn attributes(body: &Body) -> impl Iterator<Item = &Attribute> {
    let items = match body {
        Body::Native(body) => body.items.as_slice(),
        Body::Json(_) => &[],
    };
    items.iter().filter_map(|item| match item {
        Item::Attribute(attribute) => Some(attribute),
        Item::Block(_) => None,
    })
}

/// Code, as Markdown.
pub(crate) fn fenced(code: &str) -> String {
    format!("```hcl\n{code}\n```")
}
