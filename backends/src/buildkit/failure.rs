//! Turns what a daemon says went wrong into a reason and a sentence for people.
//!
//! What is typed is taken from the details; the rest is told from BuildKit's words. A step's own
//! text stands in some of them, so what belongs to a step is sorted out first.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    details::Details,
    registry::{self, Action},
    status::Fold,
    transport::words,
};
use crate::{BuildSpec, EngineError, FailedStep, Failure, Output, Reason, RunError};

/// The longest sentence out of an engine's words.
const LONGEST: usize = 500;

/// What is to be done about an error.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The attempt ends so.
    Final(RunError),
    /// The registry has trouble that may pass.
    Registry(Failure),
}

/// Decides about the error with which a solve ended.
pub(super) fn judge(status: &tonic::Status, fold: &Fold, spec: &BuildSpec) -> Verdict {
    let details = Details::of(status);
    let text = status.message();
    // For the operator's log: the caller gets a sentence without the engine's own paths.
    tracing::debug!(attempt = %spec.attempt, code = ?status.code(), text, "the engine's own words");
    if let Some(lost) = lost(status) {
        return Verdict::Final(lost);
    }
    let step = details.vertex.as_deref().and_then(|digest| fold.step(digest));
    let step = step.or_else(|| fold.first_failed()).map(|step| FailedStep {
        exit_code: details.exit_code,
        line: details.line,
        ..step
    });

    if let Some(step) = step.clone().filter(|_| details.exit_code.is_some() || text.starts_with("process \"")) {
        return fail(of_process(text, step));
    }
    if let Some(source) = denied_source(text) {
        let line = at_line(details.line);
        let message =
            format!("the build may not fetch {source}{line}: only permitted bases and its own context may be used");
        return fail(Failure { step, ..Failure::new(Reason::SourceDenied, message) });
    }
    let exporting = step.as_ref().is_some_and(|step| step.name.starts_with("exporting to "));
    if let Output::Push(to) = &spec.output
        && (exporting || text.contains("failed to push"))
    {
        let to = format!("{}/{}", to.registry, to.target.repository());
        if let Some(verdict) = registry::judge(Action::Push(&to), text) {
            return verdict;
        }
    }
    if let Some(message) = of_recipe(text, &details, &spec.dockerfile) {
        return fail(Failure { step, ..Failure::new(Reason::RecipeInvalid, message) });
    }
    if let Some(verdict) = registry::judge(Action::Pull(pulled(text).unwrap_or("the base image")), text) {
        return verdict;
    }
    if details.frontend || details.line.is_some() {
        let message = format!("the Dockerfile can't be built{}: {}", at_line(details.line), public(text));
        return fail(Failure { step, ..Failure::new(Reason::RecipeInvalid, message) });
    }
    Verdict::Final(RunError::Engine { retryable: false, source: EngineError::Protocol(public(text)) })
}

fn fail(failure: Failure) -> Verdict {
    Verdict::Final(RunError::Build(failure))
}

/// The engine itself went away or stopped.
fn lost(status: &tonic::Status) -> Option<RunError> {
    let signs = ["no active session", "session not found", "error reading from server", "no space left on device"];
    let gone = std::error::Error::source(status).is_some()
        || matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Cancelled)
        || status.message().ends_with("context canceled")
        || (Details::of(status).exit_code.is_none() && signs.iter().any(|sign| status.message().contains(sign)));
    gone.then(|| RunError::Engine { retryable: true, source: EngineError::Lost(public(&words(status))) })
}

/// A step's process could not be started, was killed, or ended with an error.
fn of_process(text: &str, mut step: FailedStep) -> Failure {
    let which = named(&step);
    let last = step.tail.last().map_or("", String::as_str);
    let code = step.exit_code;
    let (reason, message) = if let Some(program) = absent_program(last) {
        if is_shell(program) {
            (Reason::BaseUnsupported, format!("the base image has no {program}, which {which} needs"))
        } else {
            (Reason::StepFailed, format!("{which} could not start: there is no {program} in the image"))
        }
    } else if last.starts_with("exec ") && last.ends_with(": exec format error") {
        let message = format!("{which} could not start: the base image is for another processor architecture");
        (Reason::BaseUnsupported, message)
    } else if last.starts_with("exec ") && last.ends_with(": no such file or directory") {
        let message = format!("{which} could not start: the base image lacks the interpreter of its program");
        (Reason::BaseUnsupported, message)
    } else if text.ends_with("cannot allocate memory") {
        (Reason::OutOfMemory, format!("{which} was killed because it used more memory than it may"))
    } else if code == Some(137) && step.tail.iter().any(|line| line.ends_with("Killed")) {
        (Reason::OutOfMemory, format!("{which} was killed, most likely for want of memory"))
    } else if let Some(code) = code {
        (Reason::StepFailed, format!("{which} ended with exit code {code}"))
    } else {
        let why = text.rsplit_once("did not complete successfully: ").map_or(text, |(_, why)| why);
        (Reason::StepFailed, format!("{which} could not start: {}", public(why)))
    };
    if reason == Reason::BaseUnsupported {
        // The runtime's own words: nothing that the step wrote.
        step.tail.clear();
    }
    Failure { step: Some(step), ..Failure::new(reason, message) }
}

