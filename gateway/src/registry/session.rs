//! What an engine's session is told of credentials: for exactly the registries, repositories and
//! actions of one build.

use std::{borrow::Cow, sync::Arc};

use async_trait::async_trait;
use kiln_backends::{BasicCredential, RegistryAuth, RegistryToken, TokenRefused, TokenRequest};
use moka::future::Cache;
use reqwest::Url;

use super::{
    auth::Challenge,
    client::RegistryClient,
    credentials::Credential,
    destination::{ProcessRegistry, Push},
    host::Host,
    manner::Manner,
};

/// Of how many registries a build's session keeps the operator's credential.
const HOSTS: u64 = 1024;

/// What one build may do where, and with which credential.
#[derive(Clone, Debug)]
pub struct BuildCredentials {
    /// Where its image goes.
    pub push: PushGrant,
    /// What it may fetch; the first that matches counts.
    pub pulls: Vec<PullGrant>,
    /// Who has the credentials of all other registries, where a build may fetch from any: each of them is
    /// shown the one that is for it.
    pub elsewhere: Option<Arc<ProcessRegistry>>,
}

/// The right to push to one repository.
#[derive(Clone, Debug)]
pub struct PushGrant {
    /// The registry and the credential.
    pub to: Push,
    /// The repository.
    pub repository: String,
}

/// The right to fetch from a registry.
#[derive(Clone, Debug)]
pub struct PullGrant {
    /// The registry.
    pub host: Host,
    /// Its repositories, where `*` stands for any characters.
    pub repositories: Vec<String>,
    /// What to show it; `None` is anonymous, which needs tokens too.
    pub credential: Option<Credential>,
}

/// Answers an engine's session for one build.
#[derive(Clone)]
pub struct SessionAuth {
    client: RegistryClient,
    credentials: BuildCredentials,
    /// The operator's credentials, each looked up once: it may take a program of its own.
    operators: Cache<Host, Option<Credential>>,
}

/// The credential of a grant, and the scopes that are left of those asked for.
struct Cut<'a> {
    credential: Option<&'a Credential>,
    scopes: Vec<String>,
}

impl BuildCredentials {
    /// What answers the session of this build.
    #[must_use]
    pub fn session(self, client: RegistryClient) -> SessionAuth {
        SessionAuth { client, credentials: self, operators: Cache::new(HOSTS) }
    }

    /// The credential for a registry that knows no tokens: the push's before the pulls'. It opens every
    /// repository there, so none is shown where a build may fetch them all as anybody may.
    fn for_host(&self, host: &Host) -> Option<&Credential> {
        let anybodys = |pull: &PullGrant| pull.credential.is_none() && pull.covers(host, "*");
        if self.elsewhere.is_none() && self.pulls.iter().any(anybodys) {
            return None;
        }
        if self.push.to.host == *host {
            return self.push.to.credential.as_ref();
        }
        self.pulls.iter().filter(|pull| pull.host == *host).find_map(|pull| pull.credential.as_ref())
    }

    /// Leaves of the scopes asked for what this build has a right to with one credential, since one token
    /// can only be had with one: the push's if the push is among it, else the first one's. What another
    /// credential is for goes, or this one would open it.
    fn cut(&self, host: &Host, asked: &[String]) -> Cut<'_> {
        let asked: Vec<(&str, Vec<&str>)> =
            asked.iter().flat_map(|scopes| scopes.split(' ')).filter_map(scope).collect();
        let push = |name: &str| self.push.to.host == *host && name == self.push.repository;
        let grant = |name: &str| -> Option<(Option<&Credential>, &[&str])> {
            if push(name) {
                return Some((self.push.to.credential.as_ref(), &["pull", "push"]));
            }
            let pull = self.pulls.iter().find(|pull| pull.covers(host, name))?;
            Some((pull.credential.as_ref(), &["pull"]))
        };
        let first = asked.iter().find(|(name, _)| push(name)).and_then(|(name, _)| grant(name));
        let first = first.or_else(|| asked.iter().find_map(|(name, _)| grant(name)));
        let credential = first.and_then(|(credential, _)| credential);
        let scopes = asked.iter().filter_map(|(name, actions)| {
            let (_, allowed) = grant(name).filter(|(its, _)| same(*its, credential))?;
            let kept: Vec<&str> = allowed.iter().filter(|action| actions.contains(action)).copied().collect();
            (!kept.is_empty()).then(|| format!("repository:{name}:{}", kept.join(",")))
        });
        Cut { credential, scopes: scopes.collect() }
    }
}

