//! A credential as it stands in an `Authorization` header.

mod jwt;

use std::{borrow::Cow, fmt};

use aws_lc_rs::{error::Unspecified, rand};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
pub use jwt::JwtToken;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// The longest header value that is looked at, in bytes. A wsk token has 101 characters and
/// three times as many when every one is percent-encoded; bearer tokens with many groups come to
/// some kilobytes.
const LONGEST: usize = 8 * 1024;

/// The length of the keys that OpenWhisk and Kiln make, in characters of `A-Za-z0-9`.
const KEY_LENGTH: usize = 64;

/// Clients differ in whether they pad; the deployer that Kiln replaces never looked at spare bits.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What a caller shows to prove who they are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credential {
    /// OpenWhisk's `uuid:key`.
    Wsk(WskToken),
    /// A signed token in compact form, shown as `Bearer`. Nothing of it is believed yet.
    Jwt(JwtToken),
}

/// The key of an OpenWhisk namespace: a public name for it, and the secret.
#[derive(Clone)]
pub struct WskToken {
    uuid: String,
    key: SecretString,
}

/// The header holds no credential of a known shape.
#[derive(Debug, thiserror::Error)]
#[error("the Authorization header is not uuid:key, base64 of it, Basic with either, or Bearer with a JWT")]
pub struct Unusable(());

// === impl Credential ===

impl Credential {
    /// Reads the value of an `Authorization` header: `uuid:key`, base64 of that, or `Basic` (in
    /// any case) and either of the two, where both halves may be percent-encoded; or `Bearer` (in
    /// any case) and a token that has the form of a JWT.
    ///
    /// # Errors
    /// For everything else, other schemes included, and for values over 8 KiB.
    pub fn parse(value: &[u8]) -> Result<Self, Unusable> {
        if value.len() > LONGEST || !value.is_ascii() {
            return Err(Unusable(()));
        }
        let text = str::from_utf8(value).map_err(|_| Unusable(()))?;
        let mut words = text.split_ascii_whitespace();
        let token = match (words.next(), words.next(), words.next()) {
            (Some(token), None, _) => token,
            (Some(scheme), Some(token), None) if scheme.eq_ignore_ascii_case("basic") => token,
            (Some(scheme), Some(token), None) if scheme.eq_ignore_ascii_case("bearer") => {
                return JwtToken::parse(token).map(Self::Jwt).ok_or(Unusable(()));
            }
            _ => return Err(Unusable(())),
        };
        // A colon is no letter of base64, so the two spellings can't be mistaken for each other.
        if token.contains(':') {
            return WskToken::parse(token).map(Self::Wsk);
        }
        let plain = Zeroizing::new(BASE64.decode(token).map_err(|_| Unusable(()))?);
        WskToken::parse(str::from_utf8(&plain).map_err(|_| Unusable(()))?).map(Self::Wsk)
    }
}

// === impl WskToken ===

impl WskToken {
    /// A token for a new user: a random UUID and 64 random characters of `A-Za-z0-9`, 381 bits.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, Unspecified> {
        Ok(Self { uuid: Uuid::new_v4().to_string(), key: random_key()? })
    }

    /// Reads `uuid:key` with exactly one colon and no empty half.
    fn parse(text: &str) -> Result<Self, Unusable> {
        match text.split_once(':') {
            Some((uuid, key)) if !uuid.is_empty() && !key.is_empty() && !key.contains(':') => {
                Ok(Self { uuid: unquote(uuid).into_owned(), key: unquote_secret(key) })
            }
            _ => Err(Unusable(())),
        }
    }

    /// The public half, which names the namespace.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The secret half.
    #[must_use]
    pub fn key(&self) -> &SecretString {
        &self.key
    }

    /// `uuid:key`, as its owner keeps it in `~/.wskprops`.
    #[must_use]
    pub fn reveal(&self) -> SecretString {
        format!("{}:{}", self.uuid, self.key.expose_secret()).into()
    }

    /// Whether both halves equal the given ones, in a time that doesn't depend on where they differ.
    #[must_use]
    pub(crate) fn is(&self, uuid: &str, key: &SecretString) -> bool {
        let uuids = self.uuid.as_bytes().ct_eq(uuid.as_bytes());
        let keys = self.key.expose_secret().as_bytes().ct_eq(key.expose_secret().as_bytes());
        (uuids & keys).into()
    }
}

impl fmt::Debug for WskToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WskToken").finish_non_exhaustive()
    }
}

