//! The caller's images: their repositories, the images of one, one image with its layers, and its removal.

use askama::Template;
use axum::{
    Extension, Form,
    extract::{
        FromRequest as _, Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::Response,
};
use http::StatusCode;
use indicatif::BinaryBytes;
use jiff::Timestamp;
use kiln_auth::{Identity, Origin};
use serde::Deserialize;

use super::{
    Page,
    actions::from_page,
    answer::{Frame, Here, html, see},
    fault::Fault,
    shown::{self, short},
    when::Moment,
};
use crate::images::{Catalogue, Catalogues, Entry, Image, Images, ImagesError, Layer, Name, Part, What};

const PAGE: usize = 25;
/// How much is shown of what a registry or an image says, bytes of HTML.
const WORD: usize = 200;
const SENTENCE: usize = 400;
/// Layers and images that are shown: engines make no more, and the page stays within 100 KB.
const PARTS: usize = 127;
/// Tags that are named of those that would go, too.
const TAGS: usize = 50;

#[derive(Debug, Deserialize)]
pub(super) struct PageParams {
    cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Removal {
    /// With all other tags of the image.
    #[serde(default)]
    all_tags: bool,
}

#[derive(Template)]
#[template(path = "catalogues.html")]
struct CataloguesPage {
    frame: Frame,
    user: String,
    names: Vec<String>,
    /// False where the registry lists none for Kiln.
    complete: bool,
    pages: Pages,
}

#[derive(Template)]
#[template(path = "catalogue.html")]
struct CataloguePage {
    frame: Frame,
    name: String,
    lines: Vec<Line>,
    pages: Pages,
}

#[derive(Template)]
#[template(path = "image.html")]
struct ImagePage {
    frame: Frame,
    name: String,
    catalogue: String,
    /// Its last crumb: a tag, or as much of a digest as tells it from others.
    which: String,
    by_tag: bool,
    digest: String,
    size: String,
    created: Option<Moment>,
    platforms: String,
    media_type: String,
    /// The images of an index.
    parts: Bars,
    layers: Bars,
}

#[derive(Template)]
#[template(path = "shared.html")]
struct SharedPage {
    frame: Frame,
    name: String,
    tags: Vec<String>,
    /// How many more there are.
    more: usize,
}

/// The addresses of other pages of a list.
struct Pages {
    first: Option<String>,
    next: Option<String>,
}

/// An image in a list.
struct Line {
    tag: String,
    detail: String,
    /// Why there is no more to be said.
    error: Option<String>,
    size: Option<String>,
    created: Option<Moment>,
}

/// Parts of an image, each beside the largest.
struct Bars {
    bars: Vec<Bar>,
    /// How many, whether or not they are shown.
    count: usize,
}

struct Bar {
    name: String,
    title: String,
    /// In percent of the largest.
    width: String,
    size: String,
}

type Named = Result<Path<String>, PathRejection>;
type Params = Result<Query<PageParams>, QueryRejection>;

/// The caller's repositories.
pub(super) async fn catalogues(
    State(Page { images, .. }): State<Page>,
    Extension(identity): Extension<Identity>,
    params: Params,
) -> Result<Response, Fault> {
    let cursor = cursor(params)?;
    let Catalogues { catalogs, complete, next } = images.catalogues(&identity, cursor.as_deref(), PAGE).await?;
    let page = CataloguesPage {
        user: identity.user().to_string(),
        names: catalogs,
        complete,
        pages: Pages::of("/images", cursor.as_deref(), next.as_deref()),
        frame: Frame::of(&identity, Here::Images),
    };
    Ok(html(StatusCode::OK, &page))
}

/// A repository's images by tag, or one image.
pub(super) async fn look(
    State(Page { images, .. }): State<Page>,
    Extension(identity): Extension<Identity>,
    name: Named,
    params: Params,
) -> Result<Response, Fault> {
    let name = named(&identity, name)?;
    let frame = Frame::of(&identity, Here::Elsewhere);
    if name.what() != &What::Repository {
        let image = images.get(&identity, &name).await?;
        return Ok(html(StatusCode::OK, &ImagePage::of(frame, &name, &image)));
    }
    let cursor = cursor(params)?;
    let Catalogue { catalog, images, next } = images.list(&identity, &name, cursor.as_deref(), PAGE).await?;
    let now = Timestamp::now();
    let page = CataloguePage {
        frame,
        lines: images.into_iter().map(|entry| Line::of(entry, now)).collect(),
        pages: Pages::of(&format!("/images/{catalog}"), cursor.as_deref(), next.as_deref()),
        name: catalog,
    };
    Ok(html(StatusCode::OK, &page))
}

/// Removes an image. Where other tags would go, too, that is asked first.
pub(super) async fn remove(
    State(Page { images, .. }): State<Page>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    name: Named,
    request: Request,
) -> Result<Response, Fault> {
    from_page(&request)?;
    let name = named(&identity, name)?;
    let form = Form::<Removal>::from_request(request, &()).await;
    let Form(Removal { all_tags }) = form.map_err(|error| Fault::new(error.status(), error.body_text()))?;
    match images.remove(&identity, origin, &name, all_tags).await {
        Ok(removed) => Ok(see(&left(&images, &identity, &removed.catalog).await)),
        Err(ImagesError::Shared { tags, .. }) => {
            let more = tags.len().saturating_sub(TAGS);
            let tags = tags.into_iter().take(TAGS).collect();
            let page = SharedPage { frame: Frame::of(&identity, Here::Elsewhere), name: name.to_string(), tags, more };
            Ok(html(StatusCode::CONFLICT, &page))
        }
        Err(error) => Err(error.into()),
    }
}

/// Where to go on from an image that is gone: to those beside it, if there are any.
async fn left(images: &Images, identity: &Identity, catalogue: &str) -> String {
    let beside = match Name::parse(identity, catalogue) {
        Ok(name) => images.list(identity, &name, None, 1).await,
        Err(error) => Err(error),
    };
    match beside {
        Ok(Catalogue { images, .. }) if !images.is_empty() => format!("/images/{catalogue}"),
        _ => "/images".to_owned(),
    }
}

fn named(identity: &Identity, name: Named) -> Result<Name, ImagesError> {
    let Path(name) = name.map_err(|_| ImagesError::Missing)?;
    Name::parse(identity, &name)
}

fn cursor(params: Params) -> Result<Option<String>, ImagesError> {
    let Query(PageParams { cursor }) = params.map_err(|_| ImagesError::Cursor)?;
    Ok(cursor)
}

fn size(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}

impl Pages {
    /// Cursors are names and tags, whose letters stand for themselves.
    fn of(list: &str, cursor: Option<&str>, next: Option<&str>) -> Self {
        Self { first: cursor.map(|_| list.to_owned()), next: next.map(|next| format!("{list}?cursor={next}")) }
    }
}

impl Line {
    fn of(entry: Entry, now: Timestamp) -> Self {
        let Entry { tag, digest, size: bytes, created, platforms, error } = entry;
        let digest = digest.as_deref().map(short).unwrap_or_default();
        let detail = [digest, platforms.join(", ")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        Self {
            tag,
            detail: shown::line(&detail.join(" · "), WORD),
            error: error.map(|error| shown::line(&error, SENTENCE)),
            size: bytes.map(size),
            created: created.map(|created| Moment::of(created, now)),
        }
    }
}

impl ImagePage {
    fn of(frame: Frame, name: &Name, image: &Image) -> Self {
        // An image that is none of an index is its own only part.
        let parts = if image.layers.is_empty() { &image.images[..] } else { &[] };
        Self {
            frame,
            name: name.to_string(),
            catalogue: image.catalog.clone(),
            which: image.tag.clone().unwrap_or_else(|| short(&image.digest)),
            by_tag: image.tag.is_some(),
            digest: image.digest.clone(),
            size: size(image.size),
            created: image.created.map(|created| Moment::of(created, Timestamp::now())),
            platforms: shown::line(&image.platforms.join(", "), WORD),
            media_type: shown::line(&image.media_type, WORD),
            parts: Bars::of(parts, |Part { platform, digest, size, .. }| {
                (platform.as_deref().map_or_else(|| short(digest), |of| shown::line(of, WORD)), digest, *size)
            }),
            layers: Bars::of(&image.layers, |Layer { digest, size, .. }| (short(digest), digest, *size)),
        }
    }
}

impl Bars {
    /// Of each its name, its digest and its bytes.
    fn of<T>(all: &[T], say: impl Fn(&T) -> (String, &String, u64)) -> Self {
        let largest = all.iter().map(|part| say(part).2).max().unwrap_or_default().max(1);
        let bar = |part: &T| {
            let (name, title, bytes) = say(part);
            #[expect(clippy::cast_precision_loss, reason = "of a width")]
            let share = bytes as f64 / largest as f64 * 100.0;
            Bar { name, title: title.clone(), width: format!("{share:.2}"), size: size(bytes) }
        };
        Self { bars: all.iter().take(PARTS).map(bar).collect(), count: all.len() }
    }
}
