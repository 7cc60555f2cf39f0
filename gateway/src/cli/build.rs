//! `kiln build`: sends a requirements file, or a folder with a Dockerfile, and follows its build.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::{
    builds,
    client::{Build, Client, ClientArgs, Trouble},
    exit, fail,
    folder::Folder,
    follow::{follow, say, sending},
};
use crate::recipes::{DOCKERFILE, Kind};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A requirements file (requirements.txt, package.json, composer.json, pom.xml, go.mod,
    /// Gemfile), or a folder with a Dockerfile. Without either the base gets a new name only
    path: Option<PathBuf>,
    /// Where the image goes: user:tag
    #[arg(long, short)]
    target: String,
    /// The base image; a folder's is in its Dockerfile
    #[arg(long, short)]
    source: Option<String>,
    /// The base's runtime; told by the requirements file's name unless given
    #[arg(long, short)]
    kind: Option<String>,
    /// The Dockerfile's path in the folder
    #[arg(long, short = 'f')]
    dockerfile: Option<String>,
    /// What a folder is built for, linux/arm64 for one; as often as need be
    #[arg(long)]
    platform: Vec<String>,
    /// An argument of the Dockerfile, NAME=VALUE; as often as need be
    #[arg(long)]
    build_arg: Vec<String>,
    /// The size class, of those that the operator offers
    #[arg(long)]
    size: Option<String>,
    /// Build even if an image of the same is there, or a step's result
    #[arg(long)]
    fresh: bool,
    /// Tell this https URL of a requirements file's build when it has ended
    #[arg(long)]
    webhook: Option<String>,
    /// What its messages are signed with, whsec_…; where the operator has set one, it isn't needed
    #[arg(long, env = "KILN_WEBHOOK_SECRET", hide_env_values = true)]
    webhook_secret: Option<String>,
    /// Print the build's id and leave
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: Args) -> ExitCode {
    match send(&args).await {
        Ok((_, build)) if args.detach => {
            say(&if args.client.json { builds::json(&build) } else { build.id });
            ExitCode::SUCCESS
        }
        Ok((client, build)) => follow(&client, &build.id, args.client.json).await,
        Err(trouble) => fail(trouble.status, &trouble),
    }
}

async fn send(args: &Args) -> Result<(Client, Build), Trouble> {
    let folder = args.path.as_deref().filter(|path| path.is_dir());
    args.check(folder.is_some())?;
    let client = args.client.connect()?;
    let build = match folder {
        Some(folder) => send_folder(&client, folder, args).await?,
        None => client.post("/v1/builds", &args.requirements()?).await?,
    };
    Ok((client, build))
}

async fn send_folder(client: &Client, folder: &Path, args: &Args) -> Result<Build, Trouble> {
    let dockerfile = args.dockerfile.as_deref().unwrap_or(DOCKERFILE);
    let unusable = |error: String| Trouble::new(exit::USAGE, format!("{}: {error}", folder.display()));
    let opened = Folder::open(folder, dockerfile).map_err(unusable)?;
    let mut query = vec![("target", args.target.clone()), ("dockerfile", dockerfile.to_owned())];
    query.extend(args.platform.iter().map(|platform| ("platform", platform.clone())));
    query.extend(args.build_arg.iter().map(|argument| ("build-arg", argument.clone())));
    query.extend(args.size.iter().map(|size| ("size", size.clone())));
    if args.fresh {
        query.push(("fresh", true.to_string()));
    }
    let sent = sending(args.client.json);
    let answer = client.upload("/v1/builds", &query, opened.archive(sent.clone())).await;
    sent.finish_and_clear();
    answer
}

impl Args {
    /// Whether every option is one of what is sent.
    fn check(&self, folder: bool) -> Result<(), Trouble> {
        let of_files = [
            ("--source", self.source.is_some()),
            ("--kind", self.kind.is_some()),
            ("--webhook", self.webhook.is_some()),
        ];
        let of_folders = [
            ("--dockerfile", self.dockerfile.is_some()),
            ("--platform", !self.platform.is_empty()),
            ("--build-arg", !self.build_arg.is_empty()),
        ];
        let (others, what) =
            if folder { (&of_files, "a requirements file") } else { (&of_folders, "a folder with a Dockerfile") };
        match others.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Trouble::new(exit::USAGE, format!("{option} is an option of {what}"))),
            None => Ok(()),
        }
    }

    fn requirements(&self) -> Result<Value, Trouble> {
        let usage = |text: String| Trouble::new(exit::USAGE, text);
        let source = self.source.as_deref().ok_or_else(|| usage("no base image: pass --source".to_owned()))?;
        let mut body = Map::from_iter([
            ("source".to_owned(), Value::from(source)),
            ("target".to_owned(), self.target.as_str().into()),
        ]);
        if let Some(path) = &self.path {
            let file = std::fs::read(path).map_err(|e| usage(format!("{}: {e}", path.display())))?;
            body.insert("file".to_owned(), BASE64_STANDARD.encode(file).into());
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let told = Kind::ALL.into_iter().find(|kind| kind.requirements() == name).map(Kind::as_str);
            let kind = self.kind.as_deref().or(told);
            let kind = kind.ok_or_else(|| usage(format!("{name:?} tells no kind: pass --kind")))?;
            body.insert("kind".to_owned(), kind.into());
        }
        if let Some(size) = &self.size {
            body.insert("size".to_owned(), size.as_str().into());
        }
        if self.fresh {
            body.insert("fresh".to_owned(), true.into());
        }
        if let Some(url) = &self.webhook {
            let secret = self.webhook_secret.as_ref().map(|secret| ("secret", secret));
            let webhook =
                Map::from_iter([("url", url)].into_iter().chain(secret).map(|(k, v)| (k.to_owned(), json!(v))));
            body.insert("webhook".to_owned(), webhook.into());
        }
        Ok(body.into())
    }
}
