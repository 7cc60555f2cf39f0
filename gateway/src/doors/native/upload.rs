//! `POST /v1/builds` with a tar: a folder with a Dockerfile, whose options are in the query.

use axum::{
    Extension,
    extract::{Request as HttpRequest, State},
    response::Response,
};
use http::{HeaderMap, StatusCode, Uri, header};
use http_body::Body as _;
use kiln_auth::{Identity, Origin};
use kiln_backends::{BuildArg, Tree};
use url::form_urlencoded;
use utoipa::IntoParams;

use super::{Native, create, fault::Fault};
use crate::{
    admission::{TooSlow, paced},
    archive::{ReceiveError, UnpackError, no_room},
    builds::{ContextOptions, Request, Submission, TooMuchStored, hash_of},
    ledger::Content,
    recipes::{DOCKERFILE, has_dockerfile},
    registry::Platform,
};

/// What a body may be called to be one. How it is compressed, its first bytes say.
const KINDS: [&str; 7] = [
    "application/x-tar",
    "application/tar",
    "application/gzip",
    "application/x-gzip",
    "application/zstd",
    "application/x-bzip2",
    "application/x-xz",
];
const ENCODINGS: [&str; 5] = ["identity", "gzip", "x-gzip", "zstd", ""];

/// What the query may say of a tar; of JSON nothing.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of what `Options::of` reads")]
pub(super) struct UploadParams {
    /// Of a tar: `user:tag` or `user/path:tag`.
    target: Option<String>,
    /// Of a tar: the Dockerfile's path in it, `Dockerfile` unless told.
    dockerfile: Option<String>,
    /// Of a tar: what to build for, `linux/amd64` for one; the engine's own unless told.
    platform: Option<Vec<String>>,
    /// Of a tar: a build argument, `NAME=VALUE`.
    #[param(rename = "build-arg")]
    build_arg: Option<Vec<String>>,
    /// Of a tar: a size class.
    size: Option<String>,
    /// Of a tar: builds every step, whatever is cached.
    fresh: Option<bool>,
}

/// What the query asks for.
#[derive(Debug, Default)]
struct Options {
    target: Option<String>,
    size: Option<String>,
    dockerfile: Option<String>,
    platforms: Vec<String>,
    args: Vec<(String, String)>,
    fresh: Option<bool>,
}

/// Whether a request brings a tar.
pub(super) fn is_tar(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    KINDS.iter().any(|known| known.eq_ignore_ascii_case(kind))
}

pub(super) async fn upload(
    State(native): State<Native>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    request: HttpRequest,
) -> Result<Response, Fault> {
    let (head, body) = request.into_parts();
    let encoding = head.headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.to_str().unwrap_or("?"));
    if !ENCODINGS.contains(&encoding.unwrap_or_default()) {
        return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Encoding: gzip or zstd"));
    }
    // All that can be said without the body is said before it comes.
    let mut submission = submission(&native, &identity, origin, Options::of(&head.uri)?)?;
    let content = create::content_id(&head.headers)?;
    if !native.builds.ready() {
        return Err(Fault::busy(
            StatusCode::SERVICE_UNAVAILABLE,
            "the gateway takes no builds: it is stopping, or its disk is full",
        ));
    }
    let announced = body.size_hint().lower();
    let stored = native.builds.stored();
    let arrived =
        stored.receive(identity.user(), announced, paced(body.into_data_stream())).await.map_err(unreceived)?;
    let tree = arrived.tree(identity.user()).await.map_err(|error| unreadable(&error))?;
    if let Some(options) = &mut submission.request.context {
        options.dockerfile = dockerfile(&tree, &options.dockerfile)?;
    }
    drop(tree);
    if let Some(id) = content {
        let digest = arrived.digest().await.map_err(|error| internal(&error))?;
        submission.request.fingerprint = Some(fingerprint(&submission, &digest));
        submission.content = Some(Content { id, retry: false });
    }
    let asked = submission.request.fingerprint.clone();
    let receipt = native.builds.accept_context(submission, arrived).await?;
    create::answer(&native, &identity, receipt, asked.as_deref()).await
}

