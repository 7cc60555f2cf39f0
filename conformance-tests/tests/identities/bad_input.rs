//! Whatever may stand in an `Authorization` header, and the exact answer of each door to it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::{Client, Kiln};
use reqwest::{Method, header::HeaderValue};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    BUILDS, STATUS, idle,
    issuer::{ISSUER, Key, claims, now, part, set_file},
    parts, refusal, welcome,
};

/// What a door has to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Want {
    /// The caller is let in.
    Welcome,
    /// `Invalid authorization`, whatever is wrong with it.
    Invalid,
    /// `Missing authorization header`.
    Missing,
}
use Want::{Invalid, Missing, Welcome};

const PREFIX: &str = "jwt-";

struct Gateway {
    kiln: Kiln,
    ec: Key,
    rsa: Key,
    secret: Key,
}

/// A gateway with a file of users, an issuer with two keys, and one with a secret.
async fn gateway() -> Gateway {
    let (ec, rsa) = (Key::ec("ec"), Key::rsa("rsa"));
    let mut encryption = ec.jwk();
    encryption["use"] = "enc".into();
    encryption["kid"] = "enc".into();
    let launch = idle().user("devel").user("jwt-mallory");
    let set = set_file(launch.folder(), &[ec.jwk(), rsa.jwk(), encryption]);
    let secret = Uuid::new_v4().simple().to_string();
    let file = launch.folder().join("secret");
    std::fs::write(&file, &secret).unwrap();
    let config = format!(
        r#"
        [[identity.jwt]]
        name = "issuer"
        issuer = "{ISSUER}"
        audience = ["kiln", "kiln-too"]
        algorithms = ["ES256", "RS256"]
        jwks_file = "{}"
        prefix = "{PREFIX}"
        [[identity.jwt]]
        name = "secret"
        issuer = "https://secret.example"
        audience = ["kiln"]
        algorithms = ["HS256"]
        key_file = "{}"
        prefix = "hs-"
        "#,
        set.display(),
        file.display()
    );
    Gateway { kiln: launch.config(&config).start().await, ec, rsa, secret: Key::secret(secret.as_bytes()) }
}

