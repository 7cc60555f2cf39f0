//! Keys that may have signed a token, each only for the algorithms that it is fit for.

use aws_lc_rs::rsa;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// The shortest RSA modulus, in bits (RFC 7518, 3.3).
const RSA_BITS: usize = 2048;
/// The shortest HMAC key, in bytes: as long as the hash of HS256 (RFC 7518, 3.2).
const SECRET_BYTES: usize = 32;

/// The keys of one issuer.
pub(super) struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// There is no key for a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoKey {
    /// No key has this id; a newer set may have one.
    Unknown,
    /// The key of this id is for other algorithms.
    Unfit,
    /// The token names no key, and several would do.
    Ambiguous,
}

/// A file or an answer holds no keys.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKeys {
    /// It is no JWKS.
    #[error("it is no JWKS: a JSON object with a list \"keys\"")]
    Set,
    /// It is no public key in PEM form.
    #[error("it is no public key in PEM form for {0:?}; a certificate isn't one either")]
    Pem(Algorithm),
    /// An RSA key is too short.
    #[error("the RSA key is shorter than {RSA_BITS} bits")]
    ShortRsa,
    /// A secret is too short.
    #[error("the secret is shorter than {SECRET_BYTES} bytes")]
    ShortSecret,
    /// A secret is none.
    #[error("a key in PEM form is no secret: whoever has the public key could sign")]
    PublicSecret,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

// === impl KeySet ===

impl KeySet {
    /// Reads a JWKS. Keys that can't have signed by one of `allowed` are passed over: another purpose,
    /// another algorithm, RSA below 2048 bits, a secret, an unknown type.
    pub(super) fn from_jwks(text: &[u8], allowed: &[Algorithm]) -> Result<Self, InvalidKeys> {
        let document: Document = serde_json::from_slice(text).map_err(|_| InvalidKeys::Set)?;
        Ok(Self(document.keys.into_iter().filter_map(|key| Key::from_jwk(key, allowed)).collect()))
    }

    /// Reads the one key of a file: PEM, or for HMAC the bytes of the secret, one line's end aside.
    pub(super) fn from_file(bytes: &[u8], allowed: &[Algorithm]) -> Result<Self, InvalidKeys> {
        let invalid = |algorithm| move |_| InvalidKeys::Pem(algorithm);
        let Some(&first) = allowed.first() else { return Ok(Self(Vec::new())) };
        let key = match first.family() {
            AlgorithmFamily::Hmac => DecodingKey::from_secret(secret(bytes)?),
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(bytes).map_err(invalid(first))?,
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(bytes).map_err(invalid(first))?,
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(bytes).map_err(invalid(first))?,
        };
        if first.family() == AlgorithmFamily::Rsa {
            let public = key.try_get_as_bytes().ok().and_then(|der| rsa::PublicKey::from_der(der).ok());
            let bits = public.ok_or(InvalidKeys::Pem(first))?.modulus_len() * 8;
            if bits < RSA_BITS {
                return Err(InvalidKeys::ShortRsa);
            }
        }
        Ok(Self(vec![Key { id: None, algorithms: allowed.to_vec(), key }]))
    }

    /// The key that a token names and that may be used with its algorithm. A token without an id gets
    /// the only one that may.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&DecodingKey, NoKey> {
        let fit = |key: &&Key| key.algorithms.contains(&algorithm);
        if let Some(id) = id {
            let mut named = self.0.iter().filter(|key| key.id.as_deref() == Some(id)).peekable();
            let there = named.peek().is_some();
            return named.find(fit).map(|key| &key.key).ok_or(if there { NoKey::Unfit } else { NoKey::Unknown });
        }
        let mut fit = self.0.iter().filter(fit);
        match (fit.next(), fit.next()) {
            (Some(key), None) => Ok(&key.key),
            (None, _) => Err(NoKey::Unknown),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
        }
    }

    /// The only key of a file, which has no id.
    pub(super) fn only(&self) -> Option<&DecodingKey> {
        self.0.first().map(|key| &key.key)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

// === impl Key ===

impl Key {
    fn from_jwk(jwk: Value, allowed: &[Algorithm]) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        let stated = |algorithm: &&Algorithm| {
            common.key_algorithm.is_none_or(|stated| stated == KeyAlgorithm::from(**algorithm))
        };
        let fit = fit(&jwk.algorithm);
        let algorithms: Vec<_> =
            allowed.iter().filter(|algorithm| fit.contains(algorithm)).filter(stated).copied().collect();
        if !signs || algorithms.is_empty() {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, algorithms, key })
    }
}

/// The algorithms that a key of this type and length can be used with.
fn fit(parameters: &AlgorithmParameters) -> &'static [Algorithm] {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match parameters {
        AlgorithmParameters::RSA(rsa) if bits(&rsa.n) >= RSA_BITS => &[RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => &[ES256],
            EllipticCurve::P384 => &[ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => &[EdDSA],
        // A secret that is published is none.
        _ => &[],
    }
}

/// The length of a number in base64url, without its leading zeros.
fn bits(number: &str) -> usize {
    let bytes = URL_SAFE_NO_PAD.decode(number).unwrap_or_default();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let leading = bytes.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
    (bytes.len() - zeros) * 8 - leading
}

fn secret(bytes: &[u8]) -> Result<&[u8], InvalidKeys> {
    let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Err(InvalidKeys::PublicSecret);
    }
    if secret.len() < SECRET_BYTES { Err(InvalidKeys::ShortSecret) } else { Ok(secret) }
}
