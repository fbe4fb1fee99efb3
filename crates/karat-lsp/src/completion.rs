//! What can be written at a place.

use std::collections::BTreeSet;

use karat_config::{ComponentKind, OptionType};
use karat_hcl::ast::{Body, Item};
use karat_hcl::diag::{SourceId, Span};
use tower_lsp_server::ls_types::{
    CompletionItem, CompletionItemKind, CompletionTextEdit, Documentation, MarkupContent,
    MarkupKind, TextEdit,
};

use crate::catalog::{Catalog, kind_of};
use crate::cursor::{self, Cursor, Thing};
use crate::document::Document;
use crate::hover::told;
use crate::index::{Declaration, Index, fenced};

/// What can be written at `offset`.
pub(crate) fn complete(
    document: &Document,
    offset: usize,
    catalog: &Catalog,
    index: &Index,
) -> Vec<CompletionItem> {
    let Some(body) = document.native() else { return Vec::new() };
    let cursor = cursor::at(body, offset);
    let start = document.text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let line = &document.text[start..offset];
    let place = Place { document, offset, catalog, index };
    let value = match cursor.thing {
        Thing::Value(attribute) => Some(attribute.name.name.as_str()),
        _ => None,
    };
    match (writing(line), value) {
        (Writing::Text { before, text }, _) => place.text(&cursor, before.or(value), line, text),
        (Writing::Expression(word), _) => place.expression(&cursor, word),
        (Writing::Word(word), Some(_)) => place.expression(&cursor, word),
        (Writing::Word(word), None) => place.body(&cursor, word),
    }
}

/// What is being written at the end of a line.
#[derive(Debug, PartialEq)]
enum Writing<'a> {
    /// A text in quotes, and the name before the `=`, if there is one in the line.
    Text { before: Option<&'a str>, text: &'a str },
    /// A name in an expression.
    Expression(&'a str),
    /// A word at the beginning of a line, or of what the lines before began.
    Word(&'a str),
}

fn writing(line: &str) -> Writing<'_> {
    let (mut quoted, mut holes, mut text, mut equals) = (false, Vec::new(), 0, None);
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quoted => {
                chars.next();
            }
            '"' => {
                quoted = !quoted;
                text = at + 1;
            }
            '$' | '%' if quoted && chars.peek().is_some_and(|(_, c)| *c == '{') => {
                chars.next();
                holes.push(text);
                quoted = false;
            }
            '}' if !quoted => {
                if let Some(outer) = holes.pop() {
                    (quoted, text) = (true, outer);
                }
            }
            '=' if !quoted && equals.is_none() => equals = Some(at),
            '#' if !quoted => return Writing::Word(""),
            _ => {}
        }
    }
    let before = equals.map(|at| line[..at].trim()).filter(|name| karat_hcl::is_identifier(name));
    if quoted {
        return Writing::Text { before, text: &line[text..] };
    }
    let word = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let start = line
        .rfind(|c| !word(c))
        .map_or(0, |at| at + line[at..].chars().next().map_or(1, char::len_utf8));
    let end = &line[start..];
    if before.is_some() || !holes.is_empty() {
        return Writing::Expression(end);
    }
    Writing::Word(end)
}

struct Place<'a> {
    document: &'a Document,
    offset: usize,
    catalog: &'a Catalog,
    index: &'a Index,
}

