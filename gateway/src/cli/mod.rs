//! The command line: one program serves, asks, and looks after the installation.

mod build;
mod buildkitd;
mod builds;
mod client;
mod doctor;
mod folder;
mod follow;
mod identity;
mod images;
mod ledger;
mod openfaas;
mod probe;
mod profile;
mod user;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::Config;

/// Exit statuses beside 0 and 1, as `sysexits.h` numbers them where it has a number.
pub(crate) mod exit {
    /// The command line, or the configuration, can't be used. Clap's own number for it.
    pub(crate) const USAGE: u8 = 2;
    /// Nothing is wrong with the request: try again later.
    pub(crate) const TRY_AGAIN: u8 = 75;
    /// The credential, or what it may do, was refused.
    pub(crate) const REFUSED: u8 = 77;
}

/// Give it your code; it fires an OCI image.
#[derive(Debug, Parser)]
#[command(name = "kiln", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the gateway
    Serve(ConfigArgs),
    /// Send a requirements file or a folder with a Dockerfile, and follow its build
    Build(build::Args),
    /// Show where a build is
    Status(follow::StatusArgs),
    /// Show a build's log
    Logs(follow::LogsArgs),
    /// List your builds
    List(builds::ListArgs),
    /// Wait for a build's end
    Wait(builds::OneArgs),
    /// Stop a build
    Cancel(builds::OneArgs),
    /// Build once more what failed or was cancelled
    Retry(builds::RetryArgs),
    /// Keep the gateway and the token for later, once the gateway has taken it
    Login(client::ClientArgs),
    /// Forget them
    Logout(profile::LogoutArgs),
    /// Say who the token's user is
    Whoami(client::ClientArgs),
    /// Look after your images in the registry
    #[command(subcommand)]
    Images(images::Verb),
    /// Look after the configuration of BuildKit daemons
    #[command(subcommand)]
    Buildkitd(buildkitd::Verb),
    /// Look after the file of users
    #[command(subcommand)]
    User(user::Verb),
    /// Look after identity providers
    #[command(subcommand)]
    Identity(identity::Verb),
    /// Check configuration, engine, registry, identity provider and CA, and say what to do
    Doctor(doctor::Args),
    /// Look after the ledger
    #[command(subcommand)]
    Ledger(ledger::Verb),
    /// Look after the keys for OpenFaaS's build secrets
    #[command(subcommand)]
    Openfaas(openfaas::Verb),
    /// Print what makes a shell complete kiln's words
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Ask the gateway of this configuration whether it answers
    Probe(ConfigArgs),
}

/// Where the configuration lies.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file, TOML; without it variables and defaults alone count
    #[arg(long, env = "KILN_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, crate::config::ConfigError> {
        let variables: BTreeMap<String, String> =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        Config::load(self.config.as_deref(), &variables)
    }
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // One provider of cryptography for the whole process, or the first handshake panics.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return fail(exit::USAGE, &"a second provider of cryptography is installed");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error),
    };
    runtime.block_on(async move {
        match cli.verb {
            Verb::Serve(args) => serve(&args).await,
            Verb::Build(args) => build::run(args).await,
            Verb::Status(args) => follow::status(args).await,
            Verb::Logs(args) => follow::logs(args).await,
            Verb::List(args) => builds::list(args).await,
            Verb::Wait(args) => builds::wait(args).await,
            Verb::Cancel(args) => builds::cancel(args).await,
            Verb::Retry(args) => builds::retry(args).await,
            Verb::Login(args) => profile::login(args).await,
            Verb::Logout(args) => profile::logout(args).await,
            Verb::Completion { shell } => completion(shell),
            Verb::Whoami(args) => builds::whoami(args).await,
            Verb::Images(verb) => images::run(verb).await,
            Verb::Buildkitd(verb) => buildkitd::run(&verb),
            Verb::User(verb) => user::run(&verb),
            Verb::Identity(verb) => identity::run(verb).await,
            Verb::Doctor(args) => doctor::run(&args).await,
            Verb::Ledger(verb) => ledger::run(verb).await,
            Verb::Openfaas(verb) => openfaas::run(&verb),
            Verb::Probe(args) => probe::run(&args).await,
        }
    })
}

async fn serve(args: &ConfigArgs) -> ExitCode {
    // What Kiln writes is for Kiln: callers' files, logs and keys.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    trace();
    let config = match args.load() {
        Ok(config) => config,
        Err(error) => return fail(exit::USAGE, &error),
    };
    match crate::serve::serve(config, stop_signal()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(exit::USAGE, &crate::serve::causes(&error)),
    }
}

/// Writes it whole first: a reader that goes away would make the generator panic.
fn completion(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kiln", &mut script);
    follow::say(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}

/// Log lines: text for a terminal, JSON otherwise; `KILN_LOG` filters them, but not who did what.
fn trace() {
    let filter = EnvFilter::try_from_env("KILN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = match "kiln::audit=info".parse() {
        Ok(audit) => filter.add_directive(audit),
        Err(_) => filter,
    };
    let registry = tracing_subscriber::registry().with(filter);
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr)).init();
    } else {
        registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).init();
    }
}

/// Done on the first SIGTERM or SIGINT.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Says on standard error what went wrong and gives the status for it.
pub(crate) fn fail(status: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("kiln: {error}");
    ExitCode::from(status)
}
