//! `kiln doctor`: checks what a gateway needs, part by part, and says what to do.

mod canary;
mod openfaas;
mod secrets;

use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use kiln_auth::{Asker, Credential, Refusal, WskToken};
use kiln_backends::{Capabilities, InstanceId};
use tokio::time::timeout;
use uuid::Uuid;

use canary::Reached;

use super::{ConfigArgs, exit, fail};
use crate::{
    config::Config,
    identities::{self, Kind},
    registry::{Authentication, Registries, RegistryClient, RegistryError, destination},
    serve::{self, ask_cluster, causes},
};

/// What to check.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Run a build step on this image that tries to reach Kiln's ports; it needs a shell, and python3 or nc
    #[arg(long, value_name = "IMAGE")]
    canary: Option<String>,
    /// A further address that the step must not reach, such as a metadata service's
    #[arg(long, value_name = "HOST:PORT", requires = "canary")]
    unreachable: Vec<String>,
}

/// How long one part may take to answer.
const WITHIN: Duration = Duration::from_secs(30);

/// How long the engine may: a cluster runs pods to prove itself, and may first have to pull their image.
const ENGINE_WITHIN: Duration = Duration::from_secs(600);

/// What was found about one part.
struct Finding {
    part: &'static str,
    verdict: Verdict,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It works, but somebody should know.
    Warning,
    Bad,
}

pub(crate) async fn run(args: &Args) -> ExitCode {
    let mut config = match args.config.load() {
        Ok(config) => config,
        Err(error) => return fail(exit::USAGE, &error),
    };
    let mut findings = vec![good("configuration", "it can be read")];
    findings.push(data_dir(&config.data_dir, config.limits.min_free));
    findings.push(authorities(&config));
    if let Err(error) = ask_cluster(&mut config).await {
        findings.push(bad("registry", causes(&error)));
    }
    findings.extend(engine(&config).await);
    findings.extend(registry(&config).await);
    findings.extend(identity(&config).await);
    findings.extend(secrets::keys(config.openfaas.build_secrets_key_file.as_deref()));
    if let Some(image) = &args.canary {
        findings.push(step_network(&config, image, &args.unreachable).await);
    }
    for Finding { part, verdict, text } in &findings {
        let word = match verdict {
            Verdict::Good => "ok",
            Verdict::Warning => "warn",
            Verdict::Bad => "FAIL",
        };
        println!("{word:<5} {part}: {text}");
    }
    ExitCode::from(u8::from(findings.iter().any(|finding| finding.verdict == Verdict::Bad)))
}

fn good(part: &'static str, text: impl Into<String>) -> Finding {
    Finding { part, verdict: Verdict::Good, text: text.into() }
}

fn warning(part: &'static str, text: impl Into<String>) -> Finding {
    Finding { part, verdict: Verdict::Warning, text: text.into() }
}

fn bad(part: &'static str, text: impl Into<String>) -> Finding {
    Finding { part, verdict: Verdict::Bad, text: text.into() }
}

/// Whether a file can be made there, and how much space is left.
fn data_dir(folder: &Path, min_free: u64) -> Finding {
    const PART: &str = "data_dir";
    // What `serve` will make is tried where it would be made.
    let existing = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    if let Err(error) = tempfile::tempfile_in(existing) {
        return bad(
            PART,
            format!("{} can't be written: {error}; change its owner, or set data_dir", existing.display()),
        );
    }
    match rustix::fs::statvfs(existing).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize)) {
        Ok(free) if free < min_free => {
            bad(PART, format!("{free} bytes are free and limits.min_free is {min_free}: no build would be accepted"))
        }
        Ok(free) => good(PART, format!("{} can be written, {} MiB are free", existing.display(), free >> 20)),
        Err(error) => warning(PART, format!("free space is unknown: {error}")),
    }
}

fn authorities(config: &Config) -> Finding {
    const PART: &str = "CA";
    match serve::trust(config) {
        Ok(Some(_)) => good(PART, "steps trust steps.ca_file beside the public authorities"),
        Ok(None) => good(PART, "steps trust what their base trusts; behind a proxy that opens TLS set steps.ca_file"),
        Err(error) => bad(PART, causes(&error)),
    }
}

async fn engine(config: &Config) -> Vec<Finding> {
    const PART: &str = "engine";
    let backend = match serve::engine(config, InstanceId(Uuid::nil())).await {
        Ok(engine) => engine.backend,
        Err(error) => return vec![bad(PART, causes(&error))],
    };
    let Capabilities { engine, version, platforms, atomic_tag, step_limits, warnings, .. } =
        match timeout(ENGINE_WITHIN, backend.probe()).await {
            Ok(Ok(capabilities)) => capabilities,
            Ok(Err(error)) => return vec![bad(PART, format!("{error}; builds would wait for it"))],
            Err(_) => return vec![bad(PART, format!("no answer within {ENGINE_WITHIN:?}; builds would wait for it"))],
        };
    let mut findings = vec![good(PART, format!("{engine} {version} for {}", platforms.join(", ")))];
    if !atomic_tag {
        findings.push(warning(PART, "it moves tags itself: pushes of one repository run one after the other"));
    }
    let sizes = || config.sizes.classes.values();
    let wanted = [
        ("memory", sizes().any(|size| size.memory.is_some()), step_limits.memory),
        ("cpu_millis", sizes().any(|size| size.cpu_millis.is_some()), step_limits.cpu),
        ("processes", sizes().any(|size| size.processes.is_some()), step_limits.processes),
    ];
    for (key, set, enforced) in wanted {
        if set && !enforced {
            findings.push(warning(
                PART,
                format!("a size class sets {key}, and this engine can't enforce it; limits.concurrency stands in"),
            ));
        }
    }
    findings.extend(warnings.into_iter().map(|text| warning(PART, text)));
    findings
}

