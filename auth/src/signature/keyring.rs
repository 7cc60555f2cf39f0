//! Who may sign bodies, and the files that hold their keys.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretSlice, zeroize::Zeroizing};

use super::{Signature, Verifier};
use crate::UserName;

/// How many keys one body is tried with: each costs a hash over the whole of it.
const MOST_KEYS: usize = 8;
/// The longest key file, in bytes; a longer one isn't a key but the wrong file.
const LONGEST_KEY: u64 = 4096;

/// Somebody who signs, and the files with their keys: the old and the new one while they change.
#[derive(Clone, Debug)]
pub struct Signer {
    /// Whose builds they are.
    pub user: UserName,
    /// One key each; surrounding whitespace isn't part of it.
    pub keys: Vec<PathBuf>,
}

/// Every signer of an installation.
///
/// A request names its tenant by host name, else by key id; one that names none is tried with the
/// default signers.
#[derive(Clone, Debug)]
pub struct Keyring {
    domain: Option<String>,
    default: Vec<Signer>,
    tenants: BTreeMap<String, Signer>,
}

/// The keys that may have signed one request, as their files hold them now.
pub struct Keys(Vec<(UserName, SecretSlice<u8>)>);

/// The keys can't be what was meant.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKeyring {
    /// Too many to try.
    #[error("{0} has more than 8 keys: each costs a pass over every body; remove old ones, or make them tenants")]
    TooMany(String),
    /// A signer without any.
    #[error("{0} has no key file")]
    None(String),
    /// Such a name can't be in a host name.
    #[error("the tenant {0:?} can't be part of a host name: 1 to 63 of a-z, 0-9 and - between them")]
    Tenant(String),
    /// Whoever holds the key would be both.
    #[error("{}: two users have this key file; give each a key of its own", .0.display())]
    Shared(PathBuf),
    /// Two have the same name.
    #[error("the tenant {0:?} is there twice")]
    Twice(String),
}

/// Nobody has that name; the body needn't be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such tenant signs here: check the host name, or X-Kiln-Key-Id")]
pub struct UnknownTenant;

/// A key can't be had: the installation's fault, not the caller's.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read, or none of a signer's files is there.
    #[error("{}: the signing key can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// With an empty key anybody could sign.
    #[error("{}: the signing key is empty", .0.display())]
    Empty(PathBuf),
    /// No key is so long.
    #[error("{}: longer than 4096 bytes, so no signing key", .0.display())]
    TooLong(PathBuf),
}

// === impl Keyring ===

impl Keyring {
    /// The default signers, and the tenants by name. With a `domain`, `<tenant>.<domain>` names one.
    ///
    /// # Errors
    /// When a name can't be one, two users have the same file, or there would be more than eight keys to try.
    pub fn new(
        domain: Option<&str>,
        default: Vec<Signer>,
        tenants: impl IntoIterator<Item = (String, Signer)>,
    ) -> Result<Self, InvalidKeyring> {
        bounded("the default", &default)?;
        let mut by_name = BTreeMap::new();
        for (name, signer) in tenants {
            if !is_label(&name) {
                return Err(InvalidKeyring::Tenant(name));
            }
            bounded(&name, std::slice::from_ref(&signer))?;
            if by_name.insert(name.clone(), signer).is_some() {
                return Err(InvalidKeyring::Twice(name));
            }
        }
        let domain = domain.map(|domain| domain.trim_matches('.').to_ascii_lowercase());
        let keyring = Self { domain, default, tenants: by_name };
        let mut holders = BTreeMap::new();
        for (_, signer) in keyring.iter() {
            for path in &signer.keys {
                if holders.insert(path, &signer.user).is_some_and(|other| *other != signer.user) {
                    return Err(InvalidKeyring::Shared(path.clone()));
                }
            }
        }
        Ok(keyring)
    }

    /// Pairs of users of whom a key is the same, whatever its file's name: its holder may be either.
    /// Keys that can't be read are left out. This blocks.
    #[must_use]
    pub fn same(&self) -> Vec<(UserName, UserName)> {
        let keys = self.iter().filter_map(|(_, signer)| Keys::read(std::slice::from_ref(signer)).ok());
        let keys: Vec<_> = keys.flat_map(|keys| keys.0).collect();
        let same = |one: &SecretSlice<u8>, other: &SecretSlice<u8>| one.expose_secret() == other.expose_secret();
        let later = |at: usize| keys.iter().skip(at + 1);
        let pairs = keys.iter().enumerate().flat_map(|(at, one)| later(at).map(move |other| (one, other)));
        let pairs = pairs.filter(|((user, key), (other, its))| user != other && same(key, its));
        pairs.map(|((user, _), (other, _))| (user.clone(), other.clone())).collect()
    }

