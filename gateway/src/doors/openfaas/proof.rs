//! The door's authenticator: who signed a body is known once all of it was read, and nothing of it is
//! parsed before.

use std::{collections::BTreeMap, time::SystemTime};

use http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use kiln_auth::{
    Identity, InvalidUserName, Misnamed, Naming, UserName,
    attempts::Caller,
    signature::{
        InvalidKeyring, InvalidSignature, KeyError, Keyring, Keys, Replayed, Replays, Signature, SignatureHeader,
        SignatureMismatch, Signer, UnknownTenant, Verifier,
    },
};

use super::dialect::Fault;
use crate::config;

/// What callers who sign are known by.
const PROVIDER: &str = "openfaas";
/// By which a request names its tenant, where its host name doesn't.
const KEY_ID: HeaderName = HeaderName::from_static("x-kiln-key-id");
/// When to come back where a memory was full, in seconds.
const LATER: u64 = 10;

/// Proves who sent a body.
#[derive(Debug)]
pub struct Proof {
    /// Who may sign; `None` where whoever reaches the door is let in.
    keyring: Option<Keyring>,
    /// Whether a signature must say when it was made.
    timed: bool,
    /// Whose unsigned bodies are.
    user: UserName,
    /// Whether there are tenants.
    tenants: bool,
    /// Whether nobody else calls, here or by a provider.
    alone: bool,
    /// Whether every repository may be named.
    unbounded: bool,
    replays: Replays,
}

