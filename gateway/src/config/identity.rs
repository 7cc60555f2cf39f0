//! `[identity]`: who may call.

use std::path::PathBuf;

use serde::Deserialize;

/// Who may call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// A file of users that `kiln user add` writes.
    pub users_file: Option<PathBuf>,
    /// OpenServerless's CouchDB.
    pub couchdb: Option<CouchDb>,
    /// Lets every user push to every repository. Only for installations with a single tenant.
    pub unchecked_targets: bool,
    /// `STRICT_USER_CHECK` as found; honoured together with `unchecked_targets` only.
    #[serde(skip)]
    pub strict_user_check: Option<String>,
}

/// OpenServerless's CouchDB.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CouchDb {
    /// Its host name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The administrator's name.
    pub user: String,
    /// The file with the administrator's password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The password itself, as the replaced system has it in its environment.
    #[serde(skip)]
    pub password: Option<secrecy::SecretString>,
}

impl CouchDb {
    /// The password: from the environment, else from the file.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn password(&self) -> std::io::Result<Option<secrecy::SecretString>> {
        match (&self.password, &self.password_file) {
            (Some(password), _) => Ok(Some(password.clone())),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)?;
                Ok(Some(text.trim_end_matches(['\r', '\n']).into()))
            }
            (None, None) => Ok(None),
        }
    }
}

impl std::fmt::Debug for CouchDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CouchDb({}@{}:{})", self.user, self.host, self.port)
    }
}
