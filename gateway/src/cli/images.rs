//! `kiln images`: what is in the caller's repositories of the registry, and what is to go or to be copied.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    builds::{finish, json as line},
    client::{Client, ClientArgs, Trouble},
    exit,
    follow::{harmless, say},
};

/// Look after your images in the registry.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List your catalogs, or the images of one
    Ls(LsArgs),
    /// Show one image: user:tag, or user@sha256:…
    Get(OneArgs),
    /// Remove an image: by tag only that tag, by digest with its tags
    Rm(RmArgs),
    /// Give an image another name of yours
    Cp(CpArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// user, or user/path
    catalog: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    /// user:tag, or user@sha256:…
    image: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// user:tag, or user@sha256:…
    image: String,
    /// With all tags of the same image
    #[arg(long)]
    all_tags: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CpArgs {
    /// user:tag, or user@sha256:…
    from: String,
    /// user:tag
    to: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    catalogs: Vec<String>,
    #[serde(default)]
    images: Vec<Value>,
    next: Option<String>,
}

pub(crate) async fn run(verb: Verb) -> ExitCode {
    finish(async {
        match verb {
            Verb::Ls(args) => ls(&args).await?,
            Verb::Get(args) => get(&args).await?,
            Verb::Rm(args) => rm(&args).await?,
            Verb::Cp(args) => cp(&args).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// A page is printed as it comes: there may be many.
async fn ls(args: &LsArgs) -> Result<(), Trouble> {
    let client = args.client.connect()?;
    let path = args.catalog.as_deref().map_or_else(|| Ok(PATH.to_owned()), at)?;
    let mut cursor: Option<String> = None;
    loop {
        let query: Vec<_> = cursor.iter().map(|cursor| ("cursor", cursor.clone())).collect();
        let page: Page = client.find(&path, &query).await?;
        for catalog in &page.catalogs {
            say(&if args.client.json { line(&json!({ "catalog": catalog })) } else { catalog.clone() });
        }
        for image in &page.images {
            say(&if args.client.json { line(image) } else { in_short(image) });
        }
        match page.next {
            // A gateway that says the same again would be asked for ever.
            Some(next) if Some(&next) != cursor.as_ref() => cursor = Some(next),
            _ => return Ok(()),
        }
    }
}

async fn get(args: &OneArgs) -> Result<(), Trouble> {
    let image: Value = one(&args.client.connect()?, &args.image).await?;
    if args.client.json {
        say(&line(&image));
        return Ok(());
    }
    say(&in_short(&image));
    let of = |field: &str| image[field].as_array().cloned().unwrap_or_default();
    let images = of("images");
    for part in images.iter().filter(|_| images.len() > 1) {
        say(&format!("  {}  {}  {}", text(&part["digest"]), size(&part["size"]), text(&part["platform"])));
    }
    for layer in of("layers") {
        say(&format!("  {}  {}", text(&layer["digest"]), size(&layer["size"])));
    }
    Ok(())
}

async fn rm(args: &RmArgs) -> Result<(), Trouble> {
    let client = args.client.connect()?;
    let query: Vec<_> = args.all_tags.then(|| ("all_tags", "true".to_owned())).into_iter().collect();
    let removed: Value = client.delete(&at(&args.image)?, &query).await?;
    if args.client.json {
        say(&line(&removed));
        return Ok(());
    }
    let tags = removed["tags"].as_array().cloned().unwrap_or_default();
    for tag in &tags {
        say(&format!("{}:{} {}", text(&removed["catalog"]), text(tag), text(&removed["digest"])));
    }
    if tags.is_empty() {
        say(&format!("{}@{}", text(&removed["catalog"]), text(&removed["digest"])));
    }
    Ok(())
}

async fn cp(args: &CpArgs) -> Result<(), Trouble> {
    let client = args.client.connect()?;
    let copied: Value = client.post(PATH, &json!({ "from": args.from, "to": args.to })).await?;
    say(&match args.client.json {
        true => line(&copied),
        false => format!("{}:{} {}", text(&copied["catalog"]), text(&copied["tag"]), text(&copied["digest"])),
    });
    Ok(())
}

const PATH: &str = "/v1/images";

async fn one(client: &Client, image: &str) -> Result<Value, Trouble> {
    let found: Value = client.get(&at(image)?).await?;
    match found["images"].is_array() && found["digest"].is_null() {
        true => Err(Trouble::new(exit::USAGE, "that names a catalog; name one image: user:tag")),
        false => Ok(found),
    }
}

/// The name as a path. The gateway has the grammar; here is only kept out what would lead elsewhere.
fn at(name: &str) -> Result<String, Trouble> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
    let steps = name.split('/').any(|part| matches!(part, "" | "." | ".."));
    match name.bytes().all(letter) && !steps {
        true => Ok(format!("{PATH}/{name}")),
        false => Err(Trouble::new(exit::USAGE, format!("{name:?} is no image; one is user:tag or user@sha256:…"))),
    }
}

/// One line: tag, digest, size, time and platforms.
fn in_short(image: &Value) -> String {
    let platforms = image["platforms"].as_array().cloned().unwrap_or_default();
    let platforms: Vec<_> = platforms.iter().map(text).collect();
    let tag = format!("{:<24}", text(&image["tag"]));
    match image["error"].as_str() {
        Some(error) => format!("{tag}  {}", harmless(error)),
        // To the second: what follows is for machines.
        None => format!(
            "{tag}  {}  {}  {:.19}  {}",
            text(&image["digest"]),
            size(&image["size"]),
            text(&image["created"]),
            platforms.join(",")
        ),
    }
}

fn size(bytes: &Value) -> String {
    format!("{:>10}", indicatif::BinaryBytes(bytes.as_u64().unwrap_or_default()).to_string())
}

/// A text of the registry's; a dash where there is none.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".to_owned(), harmless)
}
