//! `/v1/images`: the caller's repositories and images, looked at, removed, given another name.

use axum::{
    Extension, Json,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use kiln_auth::{Identity, Origin};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Native,
    fault::{Fault, query},
};
use crate::{
    images::{Catalogue, Catalogues, Copied, Image, ImagesError, Name, Removed, What},
    registry::RegistryError,
    rescue::{self, PLACES_AFTER, problem, problem_with, retry_after},
};

/// The longest page.
const PAGE_AT_MOST: usize = 100;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RemoveParams {
    /// With all tags of the same image; false unless told.
    #[serde(default)]
    all_tags: bool,
}

/// An image's new name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCopy)]
pub(super) struct Copy {
    /// `user:tag`, or by digest.
    from: String,
    /// `user:tag`.
    to: String,
}

/// What a name leads to.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Looked {
    Catalogue(Catalogue),
    Image(Image),
}

/// Why an answer is none of those hoped for.
#[derive(Debug)]
pub(super) enum Unanswered {
    Asked(Fault),
    Images(ImagesError),
}

type Named = Result<Path<String>, PathRejection>;

/// The caller's repositories in the registry: the one of their name, and what lies below it.
#[utoipa::path(
    get, path = "/v1/images", tag = "images", operation_id = "list_catalogs", params(PageParams),
    responses(
        (status = 200, body = Catalogues),
        (status = 400, description = "a page that can't be had, or settings that name no registry"),
        (status = 403, description = "the registry refused"),
        (status = 502, description = "the registry's answer made no sense"),
    )
)]
pub(super) async fn catalogues(
    State(Native { images, .. }): State<Native>,
    Extension(identity): Extension<Identity>,
    params: Result<Query<PageParams>, QueryRejection>,
) -> Result<Response, Unanswered> {
    let params = query(params)?;
    let page = images.catalogues(&identity, params.cursor.as_deref(), limit(&params)?).await?;
    Ok(Json(page).into_response())
}

/// A repository's images by tag, or one image.
#[utoipa::path(
    get, path = "/v1/images/{*name}", tag = "images", operation_id = "get_images",
    params(("name" = String, Path, description = "`user/path`, `user/path:tag` or `user/path@sha256:…`"), PageParams),
    responses(
        (status = 200, body = Looked),
        (status = 400, description = "a page that can't be had, or settings that name no registry"),
        (status = 403, description = "the registry refused"),
        (status = 404, description = "no such image, or not the caller's"),
        (status = 502, description = "the registry's answer made no sense"),
    )
)]
pub(super) async fn look(
    State(Native { images, .. }): State<Native>,
    Extension(identity): Extension<Identity>,
    name: Named,
    params: Result<Query<PageParams>, QueryRejection>,
) -> Result<Response, Unanswered> {
    let name = named(&identity, name)?;
    let params = query(params)?;
    if name.what() != &What::Repository {
        return Ok(Json(Looked::Image(images.get(&identity, &name).await?)).into_response());
    }
    let page = images.list(&identity, &name, params.cursor.as_deref(), limit(&params)?).await?;
    Ok(Json(Looked::Catalogue(page)).into_response())
}

/// Removes an image: by tag only that tag, by digest with its tags.
#[utoipa::path(
    delete, path = "/v1/images/{*name}", tag = "images", operation_id = "delete_image",
    params(("name" = String, Path, description = "`user/path:tag` or `user/path@sha256:…`"), RemoveParams),
    responses(
        (status = 200, body = Removed),
        (status = 400, description = "a name that isn't one image's, or settings that name no registry"),
        (status = 403, description = "the registry refused"),
        (status = 404, description = "no such image, or not the caller's"),
        (status = 409, description = "other tags would go, too, or the registry removes nothing"),
        (status = 502, description = "the registry's answer made no sense"),
    )
)]
pub(super) async fn remove(
    State(Native { images, .. }): State<Native>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    name: Named,
    params: Result<Query<RemoveParams>, QueryRejection>,
) -> Result<Response, Unanswered> {
    let name = named(&identity, name)?;
    let RemoveParams { all_tags } = query(params)?;
    Ok(Json(images.remove(&identity, origin, &name, all_tags).await?).into_response())
}