/// The section can't be what was meant.
#[derive(Debug, thiserror::Error)]
pub enum InvalidProof {
    /// A user can't be one.
    #[error("{setting} {user:?}")]
    User {
        /// The setting.
        setting: String,
        /// Its value.
        user: String,
        /// Why.
        source: InvalidUserName,
    },
    /// A user could be another provider's.
    #[error("{setting} \"{user}\"")]
    Misnamed {
        /// The setting.
        setting: String,
        /// Its value.
        user: UserName,
        /// Why.
        source: Misnamed,
    },
    /// Two who sign would have the same repositories.
    #[error("openfaas.{0} and openfaas.{1} are the same user; give each a user of its own, or one of them both keys")]
    Twice(String, String),
    /// Tenants that anybody could be.
    #[error("disable_hmac lets in whoever reaches the door, and tenants have keys; remove one of the two")]
    Open,
    /// Signatures that nobody is asked for.
    #[error("disable_hmac lets in whoever reaches the door, and timed_signatures who signs; remove one of the two")]
    Unsigned,
    /// Tenants whose repositories anybody could name.
    #[error("unbounded lets every key name every repository, and tenants have their own; remove one of the two")]
    Unbounded,
    /// No host name can end so.
    #[error("domain {0:?} is no host name such as builder.example")]
    Domain(String),
    /// The keys.
    #[error(transparent)]
    Keyring(#[from] InvalidKeyring),
}

/// A body isn't proved to be anybody's.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unproved {
    /// It has no signature.
    #[error("the request has no signature")]
    Missing,
    /// It has one that can't be right.
    #[error(transparent)]
    Invalid(#[from] InvalidSignature),
    /// It has one that could be sent again.
    #[error("{0} can be replayed, which isn't permitted here; send {kiln}", kiln = SignatureHeader::Kiln)]
    Untimed(SignatureHeader),
    /// It names somebody who doesn't sign here.
    #[error(transparent)]
    Tenant(#[from] UnknownTenant),
    /// It has the wrong one.
    #[error(transparent)]
    Mismatch(#[from] SignatureMismatch),
    /// It was good once.
    #[error(transparent)]
    Replayed(#[from] Replayed),
    /// The operator's key can't be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key can't be read because the process ends.
    #[error("the gateway is stopping")]
    Stopping,
}

// === impl Proof ===

impl Proof {
    /// What configuration says of who may sign, how they are named among all users, and whether all
    /// users are theirs.
    ///
    /// # Errors
    /// When it can't be meant.
    pub fn new(config: &config::OpenFaas, naming: &Naming, signers_alone: bool) -> Result<Self, InvalidProof> {
        if config.disable_hmac && !config.tenants.is_empty() {
            return Err(InvalidProof::Open);
        }
        if config.disable_hmac && config.timed_signatures {
            return Err(InvalidProof::Unsigned);
        }
        if config.unbounded && !config.tenants.is_empty() {
            return Err(InvalidProof::Unbounded);
        }
        if let Some(domain) = config.domain.as_ref().filter(|domain| !is_domain(domain)) {
            return Err(InvalidProof::Domain(domain.clone()));
        }
        let user = named(naming, "user", &config.user)?;
        let mut settings = BTreeMap::new();
        let mut default = Vec::new();
        if !config.payload_secret_file.is_empty() {
            settings.insert(user.clone(), "user".to_owned());
            default.push(Signer { user: user.clone(), keys: config.payload_secret_file.clone() });
        }
        let mut tenants = Vec::new();
        for (name, config::Tenant { user, payload_secret_file }) in &config.tenants {
            let setting = format!("tenants.{name}.user");
            let user = named(naming, &setting, user.as_deref().unwrap_or(name))?;
            if let Some(other) = settings.insert(user.clone(), setting.clone()) {
                return Err(InvalidProof::Twice(other, setting));
            }
            tenants.push((name.clone(), Signer { user, keys: payload_secret_file.clone() }));
        }
        let keyring = Keyring::new(config.domain.as_deref(), default, tenants)?;
        let keyring = (!config.disable_hmac).then_some(keyring);
        let tenants = !config.tenants.is_empty();
        let (alone, replays) = (signers_alone && !tenants, Replays::of(settings.len()));
        let (timed, unbounded) = (config.timed_signatures, alone || config.unbounded);
        Ok(Self { keyring, timed, user, tenants, alone, unbounded, replays })
    }

    /// Reads every key as a request would: whose they are, how many files name them, and how many are
    /// there. This blocks.
    pub(crate) fn keys(&self) -> Vec<(String, usize, Result<usize, KeyError>)> {
        let read = |(tenant, signer): (Option<&str>, &Signer)| {
            let whose = tenant.map_or_else(|| "the default key".to_owned(), |name| format!("the key of tenant {name}"));
            (whose, signer.keys.len(), Keys::read(std::slice::from_ref(signer)).map(|keys| keys.count()))
        };
        self.keyring.iter().flat_map(Keyring::iter).map(read).collect()
    }

    /// Users of whom a key is the same. This blocks.
    pub(crate) fn same_keys(&self) -> Vec<(UserName, UserName)> {
        self.keyring.as_ref().map(Keyring::same).unwrap_or_default()
    }

    /// Whether whoever is let in here is the only one who calls.
    pub(super) fn alone(&self) -> bool {
        self.alone
    }

    /// The tenant that a request says it is of.
    pub(super) fn named(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        // A request by HTTP/2 has its host in its target.
        let host = uri.host().or_else(|| headers.get(header::HOST)?.to_str().ok());
        // One that isn't text is nobody's; left out, it would be the default signer's.
        let key_id = headers.get(KEY_ID).map(|id| id.to_str().unwrap_or_default());
        self.keyring.as_ref()?.named(host, key_id)
    }

    /// Begins to check a body of the tenant of this name; `None` where nobody signs.
    pub(super) async fn begin(
        &self,
        name: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Option<(Signature, Verifier)>, Unproved> {
        let Some(keyring) = &self.keyring else { return Ok(None) };
        // First, so that who sends none learns no tenant's name.
        let signature = Signature::from_headers(headers, SystemTime::now())?.ok_or(Unproved::Missing)?;
        if self.timed && signature.header() != SignatureHeader::Kiln {
            return Err(Unproved::Untimed(signature.header()));
        }
        let signers = keyring.signers(name)?.to_vec();
        let keys = tokio::task::spawn_blocking(move || Keys::read(&signers)).await;
        let keys = keys.map_err(|_| Unproved::Stopping)?.map_err(|error| self.keyless(error))?;
        let verifier = keys.verifier(&signature);
        Ok(Some((signature, verifier)))
    }

    /// A key that can't be had. Where there are tenants its like is said of an unknown one, so that
    /// nobody learns who is here.
    fn keyless(&self, error: KeyError) -> Unproved {
        if !self.tenants {
            return error.into();
        }
        tracing::error!(error = crate::serve::causes(&error), "a tenant's requests are refused");
        UnknownTenant.into()
    }

    /// Who sent a body whose check has ended well. Where nobody else calls, the one key's holder
    /// may name every repository, as with the real builders.
    pub(super) fn end(&self, signer: Option<UserName>) -> Identity {
        let user = signer.unwrap_or_else(|| self.user.clone());
        let identity = Identity::new(user, PROVIDER);
        if self.unbounded { identity.unbounded() } else { identity }
    }

    /// Lets a signature that was found right be good for nothing more. Last of all: who is refused for
    /// want of a place may send the same bytes again.
    pub(super) fn admit(&self, identity: &Identity, signature: &Signature) -> Result<(), Unproved> {
        Ok(self.replays.admit(identity.user(), signature, SystemTime::now())?)
    }
}

fn named(naming: &Naming, setting: &str, user: &str) -> Result<UserName, InvalidProof> {
    let setting = || format!("openfaas.{setting}");
    let invalid = |source| InvalidProof::User { setting: setting(), user: user.to_owned(), source };
    let user = UserName::parse(user).map_err(invalid)?;
    naming.user(&user).map_err(|source| InvalidProof::Misnamed { setting: setting(), user, source })
}

fn is_domain(name: &str) -> bool {
    let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    name.trim_matches('.').split('.').all(label)
}

// === impl Unproved ===

impl Unproved {
    /// Counts against the caller what may be a guess, as the layer for other doors does, and says it
    /// in the real builder's words where it has some.
    pub(super) fn fault(&self, caller: &Caller) -> Fault {
        let refused = |text: &str| Fault::new(StatusCode::UNAUTHORIZED, text);
        if !matches!(self, Self::Missing | Self::Key(_) | Self::Stopping | Self::Replayed(Replayed::Full)) {
            caller.failed(&self.to_string());
        }
        match self {
            Self::Missing => refused("invalid encodedHash, should have at least 5 characters"),
            Self::Mismatch(_) | Self::Tenant(_) | Self::Invalid(InvalidSignature::Digest(_)) => {
                refused("invalid message digest or secret")
            }
            Self::Invalid(error) => refused(&error.to_string()),
            Self::Untimed(_) => refused(&self.to_string()),
            Self::Replayed(Replayed::Again) => refused(&Replayed::Again.to_string()),
            Self::Replayed(full @ Replayed::Full) => {
                Fault::busy(StatusCode::SERVICE_UNAVAILABLE, full.to_string(), LATER)
            }
            Self::Key(error) => Fault::internal(error),
            Self::Stopping => Fault::busy(StatusCode::SERVICE_UNAVAILABLE, self.to_string(), LATER),
        }
    }
}
