//! What a build from a caller's own Dockerfile may fetch: every base that policy permits its owner.

use kiln_auth::UserName;
use kiln_backends::{EventKind, EventSink, Failure, Reason, SourceRule, SourceRules, syntax_of};

use super::attempt::Materials;
use crate::{
    config::Bases,
    recipes::Context,
    registry::{BaseRef, Credential, Host, ProcessRegistry, PullGrant, Push, Registries, matches},
};

/// Whose bases, and where images go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach<'a> {
    /// The owner of the build.
    pub(super) owner: &'a UserName,
    /// Where this owner's images go.
    pub(super) own_registry: &'a Host,
    /// Where everybody's go who names no registry.
    pub(super) installation: Option<&'a Host>,
    /// Which hosts stand for which.
    pub(super) registries: &'a Registries,
    /// What anybody may fetch: see [`Bases::open`].
    pub(super) open: &'a [PullGrant],
}

impl Bases {
    /// What any Dockerfile may fetch, with nobody's credential: all that `public` names but the registries
    /// that images are pushed to with a credential. There a password, once it is shown, opens every
    /// repository, and what an engine has already is asked of no registry: others' images would be open to
    /// all. Of Docker Hub the official images stay, since nobody pushes to them.
    pub(super) async fn open(
        &self,
        push: &Push,
        installation: Option<&Host>,
        nameable: &[String],
        process: &ProcessRegistry,
    ) -> Vec<PullGrant> {
        let mut open = Vec::new();
        for host in self.public.iter().filter_map(|host| Host::parse(host).ok()) {
            let own = push.host == host;
            let pushed_to =
                own || installation == Some(&host) || nameable.iter().any(|name| matches(name, host.as_str()));
            let closed = pushed_to && (own && push.credential.is_some() || process.may_open(&host).await);
            let repositories = match closed {
                false => "*",
                true if host.is_docker_hub() => "library/*",
                true => continue,
            };
            open.push(PullGrant { host, repositories: vec![repositories.to_owned()], credential: None });
        }
        open
    }

    /// The rules for every base that a Dockerfile may name, as the engine enforces them: it denies what
    /// none of them allows, and of several the last one counts.
    pub(super) fn rules(&self, reach: Reach<'_>) -> SourceRules {
        let allow = |identifier: String| SourceRule::Allow(format!("docker-image://{identifier}"));
        if self.any {
            return SourceRules(vec![allow("*".to_owned())]);
        }
        let named = |name: &str| [allow(format!("{name}:*")), allow(format!("{name}@*"))];
        let own = format!("{}/{}", reach.own_registry, reach.owner);
        let mut repositories = vec![own.clone(), format!("{own}/*")];
        repositories.extend(self.shared_with(reach.owner).map(str::to_owned));

        let all_of = |grant: &PullGrant, host: &Host| -> Vec<_> {
            grant.repositories.iter().map(|pattern| allow(format!("{host}/{pattern}"))).collect()
        };
        let mut rules: Vec<_> = reach.open.iter().flat_map(|grant| all_of(grant, &grant.host)).collect();
        rules.extend(repositories.iter().flat_map(|name| named(name)));
        // A host that stands for one to which images are pushed is judged by that one's names.
        for (host, settings) in reach.registries.iter() {
            let pushed_to = |mirror: &&Host| *mirror == reach.own_registry || Some(*mirror) == reach.installation;
            let Some(mirror) = settings.mirrors.iter().find(pushed_to) else { continue };
            rules.push(SourceRule::Deny(format!("docker-image://{host}/*")));
            rules.extend(reach.open.iter().filter(|grant| grant.host == *mirror).flat_map(|grant| all_of(grant, host)));
            let there = repositories.iter().filter_map(|name| name.strip_prefix(mirror.as_str())?.strip_prefix('/'));
            rules.extend(there.flat_map(|name| named(&format!("{host}/{name}"))));
        }
        SourceRules(rules)
    }

    /// The patterns of the images that are shared with this owner.
    fn shared_with(&self, owner: &UserName) -> impl Iterator<Item = &str> {
        let is_for = move |owners: &[String]| owners.is_empty() || owners.iter().any(|o| o == owner.as_str());
        self.shared.iter().filter(move |shared| is_for(&shared.owners)).map(|shared| shared.pattern.as_str())
    }
}

