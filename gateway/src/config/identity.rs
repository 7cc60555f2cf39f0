//! `[identity]`: who may call.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::time::{duration, optional_duration};

/// Who may call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// A file of users that `kiln user add` writes.
    pub users_file: Option<PathBuf>,
    /// What the names of the file's users begin with.
    pub users_file_prefix: Option<String>,
    /// OpenServerless's CouchDB.
    pub couchdb: Option<CouchDb>,
    /// An OpenWhisk's API.
    pub openwhisk: Option<OpenWhisk>,
    /// Issuers of signed tokens.
    pub jwt: Vec<Jwt>,
    /// Lets several providers name the same user: they know the same people.
    pub shared_names: bool,
    /// Who may read and cancel what others build: `<provider>:<user>`.
    pub operators: Vec<String>,
    /// Roles that give the same, of providers that have a `roles_claim`: `<provider>:<role>`.
    pub operator_roles: Vec<String>,
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
    /// Finds subjects by the view that `kiln identity indexes` makes.
    #[serde(default)]
    pub view: bool,
    /// Takes a host beyond the installation's own network without TLS.
    #[serde(default)]
    pub allow_plain_http: bool,
    /// What its users' names begin with here.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The password itself, as the replaced system has it in its environment.
    #[serde(skip)]
    pub password: Option<secrecy::SecretString>,
}

/// An OpenWhisk's API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenWhisk {
    /// `host`, `host:port`, or either behind `http://` or `https://`.
    pub api_host: String,
    /// Takes an `http://` beyond the installation's own network.
    #[serde(default)]
    pub allow_plain_http: bool,
    /// Authorities to trust instead of the system's, PEM.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// What its users' names begin with here.
    #[serde(default)]
    pub prefix: Option<String>,
}

/// An issuer of signed tokens. Its keys come from exactly one of the three places.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Its name here.
    pub name: String,
    /// The tokens' `iss`, exactly.
    pub issuer: String,
    /// The tokens' `aud` is, or contains, one of these.
    pub audience: Vec<String>,
    /// What tokens may be signed with.
    pub algorithms: Vec<String>,
    /// A set of keys at a URL.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// Takes an `http://` to another machine.
    #[serde(default)]
    pub allow_plain_http: bool,
    /// Authorities for that URL instead of the system's, PEM.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A bearer token for that URL; read again for every question.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    /// A set of keys in a file.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// One public key in PEM form, or a secret.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// By how much clocks may differ.
    #[serde(default = "minute", deserialize_with = "duration")]
    pub leeway: Duration,
    /// The claim that is the user: a name, or a JSON pointer.
    #[serde(default = "subject")]
    pub user_claim: String,
    /// The claim that lists roles, likewise.
    #[serde(default)]
    pub roles_claim: Option<String>,
    /// What its users' names begin with here.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Between two questions for a set of keys at least.
    #[serde(default, deserialize_with = "optional_duration")]
    pub refresh_pause: Option<Duration>,
    /// After so long a set is asked for again.
    #[serde(default, deserialize_with = "optional_duration")]
    pub max_age: Option<Duration>,
    /// After so long without an answer the old set isn't believed any more.
    #[serde(default, deserialize_with = "optional_duration")]
    pub keep: Option<Duration>,
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn subject() -> String {
    "sub".to_owned()
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

#[cfg(test)]
mod tests {
    use crate::{config::Config, identities};

    #[test]
    fn every_example_can_be_read() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/identity");
        let mut examples = 0;
        for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let config = toml::from_str::<Config>(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            // Their files are elsewhere; what is wrong with their settings would be said first.
            if let Err(error) = identities::callers(&config.identity, &config.openfaas) {
                let said = crate::serve::causes(&error);
                assert!(said.contains("/etc/kiln") || said.contains("/run/secrets"), "{}: {said}", file.display());
            }
            examples += 1;
        }
        assert_eq!(examples, 6);
    }
}
