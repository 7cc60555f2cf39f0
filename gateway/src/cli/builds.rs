//! `kiln list`, `wait`, `cancel`, `retry` and `whoami`: what there is to say about builds that are there.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    client::{Build, Client, ClientArgs, Trouble},
    fail,
    follow::{conclude, follow, path_part, say},
};

/// Builds on one line each, the newest first.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// In these states only: queued, running, pushed, succeeded, failed, cancelled
    #[arg(long, value_delimiter = ',')]
    state: Vec<String>,
    /// Of this target only: user:tag
    #[arg(long)]
    target: Option<String>,
    /// Accepted then or later: 2026-01-31T12:00:00Z
    #[arg(long)]
    since: Option<String>,
    /// Accepted before then
    #[arg(long)]
    until: Option<String>,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    client: ClientArgs,
}

/// One build.
#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    /// The build's id
    id: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// The build's id
    id: String,
    /// Print the new build's id and leave
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Deserialize)]
struct Page {
    builds: Vec<Build>,
    next: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Caller {
    pub(super) user: String,
    provider: String,
    operator: bool,
}

pub(crate) async fn list(args: ListArgs) -> ExitCode {
    finish(async {
        for build in pages(&args).await? {
            if args.client.json {
                say(&json(&build));
            } else {
                let accepted = build.rest.get("accepted").and_then(Value::as_str).unwrap_or_default();
                // To the second: what follows is for machines.
                say(&format!("{}  {:<9}  {accepted:.19}  {}", build.id, build.state, build.image));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

async fn pages(args: &ListArgs) -> Result<Vec<Build>, Trouble> {
    let client = args.client.connect()?;
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    while found.len() < args.limit {
        let mut query = vec![("limit", (args.limit - found.len()).min(100).to_string())];
        let states = args.state.join(",");
        for (name, value) in [("target", &args.target), ("since", &args.since), ("until", &args.until)] {
            query.extend(value.as_ref().map(|value| (name, value.clone())));
        }
        query.extend(Some(("state", states)).filter(|(_, states)| !states.is_empty()));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: Page = client.find("/v1/builds", &query).await?;
        found.extend(page.builds);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(found)
}

pub(crate) async fn wait(args: OneArgs) -> ExitCode {
    finish(async {
        let client = args.client.connect()?;
        loop {
            let build: Build = client.get(&format!("/v1/builds/{}/wait", path_part(&args.id))).await?;
            if build.has_ended() {
                return Ok(conclude(&build, args.client.json));
            }
        }
    })
    .await
}

pub(crate) async fn cancel(args: OneArgs) -> ExitCode {
    finish(async {
        let client = args.client.connect()?;
        let path = format!("/v1/builds/{}", path_part(&args.id));
        let _: Value = client.post(&format!("{path}/cancel"), &Value::Object(Map::new())).await?;
        // Until the engine is clean, or it had ended before.
        loop {
            let build: Build = client.get(&format!("{path}/wait")).await?;
            if build.has_ended() {
                say(&if args.client.json { json(&build) } else { build.state });
                return Ok(ExitCode::SUCCESS);
            }
        }
    })
    .await
}

pub(crate) async fn retry(args: RetryArgs) -> ExitCode {
    let sent: Result<(Client, Build), Trouble> = async {
        let client = args.client.connect()?;
        let path = format!("/v1/builds/{}/retry", path_part(&args.id));
        let build = client.post(&path, &Value::Object(Map::new())).await?;
        Ok((client, build))
    }
    .await;
    match sent {
        Ok((_, build)) if args.detach => {
            say(&if args.client.json { json(&build) } else { build.id });
            ExitCode::SUCCESS
        }
        Ok((client, build)) => follow(&client, &build.id, args.client.json).await,
        Err(trouble) => fail(trouble.status, &trouble),
    }
}

pub(crate) async fn whoami(client: ClientArgs) -> ExitCode {
    finish(async {
        let caller: Caller = client.connect()?.get("/v1/whoami").await?;
        say(&match client.json {
            true => json(&caller),
            false => format!("{}{}", caller.user, if caller.operator { " (operator)" } else { "" }),
        });
        Ok(ExitCode::SUCCESS)
    })
    .await
}

pub(super) async fn finish(work: impl Future<Output = Result<ExitCode, Trouble>>) -> ExitCode {
    work.await.unwrap_or_else(|trouble| fail(trouble.status, &trouble))
}

/// One line of JSON.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
