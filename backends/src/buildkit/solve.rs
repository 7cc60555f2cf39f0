//! Writes the solve request of an attempt: the Dockerfile frontend's attributes, the source policy
//! and the exporter. The attributes are a closed set; a caller's values become `build-arg:` only.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::{
    CacheOptions, Exporter, SolveRequest,
    sourcepolicy::{MatchType, Policy, PolicyAction, Rule, Selector},
};

use crate::{BuildSpec, Destination, Limits, SourceRule, SourceRules};

/// What becomes of the result.
#[derive(Clone, Debug)]
pub(crate) enum Export<'a> {
    /// Pushed under its digest alone.
    PushByDigest(&'a Destination),
    /// Kept in a Docker Engine's graph-driver store under this name.
    Keep(String),
    /// Made, and left to the cache.
    Nothing,
}

/// What an operator sets for every build on an engine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StepSettings {
    /// The control group under which steps run, where the engine takes one.
    pub cgroup_parent: Option<String>,
}

/// A request under the name `reference`, over the session with this id.
pub(crate) fn request(
    spec: &BuildSpec,
    reference: String,
    session: &str,
    export: &Export<'_>,
    steps: &StepSettings,
) -> SolveRequest {
    let exporter = exporter(export);
    let first = exporter.clone().unwrap_or_default();
    SolveRequest {
        r#ref: reference,
        session: session.to_owned(),
        frontend: if spec.frontend.is_some() { "gateway.v0" } else { "dockerfile.v0" }.to_owned(),
        frontend_attrs: attributes(spec, steps),
        // BuildKit before 0.13 reads only this pair.
        exporter_deprecated: first.r#type,
        exporter_attrs_deprecated: first.attrs,
        exporters: exporter.into_iter().collect(),
        cache: Some(CacheOptions::default()),
        source_policy: Some(policy(&spec.sources)),
        // Not recorded: the history keeps arguments and logs.
        internal: true,
        ..SolveRequest::default()
    }
}

/// A request of which everything is denied, its own context first.
pub(crate) fn denied(reference: String, session: &str) -> SolveRequest {
    SolveRequest {
        r#ref: reference,
        session: session.to_owned(),
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: [("cmdline".to_owned(), "kiln".to_owned())].into(),
        source_policy: Some(Policy { version: 1, rules: vec![rule(PolicyAction::Deny, "*")] }),
        internal: true,
        ..SolveRequest::default()
    }
}

fn attributes(spec: &BuildSpec, steps: &StepSettings) -> HashMap<String, String> {
    // The caller's arguments first, so that they can't replace what keeps tenants apart.
    let arguments = spec.args.iter().map(|(name, value)| (name.as_str(), value));
    let proxy = spec.proxy.iter().map(|(name, value)| (name.as_str(), value));
    let mut attributes: HashMap<String, String> =
        arguments.chain(proxy).map(|(name, value)| (format!("build-arg:{name}"), value.clone())).collect();

    let mut set = |name: &str, value: String| drop(attributes.insert(name.to_owned(), value));
    set("filename", spec.dockerfile.clone());
    // In every step's cache key, and not in the image: one tenant's layers are no other's.
    set("hostname", spec.tenant.step_hostname());
    set("build-arg:BUILDKIT_CACHE_MOUNT_NS", spec.tenant.cache_namespace());
    // The frontend takes this for a sign that it was started by a `# syntax=` line, and follows none.
    set("cmdline", "kiln".to_owned());
    if let Some(image) = &spec.frontend {
        set("source", image.clone());
    }
    if !spec.platforms.is_empty() {
        set("platform", spec.platforms.join(","));
    }
    if spec.no_cache {
        // Empty is every stage.
        set("no-cache", String::new());
    }
    if let Some(parent) = &steps.cgroup_parent {
        set("cgroup-parent", parent.clone());
    }
    // Frontends before 0.33 don't know these and pass over them; a probe tells which ones obey.
    let Limits { memory, cpu_millis, .. } = spec.limits;
    if let Some(memory) = memory {
        set("memory", memory.to_string());
        // No swap beyond it.
        set("memswap", memory.to_string());
    }
    if let Some(millis) = cpu_millis {
        // The kernel takes no quota below a millisecond.
        set("cpuperiod", "100000".to_owned());
        set("cpuquota", (u64::from(millis) * 100).max(1000).to_string());
    }
    attributes
}