/// What isn't a JWT: forms and spellings of the header.
fn spellings(kiln: &Kiln) -> Vec<(&'static str, Vec<Vec<u8>>, Want)> {
    let token = kiln.token("devel");
    let (uuid, key) = token.split_once(':').unwrap();
    let encoded = BASE64_STANDARD.encode(token);
    let quoted = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    let basic = |plain: &[u8]| format!("Basic {}", BASE64_STANDARD.encode(plain));
    let one = |text: String| vec![text.into_bytes()];
    let unpadded = encoded.trim_end_matches('=');
    vec![
        ("no header", vec![], Missing),
        ("raw", one(token.into()), Welcome),
        ("base64", one(encoded.clone()), Welcome),
        ("base64 without padding", one(format!("Basic {unpadded}")), Welcome),
        ("Basic", one(format!("Basic {encoded}")), Welcome),
        ("basic", one(format!("basic {encoded}")), Welcome),
        ("BASIC", one(format!("BASIC {encoded}")), Welcome),
        ("bAsIc", one(format!("bAsIc {encoded}")), Welcome),
        ("Basic with a raw token", one(format!("Basic {token}")), Welcome),
        ("blanks around", one(format!("  Basic \t {encoded}  ")), Welcome),
        ("percent-encoded halves", one(format!("{}:{}", quoted(uuid), quoted(key))), Welcome),
        ("percent-encoded inside base64", one(basic(format!("{}:{key}", quoted(uuid)).as_bytes())), Welcome),
        ("empty", one(String::new()), Invalid),
        ("a blank", one(" ".into()), Invalid),
        ("a colon", one(":".into()), Invalid),
        ("no key", one(format!("{uuid}:")), Invalid),
        ("no uuid", one(format!(":{key}")), Invalid),
        ("no colon", one(uuid.into()), Invalid),
        ("two colons", one(format!("{token}:x")), Invalid),
        ("two colons inside base64", one(basic(format!("{token}:x").as_bytes())), Invalid),
        ("a scheme alone", one("Basic".into()), Invalid),
        ("a scheme and a colon", one("Basic :".into()), Invalid),
        ("two schemes", one(format!("Basic Basic {encoded}")), Invalid),
        ("a word more", one(format!("Basic {encoded} x")), Invalid),
        ("a parameter more", one(format!("Basic {encoded}, realm=x")), Invalid),
        ("another scheme", one(format!("Digest {encoded}")), Invalid),
        ("a scheme in Greek", one(format!("Βasic {encoded}")), Invalid),
        ("base64 with junk", one(format!("Basic {}!{}", &encoded[..8], &encoded[8..])), Invalid),
        ("base64 with too much padding", one(format!("Basic {unpadded}===")), Invalid),
        ("base64 of base64", one(basic(encoded.as_bytes())), Invalid),
        ("base64url of odd bytes", one("Basic __--__--".into()), Invalid),
        ("base64 of bytes", one(basic(b"\xff\xfe:\x80")), Invalid),
        ("base64 of nothing", one("Basic =".into()), Invalid),
        ("bytes", vec![b"uuid:\xff\xfe".to_vec()], Invalid),
        ("UTF-8", one(format!("{uuid}:{key}é")), Invalid),
        ("a key in another case", one(format!("{uuid}:{}", key.to_ascii_uppercase())), Invalid),
        ("a key cut short", one(format!("{uuid}:{}", &key[..63])), Invalid),
        ("a key and more", one(format!("{token}x")), Invalid),
        ("a key and NUL", one(format!("{token}%00")), Invalid),
        ("a pattern for a key", one(format!("{uuid}:*")), Invalid),
        ("a selector for a key", one(format!("{uuid}:{{\"$gt\":null}}")), Invalid),
        ("nobody's uuid", one(format!("{}:{key}", Uuid::nil())), Invalid),
        ("a name for a uuid", one(format!("devel:{key}")), Invalid),
        ("a user before another's prefix", one(kiln.token("jwt-mallory").into()), Invalid),
        ("longer than 8 KiB", one(format!("{uuid}:{}", "k".repeat(9_000))), Invalid),
        ("60 KiB", one(format!("Basic {}", "k".repeat(60_000))), Invalid),
        ("the same twice", vec![token.into(), token.into()], Invalid),
        ("a good and an empty one", vec![token.into(), vec![]], Invalid),
        ("Basic and Bearer", vec![token.into(), b"Bearer a.b.c".to_vec()], Invalid),
        ("Bearer with a wsk token", one(format!("Bearer {token}")), Invalid),
        ("Bearer with base64", one(format!("Bearer {encoded}")), Invalid),
        ("Bearer alone", one("Bearer".into()), Invalid),
        ("Bearer of dots", one("Bearer ..".into()), Invalid),
        ("Bearer of two parts", one("Bearer e30.e30".into()), Invalid),
        ("Bearer of five parts", one("Bearer e30.e30.e30.e30.e30".into()), Invalid),
        ("Bearer of three words", one("Bearer not.a.jwt".into()), Invalid),
    ]
}

