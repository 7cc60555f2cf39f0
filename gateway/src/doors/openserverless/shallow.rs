//! A JSON body read without building what nobody asked for: 16 MiB of nested lists would take half a
//! gigabyte as a tree of values.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// The fields that the door's requests have.
const FIELDS: [&str; 7] = ["source", "target", "kind", "file", "max_age_hours", "builder", "retry"];

/// What a body is, at its top.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    Null,
    /// `[]`, which the real service takes for an object without fields in some places.
    EmptyList,
    /// Its known fields; lists and objects among their values are empty ones.
    Object(Map<String, Value>),
    Other,
}

/// A field's value: a scalar, or the empty form of a list or an object.
struct Scalar(Value);

struct BodyVisitor;
struct ScalarVisitor;

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(BodyVisitor)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ScalarVisitor).map(Self)
    }
}

/// The scalars, which both visitors take alike.
macro_rules! scalars {
    ($value:ty, $($visit:ident($type:ty) => $make:expr),+ $(,)?) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }
        $(fn $visit<E>(self, value: $type) -> Result<$value, E> {
            Ok($make(value))
        })+
    };
}

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Body;

    scalars! {
        Body,
        visit_bool(bool) => |_| Body::Other,
        visit_i64(i64) => |_| Body::Other,
        visit_u64(u64) => |_| Body::Other,
        visit_f64(f64) => |_| Body::Other,
        visit_str(&str) => |_| Body::Other,
    }

    fn visit_unit<E>(self) -> Result<Body, E> {
        Ok(Body::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Body, A::Error> {
        let mut empty = true;
        while list.next_element::<IgnoredAny>()?.is_some() {
            empty = false;
        }
        Ok(if empty { Body::EmptyList } else { Body::Other })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if FIELDS.contains(&name.as_str()) {
                let Scalar(value) = map.next_value()?;
                fields.insert(name, value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Body::Object(fields))
    }
}

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Value;

    scalars! {
        Value,
        visit_bool(bool) => Value::from,
        visit_i64(i64) => Value::from,
        visit_u64(u64) => Value::from,
        visit_f64(f64) => Value::from,
        visit_str(&str) => Value::from,
        visit_string(String) => Value::from,
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(Vec::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Object(Map::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Option<Body> {
        serde_json::from_str(text).ok()
    }

    #[test]
    fn bodies_are_told_apart_and_only_known_fields_kept() {
        assert_eq!(read("null"), Some(Body::Null));
        assert_eq!(read("[]"), Some(Body::EmptyList));
        for other in ["[null]", "3", "-1.5", "true", "\"a\""] {
            assert_eq!(read(other), Some(Body::Other), "{other}");
        }
        let body =
            r#"{"source":"a","x":[[1]],"target":{"y":[0]},"kind":[1,2],"max_age_hours":-1,"retry":true,"file":null}"#;
        let want = json!({
            "source": "a", "target": {}, "kind": [], "max_age_hours": -1, "retry": true, "file": null,
        });
        assert_eq!(read(body).map(|body| body == Body::Object(want.as_object().unwrap().clone())), Some(true));
        for malformed in ["", "{", "{\"a\":}", "[1,]", "nul", "{} {}"] {
            assert_eq!(read(malformed), None, "{malformed:?}");
        }
    }
}