fn submission(native: &Native, identity: &Identity, origin: Origin, options: Options) -> Result<Submission, Fault> {
    let Options { target, size, dockerfile, platforms, args, fresh } = options;
    let target = target.ok_or_else(|| Fault::bad("target: missing; say ?target=user:tag"))?;
    let target = create::target(identity, &target)?;
    create::size(native, size.as_deref())?;
    let dockerfile = dockerfile.unwrap_or_else(|| DOCKERFILE.to_owned());
    let request = Request {
        size,
        fresh: fresh.unwrap_or_default(),
        any_target: identity.scope().is_unbounded(),
        context: Some(ContextOptions { dockerfile, args, platforms }),
        ..Request::default()
    };
    Submission::new(origin, identity, &native.registry, target, request, None).map_err(Fault::bad)
}

impl Options {
    fn of(uri: &Uri) -> Result<Self, Fault> {
        let mut options = Self::default();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            let bad = |fault: &dyn std::fmt::Display| Fault::bad(format!("{name}: {fault}"));
            match &*name {
                "target" => once(&mut options.target, &name, value.into())?,
                "size" => once(&mut options.size, &name, value.into())?,
                "dockerfile" => once(&mut options.dockerfile, &name, value.into())?,
                "fresh" => once(&mut options.fresh, &name, value.parse().map_err(|_| bad(&"true or false"))?)?,
                "platform" => {
                    for platform in value.split(',') {
                        let platform: Platform = platform.parse().map_err(|error| bad(&error))?;
                        options.platforms.push(platform.to_string());
                    }
                }
                "build-arg" => {
                    let (name, value) = value.split_once('=').ok_or_else(|| bad(&"NAME=VALUE"))?;
                    let name = BuildArg::parse(name).map_err(|error| bad(&error))?;
                    options.args.push((name.as_str().to_owned(), value.to_owned()));
                }
                _ => return Err(bad(&"no option; there are target, dockerfile, platform, build-arg, size and fresh")),
            }
        }
        Ok(options)
    }
}

fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), Fault> {
    if slot.replace(value).is_some() {
        return Err(Fault::bad(format!("{name}: more than one")));
    }
    Ok(())
}

/// The Dockerfile's path as the frontend is told it.
fn dockerfile(tree: &Tree, asked: &str) -> Result<String, Fault> {
    let asked = asked.strip_prefix("./").unwrap_or(asked);
    let missing = || Fault::bad(format!("dockerfile: the archive has no file {asked:?}"));
    has_dockerfile(tree, asked).then(|| asked.to_owned()).ok_or_else(missing)
}

/// What two requests with one key must have in common.
fn fingerprint(submission: &Submission, body: &[u8; 32]) -> String {
    let Submission { registry, target, request, .. } = submission;
    let options = serde_json::to_vec(&request.context).unwrap_or_default();
    let target = target.to_string();
    let size = request.size.as_deref().unwrap_or_default();
    hash_of(&[registry.as_bytes(), target.as_bytes(), size.as_bytes(), &options, body])
}

fn unreceived(error: ReceiveError) -> Fault {
    match &error {
        ReceiveError::TooLarge(_) => Fault::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        ReceiveError::Body(cause) if cause.is::<TooMuchStored>() => {
            Fault::busy(StatusCode::TOO_MANY_REQUESTS, cause.to_string())
        }
        ReceiveError::Body(cause) if cause.is::<TooSlow>() => {
            Fault::new(StatusCode::REQUEST_TIMEOUT, cause.to_string())
        }
        ReceiveError::Body(_) | ReceiveError::Signature(_) => Fault::bad(error),
        ReceiveError::Spool(cause) => unspooled(cause),
    }
}

fn unreadable(error: &UnpackError) -> Fault {
    match error {
        UnpackError::Archive(error) => Fault::bad(error),
        UnpackError::Spool(cause) => unspooled(cause),
        UnpackError::Cancelled => internal(error),
    }
}

fn unspooled(cause: &std::io::Error) -> Fault {
    match no_room(cause) {
        Some(text) => Fault::busy(StatusCode::SERVICE_UNAVAILABLE, text),
        None => internal(cause),
    }
}

fn internal(error: &(dyn std::error::Error + 'static)) -> Fault {
    tracing::error!(error = crate::serve::causes(error), "a context can't be taken");
    Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error")
}
