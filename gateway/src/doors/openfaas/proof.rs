//! The door's authenticator: who signed a body is known once all of it was read, and nothing of it is
//! parsed before.

use std::time::SystemTime;

use http::{HeaderMap, StatusCode, Uri, header};
use kiln_auth::{
    Identity, InvalidUserName, UserName,
    attempts::Caller,
    signature::{
        InvalidKeyring, InvalidSignature, KeyError, Keyring, Keys, Replayed, Replays, Signature, SignatureMismatch,
        Signer, UnknownTenant, Verifier,
    },
};

use super::dialect::Fault;
use crate::config;

/// What callers who sign are known by.
const PROVIDER: &str = "openfaas";
/// When to come back where a memory was full, in seconds.
const LATER: u64 = 10;

/// Proves who sent a body.
#[derive(Debug)]
pub struct Proof {
    /// Who may sign; `None` where whoever reaches the door is let in.
    keyring: Option<Keyring>,
    /// Whose unsigned bodies are.
    user: UserName,
    replays: Replays,
}

/// The section can't be what was meant.
#[derive(Debug, thiserror::Error)]
pub enum InvalidProof {
    /// The user.
    #[error("user: {0}")]
    User(#[from] InvalidUserName),
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
    /// What configuration says of who may sign.
    ///
    /// # Errors
    /// When it can't be meant.
    pub fn new(config: &config::OpenFaas) -> Result<Self, InvalidProof> {
        let user = UserName::parse(&config.user)?;
        let keyring = match &config.payload_secret_file {
            Some(file) if !config.disable_hmac => {
                let signer = Signer { user: user.clone(), keys: vec![file.clone()] };
                Some(Keyring::new(None, vec![signer], [])?)
            }
            _ => None,
        };
        Ok(Self { keyring, user, replays: Replays::default() })
    }

    /// Begins to check a body; `None` where nobody signs.
    pub(super) async fn begin(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<(Signature, Verifier)>, Unproved> {
        let Some(keyring) = &self.keyring else { return Ok(None) };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        // A request by HTTP/2 has its host in its target.
        let host = uri.host().or_else(|| text(header::HOST.as_str()));
        let signers = keyring.signers(host, text("x-kiln-key-id"))?.to_vec();
        let signature = Signature::from_headers(headers, SystemTime::now())?.ok_or(Unproved::Missing)?;
        let keys = tokio::task::spawn_blocking(move || Keys::read(&signers)).await;
        let verifier = keys.map_err(|_| Unproved::Stopping)??.verifier(&signature);
        Ok(Some((signature, verifier)))
    }

    /// Who sent a body whose check has ended well. The holder of the one key may name every
    /// repository, as with the real builders.
    pub(super) fn end(&self, signature: Option<&Signature>, signer: Option<UserName>) -> Result<Identity, Unproved> {
        if let Some(signature) = signature {
            self.replays.admit(signature, SystemTime::now())?;
        }
        let user = signer.unwrap_or_else(|| self.user.clone());
        Ok(Identity::new(user, PROVIDER).unbounded())
    }
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
            Self::Mismatch(_) | Self::Invalid(InvalidSignature::Digest(_)) => {
                refused("invalid message digest or secret")
            }
            Self::Invalid(error) => refused(&error.to_string()),
            Self::Tenant(error) => refused(&error.to_string()),
            Self::Replayed(Replayed::Again) => refused(&Replayed::Again.to_string()),
            Self::Replayed(full @ Replayed::Full) => {
                Fault::busy(StatusCode::SERVICE_UNAVAILABLE, full.to_string(), LATER)
            }
            Self::Key(error) => Fault::internal(error),
            Self::Stopping => Fault::busy(StatusCode::SERVICE_UNAVAILABLE, self.to_string(), LATER),
        }
    }
}