impl Materials {
    /// The frontend that reads the Dockerfile in the place of the engine's own: the one that the caller
    /// names, where it is permitted. Another one isn't followed, which the log says; of a syntax line the
    /// backend says it.
    pub(super) async fn frontend(&self, context: &Context, sink: &EventSink) -> Option<&BaseRef> {
        if let Some(named) = &context.frontend {
            let permitted = self.sources.frontend(named);
            if permitted.is_some() {
                return permitted;
            }
            let text =
                "the frontend that the archive names is not followed: it isn't among sources.frontends".to_owned();
            sink.emit(EventKind::Warning { text }).await;
        }
        if self.sources.frontends.is_empty() {
            return None;
        }
        self.sources.frontend(&syntax_of(&context.tree, &context.dockerfile).await?)
    }

    /// The rules for all that a caller's Dockerfile may fetch.
    pub(super) fn rules(&self, reach: Reach<'_>, frontend: Option<&BaseRef>) -> SourceRules {
        let SourceRules(mut rules) = self.bases.rules(reach);
        rules.extend(frontend.map(|image| SourceRule::Allow(image.policy_identifier())));
        rules.extend(self.sources.add_hosts.iter().map(|host| SourceRule::Allow(host.pattern())));
        SourceRules(rules)
    }

    /// What the session shows the registries of bases and frontend: nobody's credential where anybody may
    /// fetch, the owner's for their own, the operator's for what the operator shares.
    pub(super) async fn pulls(
        &self,
        owner: &UserName,
        push: &Push,
        frontend: Option<&BaseRef>,
        open: Vec<PullGrant>,
    ) -> Result<Vec<PullGrant>, Failure> {
        let own = if self.bases.any { vec!["*".to_owned()] } else { vec![owner.to_string(), format!("{owner}/*")] };
        let mut pulls =
            vec![PullGrant { host: push.host.clone(), repositories: own, credential: push.credential.clone() }];
        if self.bases.any {
            // All others are the session's business: which registries a Dockerfile names nobody knows yet.
            return Ok(pulls);
        }
        let is_open = |image: &&BaseRef| open.iter().any(|grant| grant.covers(image.host(), image.repository()));
        if let Some(image) = frontend.filter(|image| !is_open(image)) {
            let (host, repositories) = (image.host().clone(), vec![image.repository().to_owned()]);
            pulls.push(PullGrant { credential: self.operators(&host).await?, host, repositories });
        }
        for pattern in self.bases.shared_with(owner) {
            // Which host a pattern over hosts means is for the Dockerfile to say: none of them is shown anything.
            let Some((host, repository)) = pattern.split_once('/') else { continue };
            let Ok(host) = Host::parse(host) else { continue };
            let credential = self.operators(&host).await?;
            pulls.push(PullGrant { host, repositories: vec![repository.to_owned()], credential });
        }
        pulls.extend(open);
        Ok(pulls)
    }

