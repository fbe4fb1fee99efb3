//! `hcp_packer_registry` in a build: where its artifacts would be registered.
//!
//! Nothing is registered; what is written there is checked all the same, so that a mistake is not
//! found out by whoever goes back to a registry.

use karat_eval::{Functions, Scope, evaluate_as};
use karat_hcl::ast::{Attribute, Block};
use karat_hcl::diag::{Diagnostic, Diagnostics};
use karat_hcl::schema::Schema;
use karat_value::{Type, Value};

/// The greatest length of a description, in bytes.
const DESCRIPTION: usize = 255;

/// Takes a block, if it is the first one.
pub(crate) fn add(place: &mut Option<Block>, block: &Block, diags: &mut Diagnostics) {
    match place {
        Some(first) => diags.push(
            Diagnostic::error("Only one hcp_packer_registry is allowed")
                .at(block.header)
                .also(first.header, "first one here"),
        ),
        None => *place = Some(block.clone()),
    }
}

/// Checks the options of such a block. Labels tell of the pipeline that builds, so `env` may be
/// called here.
pub(crate) fn check(block: &Block, scope: &Scope<'_>, diags: &mut Diagnostics) {
    let environment = scope.environment().clone().with_functions(Functions::All);
    let scope = &scope.with(&environment);
    let labels = || Type::map(Type::String);
    let options = [
        ("bucket_name", Type::String),
        ("description", Type::String),
        ("labels", labels()),
        ("bucket_labels", labels()),
        ("build_labels", labels()),
        ("channels", Type::list(Type::String)),
    ];
    let schema = options.iter().fold(Schema::new(), |schema, (name, _)| schema.optional(*name));
    let (content, _) = block.body.partial_content(&schema, diags);
    for (name, ty) in &options {
        let Some(attribute) = content.attributes.get(*name) else { continue };
        let (value, found) = evaluate_as(&attribute.expr, ty, scope);
        diags.append(found);
        let wrong = value.unmark_deep().0.as_str().and_then(|text| complaint(name, text));
        diags.extend(wrong.map(|diagnostic| diagnostic.at(attribute.expr.span)));
    }
    let (old, new) = (content.attributes.get("labels"), content.attributes.get("bucket_labels"));
    if let (Some(old), Some(new)) = (old, new)
        && [old, new].into_iter().all(|attribute| is_filled(attribute, scope))
    {
        diags.push(
            Diagnostic::error("Labels given twice")
                .at(old.expr.span)
                .also(new.expr.span, "given here, too")
                .detail("\"labels\" is an older name of \"bucket_labels\".")
                .hint("Write all of them into bucket_labels."),
        );
    }
}

/// What is wrong with the text of an option.
fn complaint(option: &str, text: &str) -> Option<Diagnostic> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match option {
        "bucket_name" if text.is_empty() => None,
        "bucket_name" if (3..=36).contains(&text.len()) && text.chars().all(fits) => None,
        "bucket_name" => Some(
            Diagnostic::error("Invalid bucket_name")
                .detail(format!("\"{text}\" cannot be the name of a bucket."))
                .hint("A bucket's name has 3 to 36 letters, digits and dashes."),
        ),
        "description" if text.len() > DESCRIPTION => Some(
            Diagnostic::error("Description too long")
                .detail(format!("The description has {} bytes.", text.len()))
                .hint(format!("A bucket's description has at most {DESCRIPTION} bytes.")),
        ),
        _ => None,
    }
}

fn is_filled(attribute: &Attribute, scope: &Scope<'_>) -> bool {
    let (value, _) = evaluate_as(&attribute.expr, &Type::map(Type::String), scope);
    let value: Value = value.unmark_deep().0;
    value.as_map().is_some_and(|map| !map.is_empty())
}
