//! What the places of a document name, so that all places of one thing can be found and changed
//! together.

use std::collections::BTreeSet;
use std::ops::Range;

use karat_eval::{ReferenceStep, references};
use karat_hcl::ast::{Attribute, Block, Body, Expr, ExprKind, Item, Label, NativeBody, ObjectKey};
use karat_hcl::diag::Span;

use crate::cursor::{holds, texts};
use crate::document::Document;

/// Something that has a name of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Named {
    Variable(String),
    Local(String),
    /// By type and name.
    Data(String, String),
    /// By type and name.
    Source(String, String),
    Build(String),
    /// A key of `override`: a source by its name alone.
    Override(String),
}

impl Named {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Variable(name)
            | Self::Local(name)
            | Self::Data(_, name)
            | Self::Source(_, name)
            | Self::Build(name)
            | Self::Override(name) => name,
        }
    }

    /// The same thing under another name.
    fn renamed(&self, to: &str) -> Self {
        let to = to.to_owned();
        match self {
            Self::Variable(_) => Self::Variable(to),
            Self::Local(_) => Self::Local(to),
            Self::Data(kind, _) => Self::Data(kind.clone(), to),
            Self::Source(kind, _) => Self::Source(kind.clone(), to),
            Self::Build(_) => Self::Build(to),
            Self::Override(_) => Self::Override(to),
        }
    }
}

/// A place that names something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) named: Named,
    /// The name alone, without quotes or what stands before it.
    pub(crate) span: Span,
    /// Whether it is declared here.
    pub(crate) declares: bool,
}

/// All places of a document that name something.
pub(crate) fn places(document: &Document) -> Vec<Place> {
    let mut finder = Finder { text: &document.text, found: Vec::new() };
    if let Some(body) = document.native() {
        body.items.iter().for_each(|item| finder.top(item));
    }
    finder.found
}

/// All places of a file that only gives values to variables.
pub(crate) fn places_of_values(document: &Document) -> Vec<Place> {
    let mut finder = Finder { text: &document.text, found: Vec::new() };
    for attribute in document.native().into_iter().flat_map(attributes_of) {
        let name = attribute.name.name.clone();
        finder.add(Named::Variable(name), attribute.name.span, false);
    }
    finder.found
}

/// What is named at `offset` of some of these places, which are all that belong together.
pub(crate) fn at<K>(places: &[Place], offset: usize, all: &[(K, Vec<Place>)]) -> Option<Place> {
    let place = places.iter().find(|place| holds(place.span, offset))?;
    let named = match &place.named {
        Named::Override(name) => match sources(name, all).into_iter().collect::<Vec<_>>()[..] {
            [source] => source.clone(),
            _ => return None,
        },
        named => named.clone(),
    };
    Some(Place { named, ..place.clone() })
}

/// The sources of a name.
fn sources<'p, K>(name: &str, all: &'p [(K, Vec<Place>)]) -> BTreeSet<&'p Named> {
    let named = all.iter().flat_map(|(_, places)| places).map(|place| &place.named);
    named.filter(|n| matches!(n, Named::Source(..)) && n.name() == name).collect()
}

/// Those of all places that name what `named` is.
pub(crate) fn of<'p, K>(named: &Named, all: &'p [(K, Vec<Place>)]) -> Vec<(&'p K, &'p Place)> {
    let each = || all.iter().flat_map(|(key, places)| places.iter().map(move |p| (key, p)));
    let alone = sources(named.name(), all).len() == 1;
    let same = |other: &Named| match (named, other) {
        // Where several sources have the name, it is not known which one is meant.
        (Named::Source(..), Named::Override(name)) => alone && name == named.name(),
        _ => named == other,
    };
    each().filter(|(_, place)| same(&place.named)).collect()
}

