//! Tokens signed in the test, held against keys in files.

use std::{path::PathBuf, time::SystemTime};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

pub(super) const ISSUER: &str = "https://issuer.example";

/// A key of the test's own.
pub(super) struct Signer {
    key: EncodingKey,
    pub(super) id: &'static str,
}

impl Signer {
    pub(super) fn new(id: &'static str) -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Self { key: EncodingKey::from_ec_der(pkcs8.as_ref()), id }
    }

    pub(super) fn sign(&self, claims: &Value) -> Credential {
        self.sign_as(Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) }, claims)
    }

    fn sign_as(&self, header: Header, claims: &Value) -> Credential {
        bearer(&encode(&header, claims, &self.key).unwrap())
    }

    pub(super) fn jwk(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = self.id.into();
        jwk
    }
}

fn bearer(token: &str) -> Credential {
    Credential::parse(format!("Bearer {token}").as_bytes()).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Good claims with some of them changed, or with `null` taken out.
pub(super) fn claims(changed: Value) -> Value {
    let mut claims = json!({ "iss": ISSUER, "aud": "kiln", "exp": now() + 600, "sub": "devel" });
    for (name, value) in changed.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

pub(super) fn config(keys: KeySource, algorithms: &[&str]) -> JwtConfig {
    JwtConfig {
        name: "test".into(),
        issuer: ISSUER.into(),
        audience: vec!["kiln".into(), "kiln-too".into()],
        algorithms: algorithms.iter().map(|name| (*name).to_owned()).collect(),
        keys,
        leeway: Duration::from_secs(60),
        user_claim: ClaimPath::new("sub"),
        roles_claim: Some(ClaimPath::new("roles")),
        times: KeyTimes::default(),
    }
}

fn file(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn with_set(folder: &TempDir, keys: &Value) -> Jwt {
    let path = file(folder, "jwks.json", json!({ "keys": keys }).to_string());
    Jwt::new(&config(KeySource::SetFile(path), &["ES256", "RS256"])).unwrap()
}

async fn said(jwt: &Jwt, credential: &Credential) -> String {
    match jwt.identify(credential, &Asker::GATEWAY).await {
        Ok(identity) => format!("user {}", identity.user()),
        Err(refusal) => refusal.to_string(),
    }
}

#[tokio::test]
async fn claims_are_checked_after_the_signature() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new("k");
    let jwt = with_set(&folder, &json!([signer.jwk()]));
    for (changed, answer) in [
        (json!({}), "user devel"),
        (json!({ "aud": ["other", "kiln-too"] }), "user devel"),
        (json!({ "exp": now() - 30 }), "user devel"),
        (json!({ "nbf": now() + 30 }), "user devel"),
        (json!({ "exp": now() as f64 + 0.5 }), "user devel"),
        (json!({ "exp": u64::MAX }), "user devel"),
        (json!({ "exp": now() - 90 }), "the token has expired"),
        (json!({ "nbf": now() + 90 }), "the token isn't valid yet"),
        (json!({ "nbf": "now" }), "the token's exp or nbf is no time"),
        (json!({ "exp": null }), "the token has no usable exp, iss or aud"),
        (json!({ "exp": "9999999999" }), "the token has no usable exp, iss or aud"),
        (json!({ "exp": -1 }), "the token has no usable exp, iss or aud"),
        (json!({ "exp": 1e300 }), "the token has no usable exp, iss or aud"),
        (json!({ "aud": null }), "the token has no usable exp, iss or aud"),
        (json!({ "aud": "other" }), "the token is for another audience"),
        (json!({ "aud": [] }), "the token is for another audience"),
        (json!({ "aud": { "kiln": 1 } }), "the token has no usable exp, iss or aud"),
        (json!({ "iss": null }), "no provider knows this credential"),
        (json!({ "iss": "https://issuer.example/" }), "no provider knows this credential"),
        (json!({ "iss": [ISSUER] }), "no provider knows this credential"),
        (json!({ "sub": null }), "the token's user claim is no text"),
        (json!({ "sub": 7 }), "the token's user claim is no text"),
        (json!({ "sub": ["devel"] }), "the token can't be read"),
        (json!({ "sub": "" }), "the token's user claim can't be the name of a repository"),
        (json!({ "sub": "Devel" }), "the token's user claim can't be the name of a repository"),
        (json!({ "sub": "a/b" }), "the token's user claim can't be the name of a repository"),
        (json!({ "sub": "../a" }), "the token's user claim can't be the name of a repository"),
        (json!({ "sub": "a\u{0}" }), "the token's user claim can't be the name of a repository"),
    ] {
        assert_eq!(said(&jwt, &signer.sign(&claims(changed.clone()))).await, answer, "{changed}");
        let forged = Signer::new("k").sign(&claims(changed.clone()));
        let other = if answer.starts_with("no provider") { answer } else { "the token's signature doesn't match" };
        assert_eq!(said(&jwt, &forged).await, other, "{changed}");
    }
}

#[tokio::test]
async fn roles_and_the_end_of_a_token_travel_with_the_identity() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new("k");
    let jwt = with_set(&folder, &json!([signer.jwk()]));
    let end = now() + 5;
    let identity =
        jwt.identify(&signer.sign(&claims(json!({ "exp": end, "roles": ["a", "b"] }))), &Asker::GATEWAY).await.unwrap();
    assert_eq!(identity.roles(), ["a", "b"]);
    assert_eq!(identity.expires(), SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end)));
    assert_eq!((identity.provider(), identity.is_operator()), ("test", false));
}

