//! `kiln status` and `kiln logs`: a build watched, with a live line on terminals and plain lines elsewhere.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    builds::json,
    client::{Build, Client, ClientArgs, Trouble},
    exit, fail,
};

/// How often a lost stream is taken up again before giving up.
const TRIES: u32 = 8;
/// How often a live line is drawn anew.
const TICK: Duration = Duration::from_millis(120);

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// The build's id
    id: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// The build's id
    id: String,
    /// Go on until the build has ended
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn status(args: StatusArgs) -> ExitCode {
    let found = async { args.client.connect()?.get::<Build>(&format!("/v1/builds/{}", path_part(&args.id))).await };
    match found.await {
        Ok(build) => conclude(&build, args.client.json),
        Err(trouble) => fail(trouble.status, &trouble),
    }
}

pub(crate) async fn logs(args: LogsArgs) -> ExitCode {
    let client = match args.client.connect() {
        Ok(client) => client,
        Err(trouble) => return fail(trouble.status, &trouble),
    };
    if args.follow {
        return follow(&client, &args.id, args.client.json).await;
    }
    let mut view = View::new(args.client.json);
    match read(&client, &args.id, false, &mut view).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(trouble) => fail(trouble.status, &trouble),
    }
}

/// Follows a build to its end; its state decides the exit status. Ctrl-C detaches. As JSON the log is
/// one record a line, and the build the last one.
pub(crate) async fn follow(client: &Client, id: &str, json: bool) -> ExitCode {
    let mut view = View::new(json);
    let ended = tokio::select! {
        ended = follow_to_the_end(client, id, &mut view) => ended,
        _ = tokio::signal::ctrl_c() => {
            view.done();
            eprintln!("detached; the build goes on. Come back with: kiln logs -f {id}");
            return ExitCode::from(exit::TRY_AGAIN);
        }
    };
    view.done();
    match ended {
        Ok(build) => conclude(&build, json),
        Err(trouble) => {
            eprintln!("come back with: kiln logs -f {id}");
            fail(trouble.status, &trouble)
        }
    }
}

async fn follow_to_the_end(client: &Client, id: &str, view: &mut View) -> Result<Build, Trouble> {
    let mut tries = 0;
    loop {
        let seen = view.seen;
        match read(client, id, true, view).await {
            Ok(true) => return client.get(&format!("/v1/builds/{}", path_part(id))).await,
            Err(trouble) if trouble.status != exit::TRY_AGAIN => return Err(trouble),
            Ok(false) | Err(_) => {}
        }
        tries = if view.seen > seen { 0 } else { tries + 1 };
        if tries == TRIES {
            return Err(Trouble::new(exit::TRY_AGAIN, "the gateway doesn't answer any more"));
        }
        tokio::time::sleep(Duration::from_millis(250 << tries.min(5))).await;
    }
}

/// Reads events until the stream ends; true if the build's end was among them.
async fn read(client: &Client, id: &str, follow: bool, view: &mut View) -> Result<bool, Trouble> {
    let path = format!("/v1/builds/{}/log?follow={follow}&after={}", path_part(id), view.seen);
    let mut body = client.stream(&path).await?.bytes_stream();
    let mut lines = Vec::new();
    let mut event = SseEvent::default();
    let mut ended = false;
    while let Some(chunk) = body.next().await {
        lines.extend_from_slice(&chunk.map_err(|e| Trouble::new(exit::TRY_AGAIN, e.to_string()))?);
        while let Some(at) = lines.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = lines.drain(..=at).collect();
            let line = String::from_utf8_lossy(&line);
            match line.trim_end_matches(['\r', '\n']).split_once(':') {
                Some(("id", value)) => event.id = value.trim_start().parse().unwrap_or(event.id),
                Some(("event", value)) => value.trim_start().clone_into(&mut event.kind),
                Some(("data", value)) => value.trim_start().clone_into(&mut event.data),
                _ if line.trim().is_empty() && !event.data.is_empty() => {
                    ended |= event.kind == "end";
                    view.show(&std::mem::take(&mut event));
                }
                _ => {}
            }
        }
    }
    Ok(ended)
}

