//! What a token says, and where in it the user and the roles stand.

use std::{fmt, time::Duration, time::SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// The claims of a token, none of them named twice.
pub(super) struct Claims(Value);

/// Where a claim stands: its name, or a JSON pointer (RFC 6901) when it begins with `/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimPath(String);

// === impl Claims ===

impl Claims {
    /// The claims as they stand there. Until the signature is checked anybody may have written them.
    pub(super) fn unverified(token: &str) -> Option<Self> {
        let payload = token.split('.').nth(1)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// Who says to have made the token. A list of issuers, which no standard knows, is none.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.0.get("iss")?.as_str()
    }

    /// When the token stops being valid; `None` too where that lies beyond what a clock can show.
    pub(super) fn expires(&self) -> Option<SystemTime> {
        let seconds = Duration::try_from_secs_f64(self.0.get("exp")?.as_f64()?).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    }

    /// The text of a claim.
    pub(super) fn text(&self, path: &ClaimPath) -> Option<&str> {
        path.of(&self.0)?.as_str()
    }

    /// The words of a claim: a list of texts, or one text with blanks between them, as `scope` has it.
    pub(super) fn words(&self, path: &ClaimPath) -> Vec<String> {
        match path.of(&self.0) {
            Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::String(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that names each claim once")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut claims: A) -> Result<Claims, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = claims.next_entry::<String, Value>()? {
                    // Of two, whoever made the token and whoever reads it could each mean another one.
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim stands there twice"));
                    }
                }
                Ok(Claims(map.into()))
            }
        }

        from.deserialize_map(Once)
    }
}

// === impl ClaimPath ===

impl ClaimPath {
    /// Takes a claim's name, or a JSON pointer.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    fn of<'a>(&self, claims: &'a Value) -> Option<&'a Value> {
        if self.0.starts_with('/') { claims.pointer(&self.0) } else { claims.get(&self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Option<Claims> {
        Claims::unverified(&format!("h.{}.s", URL_SAFE_NO_PAD.encode(text)))
    }

    #[test]
    fn claims_are_found_by_name_and_by_pointer() {
        let claims =
            claims(r#"{"sub":"a","a/b":"c","kubernetes.io":{"namespace":"ns"},"https://x/roles":["r",1,"s"]}"#)
                .unwrap();
        for (path, text) in [
            ("sub", Some("a")),
            ("a/b", Some("c")),
            ("/sub", Some("a")),
            ("/a~1b", Some("c")),
            ("/kubernetes.io/namespace", Some("ns")),
            ("kubernetes.io/namespace", None),
            ("kubernetes.io", None),
            ("", None),
            ("/", None),
        ] {
            assert_eq!(claims.text(&ClaimPath::new(path)), text, "{path}");
        }
        assert_eq!(claims.words(&ClaimPath::new("https://x/roles")), ["r", "s"]);
    }

    #[test]
    fn roles_are_a_list_or_words() {
        let words = |value: &str| claims(&format!("{{\"r\":{value}}}")).unwrap().words(&ClaimPath::new("r"));
        assert_eq!(words(r#""a  b""#), ["a", "b"]);
        assert_eq!(words(r#"["a b"]"#), ["a b"]);
        assert!(words("null").is_empty() && words("{\"a\":1}").is_empty() && words("true").is_empty());
    }

    #[test]
    fn what_names_a_claim_twice_or_is_no_object_has_none() {
        for text in ["", "[]", "null", "\"a\"", "{", r#"{"a":1,"a":1}"#, r#"{"sub":"a","sub":"b"}"#, "{}{}"] {
            assert!(claims(text).is_none(), "{text}");
        }
        assert!(Claims::unverified("a.=.c").is_none() && Claims::unverified("a").is_none());
    }

    #[test]
    fn an_end_beyond_the_clock_is_none() {
        let expires = |exp: &str| claims(&format!("{{\"exp\":{exp}}}")).unwrap().expires();
        assert_eq!(expires("10"), SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(10)));
        for exp in ["1e300", "18446744073709551615", "-1", "\"10\"", "null"] {
            assert_eq!(expires(exp), None, "{exp}");
        }
    }
}