/// JWTs by what their claims say.
fn claimed(Gateway { ec, .. }: &Gateway) -> Vec<(&'static str, String, Want)> {
    let with = |changed: Value| ec.bearer(&claims("devel", changed));
    let sub = |sub: Value| with(json!({ "sub": sub }));
    let raw = |payload: String| format!("Bearer {}", ec.sign(&ec.header().to_string(), &payload));
    let good = claims("devel", json!({})).to_string();
    let twice = |name: &str, value: Value| raw(format!("{{\"{name}\":{value},{}", &good[1..]));
    vec![
        ("a good token", with(json!({})), Welcome),
        ("one of several audiences", with(json!({ "aud": ["x", "kiln-too"] })), Welcome),
        ("an audience that is no list", with(json!({ "aud": "kiln" })), Welcome),
        ("expired within the leeway", with(json!({ "exp": now() - 20 })), Welcome),
        ("claims that nobody knows", with(json!({ "admin": true, "roles": ["operator"] })), Welcome),
        ("expired", with(json!({ "exp": now() - 120 })), Invalid),
        ("expired in 1970", with(json!({ "exp": 0 })), Invalid),
        ("no exp", with(json!({ "exp": null })), Invalid),
        ("exp as text", with(json!({ "exp": (now() + 600).to_string() })), Invalid),
        ("exp below zero", with(json!({ "exp": -1 })), Invalid),
        ("exp beyond numbers", with(json!({ "exp": 1e300 })), Invalid),
        ("not yet valid", with(json!({ "nbf": now() + 600 })), Invalid),
        ("nbf as text", with(json!({ "nbf": "0" })), Invalid),
        ("another issuer", with(json!({ "iss": "https://other.example" })), Invalid),
        ("another issuer's spelling", with(json!({ "iss": format!("{ISSUER}/") })), Invalid),
        ("a list of issuers", with(json!({ "iss": [ISSUER] })), Invalid),
        ("no issuer", with(json!({ "iss": null })), Invalid),
        ("the secret's issuer", with(json!({ "iss": "https://secret.example" })), Invalid),
        ("another audience", with(json!({ "aud": "other" })), Invalid),
        ("no audience", with(json!({ "aud": null })), Invalid),
        ("an empty audience", with(json!({ "aud": [] })), Invalid),
        ("an audience that is an object", with(json!({ "aud": { "kiln": true } })), Invalid),
        ("no user", with(json!({ "sub": null })), Invalid),
        ("a user that is a number", sub(json!(7)), Invalid),
        ("a user that is a list", sub(json!(["devel"])), Invalid),
        ("a user that is an object", sub(json!({ "name": "devel" })), Invalid),
        ("an empty user", sub(json!("")), Invalid),
        ("a user in capitals", sub(json!("Devel")), Invalid),
        ("a user with a path", sub(json!("devel/x")), Invalid),
        ("a user that climbs", sub(json!("../devel")), Invalid),
        ("a user with a tag", sub(json!("devel:latest")), Invalid),
        ("a user with a blank", sub(json!("devel ")), Invalid),
        ("a user with a line's end", sub(json!("devel\n")), Invalid),
        ("a user with NUL", sub(json!("devel\u{0}")), Invalid),
        ("a user in another alphabet", sub(json!("dеvel")), Invalid),
        ("a user too long for the prefix", sub(json!("a".repeat(60))), Invalid),
        ("two users", twice("sub", json!("root")), Invalid),
        ("two issuers", twice("iss", json!(ISSUER)), Invalid),
        ("two ends", twice("exp", json!(now() + 9)), Invalid),
        ("two of a claim that nobody reads", raw(format!("{{\"x\":1,\"x\":2,{}", &good[1..])), Invalid),
        ("claims that are a list", raw("[]".into()), Invalid),
        ("claims that are none", raw("null".into()), Invalid),
        ("claims that are no JSON", raw("{".into()), Invalid),
        ("no claims", raw("{}".into()), Invalid),
    ]
}

