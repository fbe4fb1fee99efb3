//! A JSON schema of templates in JSON syntax, for editors that know such schemas.
//!
//! In JSON syntax the labels of a block are members, several blocks of a kind a list, and every
//! text may be an expression: `"${var.size}"`. So wherever a value may stand, a text may.

use karat_config::{ComponentKind, OptionSchema, OptionType, Schema};
use karat_value::Type;
use serde_json::{Map, Value as Json, json};

use crate::catalog::Catalog;
use crate::language;

/// The schema of a `.pkr.json` file, in draft 7, which all editors know.
pub fn json_schema(catalog: &Catalog) -> Json {
    let mut writer = Writer { catalog, definitions: Map::new() };
    let mut properties = Map::new();
    for option in language::file().options {
        let name = option.name.as_str();
        let shape = match name {
            "variables" | "locals" => repeated(json!({ "type": "object" })),
            "variable" | "local" => named(writer.block(name, &language(None, name), &[])),
            "source" => writer.components(ComponentKind::Source, name, &Schema::default(), true),
            "data" => writer.components(ComponentKind::DataSource, name, &Schema::default(), true),
            "build" => repeated(writer.build()),
            "packer" => repeated(writer.packer()),
            _ => repeated(writer.block(name, &language(None, name), &[])),
        };
        properties.insert(option.name.clone(), described(shape, &option.doc));
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Packer template in JSON syntax",
        "type": "object",
        "properties": properties,
        "patternProperties": comments(),
        "additionalProperties": false,
        "definitions": writer.definitions,
    })
}

fn language(parent: Option<&str>, name: &str) -> Schema {
    language::block(parent, name).unwrap_or_default()
}

/// Members that are no part of the template.
fn comments() -> Json {
    json!({ "^//": {} })
}

fn described(mut shape: Json, doc: &str) -> Json {
    if let Json::Object(shape) = &mut shape
        && !doc.is_empty()
    {
        shape.insert("description".into(), doc.into());
    }
    shape
}

/// One, or a list of them.
fn repeated(one: Json) -> Json {
    json!({ "anyOf": [one, { "type": "array", "items": one }] })
}

/// Under a label of one's own.
fn named(one: Json) -> Json {
    repeated(json!({
        "type": "object",
        "patternProperties": comments(),
        "additionalProperties": repeated(one),
    }))
}

/// Writes each kind of block once; other places refer to it.
struct Writer<'a> {
    catalog: &'a Catalog,
    definitions: Map<String, Json>,
}

impl Writer<'_> {
    fn define(&mut self, place: &str, shape: Json) -> Json {
        self.definitions.insert(place.to_owned(), shape);
        json!({ "$ref": format!("#/definitions/{place}") })
    }

    /// Under the type of a component; with `has_name` under a name as well.
    fn components(
        &mut self,
        kind: ComponentKind,
        place: &str,
        common: &Schema,
        has_name: bool,
    ) -> Json {
        let mut types = Map::new();
        for component in self.catalog.types(kind) {
            let mut schema = common.clone();
            schema.extend(component.schema.clone());
            // What a source lacks may stand where a build refers to it.
            let required: Vec<&str> = schema
                .options
                .iter()
                .filter(|o| o.required && o.aliases.is_empty() && kind != ComponentKind::Source)
                .filter(|o| matches!(o.ty, OptionType::Attribute(_)))
                .map(|o| o.name.as_str())
                .collect();
            let one = self.block(&format!("{place}.{}", component.name), &schema, &required);
            let shape = if has_name { named(one) } else { repeated(one) };
            types.insert(component.name.clone(), described(shape, &component.schema.doc));
        }
        let all = json!({
            "type": "object",
            "properties": types,
            "patternProperties": comments(),
        });
        let all = self.define(place, all);
        repeated(all)
    }

    fn packer(&mut self) -> Json {
        let plugin = json!({
            "type": "object",
            "properties": { "version": { "type": "string" }, "source": { "type": "string" } },
            "required": ["source", "version"],
            "additionalProperties": false,
        });
        let shape = self.block("packer", &language(None, "packer"), &[]);
        self.definitions["packer"]["properties"]["required_plugins"] = repeated(json!({
            "type": "object",
            "patternProperties": comments(),
            "additionalProperties": plugin,
        }));
        shape
    }

    fn build(&mut self) -> Json {
        let schema = language(None, "build");
        let shape = self.block("build", &schema, &[]);
        let common = |name: &str| language(Some("build"), name);
        let name = "provisioner";
        let provisioner = self.components(ComponentKind::Provisioner, name, &common(name), false);
        let name = "post-processor";
        let post = self.components(ComponentKind::PostProcessor, name, &common(name), false);
        let source = json!({ "type": "object" });
        let chain = json!({
            "type": "object",
            "properties": { "post-processor": post },
            "patternProperties": comments(),
            "additionalProperties": false,
        });
        let sources = json!({ "type": "object", "additionalProperties": repeated(source) });
        for (name, inner) in [
            ("source", repeated(sources)),
            ("provisioner", provisioner.clone()),
            ("error-cleanup-provisioner", provisioner),
            ("post-processor", post),
            ("post-processors", repeated(chain)),
        ] {
            let doc = schema.option(name).map(|o| o.doc.as_str()).unwrap_or_default();
            self.definitions["build"]["properties"][name] = described(inner, doc);
        }
        shape
    }

    /// The inside of a block.
    fn block(&mut self, place: &str, schema: &Schema, required: &[&str]) -> Json {
        let mut properties = Map::new();
        for option in &schema.options {
            let shape = self.value(place, option);
            for name in std::iter::once(&option.name).chain(&option.aliases) {
                properties.insert(name.clone(), shape.clone());
            }
        }
        // Blocks may be made by `dynamic`.
        properties.insert("dynamic".into(), json!({}));
        let shape = json!({
            "type": "object",
            "properties": properties,
            "patternProperties": comments(),
            "additionalProperties": false,
            "required": required,
        });
        self.define(place, shape)
    }

    fn value(&mut self, place: &str, option: &OptionSchema) -> Json {
        let shape = match &option.ty {
            OptionType::Attribute(ty) => of_type(ty),
            OptionType::Block(inner) | OptionType::Blocks(inner) if inner.options.is_empty() => {
                repeated(json!({ "type": "object" }))
            }
            OptionType::Block(inner) | OptionType::Blocks(inner) => {
                repeated(self.block(&format!("{place}.{}", option.name), inner, &[]))
            }
        };
        let mut shape = described(shape, &option.doc);
        if option.deprecated.is_some() {
            shape["deprecated"] = true.into();
        }
        let default = option.default.as_ref().and_then(|d| serde_json::from_str::<Json>(d).ok());
        if let Some(default) = default {
            shape["default"] = default;
        }
        shape
    }
}

