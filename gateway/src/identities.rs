//! The identity providers that configuration names, in the order in which they are asked: the file of
//! users, CouchDB, OpenWhisk, then the issuers of tokens as they are listed.

use std::{io, path::Path, path::PathBuf, sync::Arc};

use kiln_auth::{
    Cached, ClaimPath, CouchDb, CouchDbConfig, IdentityProvider, JwtConfig, KeySource, KeyTimes, Lifetimes, Named,
    Naming, OpenWhisk, OpenWhiskConfig, Operators, Providers, ScopeCheck, UsersFile,
};
use secrecy::ExposeSecret as _;

use crate::{
    config::{self, Identity, OpenFaas},
    serve::{StartError, failed},
};

/// One configured provider.
pub(crate) struct Provider {
    /// What its users' names begin with.
    prefix: Option<String>,
    pub(crate) kind: Kind,
}

/// What it is.
#[derive(Clone)]
pub(crate) enum Kind {
    UsersFile(Arc<UsersFile>),
    CouchDb(Arc<CouchDb>),
    OpenWhisk(Arc<OpenWhisk>),
    Jwt(Arc<kiln_auth::Jwt>),
}

/// Everybody who may call, under names that are one namespace.
pub(crate) struct Callers {
    /// All configured providers as one, which asks them in order.
    pub(crate) provider: Arc<dyn IdentityProvider>,
    /// How those are named who sign at the OpenFaaS door.
    pub(crate) signers: Naming,
    /// Whether nobody else may call.
    pub(crate) signers_alone: bool,
}

/// Who may call by these settings.
pub(crate) fn callers(config: &Identity, openfaas: &OpenFaas) -> Result<Callers, StartError> {
    let check =
        ScopeCheck::decide(config.strict_user_check.as_deref(), config.unchecked_targets, "identity.unchecked_targets");
    let check = check.map_err(failed("STRICT_USER_CHECK"))?;
    let configured = configured(config)?;
    if configured.is_empty() && !openfaas.is_on() {
        let missing = io::Error::other(
            "set identity.users_file (see `kiln user add`), COUCHDB_SERVICE_HOST, identity.openwhisk or identity.jwt",
        );
        return Err(failed("nobody could call")(missing));
    }
    let settings: Vec<_> = configured.iter().map(Provider::prefix_setting).collect();
    let prefixes = configured.iter().map(|provider| provider.prefix.as_deref());
    let mut prefixes: Vec<_> = settings.iter().map(String::as_str).zip(prefixes).collect();
    if openfaas.is_on() {
        prefixes.push(("openfaas.prefix", openfaas.prefix.as_deref()));
    }
    let mut naming = Naming::decide(&prefixes, config.shared_names).map_err(failed("user names"))?;
    let signers = naming.split_off(configured.len()).pop().unwrap_or_default();
    let operators = operators(config, &configured)?;
    let named = configured.iter().zip(naming).map(|(provider, naming)| provider.cached(naming));
    let provider = Arc::new(Providers::new(named.collect::<Result<_, _>>()?, check).operators(operators));
    Ok(Callers { provider, signers, signers_alone: configured.is_empty() })
}

/// The configured providers, each by itself.
pub(crate) fn configured(config: &Identity) -> Result<Vec<Provider>, StartError> {
    let mut providers = Vec::new();
    if let Some(path) = &config.users_file {
        let users = UsersFile::open(path).map_err(failed(format!("identity.users_file {}", path.display())))?;
        let kind = Kind::UsersFile(Arc::new(users));
        providers.push(Provider { prefix: config.users_file_prefix.clone(), kind });
    }
    if let Some(couchdb) = &config.couchdb {
        let config = couchdb_config(couchdb)?;
        let kind = Kind::CouchDb(Arc::new(CouchDb::new(&config).map_err(failed("identity.couchdb"))?));
        providers.push(Provider { prefix: couchdb.prefix.clone(), kind });
    }
    if let Some(openwhisk) = &config.openwhisk {
        let mut config = OpenWhiskConfig::at(&openwhisk.api_host).map_err(failed("identity.openwhisk.api_host"))?;
        config.allow_plain_http = openwhisk.allow_plain_http;
        config.ca = authorities(openwhisk.ca_file.as_deref(), "identity.openwhisk.ca_file")?;
        let kind = Kind::OpenWhisk(Arc::new(OpenWhisk::new(&config).map_err(failed("identity.openwhisk"))?));
        providers.push(Provider { prefix: openwhisk.prefix.clone(), kind });
    }
    for jwt in &config.jwt {
        let what = || format!("identity.jwt {:?}", jwt.name);
        if let Some(twin) = config.jwt.iter().find(|other| other.issuer == jwt.issuer && !std::ptr::eq(*other, jwt)) {
            let twin = format!("{:?} has the same issuer, and a token's issuer decides who is asked", twin.name);
            return Err(failed(what())(twin));
        }
        if config.jwt.iter().any(|other| other.name == jwt.name && !std::ptr::eq(other, jwt)) {
            return Err(failed(what())("another issuer has the same name, by which operators are told apart"));
        }
        let config = jwt_config(jwt)?;
        let kind = Kind::Jwt(Arc::new(kiln_auth::Jwt::new(&config).map_err(failed(what()))?));
        providers.push(Provider { prefix: jwt.prefix.clone(), kind });
    }
    Ok(providers)
}