/// JWTs by their header, signature and form.
fn signed(Gateway { ec, rsa, secret, .. }: &Gateway) -> Vec<(&'static str, String, Want)> {
    let good = claims("devel", json!({})).to_string();
    let header = |key: &Key, changed: Value| {
        let mut header = key.header();
        for (name, value) in changed.as_object().unwrap() {
            header[name] = value.clone();
        }
        header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        format!("Bearer {}", key.sign(&header.to_string(), &good))
    };
    let kid = |kid: &str| header(ec, json!({ "kid": kid }));
    let token = ec.sign(&ec.header().to_string(), &good);
    let [head, body, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let glued = |head: &str, body: &str, signature: &str| format!("Bearer {head}.{body}.{signature}");
    let unsigned = |alg: &str, signature: &str| glued(&part(&json!({ "alg": alg }).to_string()), body, signature);
    let forged = Key::ec("ec");
    let hmac_with_public = Key::secret(rsa.public.as_bytes()).called("rsa");
    let hmac_with_jwk = Key::secret(rsa.jwk().to_string().as_bytes()).called("rsa");
    let secrets = claims("devel", json!({ "iss": "https://secret.example" }));
    let mallory = claims("root", json!({})).to_string();
    vec![
        ("an RSA key's", rsa.bearer(&claims("devel", json!({}))), Welcome),
        ("a secret's", secret.bearer(&secrets), Welcome),
        ("bearer in small letters", format!("bearer {token}"), Welcome),
        ("a header that names no type", header(ec, json!({ "typ": null })), Welcome),
        ("no kid, and one key would do", header(ec, json!({ "kid": null })), Welcome),
        ("jku to elsewhere, unread", header(ec, json!({ "jku": "http://127.0.0.1:1/keys" })), Welcome),
        ("x5u to elsewhere, unread", header(ec, json!({ "x5u": "http://127.0.0.1:1/cert" })), Welcome),
        ("alg none without signature", unsigned("none", ""), Invalid),
        ("alg none with a signature", unsigned("none", signature), Invalid),
        ("alg None", unsigned("None", signature), Invalid),
        ("alg NONE", unsigned("nOnE", signature), Invalid),
        ("an empty alg", unsigned("", signature), Invalid),
        ("no alg", glued(&part("{}"), body, signature), Invalid),
        ("two algs", glued(&part("{\"alg\":\"ES256\",\"alg\":\"none\"}"), body, signature), Invalid),
        ("alg that isn't configured", header(ec, json!({ "alg": "ES384" })), Invalid),
        ("alg of another family", header(ec, json!({ "alg": "RS256" })), Invalid),
        ("alg as a list", header(ec, json!({ "alg": ["ES256"] })), Invalid),
        ("HS256 with the public key in PEM", hmac_with_public.bearer(&claims("devel", json!({}))), Invalid),
        ("HS256 with the public key as JWK", hmac_with_jwk.bearer(&claims("devel", json!({}))), Invalid),
        ("HS256 with an empty secret", Key::secret(b"").bearer(&secrets), Invalid),
        ("another secret", Key::secret(b"0123456789abcdef0123456789abcdef").bearer(&secrets), Invalid),
        ("an issuer's key for the secret's issuer", ec.bearer(&secrets), Invalid),
        ("a key of the same id", forged.bearer(&claims("devel", json!({}))), Invalid),
        ("a key that it brings along", forged_with(&forged, json!({ "jwk": forged.jwk() }), &good), Invalid),
        ("a key at its own jku", forged_with(&forged, json!({ "jku": "http://127.0.0.1:1/" }), &good), Invalid),
        ("a certificate that it brings along", forged_with(&forged, json!({ "x5c": ["MIIB"] }), &good), Invalid),
        ("an unknown kid", kid("nobody"), Invalid),
        ("an empty kid", kid(""), Invalid),
        ("kid in another case", kid("EC"), Invalid),
        ("kid with a path", kid("../../../../dev/null"), Invalid),
        ("kid with an absolute path", kid("/dev/null"), Invalid),
        ("kid with a URL", kid("http://127.0.0.1:1/keys"), Invalid),
        ("kid with a query", kid("ec' OR '1'='1"), Invalid),
        ("kid with a command", kid("$(id)"), Invalid),
        ("kid with NUL", kid("ec\u{0}"), Invalid),
        ("kid of 6 KiB", kid(&"k".repeat(4_000)), Invalid),
        ("kid that is a number", header(ec, json!({ "kid": 1 })), Invalid),
        ("a key for encryption", kid("enc"), Invalid),
        ("a key of the other kind", header(ec, json!({ "kid": "rsa" })), Invalid),
        ("crit", header(ec, json!({ "crit": ["exp"] })), Invalid),
        ("an empty crit", header(ec, json!({ "crit": [] })), Invalid),
        ("unencoded payload", header(ec, json!({ "b64": false, "crit": ["b64"] })), Invalid),
        ("another user under the signature", glued(head, &part(&mallory), signature), Invalid),
        ("another header over the signature", glued(&part("{\"alg\":\"ES256\"}"), body, signature), Invalid),
        ("no signature", glued(head, body, ""), Invalid),
        ("a signature cut short", glued(head, body, &signature[..40]), Invalid),
        ("a signature of zeros", glued(head, body, &"A".repeat(86)), Invalid),
        ("a signature with padding", glued(head, body, &format!("{signature}==")), Invalid),
        ("parts in standard base64", glued(head, &format!("{body}+/"), signature), Invalid),
        ("parts swapped", glued(body, head, signature), Invalid),
        ("a header that is no JSON", glued("x", body, signature), Invalid),
        ("a header that is a list", glued(&part("[]"), body, signature), Invalid),
        ("an encrypted token", format!("Bearer {head}.{body}.{signature}.{head}.{body}"), Invalid),
        ("Basic with a JWT", format!("Basic {token}"), Invalid),
        ("a JWT without a scheme", token.clone(), Invalid),
        ("a JWT and a word", format!("Bearer {token} x"), Invalid),
        ("a JWT in quotes", format!("Bearer \"{token}\""), Invalid),
        ("a JWT over 8 KiB", ec.bearer(&claims("devel", json!({ "x": "x".repeat(8_000) }))), Invalid),
    ]
}

fn forged_with(key: &Key, more: Value, payload: &str) -> String {
    let mut header = key.header();
    header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    format!("Bearer {}", key.sign(&header.to_string(), payload))
}

/// Asks both doors; says what doesn't fit.
async fn check(client: &Client, name: &str, values: &[Vec<u8>], want: Want) -> Option<String> {
    for path in [STATUS, BUILDS] {
        let mut request = client.request(Method::GET, path);
        for value in values {
            request = request.header("authorization", HeaderValue::from_bytes(value).expect(name));
        }
        let answer = client.send(request).await;
        let expected = match want {
            Welcome => welcome(path),
            Invalid => refusal(path, "Invalid authorization"),
            Missing => refusal(path, "Missing authorization header"),
        };
        if parts(&answer) != (expected.0, expected.1, expected.2) {
            return Some(format!("{name}: {path} answers {:?} instead of {want:?}", answer.parts()));
        }
    }
    None
}

#[tokio::test]
async fn every_header_has_its_exact_answer_at_each_door() {
    let gateway = gateway().await;
    let mut cases = spellings(&gateway.kiln);
    let tokens = claimed(&gateway).into_iter().chain(signed(&gateway));
    cases.extend(tokens.map(|(name, value, want)| (name, vec![value.into_bytes()], want)));
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let client = gateway.kiln.anonymous();
    let mut wrong = Vec::new();
    for (name, values, want) in &cases {
        wrong.extend(check(&client, name, values, *want).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let log = gateway.kiln.log().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(log.contains("the token's signature doesn't match") && log.contains("the token has expired"), "{log}");
    let secrets = cases.iter().flat_map(|(_, values, _)| values).filter_map(|value| std::str::from_utf8(value).ok());
    for secret in secrets.flat_map(|value| value.split_whitespace()).filter(|word| word.len() > 40) {
        assert!(!log.contains(secret), "the log shows {secret}");
    }
}
