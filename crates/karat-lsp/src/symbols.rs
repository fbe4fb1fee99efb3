//! The outline of a document.

use karat_hcl::ast::{Block, Body, Item, NativeBody};
use tower_lsp_server::ls_types::{DocumentSymbol, SymbolKind};

use crate::document::Document;

/// The blocks of a document; of the blocks of values what they hold.
pub(crate) fn symbols(document: &Document) -> Vec<DocumentSymbol> {
    document.native().map(|body| of_body(body, document, true)).unwrap_or_default()
}

fn of_body(body: &NativeBody, document: &Document, top: bool) -> Vec<DocumentSymbol> {
    let all = body.items.iter().filter_map(|item| match item {
        Item::Block(block) => Some(of_block(block, document)),
        Item::Attribute(attribute) => (!top).then(|| {
            symbol(
                attribute.name.name.clone(),
                SymbolKind::PROPERTY,
                document.range(attribute.span),
                document.range(attribute.name.span),
            )
        }),
    });
    all.collect()
}

fn of_block(block: &Block, document: &Document) -> DocumentSymbol {
    let labels: String = block.labels.iter().map(|label| format!(" {}", label.text)).collect();
    let kind = match block.kind.name.as_str() {
        "variable" | "variables" | "local" | "locals" => SymbolKind::VARIABLE,
        "source" => SymbolKind::CLASS,
        "build" => SymbolKind::MODULE,
        "data" => SymbolKind::INTERFACE,
        _ => SymbolKind::OBJECT,
    };
    let mut found = symbol(
        format!("{}{labels}", block.kind.name),
        kind,
        document.range(block.span),
        document.range(block.header),
    );
    if let Body::Native(body) = &block.body {
        found.children = Some(of_body(body, document, false)).filter(|all| !all.is_empty());
    }
    found
}

#[expect(deprecated, reason = "the type has a field that is, and no constructor")]
fn symbol(
    name: String,
    kind: SymbolKind,
    range: tower_lsp_server::ls_types::Range,
    selection_range: tower_lsp_server::ls_types::Range,
) -> DocumentSymbol {
    DocumentSymbol {
        name,
        detail: None,
        kind,
        tags: None,
        deprecated: None,
        range,
        selection_range,
        children: None,
    }
}