/// How to reach CouchDB, as its variables would say.
pub(crate) fn couchdb_config(couchdb: &config::CouchDb) -> Result<CouchDbConfig, StartError> {
    let path = couchdb.password_file.as_deref().unwrap_or(Path::new(""));
    let password = couchdb.password().map_err(failed(format!("identity.couchdb.password_file {}", path.display())))?;
    let config = CouchDbConfig::from_variables(|name| match name {
        "COUCHDB_SERVICE_HOST" => Some(couchdb.host.clone()),
        "COUCHDB_SERVICE_PORT" => Some(couchdb.port.to_string()),
        "COUCHDB_ADMIN_USER" => Some(couchdb.user.clone()),
        "COUCHDB_ADMIN_PASSWORD" => password.as_ref().map(|password| password.expose_secret().to_owned()),
        _ => None,
    });
    let config = config.map_err(failed("identity.couchdb"))?;
    Ok(CouchDbConfig { view: couchdb.view, allow_plain_http: couchdb.allow_plain_http, ..config })
}

fn jwt_config(jwt: &config::Jwt) -> Result<JwtConfig, StartError> {
    const TAKEN: [&str; 3] = ["users-file", "couchdb", "openwhisk"];
    let what = format!("identity.jwt {:?}", jwt.name);
    let word = !jwt.name.is_empty() && jwt.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !word || TAKEN.contains(&jwt.name.as_str()) {
        return Err(failed(what)("a name is of A-Z a-z 0-9 - _ and not the one of another provider"));
    }
    let only = "exactly one of jwks_url, jwks_file and key_file";
    let keys = match (&jwt.jwks_url, &jwt.jwks_file, &jwt.key_file) {
        (Some(url), None, None) => KeySource::Url {
            url: url.parse().map_err(failed(format!("{what}: jwks_url")))?,
            ca: authorities(jwt.ca_file.as_deref(), &format!("{what}: ca_file"))?,
            bearer_token_file: jwt.bearer_token_file.clone(),
            allow_plain_http: jwt.allow_plain_http,
        },
        (None, _, _) if jwt.ca_file.is_some() || jwt.bearer_token_file.is_some() => {
            return Err(failed(what)("ca_file and bearer_token_file go with jwks_url"));
        }
        (None, Some(path), None) => KeySource::SetFile(path.clone()),
        (None, None, Some(path)) => KeySource::KeyFile(path.clone()),
        _ => return Err(failed(what)(only)),
    };
    let times = KeyTimes::default();
    Ok(JwtConfig {
        name: jwt.name.clone(),
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        algorithms: jwt.algorithms.clone(),
        keys,
        leeway: jwt.leeway,
        user_claim: ClaimPath::new(&jwt.user_claim),
        roles_claim: jwt.roles_claim.as_ref().map(ClaimPath::new),
        times: KeyTimes {
            pause: jwt.refresh_pause.unwrap_or(times.pause),
            fresh: jwt.max_age.unwrap_or(times.fresh),
            keep: jwt.keep.unwrap_or(times.keep),
            ..times
        },
    })
}

fn operators(config: &Identity, configured: &[Provider]) -> Result<Operators, StartError> {
    let names: Vec<_> = configured.iter().map(Provider::name).collect();
    let with_roles = config.jwt.iter().filter(|jwt| jwt.roles_claim.is_some());
    let with_roles: Vec<_> = with_roles.map(|jwt| jwt.name.as_str()).collect();
    let operators = Operators::parse(&config.operators, &config.operator_roles, &names, &with_roles);
    operators.map_err(failed("identity.operators, .operator_roles"))
}

fn authorities(path: Option<&Path>, what: &str) -> Result<Option<Vec<u8>>, StartError> {
    let read = |path: PathBuf| std::fs::read(&path).map_err(failed(format!("{what} {}", path.display())));
    path.map(Path::to_owned).map(read).transpose()
}

// === impl Provider ===

impl Provider {
    /// Its name, which stands in front of its users' among the operators.
    pub(crate) fn name(&self) -> &str {
        self.kind.provider().name()
    }

    /// The setting that is its prefix, for people.
    fn prefix_setting(&self) -> String {
        match &self.kind {
            Kind::UsersFile(_) => "identity.users_file_prefix".to_owned(),
            Kind::CouchDb(_) => "identity.couchdb.prefix".to_owned(),
            Kind::OpenWhisk(_) => "identity.openwhisk.prefix".to_owned(),
            Kind::Jwt(jwt) => format!("prefix of identity.jwt {:?}", jwt.name()),
        }
    }

    /// The provider with its users' names, behind a memory if asking it costs anything.
    fn cached(&self, naming: Naming) -> Result<Arc<dyn IdentityProvider>, StartError> {
        let named = Arc::new(Named::new(self.kind.shared(), naming));
        // The file of users needs none: it answers from memory, and sees a change at once.
        if matches!(self.kind, Kind::UsersFile(_)) {
            return Ok(named);
        }
        Ok(Arc::new(Cached::new(named, Lifetimes::default()).map_err(failed("the identity cache"))?))
    }
}

impl Kind {
    fn provider(&self) -> &dyn IdentityProvider {
        match self {
            Self::UsersFile(users) => users.as_ref(),
            Self::CouchDb(couchdb) => couchdb.as_ref(),
            Self::OpenWhisk(openwhisk) => openwhisk.as_ref(),
            Self::Jwt(jwt) => jwt.as_ref(),
        }
    }

    pub(crate) fn shared(&self) -> Arc<dyn IdentityProvider> {
        match self.clone() {
            Self::UsersFile(users) => users,
            Self::CouchDb(couchdb) => couchdb,
            Self::OpenWhisk(openwhisk) => openwhisk,
            Self::Jwt(jwt) => jwt,
        }
    }
}