impl PullGrant {
    /// Whether it is for this repository.
    pub(crate) fn covers(&self, host: &Host, repository: &str) -> bool {
        self.host == *host && self.repositories.iter().any(|pattern| matches(pattern, repository))
    }
}

fn same(one: Option<&Credential>, other: Option<&Credential>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// `repository:name:action,action`; other resource types (`registry:catalog:*`) are nobody's business.
fn scope(text: &str) -> Option<(&str, Vec<&str>)> {
    let (name, actions) = text.strip_prefix("repository:")?.rsplit_once(':')?;
    Some((name, actions.split(',').collect()))
}

/// Whether `text` is what `pattern` describes, in which `*` stands for any characters.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(tail) = text.strip_prefix(prefix) else { return false };
    (0..=tail.len()).filter(|&at| tail.is_char_boundary(at)).any(|at| matches(rest, &tail[at..]))
}

#[async_trait]
impl RegistryAuth for SessionAuth {
    async fn basic(&self, host: &str) -> Option<BasicCredential> {
        let host = Host::parse(host).ok()?;
        let credentials = self.credentials_at(&host).await.ok()?;
        let Credential::Password { username, password } = credentials.for_host(&host)? else { return None };
        // A password is for registries that take nothing less: where there are tokens, it stays here.
        match self.client.challenge(&host, self.manner(&host)).await {
            Ok(Some(Challenge::Basic)) => {
                Some(BasicCredential { username: username.clone(), password: password.clone() })
            }
            _ => None,
        }
    }

    async fn token(&self, request: TokenRequest) -> Result<RegistryToken, TokenRefused> {
        let refused = |cause: String| TokenRefused { host: request.host.clone(), cause };
        let host = Host::parse(&request.host).map_err(|error| refused(error.to_string()))?;
        let credentials = self.credentials_at(&host).await.map_err(refused)?;
        let Cut { credential, scopes } = credentials.cut(&host, &request.scopes);
        if scopes.is_empty() {
            return Err(refused(format!("{} isn't among what this build may use", request.scopes.join(" "))));
        }
        let manner = self.manner(&host);
        let challenge = self.client.challenge(&host, manner).await;
        let challenge = challenge.map_err(|error| refused(error.to_string()))?;
        let Some(Challenge::Bearer(bearer)) = challenge else {
            return Err(refused("the registry has no token service".to_owned()));
        };
        // The engine only relays what it met: the registry itself says where its tokens come from.
        if Url::parse(&request.realm).ok().as_ref() != Some(&bearer.realm) || request.service != bearer.service() {
            return Err(refused(format!("{} isn't the registry's own token service", request.realm)));
        }
        let token = self.client.token(&host, manner, &bearer, &scopes, credential).await;
        let token = token.map_err(|error| refused(error.to_string()))?;
        Ok(RegistryToken { token: token.secret, expires_in: i64::try_from(token.expires_in).unwrap_or(i64::MAX) })
    }
}

