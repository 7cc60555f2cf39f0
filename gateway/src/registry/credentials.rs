//! Credentials for registries, and which host each is for.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret, SecretString};

use super::host::Host;

/// What a registry takes as proof. Wiped from memory when dropped, and never shown by `Debug`.
#[derive(Clone)]
pub enum Credential {
    /// A user name with its password.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token that the registry's token service exchanges for access tokens.
    IdentityToken(SecretString),
}

/// Credentials by the host they are for; nothing else is ever sent to a host.
#[derive(Clone, Debug, Default)]
pub struct Credentials(BTreeMap<Host, Credential>);

impl Credential {
    /// Reads `user:password`; the password begins after the first colon and may contain more of them.
    #[must_use]
    pub fn from_pair(pair: &str) -> Option<Self> {
        let (username, password) = pair.split_once(':')?;
        let fits = !username.is_empty() && !pair.chars().any(char::is_control);
        fits.then(|| Self::Password { username: username.to_owned(), password: password.into() })
    }

    /// Whether it is the same proof as `other`.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Password { username, password }, Self::Password { username: name, password: other }) => {
                username == name && password.expose_secret() == other.expose_secret()
            }
            (Self::IdentityToken(token), Self::IdentityToken(other)) => token.expose_secret() == other.expose_secret(),
            _ => false,
        }
    }

    /// A keyed hash: tells credentials apart in a cache without keeping them there.
    pub(super) fn fingerprint(&self, key: &hmac::Key) -> [u8; 32] {
        let mut context = hmac::Context::with_key(key);
        match self {
            Self::Password { username, password } => {
                context.update(b"password\0");
                context.update(username.as_bytes());
                context.update(b"\0");
                context.update(password.expose_secret().as_bytes());
            }
            Self::IdentityToken(token) => {
                context.update(b"identity\0");
                context.update(token.expose_secret().as_bytes());
            }
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => write!(f, "Credential({username}:…)"),
            Self::IdentityToken(_) => f.write_str("Credential(identity token)"),
        }
    }
}

impl Credentials {
    /// The one for `host`.
    #[must_use]
    pub fn get(&self, host: &Host) -> Option<&Credential> {
        self.0.get(host)
    }

    /// Adds one for `host`, in the place of an earlier one.
    pub fn insert(&mut self, host: Host, credential: Credential) {
        self.0.insert(host, credential);
    }
}

impl FromIterator<(Host, Credential)> for Credentials {
    fn from_iter<I: IntoIterator<Item = (Host, Credential)>>(rows: I) -> Self {
        Self(rows.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_contain_colons() {
        let Some(Credential::Password { username, password }) = Credential::from_pair("kiln:p:ss:") else {
            panic!("a pair is a credential")
        };
        assert_eq!((username.as_str(), password.expose_secret()), ("kiln", "p:ss:"));
        for text in ["", "name", ":password", "a:b\n", "a\0:b"] {
            assert!(Credential::from_pair(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        let password = Credential::from_pair("kiln:canary").unwrap();
        let token = Credential::IdentityToken("canary".into());
        let all = Credentials::from_iter([(Host::parse("a").unwrap(), password), (Host::parse("b").unwrap(), token)]);
        assert!(!format!("{all:?}").contains("canary"));
    }

    #[test]
    fn fingerprints_tell_credentials_apart() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let of = |credential: &Credential| credential.fingerprint(&key);
        let a = Credential::from_pair("a:b").unwrap();
        assert_eq!(of(&a), of(&a.clone()));
        assert_ne!(of(&a), of(&Credential::from_pair("a:c").unwrap()));
        assert_ne!(of(&Credential::IdentityToken("x".into())), of(&Credential::IdentityToken("y".into())));
    }
}
