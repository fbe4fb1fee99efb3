//! `{{ }}` in text options.

use std::collections::BTreeMap;
use std::sync::Arc;

use karat_config::{Body, OptionKind, OptionType, Schema};
use karat_functions::World;
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_text::{Engine, Place};
use karat_value::{Type, Value};

use crate::evaluate::BUILD_NAMES;
use crate::legacy::Machine;

/// What `{{ }}` in text options is rendered with.
#[derive(Clone, Debug, Default)]
pub struct TextContext {
    /// The name that the source is declared by.
    pub build_name: String,
    /// The builder's type.
    pub build_type: String,
    /// The template's folder, as the user named it.
    pub template_dir: String,
    /// Values of the machine that the builder gives beyond the common ones.
    pub promised: Vec<String>,
}

/// Renders all text of a body but that of late options, which their component renders itself.
pub(crate) fn render(
    body: &mut Body,
    schema: &Schema,
    context: &TextContext,
    world: &dyn World,
    machine: Machine<'_>,
    diags: &mut Diagnostics,
) {
    let TextContext { build_name, build_type, template_dir, promised } = context;
    let mut engine = Engine::new(world, build_name, build_type, template_dir);
    engine.packer_version = crate::PACKER_VERSION.to_owned();
    engine.names = schema.names;
    if let Machine::Known(generated) = machine {
        engine.build = generated_texts(generated);
    }
    let promised = matches!(machine, Machine::Later).then_some(promised.as_slice());
    render_body(body, schema, &Renderer { engine, promised }, diags);
}

/// Renders all text of a data source's body, where there is no build yet.
pub(crate) fn render_data(
    body: &mut Body,
    schema: &Schema,
    world: &dyn World,
    diags: &mut Diagnostics,
) {
    let mut engine = Engine::new(world, "", "", "");
    engine.place = Place::Data;
    render_body(body, schema, &Renderer { engine, promised: None }, diags);
}

/// Whether a text can be rendered once the machine is there, which has the common values and those
/// that are promised.
///
/// # Errors
/// Why it cannot.
pub(crate) fn check_for_later(
    engine: &Engine,
    text: &str,
    promised: &[String],
) -> Result<(), String> {
    let mut engine = engine.clone();
    loop {
        let Err(reason) = engine.render(text, []) else { return Ok(()) };
        let missing = reason.split_once("the machine has no \"").and_then(|r| r.1.split_once('"'));
        let name = missing.map(|(name, _)| name.to_owned());
        match name {
            Some(name) if BUILD_NAMES.contains(&&*name) || promised.contains(&name) => {
                engine.build.push((name, String::new()));
            }
            // What a function makes of a value is known with the value.
            None if !engine.build.is_empty() => return Ok(()),
            _ => return Err(reason),
        }
    }
}

/// The values of the machine as texts, as `{{ build }}` gives them.
pub(crate) fn generated_texts(generated: &BTreeMap<String, Value>) -> Vec<(String, String)> {
    let mut all: BTreeMap<&str, String> =
        BUILD_NAMES.iter().map(|name| (*name, "<unknown>".to_owned())).collect();
    for (name, value) in generated {
        let value = value.clone().unmark_deep().0;
        if let Ok(text) = karat_value::convert(&value, &Type::String)
            && let Some(text) = text.as_str()
        {
            all.insert(name, text.to_owned());
        }
    }
    all.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
}

struct Renderer<'a> {
    engine: Engine,
    /// What is promised of a machine that is made later.
    promised: Option<&'a [String]>,
}

fn render_body(body: &mut Body, schema: &Schema, engine: &Renderer<'_>, diags: &mut Diagnostics) {
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
    renderer: &Renderer<'_>,
    diags: &mut Diagnostics,
) -> Option<Value> {
    let mut found = false;
    let rendered = value.map_leaves(&mut |leaf| {
        let Some(text) = leaf.as_str().filter(|text| text.contains("{{")) else {
            return leaf.clone();
        };
        found = true;
        let rendered = renderer.engine.render(text, []);
        let rendered = match (rendered, renderer.promised) {
            (Err(_), Some(promised)) => match check_for_later(&renderer.engine, text, promised) {
                Ok(()) => return Value::unknown(Type::String).with_marks(leaf.marks()),
                Err(reason) => Err(reason),
            },
            (rendered, _) => rendered,
        };
        match rendered {
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
