//! Users in a TOML file, for a laptop or a small installation without a database.
//!
//! ```toml
//! [[users]]
//! name = "devel"
//! token_uuid = "3f0c…"
//! key = "hmac-sha256:<salt>:<digest>"
//! env = { REGISTRY_HOST = "registry.example" }
//! ```

mod key_hash;
mod write;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use async_trait::async_trait;
use serde::Deserialize;

use self::key_hash::KeyHash;
pub use self::write::{NewUser, add_user};
use crate::{Asker, Credential, Environment, Identity, IdentityProvider, Refusal, UserName};

const NAME: &str = "users-file";

/// The users of a file, which is read again whenever it has changed.
pub struct UsersFile {
    path: PathBuf,
    users: RwLock<(Stamp, Arc<Users>)>,
}

/// Why the file can't be read or written. No text of the file is repeated: it may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum UsersFileError {
    /// The system refuses.
    #[error("{}: can't be read or written; `kiln user add` makes a first user", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The text isn't as expected.
    #[error("{}, line {line}: not as expected; each [[users]] has name, token_uuid, key and perhaps env", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
    },
    /// A name can't be a repository of a registry.
    #[error("user {index} of the file: its name is none; a name is 1 to 63 characters of a-z, 0-9 and single . _ -")]
    Name {
        /// Which of the `[[users]]`, counted from 1.
        index: usize,
    },
    /// Two users have the same name or the same token.
    #[error("user {0} is there twice, or shares a token_uuid with another")]
    Twice(UserName),
    /// There is such a user, and a new key wasn't asked for.
    #[error("user {0} is there already; ask for rotation to give them a new key")]
    Exists(UserName),
    /// A key that somebody made up.
    #[error("the key can be guessed; leave it out and one is generated")]
    WeakKey,
    /// The system has no randomness to give.
    #[error("the system has no randomness to give")]
    NoRandomness,
}

/// What a file says, by the public half of the token.
struct Users {
    by_uuid: HashMap<String, User>,
    nobodys: KeyHash,
}

struct User {
    identity: Identity,
    key: KeyHash,
}

/// Tells one content of a file from another: replacing it by a rename changes its inode, even
/// within one tick of the clock and at the same length.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    size: u64,
    inode: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    users: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    token_uuid: String,
    key: KeyHash,
    #[serde(default)]
    env: Environment,
}

// === impl UsersFile ===

impl UsersFile {
    /// Reads the users of a file.
    ///
    /// # Errors
    /// When it can't be read or isn't as expected.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, UsersFileError> {
        let path = path.into();
        let users = RwLock::new(read(&path)?);
        Ok(Self { path, users })
    }

    /// The users as the file has them now. A file that has become unreadable lets nobody in: the
    /// change may have been a removal.
    fn current(&self) -> Result<Arc<Users>, UsersFileError> {
        // Asking the system takes about a microsecond, reading happens once per change: neither is
        // worth a trip to a blocking thread.
        let now = stamp(&self.path)?;
        let (read_at, users) = self.users.read().unwrap_or_else(PoisonError::into_inner).clone();
        if read_at == now { Ok(users) } else { self.reread() }
    }

    fn reread(&self) -> Result<Arc<Users>, UsersFileError> {
        let fresh = read(&self.path)?;
        let users = Arc::clone(&fresh.1);
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(users)
    }
}

#[async_trait]
impl IdentityProvider for UsersFile {
    fn name(&self) -> &str {
        NAME
    }

    async fn identify(&self, credential: &Credential, _: &Asker) -> Result<Identity, Refusal> {
        let Credential::Wsk(token) = credential else { return Err(Refusal::NotMine) };
        let users = self.current().map_err(Refusal::unavailable)?;
        // An unknown user costs the same hash as a known one with a wrong key, and gets the same
        // answer: it is the pair that is nobody's.
        let user = users.by_uuid.get(token.uuid());
        let key = user.map_or(&users.nobodys, |user| &user.key);
        match (key.is_of(token.key()), user) {
            (true, Some(user)) => Ok(user.identity.clone()),
            _ => Err(Refusal::NotMine),
        }
    }

    /// Answers itself: asking the file for its age is all that it takes.
    async fn recall(&self, credential: &Credential) -> Option<Result<Identity, Refusal>> {
        Some(self.identify(credential, &Asker::GATEWAY).await)
    }
}

// === impl Users ===

impl Users {
    fn parse(text: &str, path: &Path) -> Result<Self, UsersFileError> {
        let document: Document = toml::from_str(text).map_err(|error| {
            let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(text));
            UsersFileError::Format { path: path.to_owned(), line: before.matches('\n').count() + 1 }
        })?;
        let mut names = HashSet::new();
        let mut by_uuid = HashMap::new();
        for (index, entry) in document.users.into_iter().enumerate() {
            let name = UserName::parse(&entry.name).map_err(|_| UsersFileError::Name { index: index + 1 })?;
            let mut identity = Identity::new(name.clone(), NAME);
            if !entry.env.is_empty() {
                identity = identity.with_environment(entry.env, &Environment::default());
            }
            let user = User { identity, key: entry.key };
            if !names.insert(name.clone()) || by_uuid.insert(entry.token_uuid, user).is_some() {
                return Err(UsersFileError::Twice(name));
            }
        }
        Ok(Self { by_uuid, nobodys: KeyHash::nobodys() })
    }
}

fn read(path: &Path) -> Result<(Stamp, Arc<Users>), UsersFileError> {
    // The stamp first: a change between the two steps is then seen by the next caller.
    let stamp = stamp(path)?;
    let text = fs::read_to_string(path).map_err(|source| UsersFileError::io(path, source))?;
    Ok((stamp, Arc::new(Users::parse(&text, path)?)))
}

fn stamp(path: &Path) -> Result<Stamp, UsersFileError> {
    let metadata = fs::metadata(path);
    let stamp = metadata
        .and_then(|metadata| Ok(Stamp { modified: metadata.modified()?, size: metadata.len(), inode: metadata.ino() }));
    stamp.map_err(|source| UsersFileError::io(path, source))
}

// === impl UsersFileError ===

impl UsersFileError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests;