/// As Python's `urllib.parse.unquote`: a stray `%` stays, `+` is no blank, what isn't UTF-8 is replaced.
fn unquote(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

/// The same for a secret: what is decoded on the way is erased.
fn unquote_secret(text: &str) -> SecretString {
    // As long as it can become, so that no half of it stays behind where a vector grew.
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    plain.extend(percent_decode_str(text));
    String::from_utf8_lossy(&plain).into_owned().into()
}

fn random_key() -> Result<SecretString, Unspecified> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // The largest multiple of 62 in a byte: what lies above would favour the first letters.
    const FAIR: u8 = 248;
    let mut key = Zeroizing::new(String::with_capacity(KEY_LENGTH));
    let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
    while key.len() < KEY_LENGTH {
        rand::fill(bytes.as_mut())?;
        let fair = bytes.iter().filter(|&&byte| byte < FAIR);
        let missing = KEY_LENGTH - key.len();
        key.extend(fair.take(missing).map(|byte| char::from(LETTERS[usize::from(byte % 62)])));
    }
    Ok(key.as_str().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(value: impl AsRef<[u8]>) -> Option<(String, String)> {
        let Credential::Wsk(token) = Credential::parse(value.as_ref()).ok()? else { return None };
        Some((token.uuid.clone(), token.key.expose_secret().to_owned()))
    }

    #[test]
    fn every_accepted_spelling_gives_the_same_token() {
        for value in [
            "u-1:key",
            "  u-1:key\t ",
            "dS0xOmtleQ==",
            "dS0xOmtleQ=",
            "dS0xOmtleQ",
            "Basic dS0xOmtleQ==",
            "basic dS0xOmtleQ==",
            "bAsIc dS0xOmtleQ==",
            "BASIC u-1:key",
            "Basic   u-1:key",
            " Basic u-1:key ",
            "u%2D1:k%65y",
            "Basic dSUyRDE6a2V5",
        ] {
            assert_eq!(parse(value), Some(("u-1".into(), "key".into())), "{value:?}");
        }
    }

    #[test]
    fn percent_decoding_follows_pythons_unquote() {
        for (half, decoded) in [
            ("a+b", "a+b"),
            ("a%", "a%"),
            ("a%2", "a%2"),
            ("a%zz", "a%zz"),
            ("%3A", ":"),
            ("%C3%A9", "é"),
            ("%FF", "\u{fffd}"),
        ] {
            assert_eq!(parse(format!("{half}:k")), Some((decoded.into(), "k".into())), "{half}");
            assert_eq!(parse(format!("u:{half}")), Some(("u".into(), decoded.into())), "{half}");
        }
    }

    #[test]
    fn everything_else_is_unusable() {
        for value in [
            "",
            " ",
            ":",
            "uuid:",
            ":key",
            "uuid",
            "uuid:k:ey",
            "Basic",
            "Basic ",
            "Basic :",
            "Basic uuid:k:ey",
            "Basic uuid:key more",
            "Basic Basic uuid:key",
            "Bearer uuid:key",
            "Bearer eyJhbGciOiJub25lIn0.e30.",
            "Digest username=\"x\"",
            "Basic dS0xOmt!leQ==",
            "Basic dS0xOmtleQ===",
            "Basic dTE6azpleQ==",
            "Basic Og==",
            "Basic dTo=",
            "Basic /////w==",
            "uuid :key",
            "uuid: key",
        ] {
            assert_eq!(parse(value), None, "{value:?}");
        }
        assert_eq!(parse("ü:key"), None);
        assert_eq!(parse(b"uuid:\xff"), None);
    }

    #[test]
    fn values_over_the_bound_are_not_looked_at() {
        assert!(parse(format!("u:{}", "k".repeat(LONGEST - 2))).is_some());
        assert_eq!(parse(format!("u:{}", "k".repeat(LONGEST - 1))), None);
    }

    #[test]
    fn debug_shows_nothing_of_a_token() {
        let shown = format!("{:?}", Credential::parse(b"canary1:canary2").unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn generated_tokens_have_openwhisks_shape_and_differ() {
        let (one, other) = (WskToken::generate().unwrap(), WskToken::generate().unwrap());
        let key = one.key.expose_secret();
        assert!(Uuid::parse_str(one.uuid()).is_ok());
        assert!(key.len() == 64 && key.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(one.uuid != other.uuid && key != other.key.expose_secret());
        assert_eq!(parse(one.reveal().expose_secret()), Some((one.uuid.clone(), key.to_owned())));
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_ascii_and_is_accepted_again(value in "([bB]asic |[bB]earer |)[ -~é\u{7f}]{0,60}(:|\\.)[!-~é]{0,40}") {
            let again = |text: String| Credential::parse(text.as_bytes());
            match Credential::parse(value.as_bytes()) {
                Err(_) => {}
                Ok(Credential::Wsk(token)) => {
                    let quoted = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
                    let key = token.key().expose_secret();
                    let same = again(format!("{}:{}", quoted(&token.uuid), quoted(key)));
                    prop_assert!(value.is_ascii() && matches!(same, Ok(Credential::Wsk(t)) if t.is(&token.uuid, &token.key)));
                }
                Ok(Credential::Jwt(token)) => {
                    let same = again(format!("Bearer {}", token.reveal()));
                    prop_assert!(value.is_ascii() && matches!(same, Ok(Credential::Jwt(t)) if t.reveal() == token.reveal()));
                }
            }
        }

        #[test]
        fn a_token_in_compact_form_comes_back(token in "[A-Za-z0-9_-]{1,30}\\.[A-Za-z0-9_-]{1,30}\\.[A-Za-z0-9_-]{1,30}") {
            let Ok(Credential::Jwt(read)) = Credential::parse(format!("Bearer {token}").as_bytes()) else { panic!("{token}") };
            prop_assert_eq!(read.reveal(), token);
        }

        #[test]
        fn no_bytes_make_it_panic(value in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Credential::parse(&value);
        }

        #[test]
        fn header_like_text_never_yields_an_empty_half(value in "([bB]asic )?[ -~]{0,80}") {
            if let Some((uuid, key)) = parse(&value) {
                prop_assert!(!uuid.is_empty() && !key.is_empty());
            }
        }

        #[test]
        fn what_a_client_encodes_comes_back(uuid in "[!-~&&[^:%]]{1,40}", key in "[!-~&&[^:%]]{1,80}", scheme in "|[bB][aA][sS][iI][cC] ") {
            let plain = format!("{uuid}:{key}");
            let expected = Some((uuid, key));
            prop_assert_eq!(parse(format!("{scheme}{plain}")), expected.clone());
            prop_assert_eq!(parse(format!("{scheme}{}", BASE64.encode(&plain))), expected);
        }
    }
}
