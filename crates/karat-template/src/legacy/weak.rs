//! JSON values to the types that options have, as leniently as Packer: `"5"` for 5, one value for
//! a list of it, `"a,b"` for a list of two, `""` for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use karat_value::{Type, Value, json};

/// A JSON value whose texts are rendered.
#[derive(Clone, Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    /// May be unknown or marked.
    Text(Value),
    Array(Vec<Json>),
    Object(Vec<(Arc<str>, Json)>),
}

impl Json {
    /// As a value of the type, or as it is where the type does not allow it: who reads the option
    /// says so.
    pub(super) fn to_type(&self, want: &Type) -> Value {
        match (want, self) {
            (Type::String, Self::Number(digits)) => Value::string(plain_number(digits)),
            (Type::String, Self::Bool(flag)) => Value::string(if *flag { "1" } else { "0" }),
            (Type::Number, Self::Bool(flag)) => Value::number(i64::from(*flag)),
            (Type::Bool, Self::Number(digits)) => {
                Value::bool(digits.parse::<f64>().is_ok_and(|n| n != 0.0))
            }
            (Type::Bool, Self::Text(text)) => match text.as_str() {
                Some("") => Value::null(Type::Bool),
                Some("1" | "t" | "T" | "TRUE" | "true" | "True") => {
                    Value::bool(true).with_marks(text.marks())
                }
                Some("0" | "f" | "F" | "FALSE" | "false" | "False") => {
                    Value::bool(false).with_marks(text.marks())
                }
                _ => text.clone(),
            },
            (Type::Number, Self::Text(text)) if text.as_str() == Some("") => {
                Value::null(Type::Number)
            }
            (Type::List(of) | Type::Set(of), _) => self.to_list(of),
            (Type::Map(of), _) => self.to_map(of),
            _ => self.plain(),
        }
    }

    fn to_list(&self, of: &Type) -> Value {
        let items = match self {
            Self::Null => return Value::null(Type::list(of.clone())),
            Self::Array(items) => items.iter().map(|item| item.to_type(of)).collect(),
            Self::Object(members) if members.is_empty() => Vec::new(),
            Self::Text(text) => match text.as_str() {
                Some("") => Vec::new(),
                Some(parts) => parts
                    .split(',')
                    .map(|part| {
                        Self::Text(Value::string(part).with_marks(text.marks())).to_type(of)
                    })
                    .collect(),
                None => return Value::dynamic(),
            },
            one => vec![one.to_type(of)],
        };
        Value::tuple(items)
    }

    fn to_map(&self, of: &Type) -> Value {
        let one = std::slice::from_ref(self);
        let parts = match self {
            Self::Array(parts) => parts.as_slice(),
            _ => one,
        };
        let mut all: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        for part in parts {
            let Self::Object(members) = part else { return self.plain() };
            all.extend(members.iter().map(|(key, value)| (Arc::clone(key), value.to_type(of))));
        }
        Value::object(all)
    }

    /// As it stands.
    pub(super) fn plain(&self) -> Value {
        match self {
            Self::Null => Value::untyped_null(),
            Self::Bool(flag) => Value::bool(*flag),
            Self::Number(digits) => json::from_number(digits),
            Self::Text(text) => text.clone(),
            Self::Array(items) => Value::tuple(items.iter().map(Self::plain).collect()),
            Self::Object(members) => {
                Value::object(members.iter().map(|(k, v)| (Arc::clone(k), v.plain())).collect())
            }
        }
    }
}

/// A number of JSON as text: never with an exponent.
fn plain_number(digits: &str) -> String {
    digits.parse::<f64>().map_or_else(|_| digits.to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Json {
        Json::Text(Value::string(text))
    }

    #[track_caller]
    fn check(json: &Json, ty: &Type, want: &Value) {
        let value = json.to_type(ty);
        assert_eq!(&karat_value::convert(&value, ty).unwrap(), want, "{json:?}");
    }

    #[test]
    fn simple_types() {
        check(&text("5"), &Type::Number, &Value::number(5));
        check(&text(""), &Type::Number, &Value::null(Type::Number));
        check(&Json::Number("1e3".into()), &Type::String, &Value::string("1000"));
        check(&Json::Number("1.50".into()), &Type::String, &Value::string("1.5"));
        check(&Json::Bool(true), &Type::String, &Value::string("1"));
        check(&Json::Bool(true), &Type::Number, &Value::number(1));
        check(&text("T"), &Type::Bool, &Value::bool(true));
        check(&text(""), &Type::Bool, &Value::null(Type::Bool));
        check(&Json::Number("0".into()), &Type::Bool, &Value::bool(false));
        assert!(karat_value::convert(&text("yes").to_type(&Type::Bool), &Type::Bool).is_err());
    }

    #[test]
    fn lists_and_maps() {
        let list = Type::list(Type::String);
        let want = |items: &[&str]| {
            karat_value::convert(
                &Value::tuple(items.iter().map(|i| Value::string(*i)).collect()),
                &list,
            )
            .unwrap()
        };
        check(&text("a,b"), &list, &want(&["a", "b"]));
        check(&text(""), &list, &want(&[]));
        check(&Json::Number("7".into()), &list, &want(&["7"]));
        check(&Json::Array(vec![text("a,b")]), &list, &want(&["a,b"]));
        let map = Type::map(Type::String);
        let one = Json::Object(vec![("a".into(), Json::Number("1".into()))]);
        let two = Json::Object(vec![("b".into(), text("x"))]);
        let merged = Json::Array(vec![one, two]).to_type(&map);
        assert_eq!(merged.as_map().unwrap().len(), 2);
    }
}
