//! `kiln build`: sends a requirements file and follows its build.

use std::{path::PathBuf, process::ExitCode};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::{
    builds::json,
    client::{Build, Client, ClientArgs, Trouble},
    exit, fail,
    follow::{follow, say},
};
use crate::recipes::Kind;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The requirements file: requirements.txt, package.json, composer.json, pom.xml, go.mod,
    /// Gemfile. Without it the base gets a new name only
    file: Option<PathBuf>,
    /// The base image
    #[arg(long, short)]
    source: String,
    /// Where the image goes: user:tag
    #[arg(long, short)]
    target: String,
    /// The base's runtime; told by the file's name unless given
    #[arg(long, short)]
    kind: Option<String>,
    /// The size class, of those that the operator offers
    #[arg(long)]
    size: Option<String>,
    /// Build even if an image of the same is there, or a step's result
    #[arg(long)]
    fresh: bool,
    /// Print the build's id and leave
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: Args) -> ExitCode {
    match send(&args).await {
        Ok((_, build)) if args.detach => {
            say(&if args.client.json { json(&build) } else { build.id });
            ExitCode::SUCCESS
        }
        Ok((client, build)) => follow(&client, &build.id, args.client.json).await,
        Err(trouble) => fail(trouble.status, &trouble),
    }
}

async fn send(args: &Args) -> Result<(Client, Build), Trouble> {
    let client = args.client.connect()?;
    let mut body = Map::from_iter([
        ("source".to_owned(), Value::from(args.source.as_str())),
        ("target".to_owned(), args.target.as_str().into()),
    ]);
    if let Some(path) = &args.file {
        let file = std::fs::read(path).map_err(|e| Trouble::new(exit::USAGE, format!("{}: {e}", path.display())))?;
        body.insert("file".to_owned(), BASE64_STANDARD.encode(file).into());
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let told = Kind::ALL.into_iter().find(|kind| kind.requirements() == name).map(Kind::as_str);
        let kind = args.kind.as_deref().or(told);
        let kind = kind.ok_or_else(|| Trouble::new(exit::USAGE, format!("{name:?} tells no kind: pass --kind")))?;
        body.insert("kind".to_owned(), kind.into());
    }
    if let Some(size) = &args.size {
        body.insert("size".to_owned(), size.as_str().into());
    }
    if args.fresh {
        body.insert("fresh".to_owned(), true.into());
    }
    let build = client.post("/v1/builds", &body.into()).await?;
    Ok((client, build))
}