#[derive(Debug, Default)]
struct SseEvent {
    id: u64,
    kind: String,
    data: String,
}

#[derive(Debug, Deserialize)]
struct Data {
    step: u32,
    text: Option<String>,
    base64: Option<String>,
}

/// What the user sees.
struct View {
    json: bool,
    seen: u64,
    steps: BTreeMap<u32, String>,
    spinner: Option<ProgressBar>,
}

impl View {
    fn new(json: bool) -> Self {
        let spinner = (!json && std::io::stdout().is_terminal()).then(|| {
            live(ProgressBar::new_spinner().with_message("waiting for its turn"), "{spinner} {elapsed:>4} {wide_msg}")
        });
        Self { json, seen: 0, steps: BTreeMap::new(), spinner }
    }

    fn show(&mut self, event: &SseEvent) {
        self.seen = event.id;
        if self.json {
            // With what the stream says around it, a line is as the gateway's own lines are.
            let mut record: Map<String, Value> = serde_json::from_str(&event.data).unwrap_or_default();
            record.insert("seq".to_owned(), event.id.into());
            record.insert("kind".to_owned(), event.kind.as_str().into());
            return say(&json(&record));
        }
        let Ok(data) = serde_json::from_str::<Data>(&event.data) else { return };
        let bytes = match (data.text, data.base64) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(base64)) => BASE64_STANDARD.decode(base64).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        let text = String::from_utf8_lossy(&bytes);
        let name = self.steps.get(&data.step).cloned().unwrap_or_default();
        match event.kind.as_str() {
            "step" => {
                self.steps.insert(data.step, text.clone().into_owned());
                self.now(&text);
                self.line(&format!("#{} {text}", data.step));
            }
            "step-cached" => self.line(&format!("#{} cached: {name}", data.step)),
            "step-failed" => self.line(&format!("#{} failed: {text}", data.step)),
            "stdout" | "stderr" => text.lines().for_each(|line| self.line(&format!("#{} | {line}", data.step))),
            "attempt" if text != "1" => self.line(&format!("attempt {text}")),
            "warning" => self.line(&format!("warning: {text}")),
            "note" | "clipped" => self.line(&text),
            _ => {}
        }
    }

    fn now(&self, step: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(step.to_owned());
        }
    }

    fn line(&self, line: &str) {
        let line = harmless(line);
        match &self.spinner {
            Some(spinner) => spinner.println(line),
            None => say(&line),
        }
    }

    fn done(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// What shows on a terminal how much of a folder is sent.
pub(crate) fn sending(json: bool) -> ProgressBar {
    if json || !std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    live(ProgressBar::no_length().with_message("sending"), "{spinner} {elapsed:>4} {msg} {binary_bytes}")
}

fn live(bar: ProgressBar, template: &str) -> ProgressBar {
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(TICK);
    bar
}

/// Others' words without what would steer the terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().filter(|c| *c == '\t' || !(c.is_control() || turns_text_around(*c))).collect()
}

/// A line on standard output. A reader that went away isn't worth a panic: the exit status says the rest.
pub(crate) fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Prints where a build is, and gives the exit status for it.
pub(crate) fn conclude(build: &Build, as_json: bool) -> ExitCode {
    match (build.state.as_str(), &build.failure) {
        _ if as_json => say(&json(build)),
        ("succeeded", _) => say(&format!("{} {}", build.image, build.digest.as_deref().unwrap_or_default())),
        (state @ ("failed" | "cancelled"), failure) => {
            let why = failure.as_ref().map(|f| format!("{}: {}", f.reason, f.message)).unwrap_or_default();
            eprintln!("{state}: {why}");
        }
        (state, _) => say(state),
    }
    match build.state.as_str() {
        "succeeded" => ExitCode::SUCCESS,
        "failed" | "cancelled" => ExitCode::from(1),
        _ => ExitCode::from(exit::TRY_AGAIN),
    }
}

/// Marks that make a terminal show text in another order than it has.
fn turns_text_around(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// An id as a part of a path: whatever isn't an id's character is left out, and then isn't found.
pub(crate) fn path_part(id: &str) -> String {
    id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}
