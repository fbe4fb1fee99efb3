//! What is told of a place.

use std::fmt::Write as _;

use karat_config::{OptionSchema, OptionType};

use crate::catalog::{Catalog, kind_of};
use crate::cursor::{self, Thing};
use crate::document::Document;
use crate::index::{Index, fenced};

/// Markdown on what stands at `offset`.
pub(crate) fn hover(
    document: &Document,
    offset: usize,
    catalog: &Catalog,
    index: &Index,
) -> Option<String> {
    let cursor = cursor::at(document.native()?, offset);
    let path = cursor.path();
    match cursor.thing {
        Thing::Keyword | Thing::Label(_, 0) => {
            let parents = &path[..path.len().saturating_sub(1)];
            let (name, labels) = path.last()?;
            let parent = parents.last().map(|(name, _)| name.as_str());
            if let (Thing::Label(..), Some(kind), Some(label)) =
                (&cursor.thing, kind_of(parent, name), labels.first())
            {
                if let Some(found) = index.source(label) {
                    return Some(found.text.clone());
                }
                let component = catalog.component(kind, label)?;
                return Some(format!("**{kind} `{label}`**\n\n{}", component.schema.doc));
            }
            let doc = catalog.schema(&path)?.doc;
            let option = catalog.schema(parents).and_then(|s| s.option(name).cloned());
            match option {
                Some(option) => Some(told(&option)),
                None => (!doc.is_empty()).then_some(doc),
            }
        }
        Thing::Label(..) | Thing::Nothing => None,
        Thing::Name(attribute) => Some(told(catalog.schema(&path)?.option(&attribute.name.name)?)),
        Thing::Value(attribute) => {
            if let Some(call) = cursor::call_at(&attribute.expr, offset) {
                let function = catalog.function(&call.name.name)?;
                return Some(format!("{}\n\n{}", fenced(&function.signature), function.doc));
            }
            if let Some(reference) = cursor::reference_at(&attribute.expr, offset) {
                return index.of_reference(&reference).map(|found| found.text.clone());
            }
            let (text, _) = cursor::text_at(&attribute.expr, offset)?;
            index.source(text).map(|found| found.text.clone())
        }
    }
}

/// An option, as Markdown.
pub(crate) fn told(option: &OptionSchema) -> String {
    let mut facts = vec![match &option.ty {
        OptionType::Attribute(karat_value::Type::Dynamic) => "any".to_owned(),
        _ => option.type_name(),
    }];
    facts.extend(option.required.then(|| "required".to_owned()));
    let default = option.default.as_ref().filter(|d| *d != "\"\"");
    facts.extend(default.map(|d| format!("default `{d}`")));
    let mut text = format!("**`{}`** ({})\n\n{}", option.name, facts.join(", "), option.doc);
    if let Some(why) = &option.deprecated {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n\nDeprecated: {why}");
    }
    text
}