impl SessionAuth {
    /// What the build may do at a registry, whatever it asks of others.
    async fn credentials_at(&self, host: &Host) -> Result<Cow<'_, BuildCredentials>, String> {
        let Some(process) = &self.credentials.elsewhere else { return Ok(Cow::Borrowed(&self.credentials)) };
        let found = self.operators.try_get_with_by_ref(host, process.credential(host)).await;
        let credential = found.map_err(|error| {
            tracing::error!(%host, error = crate::serve::causes(&*error), "a registry's credential can't be read");
            "the operator's credential for it can't be read".to_owned()
        })?;
        let mut credentials = self.credentials.clone();
        credentials.pulls.push(PullGrant { host: host.clone(), repositories: vec!["*".to_owned()], credential });
        Ok(Cow::Owned(credentials))
    }

    /// How a registry is spoken to.
    fn manner(&self, host: &Host) -> Manner {
        let push = &self.credentials.push.to;
        if push.host == *host {
            return push.manner;
        }
        Manner { plain_http: self.client.registries().plain_http(host), skip_verify: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> BuildCredentials {
        let host = |text| Host::parse(text).unwrap();
        let pull = |name, repositories: &[&str], credential| PullGrant {
            host: host(name),
            repositories: repositories.iter().map(|&name| name.to_owned()).collect(),
            credential: Credential::from_pair(credential),
        };
        let push = Push { host: host("reg"), manner: Manner::default(), credential: Credential::from_pair("push:x") };
        BuildCredentials {
            push: PushGrant { to: push, repository: "devel".to_owned() },
            pulls: vec![
                pull("reg", &["own/*"], "push:x"),
                pull("reg", &["shared/*"], "shared:x"),
                pull("reg", &["theirs"], ""),
                pull("docker.io", &["library/python"], ""),
            ],
            elsewhere: None,
        }
    }

    #[test]
    fn scopes_are_cut_to_the_build() {
        for (host, asked, left, whose) in [
            ("reg", "repository:devel:pull,push", "repository:devel:pull,push", "push"),
            ("reg", "repository:devel:*", "", "push"),
            ("reg", "repository:devel:pull,push,delete", "repository:devel:pull,push", "push"),
            ("reg", "repository:devel-two:pull", "", ""),
            ("reg", "repository:devel/sub:push", "", ""),
            ("reg", "repository:shared/a:pull,push", "repository:shared/a:pull", "shared"),
            (
                "reg",
                "repository:devel:pull,push repository:shared/a:pull repository:other:pull",
                "repository:devel:pull,push",
                "push",
            ),
            ("reg", "repository:theirs:pull repository:devel:push", "repository:devel:push", "push"),
            (
                "reg",
                "repository:own/base:pull repository:devel:push",
                "repository:own/base:pull repository:devel:push",
                "push",
            ),
            ("reg", "repository:shared/a:pull repository:theirs:pull", "repository:shared/a:pull", "shared"),
            ("reg", "registry:catalog:*", "", ""),
            ("docker.io", "repository:library/python:pull", "repository:library/python:pull", ""),
            ("docker.io", "repository:devel:push", "", ""),
            ("elsewhere", "repository:devel:push", "", ""),
        ] {
            let host = Host::parse(host).unwrap();
            let credentials = credentials();
            let cut = credentials.cut(&host, &[asked.to_owned()]);
            let name = match cut.credential {
                Some(Credential::Password { username, .. }) => username.as_str(),
                _ => "",
            };
            assert_eq!((cut.scopes.join(" ").as_str(), name), (left, whose), "{host} {asked}");
        }
    }

    #[test]
    fn a_host_gets_its_own_password_only() {
        let mut credentials = credentials();
        let whose = |credentials: &BuildCredentials, host| match credentials.for_host(&Host::parse(host).unwrap()) {
            Some(Credential::Password { username, .. }) => username.clone(),
            _ => String::new(),
        };
        assert_eq!(["reg", "docker.io", "reg:443"].map(|host| whose(&credentials, host)), ["push", "", ""]);
        let everything = vec!["*".to_owned()];
        credentials.pulls.push(PullGrant {
            host: Host::parse("reg").unwrap(),
            repositories: everything,
            credential: None,
        });
        assert_eq!(whose(&credentials, "reg"), "", "a password would open what anybody may name");
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a*", "ab/c", true),
            ("*.b", "x.b", true),
            ("a*c*", "abcd", true),
            ("a*c", "abd", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
