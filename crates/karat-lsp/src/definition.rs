//! Where something is declared.

use crate::cursor::{self, Thing};
use crate::document::Document;
use crate::index::{Declaration, Index};

/// The declaration of what is named at `offset`.
pub(crate) fn definition<'i>(
    document: &Document,
    offset: usize,
    index: &'i Index,
) -> Option<&'i Declaration> {
    let cursor = cursor::at(document.native()?, offset);
    match cursor.thing {
        Thing::Label(label, 0) => {
            let inside = cursor.blocks.len() > 1;
            inside.then(|| index.source(&label.text)).flatten()
        }
        Thing::Value(attribute) => match cursor::reference_at(&attribute.expr, offset) {
            Some(reference) => index.of_reference(&reference),
            None => index.source(cursor::text_at(&attribute.expr, offset)?.0),
        },
        _ => None,
    }
}