#[tokio::test]
async fn a_header_only_chooses_among_what_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let (signer, other) = (Signer::new("k"), Signer::new("other"));
    let mut encryption = other.jwk();
    encryption["use"] = "enc".into();
    let jwt = with_set(&folder, &json!([signer.jwk(), encryption]));
    let header = |kid: Option<&str>| Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
    for (signer, header, answer) in [
        (&signer, header(None), "user devel"),
        (&signer, Header { jku: Some("http://127.0.0.1:1/".into()), ..header(Some("k")) }, "user devel"),
        (&signer, Header { crit: Some(vec![]), ..header(Some("k")) }, "the token demands an extension (crit)"),
        (
            &signer,
            Header { crit: Some(vec!["exp".into()]), ..header(Some("k")) },
            "the token demands an extension (crit)",
        ),
        (&signer, header(Some("K")), "the issuer has no such key"),
        (&signer, header(Some("../k")), "the issuer has no such key"),
        (&signer, header(Some("http://127.0.0.1:1/k")), "the issuer has no such key"),
        (&other, header(Some("other")), "the issuer has no such key"),
        (&other, header(None), "the token's signature doesn't match"),
        (
            &other,
            Header { jwk: serde_json::from_value(other.jwk()).ok(), ..header(None) },
            "the token's signature doesn't match",
        ),
    ] {
        let shown = format!("{header:?}");
        assert_eq!(said(&jwt, &signer.sign_as(header, &claims(json!({})))).await, answer, "{shown}");
    }
}

#[tokio::test]
async fn unsigned_twisted_and_recoded_tokens_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new("k");
    let jwk = signer.jwk();
    let jwt = with_set(&folder, &json!([jwk]));
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let good = part(&claims(json!({})));
    let Credential::Jwt(token) = signer.sign(&claims(json!({}))) else { unreachable!() };
    let parts: Vec<_> = token.reveal().split('.').collect();
    let hmac = |key: &[u8]| {
        let header = Header { kid: Some("k".into()), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims(json!({})), &EncodingKey::from_secret(key)).unwrap()
    };
    for (token, answer) in [
        (format!("{}.{good}.x", part(&json!({ "alg": "none" }))), "header can't be read"),
        (format!("{}.{good}.{}", part(&json!({ "alg": "None", "kid": "k" })), parts[2]), "header can't be read"),
        (format!("{}.{good}.{}", part(&json!({ "kid": "k" })), parts[2]), "header can't be read"),
        (format!("{}.{good}.{}", part(&json!({ "alg": ["ES256"] })), parts[2]), "header can't be read"),
        (
            format!("{}.{good}.{}", part(&json!({ "alg": "ES384", "kid": "k" })), parts[2]),
            "isn't one of those configured",
        ),
        (
            format!("{}.{good}.{}", part(&json!({ "alg": "RS256", "kid": "k" })), parts[2]),
            "another algorithm or purpose",
        ),
        (hmac(jwk.to_string().as_bytes()), "isn't one of those configured"),
        (format!("{}.{}.{}", parts[0], part(&claims(json!({ "sub": "root" }))), parts[2]), "signature doesn't match"),
        (format!("{}.{}.{}A", parts[0], parts[1], parts[2]), "signature doesn't match"),
        (format!("{}.{}.{}", parts[0], parts[1], &parts[2][1..]), "can't be read"),
        (format!("x.{}.{}", parts[1], parts[2]), "header can't be read"),
        (format!("{}.e30.{}", parts[0], parts[2]), "no provider knows"),
    ] {
        let said = said(&jwt, &bearer(&token)).await;
        assert!(said.contains(answer), "{answer}: {said}");
    }
}