    /// The operator's own credential for a registry.
    async fn operators(&self, host: &Host) -> Result<Option<Credential>, Failure> {
        let credential = self.process.credential(host).await;
        credential.map_err(|error| Failure::new(Reason::BaseForbidden, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::SharedBase, registry::Manner};

    fn push(host: &str, credential: &str) -> Push {
        let (host, credential) = (Host::parse(host).unwrap(), Credential::from_pair(credential));
        Push { host, manner: Manner::default(), credential }
    }

    /// As the engine does: denied unless allowed, and of several rules the last one counts.
    fn permits(rules: &SourceRules, base: &str) -> bool {
        let identifier = BaseRef::parse(base).unwrap().policy_identifier();
        let decided = rules.0.iter().rev().find_map(|rule| match rule {
            SourceRule::Allow(pattern) => matches(pattern, &identifier).then_some(true),
            SourceRule::Deny(pattern) => matches(pattern, &identifier).then_some(false),
        });
        decided.unwrap_or(false)
    }

    #[tokio::test]
    async fn where_images_are_pushed_with_a_credential_only_own_and_shared_ones_are_fetched() {
        let shared = SharedBase { pattern: "registry:5000/bases/*".to_owned(), owners: Vec::new() };
        let public = ["registry:5000", "docker.io", "quay.io"].map(str::to_owned).to_vec();
        let bases = Bases { public, shared: vec![shared], ..Bases::default() };
        let folder = tempfile::tempdir().unwrap();
        let auth = r#"{"auths": {"registry:5000": {"auth": "YTpi"}, "docker.io": {"auth": "YTpi"}}}"#;
        std::fs::write(folder.path().join("config.json"), auth).unwrap();
        let docker_config = Some(folder.path().to_owned());
        let with = ProcessRegistry { docker_config, ..ProcessRegistry::default() };
        let without = ProcessRegistry::default();
        let installation = Host::parse("registry:5000").unwrap();
        let owner = UserName::parse("bob").unwrap();
        let pin = format!("@sha256:{}", "0".repeat(64));
        let all = ["*".to_owned()];
        for (push, named, process, acme, hub) in [
            (push("registry:5000", "a:b"), &[][..], &without, false, true),
            (push("registry:5000", ""), &[], &without, true, true),
            (push("elsewhere:5000", ""), &[], &with, false, true),
            (push("elsewhere:5000", ""), &all, &with, false, false),
            (push("elsewhere:5000", ""), &all, &without, true, true),
        ] {
            let open = bases.open(&push, Some(&installation), named, process).await;
            let registries = Registries::default();
            let reach = Reach {
                owner: &owner,
                own_registry: &push.host,
                installation: Some(&installation),
                registries: &registries,
                open: &open,
            };
            let rules = bases.rules(reach);
            for pin in ["", &pin] {
                let permits = |base: &str| permits(&rules, &format!("{base}{pin}"));
                assert_eq!(permits("registry:5000/acme/priv:1"), acme, "{push:?}");
                assert_eq!(permits("acme/priv:1"), hub, "{push:?}");
                assert!(permits("python:3") && permits("quay.io/a/b") && permits("registry:5000/bases/a"), "{push:?}");
                assert!(permits(&format!("{}/bob/x", push.host)), "{push:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_engine_is_told_what_the_policy_says() {
        let bases = Bases {
            shared: vec![
                SharedBase { pattern: "registry:5000/bases/*".to_owned(), owners: Vec::new() },
                SharedBase { pattern: "registry:5000/vip".to_owned(), owners: vec!["bob".to_owned()] },
            ],
            ..Bases::default()
        };
        let registry = Host::parse("registry:5000").unwrap();
        let plain = Registries::default();
        let mirrored: Registries = toml::from_str("['docker.io']\nmirrors = ['registry:5000']").unwrap();
        let owner = UserName::parse("ann").unwrap();
        let open = bases.open(&push("registry:5000", "a:b"), Some(&registry), &[], &ProcessRegistry::default()).await;
        let pin = format!("@sha256:{}", "0".repeat(64));
        for base in [
            "python:3.13",
            "ghcr.io/a/b",
            "registry:5000/ann:x",
            "registry:5000/ann/x:y",
            "registry:5000/anna:x",
            "registry:5000/bob:x",
            "registry:5000/bases/python",
            "registry:5000/bases:x",
            "registry:5000/vip",
            "registry:5000/vips",
            "other:5000/ann",
            "docker.io/ann/x",
            "docker.io/bases/x",
        ] {
            for registries in [&plain, &mirrored] {
                let reach = Reach {
                    owner: &owner,
                    own_registry: &registry,
                    installation: Some(&registry),
                    registries,
                    open: &open,
                };
                let rules = bases.rules(reach);
                for base in [base.to_owned(), format!("{base}{pin}")] {
                    let parsed = BaseRef::parse(&base).unwrap();
                    let mirrors = registries.mirrors(parsed.host());
                    let want = bases.permit(&parsed, &owner, registry.as_str(), Some(&registry), mirrors);
                    assert_eq!(permits(&rules, &base), want.is_ok(), "{base} {mirrors:?}");
                }
            }
        }
        let reach =
            Reach { owner: &owner, own_registry: &registry, installation: None, registries: &plain, open: &open };
        let any = Bases { any: true, ..bases }.rules(reach);
        assert!(permits(&any, "other:5000/x"));
    }
}
