//! `com.openfaas.docker.config`: JSON as Go's `encoding/json` takes it, which every client was
//! tried with. Keys count in any case, of two the last; unknown ones don't.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// What to build, in the caller's words: nothing of it is checked yet but its types.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct BuildConfig {
    /// The image's name, as written; `None` where it is missing or empty.
    pub image: Option<String>,
    /// Which key named it, which chooses the dialect of the answer.
    pub named_by: NamedBy,
    /// Build arguments. An empty value is a value: faas-cli always sends one.
    pub build_args: BTreeMap<String, String>,
    /// Platforms, without the empty one that faas-cli makes of no list.
    pub platforms: Vec<String>,
    /// Build, and push nothing.
    pub skip_push: bool,
    /// A frontend's image, which the real builders ignore.
    pub frontend: Option<String>,
}

/// The key that named the image.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum NamedBy {
    /// `image`, of the pro-builder.
    #[default]
    Image,
    /// `ref`, of of-builder.
    Ref,
}

/// The file isn't such JSON.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Nothing at all.
    #[error("unexpected end of JSON input")]
    Empty,
    /// Anything else; where, and what was expected.
    #[error("the build configuration is no JSON object as expected: {0}")]
    Json(String),
}

impl BuildConfig {
    /// Reads the file's bytes.
    ///
    /// # Errors
    /// When it is no JSON, something follows, or a value has the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidConfig> {
        // What isn't UTF-8 becomes U+FFFD there, too.
        let text = String::from_utf8_lossy(bytes);
        if text.trim_ascii().is_empty() {
            return Err(InvalidConfig::Empty);
        }
        let fields: Option<Fields> = serde_json::from_str(&text).map_err(|e| InvalidConfig::Json(e.to_string()))?;
        let fields = fields.unwrap_or_default();
        let (image, reference) = (some(fields.image), some(fields.reference));
        let named_by = if image.is_none() && reference.is_some() { NamedBy::Ref } else { NamedBy::Image };
        Ok(Self {
            image: image.or(reference),
            named_by,
            build_args: fields.build_args,
            platforms: fields.platforms.into_iter().filter(|platform| !platform.is_empty()).collect(),
            skip_push: fields.skip_push,
            frontend: some(fields.frontend),
        })
    }
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[derive(Default)]
struct Fields {
    image: String,
    reference: String,
    build_args: BTreeMap<String, String>,
    platforms: Vec<String>,
    skip_push: bool,
    frontend: String,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with image or ref, and perhaps buildArgs, platforms, skipPush")
    }

    /// `null` leaves what is there, and an object adds to one that is.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            match folded(&key).as_str() {
                "image" => keep(&mut fields.image, map.next_value()?),
                "ref" => keep(&mut fields.reference, map.next_value()?),
                "frontend" => keep(&mut fields.frontend, map.next_value()?),
                "skippush" => keep(&mut fields.skip_push, map.next_value()?),
                "platforms" => {
                    let platforms: Option<Vec<Option<String>>> = map.next_value()?;
                    fields.platforms = platforms.unwrap_or_default().into_iter().flatten().collect();
                }
                "buildargs" => match map.next_value::<Option<BTreeMap<String, Option<String>>>>()? {
                    Some(args) => {
                        fields
                            .build_args
                            .extend(args.into_iter().map(|(name, value)| (name, value.unwrap_or_default())));
                    }
                    None => fields.build_args.clear(),
                },
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

fn keep<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

/// As Go folds names: two letters beyond ASCII count as `s` and `k`.
fn folded(key: &str) -> String {
    let fold = |c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<BuildConfig, InvalidConfig> {
        BuildConfig::parse(text.as_bytes())
    }

    #[test]
    fn keys_count_in_any_case_and_of_two_the_last() {
        for (text, image, named_by) in [
            (r#"{"image":"a/b:1"}"#, Some("a/b:1"), NamedBy::Image),
            (r#"{"IMAGE":"a"}"#, Some("a"), NamedBy::Image),
            (r#"{"Ref":"a"}"#, Some("a"), NamedBy::Ref),
            (r#"{"ref":"a","image":"b"}"#, Some("b"), NamedBy::Image),
            (r#"{"ref":"a","image":""}"#, Some("a"), NamedBy::Ref),
            (r#"{"image":"a","Image":"b"}"#, Some("b"), NamedBy::Image),
            (r#"{"image":"a","image":null}"#, Some("a"), NamedBy::Image),
            (r#"{"unknown":{"x":[1,2,{}]},"ref":"a"}"#, Some("a"), NamedBy::Ref),
            (r#"{"ref":""}"#, None, NamedBy::Image),
            (" {}\n", None, NamedBy::Image),
            ("null", None, NamedBy::Image),
        ] {
            let config = config(text).unwrap();
            assert_eq!((config.image.as_deref(), config.named_by), (image, named_by), "{text}");
        }
    }

    #[test]
    fn wrong_types_and_what_follows_are_errors() {
        for text in [
            "[]",
            "1",
            r#"{"image":1}"#,
            r#"{"buildArgs":{"A":1}}"#,
            r#"{"buildArgs":["A=1"]}"#,
            r#"{"platforms":"linux/amd64"}"#,
            r#"{"skipPush":"true"}"#,
            r#"{"image":"a"} x"#,
            r#"{"image":"a"}{"image":"b"}"#,
            r#"{"image":"a""#,
            r#"{"image":"a",}"#,
            "\u{feff}{}",
        ] {
            assert!(matches!(config(text), Err(InvalidConfig::Json(_))), "{text}");
        }
        assert_eq!(config(" \n"), Err(InvalidConfig::Empty));
    }

    #[test]
    fn what_the_clients_send_is_kept() {
        let parsed = config(
            r#"{"image":"127.0.0.1:5000/fns/echo1:latest","buildArgs":{"ADDITIONAL_PACKAGE":"","X":"1","N":null},
                "platforms":["","linux/arm64"],"skipPush":true,"frontend":"f"}"#,
        )
        .unwrap();
        let args: Vec<_> = parsed.build_args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(args, [("ADDITIONAL_PACKAGE", ""), ("N", ""), ("X", "1")]);
        assert_eq!(parsed.platforms, ["linux/arm64"]);
        assert!(parsed.skip_push);
        assert_eq!(parsed.frontend.as_deref(), Some("f"));
    }
}