/// An RSA key as its owner has it, and its public half: both PEM.
fn rsa(size: KeySize) -> (EncodingKey, String) {
    let pem = |label: &str, der: &[u8]| {
        let text = STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    let pair = KeyPair::generate(size).unwrap();
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let private = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap();
    (private, pem("PUBLIC KEY", public.as_ref()))
}

#[tokio::test]
async fn a_public_key_in_a_file_is_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (private, public) = rsa(KeySize::Rsa2048);
    let path = file(&folder, "key.pem", &public);
    let jwt = Jwt::new(&config(KeySource::KeyFile(path.clone()), &["RS256", "PS256"])).unwrap();
    for (algorithm, answer) in [
        (Algorithm::RS256, "user devel"),
        (Algorithm::PS256, "user devel"),
        (Algorithm::RS512, "the token's algorithm isn't one of those configured"),
    ] {
        let token = encode(&Header::new(algorithm), &claims(json!({})), &private).unwrap();
        assert_eq!(said(&jwt, &bearer(&token)).await, answer);
    }
    let confused = EncodingKey::from_secret(public.as_bytes());
    let token = encode(&Header::new(Algorithm::HS256), &claims(json!({})), &confused).unwrap();
    assert_eq!(said(&jwt, &bearer(&token)).await, "the token's algorithm isn't one of those configured");
    let hmac = Jwt::new(&config(KeySource::KeyFile(path), &["HS256"])).err().unwrap();
    assert!(matches!(hmac, InvalidJwtConfig::Keys { source: InvalidKeys::PublicSecret, .. }), "{hmac:?}");
}

#[tokio::test]
async fn key_files_that_are_too_weak_or_of_another_kind_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "s".repeat(32);
    let ec = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n";
    for (bytes, algorithm, usable) in [
        (secret.as_str(), "HS256", true),
        (&format!("{secret}\r\n"), "HS256", true),
        (&secret[1..], "HS256", false),
        (&format!("{}\n", &secret[1..]), "HS256", false),
        ("", "HS256", false),
        ("", "RS256", false),
        (ec, "RS256", false),
        ("nothing", "ES256", false),
        (&rsa(KeySize::Rsa2048).1, "EdDSA", false),
    ] {
        let path = file(&folder, "key", bytes);
        let made = Jwt::new(&config(KeySource::KeyFile(path), &[algorithm]));
        assert_eq!(made.is_ok(), usable, "{algorithm} {bytes}");
    }
    let missing = Jwt::new(&config(KeySource::KeyFile(folder.path().join("none")), &["RS256"])).err().unwrap();
    assert!(matches!(missing, InvalidJwtConfig::Unreadable { .. }), "{missing:?}");
}

#[test]
fn keys_for_another_purpose_or_too_short_are_not_used() {
    let usable = |key: Value| KeySet::from_jwks(json!({ "keys": [key] }).to_string().as_bytes(), &ALL).unwrap().len();
    const ALL: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let modulus = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
    let padded = URL_SAFE_NO_PAD.encode([vec![0; 200], vec![0xff; 128]].concat());
    let ec = |more: Value| {
        let mut key = Signer::new("k").jwk();
        key.as_object_mut().unwrap().remove("alg");
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    };
    for (key, used) in [
        (ec(json!({})), 1),
        (ec(json!({ "use": "sig", "alg": "ES256", "key_ops": ["verify"] })), 1),
        (ec(json!({ "use": "enc" })), 0),
        (ec(json!({ "alg": "ES384" })), 0),
        (ec(json!({ "alg": "RS256" })), 0),
        (ec(json!({ "alg": "nonsense" })), 0),
        (ec(json!({ "key_ops": ["sign"] })), 0),
        (ec(json!({ "crv": "P-521" })), 0),
        (ec(json!({ "kty": "oct", "k": "c2VjcmV0" })), 0),
        (json!({ "kty": "RSA", "n": modulus(256), "e": "AQAB" }), 1),
        (json!({ "kty": "RSA", "n": modulus(255), "e": "AQAB" }), 0),
        (json!({ "kty": "RSA", "n": modulus(128), "e": "AQAB" }), 0),
        (json!({ "kty": "RSA", "n": padded, "e": "AQAB" }), 0),
        (json!({ "kty": "RSA", "n": "!", "e": "AQAB" }), 0),
        (json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode([1; 64]), "alg": "HS256" }), 0),
        (json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([1; 32]) }), 1),
        (json!({ "kty": "OKP", "crv": "X25519", "x": URL_SAFE_NO_PAD.encode([1; 32]) }), 0),
        (json!("nothing"), 0),
    ] {
        assert_eq!(usable(key.clone()), used, "{key}");
    }
    assert!(KeySet::from_jwks(b"{}", &ALL).is_err() && KeySet::from_jwks(b"[]", &ALL).is_err());
}