/// Gives an image another name within the caller's repositories.
#[utoipa::path(
    post, path = "/v1/images", tag = "images", operation_id = "copy_image", request_body = Copy,
    responses(
        (status = 201, body = Copied, headers(("Location" = String, description = "the copy"))),
        (status = 400, description = "no JSON, a name without a tag, or settings that name no registry"),
        (status = 403, description = "the registry refused"),
        (status = 404, description = "no such image, or one of the names not the caller's"),
        (status = 409, description = "the image can't be copied"),
        (status = 415, description = "not said to be JSON"),
        (status = 422, description = "JSON of another shape"),
        (status = 502, description = "the registry's answer made no sense"),
    )
)]
pub(super) async fn copy(
    State(Native { images, .. }): State<Native>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    body: Result<Json<Copy>, JsonRejection>,
) -> Result<Response, Unanswered> {
    let Json(Copy { from, to }) = body.map_err(|rejection| Fault::new(rejection.status(), rejection.body_text()))?;
    let (from, to) = (Name::parse(&identity, &from)?, Name::parse(&identity, &to)?);
    let copied = images.copy(&identity, origin, &from, &to).await?;
    let location = [(header::LOCATION, format!("/v1/images/{to}"))];
    Ok((StatusCode::CREATED, location, Json(copied)).into_response())
}

fn named(identity: &Identity, name: Named) -> Result<Name, ImagesError> {
    let Path(name) = name.map_err(|_| ImagesError::Missing)?;
    Name::parse(identity, &name)
}

fn limit(params: &PageParams) -> Result<usize, Fault> {
    match params.limit.unwrap_or(PAGE_AT_MOST) {
        limit @ 1..=PAGE_AT_MOST => Ok(limit),
        _ => Err(Fault::bad(format!("limit: 1 to {PAGE_AT_MOST}"))),
    }
}

impl From<Fault> for Unanswered {
    fn from(fault: Fault) -> Self {
        Self::Asked(fault)
    }
}

impl From<ImagesError> for Unanswered {
    fn from(error: ImagesError) -> Self {
        Self::Images(error)
    }
}

impl IntoResponse for Unanswered {
    fn into_response(self) -> Response {
        let error = match self {
            Self::Asked(fault) => return fault.into_response(),
            Self::Images(error) => error,
        };
        if let ImagesError::Ledger(error) = error {
            return Fault::from(error).into_response();
        }
        let (status, text) = (rescue::images(&error), error.to_string());
        let response = match (reason(&error), error) {
            (Some(reason), ImagesError::Shared { tags, .. }) => {
                problem_with(status, &text, [("reason", reason.into()), ("tags", tags.into())])
            }
            (Some(reason), _) => problem_with(status, &text, [("reason", reason.into())]),
            (None, _) => problem(status, &text),
        };
        if status == StatusCode::SERVICE_UNAVAILABLE { retry_after(response, PLACES_AFTER) } else { response }
    }
}

/// The word for programs. Of a registry's fault callers are told what it said: it is where their images are.
fn reason(error: &ImagesError) -> Option<&'static str> {
    match error {
        ImagesError::DeleteDisabled(_) => Some("DeleteDisabled"),
        ImagesError::Shared { .. } | ImagesError::ManyTags(_) => Some("TagsShared"),
        ImagesError::NotCopied(_) => Some("NotCopied"),
        ImagesError::Registry(RegistryError::NotFound { .. }) => Some("RegistryNotFound"),
        ImagesError::Registry(RegistryError::Forbidden { .. }) => Some("RegistryForbidden"),
        ImagesError::Registry(RegistryError::Refused { .. }) => Some("RegistryRefused"),
        ImagesError::Registry(RegistryError::Invalid { .. }) => Some("RegistryInvalid"),
        ImagesError::Registry(RegistryError::Unavailable { .. }) => Some("RegistryUnavailable"),
        _ => None,
    }
}