fn exporter(export: &Export<'_>) -> Option<Exporter> {
    let set = |attrs: &[(&str, String)]| attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let yes = || "true".to_owned();
    match export {
        Export::PushByDigest(to) => {
            let name = format!("{}/{}", to.registry, to.target.repository());
            let mut attrs: HashMap<String, String> = set(&[
                ("name", name),
                ("push", yes()),
                ("push-by-digest", yes()),
                // A Docker Engine would keep it among its images, under a name that isn't Kiln's.
                ("store", "false".to_owned()),
                ("oci-mediatypes", yes()),
            ]);
            // BuildKit speaks plain HTTP to this machine's own registries by itself, and before 0.13 it
            // loses the credentials of an upload where it finds that out by trying.
            if (to.plain_http && !is_loopback(&to.registry)) || to.skip_verify {
                attrs.insert("registry.insecure".to_owned(), yes());
            }
            Some(Exporter { r#type: "image".to_owned(), attrs })
        }
        Export::Keep(name) => Some(Exporter { r#type: "moby".to_owned(), attrs: set(&[("name", name.clone())]) }),
        Export::Nothing => None,
    }
}

/// Whether a registry, `host[:port]`, is on this machine.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let address: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// Denies everything, then allows the context, then what the rules say, and no rule gives git: the
/// last match wins.
fn policy(sources: &SourceRules) -> Policy {
    let mut rules = vec![
        rule(PolicyAction::Deny, "*"),
        rule(PolicyAction::Allow, "local://context"),
        rule(PolicyAction::Allow, "local://dockerfile"),
    ];
    rules.extend(sources.0.iter().map(|source| match source {
        SourceRule::Allow(identifier) => rule(PolicyAction::Allow, identifier),
        SourceRule::Deny(identifier) => rule(PolicyAction::Deny, identifier),
    }));
    // A URL of a permitted host can be a repository's.
    rules.push(rule(PolicyAction::Deny, "git://*"));
    Policy { version: 1, rules }
}

fn rule(action: PolicyAction, identifier: &str) -> Rule {
    Rule {
        action: action.into(),
        selector: Some(Selector {
            identifier: identifier.to_owned(),
            match_type: MatchType::Wildcard.into(),
            constraints: Vec::new(),
        }),
        updates: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Output, buildkit::failure::tests::spec};

    fn solve(spec: &BuildSpec) -> SolveRequest {
        let export = match &spec.output {
            Output::Push(to) => Export::PushByDigest(to),
            Output::Nothing => Export::Nothing,
        };
        request(spec, "r".to_owned(), "s", &export, &StepSettings::default())
    }

    #[test]
    fn every_step_runs_only_where_that_is_asked_for() {
        let fresh = solve(&BuildSpec { no_cache: true, ..spec() });
        assert_eq!(fresh.frontend_attrs.get("no-cache").map(String::as_str), Some(""));
        assert_eq!(solve(&spec()).frontend_attrs.get("no-cache"), None);
    }

    #[test]
    fn what_is_to_be_pushed_has_an_exporter_and_nothing_has_none() {
        let pushed = solve(&spec());
        let attrs = &pushed.exporters[0].attrs;
        assert_eq!((attrs["name"].as_str(), attrs["push-by-digest"].as_str()), ("r:5000/ann/x", "true"));
        assert_eq!((pushed.exporter_deprecated.as_str(), &pushed.exporter_attrs_deprecated), ("image", attrs));
        let nothing = solve(&BuildSpec { output: Output::Nothing, ..spec() });
        assert!(nothing.exporters.is_empty() && nothing.exporter_deprecated.is_empty());
    }

    #[test]
    fn a_frontend_that_was_chosen_reads_the_dockerfile_and_is_salted_as_the_engines_own() {
        let own = solve(&spec());
        let chosen = solve(&BuildSpec { frontend: Some("r/f@sha256:0".to_owned()), ..spec() });
        assert_eq!((own.frontend.as_str(), own.frontend_attrs.get("source")), ("dockerfile.v0", None));
        assert_eq!(chosen.frontend, "gateway.v0");
        assert_eq!(chosen.frontend_attrs["source"], "r/f@sha256:0");
        for name in ["hostname", "cmdline", "build-arg:BUILDKIT_CACHE_MOUNT_NS"] {
            assert_eq!(own.frontend_attrs[name], chosen.frontend_attrs[name], "{name}");
        }
    }

    #[test]
    fn everything_is_denied_first_and_git_again_last() {
        let rules = SourceRules(vec![SourceRule::Allow("*".to_owned())]);
        let policy = solve(&BuildSpec { sources: rules, ..spec() }).source_policy.unwrap_or_default();
        let named = |rule: &Rule| (rule.action(), rule.selector.clone().unwrap_or_default().identifier);
        let ends = (policy.rules.first().map(named), policy.rules.last().map(named));
        let deny = |text: &str| Some((PolicyAction::Deny, text.to_owned()));
        assert_eq!(ends, (deny("*"), deny("git://*")));
    }
}