/// Whether a step reaches what is ours: from its own loopback, and from where its packets leave its network.
async fn step_network(config: &Config, image: &str, further: &[String]) -> Finding {
    const PART: &str = "step network";
    let ports = [config.listen.port(), config.admin_listen.port()];
    let mut addresses: Vec<String> =
        ports.iter().flat_map(|port| ["127.0.0.1", "gateway"].map(|host| format!("{host}:{port}"))).collect();
    addresses.extend(further.iter().cloned());
    let run = async {
        let backend = serve::engine(config, InstanceId(Uuid::nil())).await.map_err(|e| causes(&e))?.backend;
        canary::run(config, &*backend, &client(config)?, image, &addresses).await
    };
    match run.await {
        Ok(Reached(reached)) if reached.is_empty() => {
            good(PART, format!("a step reached none of {}", addresses.join(", ")))
        }
        Ok(Reached(reached)) => bad(
            PART,
            format!(
                "a step reached {}; give steps a network of their own and a firewall, see deploy/buildkit",
                reached.join(", ")
            ),
        ),
        Err(error) => bad(PART, error),
    }
}

fn client(config: &Config) -> Result<RegistryClient, String> {
    let network = serve::network(config).map_err(|error| causes(&error))?;
    RegistryClient::new(&config.registry, config.registries.clone(), &network).map_err(|e| e.to_string())
}

async fn registry(config: &Config) -> Vec<Finding> {
    const PART: &str = "registry";
    let lines = config.registries.buildkitd_toml();
    let client = match client(config) {
        Ok(client) => client,
        Err(error) => return vec![bad(PART, error)],
    };
    let mut findings = vec![ping(config, &client).await];
    if !lines.is_empty() {
        let text = format!("an engine that Kiln doesn't own needs the same settings; for a buildkitd.toml:\n{lines}");
        findings.push(warning(PART, text));
    }
    findings
}

async fn ping(config: &Config, client: &RegistryClient) -> Finding {
    const PART: &str = "registry";
    let registries: &Registries = client.registries();
    let push = match destination(&config.registry, registries, &BTreeMap::new()).await {
        Ok(push) => push,
        Err(error) => return bad(PART, error.to_string()),
    };
    let (host, shown) = (&push.host, push.credential.is_some());
    match client.ping(&push).await {
        Ok(Authentication::None) => good(PART, format!("{host} answers and asks for no credential")),
        Ok(_) if shown => good(PART, format!("{host} answers and takes the credential")),
        Ok(_) => warning(
            PART,
            format!(
                "{host} answers and wants a credential; none is configured: set REGISTRY_PUSH_SECRET or DOCKER_CONFIG"
            ),
        ),
        Err(RegistryError::Forbidden { .. }) if !shown => bad(
            PART,
            format!("{host} wants a credential and none is configured: set REGISTRY_PUSH_SECRET or DOCKER_CONFIG"),
        ),
        Err(error) => {
            bad(PART, format!("{error}; images go to {host} unless REGISTRY_HOST or registry.host say otherwise"))
        }
    }
}

/// Asks each provider what it can be asked without a caller: an issuer for its keys, all others about a
/// token that nobody has, where a clear no means that they work.
async fn identity(config: &Config) -> Vec<Finding> {
    const PART: &str = "identity";
    let callers = identities::callers(&config.identity, &config.openfaas);
    let configured = callers.and_then(|callers| Ok((callers, identities::configured(&config.identity)?)));
    let (callers, configured) = match configured {
        Ok(configured) => configured,
        Err(error) => return vec![bad(PART, causes(&error))],
    };
    let mut findings = openfaas::keys(&config.openfaas, &callers);
    for provider in configured {
        let name = provider.name();
        let found = match timeout(WITHIN, reached(&provider.kind)).await {
            Ok(Ok(Reachable::Answers)) => good(PART, format!("{name} answers")),
            Ok(Ok(Reachable::Keys(0))) => bad(
                PART,
                format!("{name}: none of the issuer's keys is for the configured algorithms; nobody could call by it"),
            ),
            Ok(Ok(Reachable::Keys(keys))) => good(PART, format!("{name}: {keys} keys can be used")),
            Ok(Err(error)) => bad(PART, format!("{name}: {error}; nobody could call by it")),
            Err(_) => bad(PART, format!("{name}: no answer within {WITHIN:?}")),
        };
        findings.push(found);
    }
    findings
}

enum Reachable {
    Answers,
    Keys(usize),
}

async fn reached(kind: &Kind) -> Result<Reachable, String> {
    if let Kind::Jwt(jwt) = kind {
        return jwt.keys().await.map(Reachable::Keys).map_err(|error| causes(&error));
    }
    let token = WskToken::generate().map_err(|_| "the system has no random numbers".to_owned())?;
    match kind.shared().identify(&Credential::Wsk(token), &Asker::GATEWAY).await {
        Err(Refusal::Unavailable(cause)) => Err(causes(&*cause)),
        _ => Ok(Reachable::Answers),
    }
}