/// `the step "RUN make" (Dockerfile line 3)`.
fn named(step: &FailedStep) -> String {
    let name =
        step.name.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(step.name.as_str(), |(_, n)| n);
    let name: String = name.chars().take(100).collect();
    match step.line {
        Some(line) => format!("the step \"{name}\" (Dockerfile line {line})"),
        None => format!("the step \"{name}\""),
    }
}

/// The program that the runtime did not find, as in
/// `exec: "/bin/sh": stat /bin/sh: no such file or directory`.
fn absent_program(line: &str) -> Option<&str> {
    let (program, why) = line.split_once("exec: \"")?.1.split_once("\": ")?;
    let absent = ["no such file or directory", "executable file not found"].iter().any(|words| why.contains(words));
    absent.then_some(program)
}

fn is_shell(program: &str) -> bool {
    matches!(program.rsplit('/').next(), Some("sh" | "bash" | "ash" | "dash"))
}

/// What the source policy denied, as in `source "docker-image://alpine" denied by policy`.
fn denied_source(text: &str) -> Option<&str> {
    let (before, _) = text.split_once("\" denied by policy")?;
    let (_, source) = before.rsplit_once("source \"")?;
    Some(source.strip_prefix("docker-image://").unwrap_or(source))
}

/// What was being pulled, as in `failed to resolve source metadata for r/b:1: …`; BuildKit 0.12
/// has `r/b:1: r/b:1: not found`.
fn pulled(text: &str) -> Option<&str> {
    let rest = text.split_once("failed to resolve source metadata for ").map_or(text, |(_, rest)| rest);
    rest.split_once(": ").map(|(reference, _)| reference).filter(|reference| !reference.contains(' '))
}

/// The Dockerfile, or what it needs of the context, is wrong.
fn of_recipe(text: &str, details: &Details, dockerfile: &str) -> Option<String> {
    let line = at_line(details.line);
    if text.contains("failed to read dockerfile") {
        return Some(format!("there is no {dockerfile:?} in the build context"));
    }
    if text.contains("dockerfile parse error") || text.contains("Dockerfile cannot be empty") {
        return Some(public(text));
    }
    if let Some((_, rest)) = text.split_once("failed to calculate checksum of ref ") {
        let path = rest.split_once('"').and_then(|(_, rest)| rest.split_once('"')).map_or("a file", |(path, _)| path);
        return Some(format!("the Dockerfile copies {path}{line}, which is not in the build context"));
    }
    let secret = text.strip_prefix("secret ").and_then(|rest| rest.strip_suffix(": not found"));
    secret.map(|id| format!("the Dockerfile needs a secret named {id}{line}, which this build doesn't have"))
}

fn at_line(line: Option<u32>) -> String {
    line.map_or_else(String::new, |line| format!(" (Dockerfile line {line})"))
}

/// An engine's words without its own paths and names, on one line of bounded length.
pub(crate) fn public(text: &str) -> String {
    /// Absolute paths in which an engine's own folders occur, and its names of intermediate results.
    static OWN: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let folder = "(?:buildkit|docker|containerd|runc|overlay2?|snapshots|snapshotter|moby)";
        Regex::new(&format!(
            r#"(^|[\s"'=(])/(?:[^/\s"':]+/)*[^/\s"':]*{folder}[^\s"':]*| of ref [a-z0-9]+(?:::[a-z0-9]+)?"#
        ))
        .ok()
    });
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let own = OWN.as_ref().map_or(line.as_str().into(), |own| own.replace_all(&line, "$1…"));
    own.chars().take(LONGEST).collect()
}

#[cfg(test)]
pub(crate) mod tests;
