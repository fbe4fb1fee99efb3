//! A component's JSON to its evaluated body: `{{ }}` rendered, values converted leniently.

use std::collections::BTreeMap;
use std::sync::Arc;

use karat_config::{Attribute, Block, Body, OptionKind, OptionSchema, OptionType, Schema};
use karat_functions::World;
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_hcl::json_text::{Member, Text, Value as Source, ValueKind};
use karat_text::{Engine, Place, insert_user_variables};
use karat_value::{Mark, Type, Value};

use super::Legacy;
use super::weak::Json;
use crate::text::{TextContext, check_for_later, generated_texts};

/// The options of a component, and those that `override` sets for one builder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) members: Arc<[Member]>,
    pub(crate) overrides: Arc<[Member]>,
}

/// What is known of the machine that `{{ build }}` asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Machine<'a> {
    /// There is none where this text stands.
    None,
    /// It is made later: what is asked for is not known yet.
    Later,
    /// Its values.
    Known(&'a BTreeMap<String, Value>),
}

/// What options are read with.
pub(crate) struct Context<'a> {
    pub(crate) legacy: &'a Legacy,
    pub(crate) secrets: &'a [String],
    pub(crate) world: &'a dyn World,
    pub(crate) machine: Machine<'a>,
    pub(crate) text: TextContext,
    /// Whether a text that cannot be rendered is left as it stands.
    pub(crate) lenient: bool,
}

/// Reads the options of a component.
pub(crate) fn body(
    options: &Options,
    header: Span,
    schema: &Schema,
    cx: &Context<'_>,
    diags: &mut Diagnostics,
) -> Body {
    let TextContext { build_name, build_type, template_dir, .. } = &cx.text;
    let mut engine = Engine::new(cx.world, build_name, build_type, template_dir);
    engine.packer_version = crate::PACKER_VERSION.to_owned();
    engine.names = schema.names;
    engine.place = Place::Legacy(Arc::clone(&cx.legacy.variables));
    if let Machine::Known(generated) = cx.machine {
        engine.build = generated_texts(generated);
    }
    let mut reader = Reader { engine, cx, diags };
    let mut body = reader.body(&options.members, header, schema);
    if !options.overrides.is_empty() {
        let more = reader.body(&options.overrides, header, schema);
        replace(&mut body, more, schema);
    }
    body
}

/// Puts what `override` sets in place of what was there; maps are merged.
fn replace(body: &mut Body, more: Body, schema: &Schema) {
    for (name, mut attribute) in more.attributes {
        let is_map = |o: &OptionSchema| matches!(o.ty, OptionType::Attribute(Type::Map(_)));
        if schema.option(&name).is_some_and(is_map)
            && let Some(first) = body.attributes.get(&name)
            && let (Some(first), Some(second)) = (first.value.as_map(), attribute.value.as_map())
        {
            let mut all = first.clone();
            all.extend(second.clone());
            attribute.value = Value::object(all);
        }
        if !attribute.value.is_null() || !body.attributes.contains_key(&name) {
            body.attributes.insert(name, attribute);
        }
    }
    body.blocks.retain(|block| more.blocks.iter().all(|new| new.name != block.name));
    body.blocks.extend(more.blocks);
}