/// Why something cannot have a name, if so.
pub(crate) fn refused<K>(named: &Named, to: &str, all: &[(K, Vec<Place>)]) -> Option<String> {
    let fits = match named {
        Named::Build(_) => !to.is_empty() && !to.contains(['"', '\\', '\n', '\r', '$', '%']),
        _ => karat_hcl::is_identifier(to),
    };
    if !fits {
        return Some(format!("\"{to}\" cannot be a name: letters, digits, \"_\" and \"-\" can."));
    }
    let other = named.renamed(to);
    let mut declared = all.iter().flat_map(|(_, places)| places).filter(|place| place.declares);
    (other != *named && declared.any(|place| place.named == other))
        .then(|| format!("There is something else that is called \"{to}\" already."))
}

struct Finder<'a> {
    text: &'a str,
    found: Vec<Place>,
}

impl Finder<'_> {
    /// Adds the place of a name that stands in `span`, if it stands there as it is read.
    fn add(&mut self, named: Named, span: Span, declares: bool) {
        let whole = span.range();
        let Some(text) = self.text.get(whole.clone()) else { return };
        let Some(range) = within(text, named.name()) else { return };
        let range = whole.start + range.start..whole.start + range.end;
        self.found.push(Place { named, span: Span::new(span.source, range), declares });
    }

    fn top(&mut self, item: &Item) {
        let Item::Block(block) = item else { return };
        let label = |n: usize| block.labels.get(n);
        match (block.kind.name.as_str(), label(0), label(1)) {
            ("variable", Some(name), _) => {
                self.add(Named::Variable(name.text.clone()), name.span, true);
            }
            ("local", Some(name), _) => self.add(Named::Local(name.text.clone()), name.span, true),
            ("data", Some(kind), Some(name)) => self.component(Named::Data, kind, name),
            ("source", Some(kind), Some(name)) => self.component(Named::Source, kind, name),
            ("variables" | "locals", ..) => {
                let named: fn(String) -> Named =
                    if block.kind.name == "locals" { Named::Local } else { Named::Variable };
                for attribute in attributes(&block.body) {
                    self.add(named(attribute.name.name.clone()), attribute.name.span, true);
                }
            }
            ("build", ..) => self.build(block),
            _ => {}
        }
        self.expressions(&block.body);
    }

    fn component(&mut self, named: fn(String, String) -> Named, kind: &Label, name: &Label) {
        self.add(named(kind.text.clone(), name.text.clone()), name.span, true);
    }

    fn build(&mut self, block: &Block) {
        let mut own = BTreeSet::new();
        for inner in blocks(&block.body).filter(|b| b.kind.name == "source") {
            let Some(label) = inner.labels.first() else { continue };
            self.source(&label.text, label.span);
            let name = attributes(&inner.body).find(|a| a.name.name == "name");
            if let (Some(name), Some((kind, _))) =
                (name.and_then(|a| a.expr.as_literal_str()), source_of(&label.text))
            {
                own.insert((kind.to_owned(), name.to_owned()));
            }
        }
        for attribute in attributes(&block.body) {
            match (attribute.name.name.as_str(), attribute.expr.as_literal_str()) {
                ("name", Some(name)) => {
                    self.add(Named::Build(name.to_owned()), attribute.expr.span, true);
                }
                ("sources", _) => {
                    for (text, span) in texts(&attribute.expr) {
                        self.source(text, span);
                    }
                }
                _ => {}
            }
        }
        for inner in blocks(&block.body) {
            self.step(inner, &own);
            blocks(&inner.body).for_each(|step| self.step(step, &own));
        }
    }

    /// A provisioner or post-processor; `own` are the names that sources have in the build alone.
    fn step(&mut self, block: &Block, own: &BTreeSet<(String, String)>) {
        if !matches!(
            block.kind.name.as_str(),
            "provisioner" | "error-cleanup-provisioner" | "post-processor"
        ) {
            return;
        }
        for attribute in attributes(&block.body) {
            match attribute.name.name.as_str() {
                "only" | "except" => {
                    for (text, span) in texts(&attribute.expr) {
                        let known = source_of(text)
                            .is_some_and(|(k, n)| own.contains(&(k.to_owned(), n.to_owned())));
                        if !known {
                            self.source(text, span);
                        }
                    }
                }
                "override" => self.overrides(&attribute.expr, own),
                _ => {}
            }
        }
    }

    fn overrides(&mut self, expr: &Expr, own: &BTreeSet<(String, String)>) {
        let ExprKind::Object(items) = &expr.kind else { return };
        for item in items {
            let (name, span) = match &item.key {
                ObjectKey::Name(name) => (name.name.as_str(), name.span),
                ObjectKey::Expr(key) => match key.as_literal_str() {
                    Some(text) => (text, key.span),
                    None => continue,
                },
            };
            if !own.iter().any(|(_, own)| own == name) {
                self.add(Named::Override(name.to_owned()), span, false);
            }
        }
    }

    /// `source.TYPE.NAME` or `TYPE.NAME`
    fn source(&mut self, text: &str, span: Span) {
        if let Some((kind, name)) = source_of(text) {
            self.add(Named::Source(kind.to_owned(), name.to_owned()), span, false);
        }
    }

    fn expressions(&mut self, body: &Body) {
        attributes(body).for_each(|attribute| self.expression(&attribute.expr));
        blocks(body).for_each(|block| self.expressions(&block.body));
    }

    fn expression(&mut self, expr: &Expr) {
        for reference in references(expr) {
            let step = |i: usize| match reference.steps.get(i) {
                Some(ReferenceStep::Name(name)) => Some(name),
                _ => None,
            };
            let text = |i: usize| step(i).map(|name| name.name.clone());
            match (reference.root.name.as_str(), step(0), step(1), step(2)) {
                ("var", Some(name), ..) => {
                    self.add(Named::Variable(name.name.clone()), name.span, false);
                }
                ("local", Some(name), ..) => {
                    self.add(Named::Local(name.name.clone()), name.span, false);
                }
                ("data", Some(kind), Some(name), _) => {
                    let named = Named::Data(kind.name.clone(), name.name.clone());
                    self.add(named, name.span, false);
                }
                ("artifact", Some(build), kind, name) => {
                    self.add(Named::Build(build.name.clone()), build.span, false);
                    if let (Some(kind), Some(name), Some(place)) = (kind, name, text(2)) {
                        let named = Named::Source(kind.name.clone(), place);
                        self.add(named, name.span, false);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Where a name stands in the text of a token: bare, in quotes, in brackets, or behind points.
fn within(text: &str, name: &str) -> Option<Range<usize>> {
    let end = text.trim_end_matches(['"', ']', ' ', '\t']).len();
    let start = end.checked_sub(name.len())?;
    if text.get(start..end) != Some(name) || name.is_empty() {
        return None;
    }
    // What stands before it ends where a name may begin.
    let before = text[..start].chars().next_back();
    before.is_none_or(|c| matches!(c, '"' | '[' | '.' | ' ' | '\t')).then_some(start..end)
}

fn source_of(text: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = text.split('.').collect();
    match parts.as_slice() {
        [kind, name] | [_, kind, name] => Some((*kind, *name)),
        _ => None,
    }
}

fn items(body: &Body) -> &[Item] {
    match body {
        Body::Native(body) => body.items.as_slice(),
        Body::Json(_) => &[],
    }
}

fn attributes(body: &Body) -> impl Iterator<Item = &Attribute> {
    items(body).iter().filter_map(attribute)
}

fn attributes_of(body: &NativeBody) -> impl Iterator<Item = &Attribute> {
    body.items.iter().filter_map(attribute)
}

fn attribute(item: &Item) -> Option<&Attribute> {
    match item {
        Item::Attribute(attribute) => Some(attribute),
        Item::Block(_) => None,
    }
}

fn blocks(body: &Body) -> impl Iterator<Item = &Block> {
    items(body).iter().filter_map(|item| match item {
        Item::Block(block) => Some(block),
        Item::Attribute(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
variable "a" {
  default = 1
  validation {
    condition = var.a > 0
  }
}
locals {
  a = "${var["a"]}-${[for a in [1] : a][0]}"
}
data "http" "x" {
  url = local.a
}
source "null" "a" {
  ssh_host = data.http.x.body
}
source "null" "ab" {}
build {
  name    = "main"
  sources = ["null.a", "source.null.ab"]
  source "source.null.a" {
    name = "own"
  }
  provisioner "shell" {
    only     = ["null.a"]
    except   = ["null.own"]
    override = { a = { inline = ["x"] }, "own" = {} }
    inline   = [artifact.main.null.a.id]
  }
}
"#;

    /// What stands at the places of a thing, with what stands before.
    fn found(named: &Named) -> Vec<(String, bool)> {
        let document = Document::new(TEXT.to_owned());
        let all = [((), places(&document))];
        let place = |place: &Place| {
            let range = place.span.range();
            assert_eq!(&TEXT[range.clone()], named.name());
            (TEXT[range.start - 5..range.end].to_owned(), place.declares)
        };
        of(named, &all).into_iter().map(|(_, p)| place(p)).collect()
    }

    #[track_caller]
    fn check(named: Named, want: &[(&str, bool)]) {
        let want: Vec<_> = want.iter().map(|(text, flag)| ((*text).to_owned(), *flag)).collect();
        assert_eq!(found(&named), want);
    }

    #[test]
    fn all_places_of_a_thing_and_no_others_are_found() {
        let name = |text: &str| text.to_owned();
        check(
            Named::Variable(name("a")),
            &[("ble \"a", true), (" var.a", false), ("var[\"a", false)],
        );
        check(Named::Local(name("a")), &[(" {\n  a", true), ("ocal.a", false)]);
        check(Named::Data(name("http"), name("x")), &[("tp\" \"x", true), ("http.x", false)]);
        check(
            Named::Source(name("null"), name("a")),
            &[
                ("ll\" \"a", true),
                ("null.a", false),
                ("null.a", false),
                ("null.a", false),
                (" = { a", false),
                ("null.a", false),
            ],
        );
        check(Named::Build(name("main")), &[("  = \"main", true), ("fact.main", false)]);
    }

    #[test]
    fn a_key_of_override_is_the_one_source_of_that_name() {
        let document = Document::new(TEXT.to_owned());
        let found = places(&document);
        let offset = TEXT.find("{ a =").unwrap() + 2;
        let place = at(&found, offset, &[((), found.clone())]).unwrap();
        assert_eq!(place.named, Named::Source("null".into(), "a".into()));
        let more = Document::new(format!("{TEXT}source \"file\" \"a\" {{}}\n"));
        let found = places(&more);
        assert_eq!(at(&found, offset, &[((), found.clone())]), None);
    }

    #[test]
    fn a_name_is_refused_where_it_cannot_be_or_is_taken() {
        let document = Document::new(TEXT.to_owned());
        let all = [((), places(&document))];
        let a = Named::Source("null".into(), "a".into());
        assert!(refused(&a, "b.c", &all).unwrap().contains("cannot be a name"));
        assert!(refused(&a, "ab", &all).unwrap().contains("called \"ab\" already"));
        assert_eq!(refused(&a, "web", &all), None);
        assert_eq!(refused(&a, "a", &all), None);
        assert_eq!(refused(&Named::Build("main".into()), "the main one", &all), None);
    }

    #[test]
    fn values_of_variables_name_them() {
        let document = Document::new("a = 1\nb = \"a\"\n".into());
        let all = places_of_values(&document);
        assert_eq!(all.len(), 2);
        let found = at(&all, 0, &[((), all.clone())]).unwrap();
        assert_eq!(found.named, Named::Variable("a".into()));
    }
}
