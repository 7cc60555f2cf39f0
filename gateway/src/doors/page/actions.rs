//! What the page's forms do to a build.

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{Page, answer::see, asked::Asked, fault::Fault, same_origin};
use crate::builds::Receipt;

pub(super) async fn cancel(
    State(Page { builds, .. }): State<Page>,
    asked: Asked,
    request: Request,
) -> Result<Response, Fault> {
    from_page(&request)?;
    let owner = asked.owner(&builds).await?;
    let Asked { identity, origin, id } = asked;
    builds.cancel(&owner, id, identity.user(), origin).await?.ok_or_else(Fault::missing)?;
    Ok(see(&format!("/builds/{id}")))
}

/// As the API's: an operator retries nobody else's.
pub(super) async fn retry(
    State(Page { builds, registry, .. }): State<Page>,
    Asked { identity, origin, id }: Asked,
    request: Request,
) -> Result<Response, Fault> {
    from_page(&request)?;
    let earlier = builds.get(identity.user(), id).await?.ok_or_else(Fault::missing)?;
    let submission = builds.again(&earlier, &identity, origin, &registry).await?;
    let id = match builds.accept(submission).await? {
        Receipt::Queued(id) => id,
        Receipt::Existing(build) => build.id,
    };
    Ok(see(&format!("/builds/{id}")))
}

/// The cookie counts for the page's own forms alone; who shows a credential otherwise is held to the same rule.
pub(super) fn from_page(request: &Request) -> Result<(), Fault> {
    if same_origin::from_page(request) { Ok(()) } else { Err(Fault::elsewhere()) }
}