impl Place<'_> {
    /// An item that takes the place of the last `replaced` bytes.
    fn item(
        &self,
        label: &str,
        new: String,
        replaced: usize,
        kind: CompletionItemKind,
    ) -> CompletionItem {
        let span = Span::new(SourceId(0), self.offset - replaced..self.offset);
        let edit = TextEdit { range: self.document.range(span), new_text: new };
        CompletionItem {
            label: label.to_owned(),
            kind: Some(kind),
            text_edit: Some(CompletionTextEdit::Edit(edit)),
            ..CompletionItem::default()
        }
    }

    /// A label of a block, a source, a communicator.
    fn text(
        &self,
        cursor: &Cursor<'_>,
        attribute: Option<&str>,
        line: &str,
        text: &str,
    ) -> Vec<CompletionItem> {
        let references = |prefix: &str| -> Vec<CompletionItem> {
            self.index
                .sources
                .iter()
                .map(|((kind, name), found)| {
                    let label = format!("{prefix}{kind}.{name}");
                    let kind = CompletionItemKind::REFERENCE;
                    with_doc(self.item(&label, label.clone(), text.len(), kind), found.text.clone())
                })
                .collect()
        };
        match attribute {
            Some("sources") => references("source."),
            Some("only" | "except") => references(""),
            Some("communicator") => self
                .catalog
                .communicators
                .iter()
                .map(|name| self.item(name, name.clone(), text.len(), CompletionItemKind::VALUE))
                .collect(),
            Some(_) => Vec::new(),
            None => {
                let (word, labels) = line.trim_start().split_once('"').unwrap_or_default();
                let outer = cursor.blocks.iter().rev().find(|b| {
                    // Not the block that is being begun.
                    !cursor::holds(b.header, self.offset)
                });
                let parent = outer.map(|block| block.kind.name.as_str());
                // The second label is a name of one's own.
                if labels.contains('"') {
                    return Vec::new();
                }
                match kind_of(parent, word.trim()) {
                    Some(ComponentKind::Source) if parent == Some("build") => references("source."),
                    Some(kind) => self.types(kind, text.len()),
                    None => Vec::new(),
                }
            }
        }
    }

    fn types(&self, kind: ComponentKind, replaced: usize) -> Vec<CompletionItem> {
        let item =
            |name: &str| self.item(name, name.to_owned(), replaced, CompletionItemKind::CLASS);
        let all = self.catalog.types(kind);
        all.map(|one| with_doc(item(&one.name), one.schema.doc.clone())).collect()
    }

    /// A name in an expression.
    fn expression(&self, cursor: &Cursor<'_>, word: &str) -> Vec<CompletionItem> {
        let mut steps: Vec<&str> = word.split('.').collect();
        let partial = steps.pop().unwrap_or_default().len();
        let field =
            |name: &str| self.item(name, name.to_owned(), partial, CompletionItemKind::FIELD);
        let declared =
            |(name, found): (&String, &Declaration)| with_doc(field(name), found.text.clone());
        let fixed = |names: &[&str]| names.iter().map(|name| field(name)).collect();
        match steps.as_slice() {
            [] => self.roots(cursor, partial),
            ["var"] => self.index.variables.iter().map(declared).collect(),
            ["local"] => self.index.locals.iter().map(declared).collect(),
            ["data"] => {
                let types: BTreeSet<&str> = self.index.data.keys().map(|(t, _)| &**t).collect();
                types.into_iter().map(field).collect()
            }
            ["data", kind] => {
                let all = self.index.data.iter().filter(|((t, _), _)| t == kind);
                all.map(|((_, name), found)| declared((name, found))).collect()
            }
            ["data", kind, _] => {
                let component = self.catalog.component(ComponentKind::DataSource, kind);
                component.map(|c| c.outputs.iter().map(|o| field(o)).collect()).unwrap_or_default()
            }
            ["path"] => fixed(&["cwd", "root"]),
            ["packer"] => fixed(&["iterationID", "version", "versionFingerprint"]),
            ["source"] => fixed(&["name", "type"]),
            ["build"] => fixed(&[
                "ConnType",
                "Host",
                "ID",
                "PackerHTTPAddr",
                "PackerHTTPIP",
                "PackerHTTPPort",
                "PackerRunUUID",
                "Password",
                "Port",
                "SSHPrivateKey",
                "SSHPrivateKeyFile",
                "SSHPublicKey",
                "User",
                "WinRMPassword",
                "name",
            ]),
            ["artifact"] => self.index.builds.iter().map(declared).collect(),
            [root] if iterators(cursor).contains(root) => fixed(&["key", "value"]),
            _ => Vec::new(),
        }
    }

    fn roots(&self, cursor: &Cursor<'_>, partial: usize) -> Vec<CompletionItem> {
        let mut items = Vec::new();
        let names = ["artifact", "build", "data", "local", "packer", "path", "source", "var"];
        for name in names.into_iter().chain(iterators(cursor)) {
            items.push(self.item(name, name.to_owned(), partial, CompletionItemKind::VARIABLE));
        }
        for function in &self.catalog.functions {
            let name = &function.name;
            let item = self.item(name, format!("{name}("), partial, CompletionItemKind::FUNCTION);
            let doc = format!("{}\n\n{}", fenced(&function.signature), function.doc);
            items.push(with_doc(item, doc));
        }
        items
    }

    /// An attribute or a block.
    fn body(&self, cursor: &Cursor<'_>, word: &str) -> Vec<CompletionItem> {
        let mut path = cursor.path();
        // What is being written may be taken for the beginning of a block.
        if matches!(cursor.thing, Thing::Keyword) {
            path.pop();
        }
        let Some(schema) = self.catalog.schema(&path) else { return Vec::new() };
        let there = cursor.blocks.last().map(|block| names(&block.body)).unwrap_or_default();
        let options = schema.options.iter().filter(|option| {
            !(there.contains(&*option.name) && matches!(option.ty, OptionType::Attribute(_)))
                && option.deprecated.is_none()
        });
        let items = options.map(|option| {
            let (new, kind) = match option.ty {
                OptionType::Attribute(_) => {
                    (format!("{} = ", option.name), CompletionItemKind::PROPERTY)
                }
                _ => (format!("{} ", option.name), CompletionItemKind::MODULE),
            };
            with_doc(self.item(&option.name, new, word.len(), kind), told(option))
        });
        items.collect()
    }
}

fn with_doc(item: CompletionItem, text: String) -> CompletionItem {
    let markup = MarkupContent { kind: MarkupKind::Markdown, value: text };
    CompletionItem { documentation: Some(Documentation::MarkupContent(markup)), ..item }
}

fn names(body: &Body) -> BTreeSet<&str> {
    let Body::Native(body) = body else { return BTreeSet::new() };
    let attributes = body.items.iter().filter_map(|item| match item {
        Item::Attribute(attribute) => Some(attribute.name.name.as_str()),
        Item::Block(_) => None,
    });
    attributes.collect()
}

/// The names that `dynamic` blocks around give to what they are at.
fn iterators<'a>(cursor: &Cursor<'a>) -> Vec<&'a str> {
    let dynamic = cursor.blocks.iter().filter(|block| block.kind.name == "dynamic");
    dynamic.filter_map(|block| block.labels.first().map(|label| label.text.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_written() {
        let text = |before, text| Writing::Text { before, text };
        for (line, wanted) in [
            ("  comm", Writing::Word("comm")),
            ("", Writing::Word("")),
            ("  a = var.x", Writing::Expression("var.x")),
            ("  a = upper(var.", Writing::Expression("var.")),
            ("  a = \"x${local.y", Writing::Expression("local.y")),
            ("  a = \"x${local.y}z", text(Some("a"), "x${local.y}z")),
            ("  sources = [\"source.a.b\", \"sour", text(Some("sources"), "sour")),
            ("  \"sour", text(None, "sour")),
            ("source \"am", text(None, "am")),
            ("  a = \"q\\\"", text(Some("a"), "q\\\"")),
            ("  foo(v", Writing::Word("v")),
            ("# a = v", Writing::Word("")),
        ] {
            assert_eq!(writing(line), wanted, "{line}");
        }
    }
}
