//! From an evaluated block to a configuration struct.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use karat_hcl::diag::{Diagnostic, Diagnostics, Span};
use karat_value::{Type, Value, convert};

use crate::body::Body;
use crate::duration::Duration;
use crate::schema::{OptionType, Schema};

/// A struct that is a component's configuration. Derived.
pub trait Config: Sized {
    /// The options.
    fn schema() -> Schema;

    /// Reads the options; what is wrong goes to the decoder. `None` if anything was.
    fn decode(decoder: &mut Decoder<'_>) -> Option<Self>;
}

/// What a field of a configuration may be.
pub trait OptionValue: Sized {
    /// The type of the attribute.
    fn ty() -> Type;

    /// Reads a known value that is not null and was converted to [`OptionValue::ty`].
    ///
    /// # Errors
    /// What is wrong with it, a whole sentence.
    fn from_value(value: &Value) -> Result<Self, String>;

    /// Stands for a value that is not known yet.
    fn placeholder() -> Self;

    /// What an absent option is, if the type says so by itself.
    fn absent() -> Option<Self> {
        None
    }
}

/// Reads the options of one block and collects what is wrong with them.
#[derive(Debug)]
pub struct Decoder<'a> {
    body: &'a Body,
    component: String,
    diags: Diagnostics,
    unknown: BTreeSet<String>,
}

impl<'a> Decoder<'a> {
    /// A decoder of `body`; `component` names the block in messages.
    pub fn new(body: &'a Body, component: &str) -> Self {
        Self {
            body,
            component: component.to_owned(),
            diags: Diagnostics::new(),
            unknown: BTreeSet::new(),
        }
    }

    /// Reports names that `schema` does not have, and gives all that was found wrong and the
    /// options whose values are not known yet.
    pub fn finish(mut self, schema: &Schema) -> (Diagnostics, BTreeSet<String>) {
        let body = self.body;
        for (name, attribute) in &body.attributes {
            match schema.option(name) {
                None => self.unexpected("argument", name, attribute.name_span, schema),
                Some(option) => {
                    if let Some(why) = &option.deprecated {
                        let warning = Diagnostic::warning("Deprecated argument")
                            .at(attribute.name_span)
                            .detail(format!("\"{name}\" should no longer be used: {why}"));
                        self.diags.push(warning);
                    }
                }
            }
        }
        for block in &body.blocks {
            match schema.option(&block.name).map(|o| &o.ty) {
                Some(OptionType::Block(_) | OptionType::Blocks(_)) => {}
                Some(OptionType::Attribute(ty)) => self.diags.push(
                    Diagnostic::error("Unsupported block type")
                        .at(block.name_span)
                        .detail(format!(
                            "\"{}\" of {} is an argument of type {ty}, not a block.",
                            block.name, self.component
                        ))
                        .hint(format!("Write \"{} = …\" to set it.", block.name)),
                ),
                None => self.unexpected("block type", &block.name, block.name_span, schema),
            }
        }
        (self.diags, self.unknown)
    }

    fn unexpected(&mut self, what: &str, name: &str, span: Span, schema: &Schema) {
        let names = schema.options.iter().map(|o| o.name.as_str());
        self.diags.push(
            Diagnostic::error(format!("Unsupported {what}"))
                .at(span)
                .detail(format!("{} has no option \"{name}\".", self.component))
                .did_you_mean(name, names),
        );
    }