struct Reader<'a> {
    engine: Engine,
    cx: &'a Context<'a>,
    diags: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn body(&mut self, members: &[Member], span: Span, schema: &Schema) -> Body {
        let mut body = Body::new(span);
        for member in members {
            let given = member.name.text.as_str();
            // Of keys that differ in case alone, the one as the option is written is the option.
            let found = find(schema, given).filter(|(name, _)| {
                *name == given
                    || members.iter().all(|other| {
                        other.name.text != *name
                            && (other.name.span == member.name.span
                                || !same_key(&other.name.text, given))
                    })
            });
            // The program's own keys, which a template may hold as Packer wrote them down.
            if found.is_none() && (given == "type" || given.starts_with("packer_")) {
                continue;
            }
            let (name, option) = match found {
                Some((name, option)) => (name.to_owned(), Some(option)),
                None => (given.to_owned(), None),
            };
            match option.map(|o| &o.ty) {
                Some(OptionType::Block(inner) | OptionType::Blocks(inner)) => {
                    self.blocks(&mut body, &name, member, inner);
                }
                Some(OptionType::Attribute(ty)) => {
                    let late = option.is_some_and(|o| o.kind == OptionKind::Late);
                    let value = self.json(&member.value, late).to_type(ty);
                    self.set(&mut body, name, member, value);
                }
                None => {
                    let value = self.json(&member.value, true).plain();
                    self.set(&mut body, name, member, value);
                }
            }
        }
        body
    }

    fn set(&mut self, body: &mut Body, name: String, member: &Member, value: Value) {
        let (name_span, value_span) = (member.name.span, member.value.span);
        body.attributes.insert(name, Attribute { name_span, value_span, value });
    }

    fn blocks(&mut self, body: &mut Body, name: &str, member: &Member, schema: &Schema) {
        let one = std::slice::from_ref(&member.value);
        let parts = member.value.items().unwrap_or(one);
        if parts.iter().any(|part| part.members().is_none()) {
            // Who reads the option says what it has to be.
            let value = self.json(&member.value, true).plain();
            self.set(body, name.to_owned(), member, value);
            return;
        }
        for part in parts {
            let inner = self.body(part.members().unwrap_or_default(), part.span, schema);
            body.blocks.push(Block {
                name: name.to_owned(),
                name_span: member.name.span,
                labels: Vec::new(),
                body: inner,
            });
        }
    }

    fn json(&mut self, value: &Source, late: bool) -> Json {
        match &value.kind {
            ValueKind::Null | ValueKind::Broken => Json::Null,
            ValueKind::Bool(flag) => Json::Bool(*flag),
            ValueKind::Number(digits) => Json::Number(digits.clone()),
            ValueKind::String(text) => Json::Text(self.text(text, late)),
            ValueKind::Array(items) => {
                Json::Array(items.iter().map(|item| self.json(item, late)).collect())
            }
            ValueKind::Object(members) => {
                let pairs = members.iter().map(|member| {
                    let key = self.text(&member.name, late);
                    let key: Arc<str> = key.as_str().unwrap_or(&member.name.text).into();
                    (key, self.json(&member.value, late))
                });
                Json::Object(pairs.collect())
            }
        }
    }

    /// A text rendered: all of it or, where the component renders the rest, the user variables.
    fn text(&mut self, text: &Text, late: bool) -> Value {
        if !text.text.contains("{{") {
            return self.marked(text.text.as_str());
        }
        if late {
            let rendered = insert_user_variables(&text.text, &self.cx.legacy.variables);
            return self.marked(rendered);
        }
        match self.engine.render(&text.text, []) {
            Ok(rendered) => self.marked(rendered),
            Err(reason) => {
                if self.cx.lenient {
                    return self.marked(text.text.as_str());
                }
                let reason = match self.cx.machine {
                    Machine::Later => {
                        let promised = &self.cx.text.promised;
                        match check_for_later(&self.engine, &text.text, promised) {
                            Ok(()) => return Value::unknown(Type::String),
                            Err(reason) => reason,
                        }
                    }
                    Machine::None | Machine::Known(_) => reason,
                };
                self.diags.push(
                    Diagnostic::error("Error in a {{ }} template")
                        .at(text.span)
                        .detail(format!("\"{}\" cannot be rendered: {reason}.", text.text)),
                );
                self.marked(text.text.as_str())
            }
        }
    }

    /// A text, sensitive if it holds a secret.
    fn marked(&self, text: impl AsRef<str> + Into<Arc<str>>) -> Value {
        let secret = self.cx.secrets.iter().any(|secret| text.as_ref().contains(secret.as_str()));
        let value = Value::string(text);
        if secret { value.marked(Mark::Sensitive) } else { value }
    }
}

/// The option that a key names, whatever its case, and the name or alias that it has there.
fn find<'a>(schema: &'a Schema, given: &str) -> Option<(&'a str, &'a OptionSchema)> {
    let names = || {
        schema.options.iter().flat_map(|option| {
            let names = std::iter::once(&option.name).chain(&option.aliases);
            names.map(move |name| (name.as_str(), option))
        })
    };
    names()
        .find(|(name, _)| *name == given)
        .or_else(|| names().find(|(name, _)| same_key(name, given)))
}

/// Whether two keys differ in case at most, as Go folds it: the long s and the sign for kelvin are
/// letters of ASCII then.
fn same_key(one: &str, other: &str) -> bool {
    let fold = |text: &str| -> String {
        let plain = |c| match c {
            'ſ' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        };
        text.chars().map(plain).collect()
    };
    fold(one) == fold(other)
}