    /// Everybody who signs: the default signers without a name, then the tenants.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &Signer)> {
        let default = self.default.iter().map(|signer| (None, signer));
        default.chain(self.tenants.iter().map(|(name, signer)| (Some(name.as_str()), signer)))
    }

    /// Who may have signed a request of the tenant of this name.
    ///
    /// # Errors
    /// When nobody here has it, or there is none and no default.
    pub fn signers(&self, name: Option<&str>) -> Result<&[Signer], UnknownTenant> {
        let Some(name) = name else {
            return if self.default.is_empty() { Err(UnknownTenant) } else { Ok(&self.default) };
        };
        self.tenants.get(name).map(std::slice::from_ref).ok_or(UnknownTenant)
    }

    /// The name that a request gives itself which was sent to `host` (with or without a port) and has
    /// this `X-Kiln-Key-Id`; nobody need have it. The host name goes before: it is all that faas-cli lets
    /// its user choose.
    #[must_use]
    pub fn named(&self, host: Option<&str>, key_id: Option<&str>) -> Option<String> {
        host.and_then(|host| self.tenant_of(host)).or_else(|| key_id.map(str::to_owned))
    }

    fn tenant_of(&self, host: &str) -> Option<String> {
        let name = host.rsplit_once(':').map_or(host, |(name, _port)| name).trim_end_matches('.').to_ascii_lowercase();
        let tenant = name.strip_suffix(self.domain.as_deref()?)?.strip_suffix('.')?;
        Some(tenant.to_owned())
    }
}

fn bounded(name: &str, signers: &[Signer]) -> Result<(), InvalidKeyring> {
    if signers.iter().any(|signer| signer.keys.is_empty()) {
        return Err(InvalidKeyring::None(name.to_owned()));
    }
    let keys: usize = signers.iter().map(|signer| signer.keys.len()).sum();
    if keys > MOST_KEYS { Err(InvalidKeyring::TooMany(name.to_owned())) } else { Ok(()) }
}

fn is_label(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    letters && (1..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-')
}

// === impl Keys ===

impl Keys {
    /// Reads the signers' keys: for every request, so that a changed file counts at once. A few
    /// small files, but files: this blocks.
    ///
    /// Of several files of one signer some may be missing, as between two steps of a rotation.
    ///
    /// # Errors
    /// When a key can't be read, is empty, or a signer has none.
    pub fn read(signers: &[Signer]) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for signer in signers {
            let before = keys.len();
            let mut missing = None;
            for path in &signer.keys {
                match read_key(path) {
                    Ok(key) => keys.push((signer.user.clone(), key)),
                    Err(KeyError::Unreadable { path, source }) if source.kind() == io::ErrorKind::NotFound => {
                        missing = Some(KeyError::Unreadable { path, source });
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some(error) = missing.filter(|_| keys.len() == before) {
                return Err(error);
            }
        }
        Ok(Self(keys))
    }

    /// How many there are: fewer than files where some are missing.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Begins to check a body.
    #[must_use]
    pub fn verifier(&self, signature: &Signature) -> Verifier {
        Verifier::new(signature, self.0.iter().map(|(user, key)| (user, key.expose_secret())))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keys").field(&self.0.len()).finish()
    }
}

fn read_key(path: &Path) -> Result<SecretSlice<u8>, KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    // As long as it can become, so that no part of it stays behind where a vector grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(4097));
    File::open(path).and_then(|file| file.take(LONGEST_KEY + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST_KEY {
        return Err(KeyError::TooLong(path.to_owned()));
    }
    // As the real ones trim it, which take a key for text; one that isn't keeps what isn't ASCII.
    let key = std::str::from_utf8(&bytes).map_or(bytes.trim_ascii(), |text| text.trim().as_bytes());
    if key.is_empty() { Err(KeyError::Empty(path.to_owned())) } else { Ok(SecretSlice::from(key.to_vec())) }
}