    /// Reads an attribute.
    pub fn attribute<T: OptionValue>(
        &mut self,
        name: &str,
        aliases: &[&str],
        required: bool,
        default: Option<&str>,
    ) -> Option<T> {
        let found = std::iter::once(&name)
            .chain(aliases)
            .find_map(|n| self.body.attributes.get(*n).filter(|a| !a.value.is_null()));
        let Some(attribute) = found else {
            if self.body.blocks.iter().any(|b| b.name == name) {
                return None; // `finish` reports it.
            }
            return self.absent(name, required, default);
        };
        let (span, value) = (attribute.value_span, attribute.value.clone().unmark_deep().0);
        if !value.is_wholly_known() {
            return self.not_known(name, span, &value);
        }
        let result = convert(&value, &T::ty()).map_err(|e| sentence(&e.to_string()));
        match result.and_then(|v| T::from_value(&v)) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.wrong_value(name, span, reason);
                None
            }
        }
    }

    /// Even a value that is not known yet has a type, which can be wrong already.
    fn not_known<T: OptionValue>(&mut self, name: &str, span: Span, value: &Value) -> Option<T> {
        if let Err(error) = convert(value, &T::ty()) {
            self.wrong_value(name, span, sentence(&error.to_string()));
            return None;
        }
        self.unknown.insert(name.to_owned());
        Some(T::placeholder())
    }

    fn wrong_value(&mut self, name: &str, span: Span, reason: String) {
        self.diags.push(
            Diagnostic::error("Incorrect attribute value").at(span).detail(format!(
                "Inappropriate value for \"{name}\" of {}: {reason}",
                self.component
            )),
        );
    }

    fn absent<T: OptionValue>(
        &mut self,
        name: &str,
        required: bool,
        default: Option<&str>,
    ) -> Option<T> {
        if required {
            self.missing("argument", name);
            return None;
        }
        if let Some(default) = default {
            return Some(from_default(name, default));
        }
        Some(T::absent().expect("the derive asks for a default where a type has no absent value"))
    }

    fn missing(&mut self, what: &str, name: &str) {
        self.diags.push(
            Diagnostic::error(format!("Missing required {what}"))
                .at(self.body.span)
                .detail(format!("{} needs the {what} \"{name}\".", self.component)),
        );
    }

    /// Reads a nested block that may stand once; a map or object attribute is taken as well.
    pub fn block<T: Config>(&mut self, name: &str, required: bool) -> Option<Option<T>> {
        let bodies = self.bodies(name)?;
        if let Some((_, second)) = bodies.get(1).map(|b| (&b.0, b.1)) {
            self.diags.push(
                Diagnostic::error("Duplicate block")
                    .at(second)
                    .also(bodies[0].1, "first given here")
                    .detail(format!("{} takes one \"{name}\" block at most.", self.component)),
            );
            return None;
        }
        match bodies.into_iter().next() {
            Some((body, _)) => self.nested(name, &body).map(Some),
            None if required => {
                self.missing("block", name);
                None
            }
            None => Some(None),
        }
    }

    /// Reads nested blocks that may repeat; a list of objects is taken as well.
    pub fn blocks<T: Config>(&mut self, name: &str, required: bool) -> Option<Vec<T>> {
        let bodies = self.bodies(name)?;
        if bodies.is_empty() && required {
            self.missing("block", name);
            return None;
        }
        let read: Vec<Option<T>> = bodies.iter().map(|(body, _)| self.nested(name, body)).collect();
        read.into_iter().collect()
    }

    fn nested<T: Config>(&mut self, name: &str, body: &Body) -> Option<T> {
        let mut inner = Decoder::new(body, &format!("\"{name}\" of {}", self.component));
        let config = T::decode(&mut inner);
        let (diags, unknown) = inner.finish(&T::schema());
        let failed = diags.has_errors();
        self.diags.append(diags);
        if !unknown.is_empty() {
            self.unknown.insert(name.to_owned());
        }
        if failed { None } else { config }
    }

    /// The bodies of the blocks `name`, or of the objects that an attribute of this name holds.
    fn bodies(&mut self, name: &str) -> Option<Vec<(Body, Span)>> {
        let mut bodies: Vec<(Body, Span)> =
            self.body.blocks_of(name).map(|b| (b.body.clone(), b.name_span)).collect();
        let Some(attribute) = self.body.attributes.get(name).filter(|a| !a.value.is_null()) else {
            return Some(bodies);
        };
        let span = attribute.value_span;
        let value = attribute.value.clone().unmark_deep().0;
        if !value.is_known() {
            self.unknown.insert(name.to_owned());
            return Some(bodies);
        }
        let items = match value.as_slice() {
            Some(items) => items.to_vec(),
            None => vec![value],
        };
        for item in items {
            let Some(map) = item.as_map() else {
                self.wrong_value(name, span, "A block is expected here, or an object.".into());
                return None;
            };
            let mut body = Body::new(span);
            for (key, value) in map {
                body.set(&**key, span, value.clone());
            }
            bodies.push((body, span));
        }
        Some(bodies)
    }
}

