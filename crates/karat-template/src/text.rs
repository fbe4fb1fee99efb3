//! `{{ }}` in text options.

use std::sync::Arc;

use karat_config::{Body, OptionKind, OptionType, Schema};
use karat_functions::World;
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_text::Engine;
use karat_value::Value;

/// What `{{ }}` in text options is rendered with.
#[derive(Clone, Debug, Default)]
pub struct TextContext {
    /// The name that the source is declared by.
    pub build_name: String,
    /// The builder's type.
    pub build_type: String,
    /// The template's folder, as the user named it.
    pub template_dir: String,
}

/// Renders all text of a body but that of late options, which their component renders itself.
pub(crate) fn render(
    body: &mut Body,
    schema: &Schema,
    context: &TextContext,
    world: &dyn World,
    diags: &mut Diagnostics,
) {
    let TextContext { build_name, build_type, template_dir } = context;
    let mut engine = Engine::new(world, build_name, build_type, template_dir);
    engine.packer_version = crate::PACKER_VERSION.to_owned();
    render_body(body, schema, &engine, diags);
}

fn render_body(body: &mut Body, schema: &Schema, engine: &Engine, diags: &mut Diagnostics) {
    for (name, attribute) in &mut body.attributes {
        let option = schema.option(name);
        if option.is_some_and(|o| o.kind == OptionKind::Late) {
            continue;
        }
        if let Some(value) = render_value(&attribute.value, attribute.value_span, engine, diags) {
            attribute.value = value;
        }
    }
    for block in &mut body.blocks {
        match schema.option(&block.name).map(|o| &o.ty) {
            Some(OptionType::Block(inner) | OptionType::Blocks(inner)) => {
                render_body(&mut block.body, inner, engine, diags);
            }
            _ => render_body(&mut block.body, &Schema::default(), engine, diags),
        }
    }
}

/// `None` where there is nothing to render, which is nearly always.
fn render_value(
    value: &Value,
    span: Span,
    engine: &Engine,
    diags: &mut Diagnostics,
) -> Option<Value> {
    let mut found = false;
    let rendered = value.map_leaves(&mut |leaf| {
        let Some(text) = leaf.as_str().filter(|text| text.contains("{{")) else {
            return leaf.clone();
        };
        found = true;
        match engine.render(text, []) {
            Ok(text) => Value::string(Arc::<str>::from(text)).with_marks(leaf.marks()),
            Err(reason) => {
                diags.push(
                    Diagnostic::error("Error in a {{ }} template")
                        .at(span)
                        .detail(format!("\"{text}\" cannot be rendered: {reason}.")),
                );
                leaf.clone()
            }
        }
    });
    found.then_some(rendered)
}
