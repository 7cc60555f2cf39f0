//! *Extend*: a base image plus one requirements file, installed where the runtime's actions find it.

use kiln_backends::{Failure, InvalidTree, Reason, Tree};

use super::{
    DOCKERFILE, Kind,
    dockerfile::{Dockerfile, Mount, Unwritable},
};
use crate::registry::Base;

/// The secret under which the session serves the CA bundle.
pub const CA_SECRET: &str = "kiln-ca";
/// The secret under which it serves the same as a Java trust store.
pub const TRUSTSTORE_SECRET: &str = "kiln-truststore";

/// The step's first line, before the name of the extender.
const MARKER: &str = "kiln: extend with ";

/// The scripts' exit statuses for what isn't an installer's own failure.
const NO_PACKAGE_MANAGER: i32 = 90;
const KIND_UNSUPPORTED: i32 = 91;
const FILE_INVALID: i32 = 92;

const CONTEXT: Mount = Mount::Context { source: ".kiln", target: "/.kiln" };
const CA: Mount = Mount::Secret { id: CA_SECRET, target: "/.kiln-ca.pem" };
const TRUSTSTORE: Mount = Mount::Secret { id: TRUSTSTORE_SECRET, target: "/.kiln-truststore.p12" };

const SCRIPTS: [(&str, &str); 9] = [
    ("extend.sh", include_str!("scripts/extend.sh")),
    ("environment.sh", include_str!("scripts/environment.sh")),
    ("python.sh", include_str!("scripts/python.sh")),
    ("nodejs.sh", include_str!("scripts/nodejs.sh")),
    ("php.sh", include_str!("scripts/php.sh")),
    ("java.sh", include_str!("scripts/java.sh")),
    ("go.sh", include_str!("scripts/go.sh")),
    ("ruby.sh", include_str!("scripts/ruby.sh")),
    ("dotnet.sh", include_str!("scripts/dotnet.sh")),
];

/// Changes with the form of the Dockerfile below, as the scripts' texts do with the scripts.
const FORM: &str = "1";

/// All that the recipe puts into a build of its own: other texts, other images.
pub(crate) fn texts() -> impl Iterator<Item = &'static str> {
    std::iter::once(FORM).chain(SCRIPTS.into_iter().flat_map(|(name, script)| [name, script]))
}

/// The context of a build on `base`: with a file it is extended, without it gets a new name only.
///
/// # Errors
/// A failure that says what about the base or the file is in the way.
pub fn context(base: &Base, requirements: Option<(Kind, &[u8])>, with_ca: bool) -> Result<Tree, Failure> {
    if !base.config.onbuild.is_empty() {
        let message = "the base image has ONBUILD triggers, which would run with your build; use a base without them";
        return Err(Failure::new(Reason::BaseUnsupported, message));
    }
    let dockerfile = Dockerfile::default().from(&base.reference.to_string()).map_err(unwritable)?;
    let Some((kind, file)) = requirements else {
        let tree = Tree::builder().file(DOCKERFILE, 0o644, dockerfile.finish().as_bytes());
        return Ok(tree.map_err(invalid)?.build());
    };
    let mounts: &[Mount] = if with_ca { &[CONTEXT, CA, TRUSTSTORE] } else { &[CONTEXT] };
    let step = ["/bin/sh", "/.kiln/extend.sh", kind.as_str()];
    let dockerfile = match Some(base.config.user.as_str()).filter(|user| !user.is_empty()) {
        // Installing needs root; afterwards the image is its base's user's again, verbatim.
        Some(user) => {
            let text = dockerfile.user("0:0").map_err(unwritable)?.run(mounts, &step);
            text.user(user).map_err(unwritable)?
        }
        None => dockerfile.run(mounts, &step),
    };
    let mut tree = Tree::builder().file(DOCKERFILE, 0o644, dockerfile.finish().as_bytes()).map_err(invalid)?;
    for (name, script) in SCRIPTS {
        tree = tree.file(&format!(".kiln/{name}"), 0o644, script.as_bytes()).map_err(invalid)?;
    }
    let path = format!(".kiln/requirements/{}", kind.requirements());
    Ok(tree.file(&path, 0o644, file).map_err(invalid)?.build())
}