fn sentence(text: &str) -> String {
    if text.ends_with(['.', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

/// Defaults are written in the source of the program: one that does not fit is a bug in it.
fn from_default<T: OptionValue>(name: &str, default: &str) -> T {
    let json: serde_json::Value =
        serde_json::from_str(default).unwrap_or_else(|e| panic!("default of \"{name}\": {e}"));
    let value = karat_value::json::from_json(&json);
    convert(&value, &T::ty())
        .map_err(|e| e.to_string())
        .and_then(|v| T::from_value(&v))
        .unwrap_or_else(|e| panic!("default of \"{name}\": {e}"))
}

impl OptionValue for String {
    fn ty() -> Type {
        Type::String
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| "a string is required.".into())
    }

    fn placeholder() -> Self {
        "unknown".into()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

impl OptionValue for bool {
    fn ty() -> Type {
        Type::Bool
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "a bool is required.".into())
    }

    fn placeholder() -> Self {
        false
    }

    fn absent() -> Option<Self> {
        Some(false)
    }
}

impl OptionValue for Value {
    fn ty() -> Type {
        Type::Dynamic
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        Ok(value.clone())
    }

    fn placeholder() -> Self {
        Self::dynamic()
    }

    fn absent() -> Option<Self> {
        Some(Self::untyped_null())
    }
}

impl OptionValue for Duration {
    fn ty() -> Type {
        Type::String
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        String::from_value(value)?
            .parse()
            .map_err(|e: crate::DurationError| sentence(&e.to_string()))
    }

    fn placeholder() -> Self {
        Self::default()
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

macro_rules! integer {
    ($($ty:ty),*) => {$(
        impl OptionValue for $ty {
            fn ty() -> Type {
                Type::Number
            }

            fn from_value(value: &Value) -> Result<Self, String> {
                let number = value.as_number().ok_or("a number is required.")?;
                number.to_i64().and_then(|n| <$ty>::try_from(n).ok()).ok_or_else(|| {
                    format!(
                        "{number} is not a whole number between {} and {}.",
                        <$ty>::MIN,
                        <$ty>::MAX
                    )
                })
            }

            fn placeholder() -> Self {
                1
            }

            fn absent() -> Option<Self> {
                Some(0)
            }
        }
    )*};
}

integer!(u8, u16, u32, u64, i32, i64);

impl<T: OptionValue> OptionValue for Option<T> {
    fn ty() -> Type {
        T::ty()
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        T::from_value(value).map(Some)
    }

    fn placeholder() -> Self {
        Some(T::placeholder())
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: OptionValue> OptionValue for Vec<T> {
    fn ty() -> Type {
        Type::list(T::ty())
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        let items = value.as_slice().ok_or("a list is required.")?;
        items
            .iter()
            .enumerate()
            .map(|(i, item)| {
                if item.is_null() {
                    return Err(format!("element {i} is null."));
                }
                T::from_value(item).map_err(|e| format!("element {i}: {e}"))
            })
            .collect()
    }

    fn placeholder() -> Self {
        vec![T::placeholder()]
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

fn entries<T: OptionValue>(value: &Value) -> Result<Vec<(String, T)>, String> {
    let map = value.as_map().ok_or("a map is required.")?;
    map.iter()
        .filter(|(_, item)| !item.is_null())
        .map(|(key, item)| {
            let read = T::from_value(item).map_err(|e| format!("\"{key}\": {e}"))?;
            Ok((key.to_string(), read))
        })
        .collect()
}

impl<T: OptionValue> OptionValue for BTreeMap<String, T> {
    fn ty() -> Type {
        Type::map(T::ty())
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        Ok(entries(value)?.into_iter().collect())
    }

    fn placeholder() -> Self {
        Self::new()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

impl<T: OptionValue> OptionValue for IndexMap<String, T> {
    fn ty() -> Type {
        Type::map(T::ty())
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        Ok(entries(value)?.into_iter().collect())
    }

    fn placeholder() -> Self {
        Self::new()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

#[cfg(test)]
mod tests {
    use karat_hcl::diag::SourceId;

    use super::*;
    use crate::OptionKind;

    /// A person who may log in.
    #[derive(Debug, PartialEq, crate::Config)]
    struct User {
        /// The login name.
        #[option(required)]
        name: String,
    }

    /// Runs scripts.
    #[derive(Debug, PartialEq, crate::Config)]
    struct Script {
        /// Lines.
        inline: Vec<String>,
        /// How long to wait.
        #[option(default = "5m", alias = "wait_timeout", volatile)]
        timeout: Duration,
        /// The port.
        #[option(default = 22)]
        port: u16,
        /// Who may log in.
        #[option(blocks)]
        user: Vec<User>,
        /// A file.
        #[option(input)]
        script: Option<String>,
    }

    fn span() -> Span {
        Span::new(SourceId(0), 0..1)
    }

    fn decode(body: &Body) -> (Option<Script>, Vec<String>, BTreeSet<String>) {
        let mut decoder = Decoder::new(body, "shell");
        let config = Script::decode(&mut decoder);
        let (diags, unknown) = decoder.finish(&Script::schema());
        let texts = diags.iter().map(|d| format!("{}: {} {:?}", d.summary, d.detail, d.hints));
        (config, texts.collect(), unknown)
    }

    #[test]
    fn the_schema_comes_from_the_struct() {
        let schema = Script::schema();
        assert_eq!(schema.doc, "Runs scripts.");
        let timeout = schema.option("wait_timeout").unwrap();
        assert_eq!((timeout.name.as_str(), timeout.kind), ("timeout", OptionKind::Volatile));
        assert_eq!(timeout.default.as_deref(), Some("\"5m\""));
        assert_eq!(schema.option("inline").unwrap().type_name(), "list(string)");
        assert_eq!(schema.option("user").unwrap().type_name(), "blocks");
    }

    #[test]
    fn values_are_converted_and_defaults_taken() {
        let mut body = Body::new(span());
        body.set("port", span(), Value::string("2222"));
        body.set("inline", span(), Value::tuple(vec![Value::string("a"), Value::number(1)]));
        body.set("user", span(), Value::object_of([("name", Value::string("admin"))]));
        let (config, errors, _) = decode(&body);
        assert_eq!(errors, [] as [&str; 0]);
        let config = config.unwrap();
        assert_eq!((config.port, config.inline), (2222, vec!["a".to_owned(), "1".to_owned()]));
        assert_eq!(config.timeout, "5m".parse().unwrap());
        assert_eq!(config.user, [User { name: "admin".into() }]);
        assert_eq!(config.script, None);
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let mut body = Body::new(span());
        body.set("prot", span(), Value::number(1));
        body.set("port", span(), Value::number(70000));
        body.set("timeout", span(), Value::string("soon"));
        body.set("user", span(), Value::object_of::<&str>([]));
        let (config, errors, _) = decode(&body);
        assert_eq!(config, None);
        let all = errors.join("\n");
        for part in [
            "70000 is not a whole number between 0 and 65535.",
            "\"soon\" is not a duration",
            "shell has no option \"prot\". [\"Did you mean \\\"port\\\"?\"]",
            "\"user\" of shell needs the argument \"name\"",
        ] {
            assert!(all.contains(part), "{part} is not in\n{all}");
        }
    }

    #[test]
    fn what_is_not_known_yet_is_no_error_unless_its_type_is_wrong() {
        let mut body = Body::new(span());
        body.set("script", span(), Value::unknown(Type::String));
        body.set("port", span(), Value::unknown(Type::list(Type::String)));
        let (config, errors, unknown) = decode(&body);
        assert_eq!(config, None);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(unknown, BTreeSet::from(["script".to_owned()]));
    }
}
