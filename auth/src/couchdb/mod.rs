//! OpenServerless's own users, as its CouchDB keeps them: the subject whose namespace has the
//! token, then what is known about that user.

mod config;
mod database;
mod indexes;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use self::database::Database;
pub use self::{
    config::{CouchDbConfig, InvalidCouchDbConfig},
    database::CouchDbError,
    indexes::{Index, Made},
};
use crate::{
    Asker, Credential, Environment, Identity, IdentityProvider, Refusal, UserName, WskToken,
    http_client::{Bounds, Http},
    lookups::Lookups,
};

const NAME: &str = "couchdb";

/// Where OpenWhisk keeps who may call.
const SUBJECTS: &str = "nuvolaris_subjects";

/// Where OpenServerless keeps what else it knows about them.
const METADATA: &str = "nuvolaris_users_metadata";

/// The longest uuid of a token that is looked for in the view, in bytes: three times what OpenWhisk makes.
const LONGEST_UUID: usize = 128;

/// Identities out of OpenServerless's CouchDB.
pub struct CouchDb {
    subjects: Database,
    metadata: Database,
    lookups: Lookups,
    view: bool,
}

/// `{"subject", "namespaces": [{"name", "uuid", "key"}], "blocked"}`
#[derive(Deserialize)]
struct Subject {
    subject: String,
    #[serde(default)]
    namespaces: Vec<Namespace>,
    blocked: Option<bool>,
}

#[derive(Deserialize)]
struct Namespace {
    uuid: String,
    key: SecretString,
}

/// `{"login", "env": [{"key", "value"}], "userenv": [{"key", "value"}]}`
#[derive(Deserialize)]
struct Metadata {
    login: String,
    #[serde(default)]
    env: Vec<Variable>,
    #[serde(default)]
    userenv: Vec<Variable>,
}

#[derive(Deserialize)]
struct Variable {
    key: String,
    value: Value,
}

// === impl CouchDb ===

impl CouchDb {
    /// Prepares a client; it connects when the first caller comes.
    ///
    /// # Errors
    /// When the URL is `https` and the system's certificate authorities can't be read, or the password
    /// would cross networks in the clear.
    pub fn new(config: &CouchDbConfig) -> Result<Self, InvalidCouchDbConfig> {
        config.check()?;
        let limits = config.limits;
        let bounds = Bounds { connect: limits.connect, idle: limits.lookups, answer: limits.answer };
        let http = Http::new(&config.url, None, bounds)?;
        Ok(Self {
            subjects: Database::new(http.clone(), config, SUBJECTS)?,
            metadata: Database::new(http, config, METADATA)?,
            lookups: Lookups::new("CouchDB", limits),
            view: config.view,
        })
    }

    /// Makes an index, unless there is one; where something else of its name is, it stays.
    ///
    /// # Errors
    /// When CouchDB doesn't answer, or refuses.
    pub async fn make(&self, index: &Index) -> Result<Made, CouchDbError> {
        let database = if index.database == SUBJECTS { &self.subjects } else { &self.metadata };
        database.make(index).await
    }

    /// Both questions.
    async fn look_up(&self, token: &WskToken) -> Result<Identity, Refusal> {
        let subject = self.subject(token).await?.ok_or(Refusal::NotMine)?;
        if subject.blocked == Some(true) {
            return Err(Refusal::Rejected("the subject is blocked"));
        }
        let metadata = self.metadata(&subject.subject).await?;
        let metadata = metadata.ok_or(Refusal::Rejected("the subject has no user metadata"))?;
        let user = UserName::parse(&metadata.login.to_lowercase())
            .map_err(|_| Refusal::Rejected("the login can't be the name of a repository"))?;
        Ok(Identity::new(user, NAME).with_environment(environment(metadata.env), &environment(metadata.userenv)))
    }

    async fn subject(&self, token: &WskToken) -> Result<Option<Subject>, Refusal> {
        let subjects: Vec<Subject> = if self.view {
            // Nobody's uuid is longer, and addresses have a bound.
            if token.uuid().len() > LONGEST_UUID {
                return Ok(None);
            }
            self.subjects.view(indexes::VIEW, token.uuid()).await
        } else {
            self.subjects.find(&by_token(token)).await
        }
        .map_err(Refusal::unavailable)?;
        // CouchDB compares by collation, which finds some different texts equal; the view knows no key.
        Ok(subjects.into_iter().find(|subject| subject.namespaces.iter().any(|n| token.is(&n.uuid, &n.key))))
    }

    async fn metadata(&self, login: &str) -> Result<Option<Metadata>, Refusal> {
        // Named fields keep the user's password hash where it is.
        let query = json!({ "selector": { "login": { "$eq": login } }, "fields": ["login", "env", "userenv"] });
        let found: Vec<Metadata> = self.metadata.find(&query).await.map_err(Refusal::unavailable)?;
        Ok(found.into_iter().find(|metadata| metadata.login == login))
    }
}

#[async_trait]
impl IdentityProvider for CouchDb {
    fn name(&self) -> &str {
        NAME
    }

    async fn identify(&self, credential: &Credential, _: &Asker) -> Result<Identity, Refusal> {
        let Credential::Wsk(token) = credential else { return Err(Refusal::NotMine) };
        self.lookups.run(self.look_up(token)).await
    }

    async fn recall(&self, credential: &Credential) -> Option<Result<Identity, Refusal>> {
        (!matches!(credential, Credential::Wsk(_))).then_some(Err(Refusal::NotMine))
    }
}

fn by_token(token: &WskToken) -> Value {
    json!({
        "selector": { "namespaces": { "$elemMatch": { "uuid": token.uuid(), "key": token.key().expose_secret() } } },
        "fields": ["subject", "namespaces", "blocked"],
    })
}

/// The list as variables; of two with one name the last counts. What isn't text is written as JSON.
fn environment(variables: Vec<Variable>) -> Environment {
    let text = |value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    variables.into_iter().map(|Variable { key, value }| (key, text(value))).collect()
}

#[cfg(test)]
mod tests;