/// The extender that a line of the step's output names, if it is the marker.
#[must_use]
pub fn extender(line: &str) -> Option<&str> {
    // A base's own shell could write anything here.
    let known = |name: &&str| *name == "/bin/extend" || (name.starts_with("built-in recipe ") && name.len() <= 40);
    line.trim_end().strip_prefix(MARKER).filter(known)
}

/// Turns a step's exit status into the reason that the script had for it.
#[must_use]
pub fn explain(failure: Failure) -> Failure {
    let Some(step) = &failure.step else { return failure };
    let (reason, prefix) = match step.exit_code {
        Some(NO_PACKAGE_MANAGER | KIND_UNSUPPORTED) => (Reason::BaseUnsupported, "kiln: unsupported: "),
        Some(FILE_INVALID) => (Reason::RecipeInvalid, "kiln: invalid: "),
        Some(status) if failure.reason == Reason::StepFailed => return install_failed(failure, status),
        _ => return without_step(failure),
    };
    match step.tail.iter().rev().find_map(|line| line.trim_end().strip_prefix(prefix)) {
        Some(sentence) => Failure { reason, message: sentence.to_owned(), step: failure.step },
        None => failure,
    }
}

/// The caller wrote no step, so the engine's sentence on one becomes a sentence on what they asked for.
fn without_step(failure: Failure) -> Failure {
    let around = failure.message.split_once("the step \"").and_then(|(before, rest)| {
        let (_, after) = rest.split_once("\" (Dockerfile line ")?;
        Some((before, after.split_once(')')?.1))
    });
    let next = if failure.reason == Reason::BaseUnsupported { "; use a runtime's image as the base" } else { "" };
    match around.map(|(before, after)| format!("{before}the installation{after}{next}")) {
        Some(message) => Failure { message, ..failure },
        None => failure,
    }
}

/// The same of an installer that failed.
fn install_failed(failure: Failure, status: i32) -> Failure {
    let last = failure.step.iter().flat_map(|step| &step.tail).rfind(|line| !line.trim().is_empty());
    let last = last.map_or_else(String::new, |line| format!(": {}", line.trim()));
    Failure { message: format!("the installation ended with status {status}{last}"), ..failure }
}

fn unwritable(error: Unwritable) -> Failure {
    Failure::new(Reason::BaseUnsupported, format!("the base image can't be extended: {error}"))
}

fn invalid(error: InvalidTree) -> Failure {
    Failure::new(Reason::Internal, error.to_string())
}

#[cfg(test)]
mod tests {
    use kiln_backends::FailedStep;

    use super::*;

    #[test]
    fn no_sentence_speaks_of_a_step_that_the_caller_did_not_write() {
        let step = r#"the step "RUN --mount=type=bind,source=.kiln,target=/.kiln ["/bin/sh","/.kiln/extend.sh"]" (Dockerfile line 3)"#;
        for (reason, exit_code, tail, engines, ours) in [
            (
                Reason::BaseUnsupported,
                None,
                "",
                format!("the base image has no /bin/sh, which {step} needs"),
                "the base image has no /bin/sh, which the installation needs; use a runtime's image as the base",
            ),
            (
                Reason::OutOfMemory,
                Some(137),
                "",
                format!("{step} was killed, most likely for want of memory"),
                "the installation was killed, most likely for want of memory",
            ),
            (
                Reason::StepFailed,
                Some(1),
                "no such package",
                format!("{step} ended with exit code 1"),
                "the installation ended with status 1: no such package",
            ),
            (
                Reason::StepFailed,
                Some(NO_PACKAGE_MANAGER),
                "kiln: unsupported: there is no pip.",
                format!("{step} ended with exit code 90"),
                "there is no pip.",
            ),
        ] {
            let step = FailedStep { exit_code, tail: vec![tail.to_owned()], ..FailedStep::default() };
            let failure = explain(Failure { step: Some(step), ..Failure::new(reason, engines) });
            assert_eq!(failure.message, ours);
        }
    }
}