/// A value of a type, or a text that gives one.
fn of_type(ty: &Type) -> Json {
    let text = json!({ "type": ["string", "null"] });
    match ty {
        Type::Dynamic => json!({}),
        // Numbers and bools are made text.
        Type::String => json!({ "type": ["string", "number", "boolean", "null"] }),
        Type::Number => json!({ "type": ["number", "string", "null"] }),
        Type::Bool => json!({ "type": ["boolean", "string", "null"] }),
        Type::List(element) | Type::Set(element) => {
            json!({ "anyOf": [{ "type": "array", "items": of_type(element) }, text] })
        }
        Type::Map(element) => json!({
            "anyOf": [{ "type": "object", "additionalProperties": of_type(element) }, text]
        }),
        Type::Object(object) => {
            let properties: Map<String, Json> =
                object.attrs.iter().map(|(name, ty)| (name.to_string(), of_type(ty))).collect();
            json!({ "anyOf": [{ "type": "object", "properties": properties }, text] })
        }
        Type::Tuple(_) => json!({ "anyOf": [{ "type": "array" }, text] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Component;

    fn option(name: &str, ty: OptionType, required: bool) -> OptionSchema {
        OptionSchema {
            name: name.to_owned(),
            aliases: Vec::new(),
            doc: format!("The {name}."),
            ty,
            required,
            default: Some("3".to_owned()),
            kind: karat_config::OptionKind::Plain,
            deprecated: None,
        }
    }

    #[test]
    fn options_of_components_are_in_their_places() {
        let inner = Schema {
            options: vec![option("size", OptionType::Attribute(Type::Number), false)],
            ..Schema::default()
        };
        let schema = Schema {
            doc: "Runs things.".into(),
            options: vec![
                option("inline", OptionType::Attribute(Type::list(Type::String)), true),
                option("disk", OptionType::Blocks(inner), false),
            ],
            ..Schema::default()
        };
        let component = |kind| Component {
            kind,
            name: "shell".into(),
            schema: schema.clone(),
            outputs: Vec::new(),
        };
        let catalog = Catalog {
            components: vec![
                component(ComponentKind::Provisioner),
                component(ComponentKind::Source),
            ],
            ..Catalog::default()
        };
        let all = json_schema(&catalog);
        let defined = |name: &str| &all["definitions"][name];
        let build = &all["properties"]["build"]["anyOf"][0];
        assert_eq!(build["$ref"], "#/definitions/build");
        let provisioner = &defined("build")["properties"]["provisioner"]["anyOf"][0];
        assert_eq!(provisioner["$ref"], "#/definitions/provisioner");
        let shell = &defined("provisioner")["properties"]["shell"];
        assert_eq!(shell["description"], "Runs things.");
        assert_eq!(shell["anyOf"][1]["items"]["$ref"], "#/definitions/provisioner.shell");
        let shell = defined("provisioner.shell");
        assert_eq!(shell["required"], json!(["inline"]));
        assert_eq!(shell["additionalProperties"], false);
        assert_eq!(shell["properties"]["inline"]["anyOf"][0]["type"], "array");
        assert_eq!(shell["properties"]["inline"]["default"], 3);
        assert!(shell["properties"]["max_retries"].is_object());
        let disk = &defined("provisioner.shell.disk")["properties"];
        assert_eq!(disk["size"]["type"], json!(["number", "string", "null"]));
        let source = defined("source.shell");
        assert_eq!(source["required"], json!([]));
        assert!(source["properties"]["max_retries"].is_null());
    }
}
