//! The page's style, script and icon: parts of the program, so nothing needs to be fetched from elsewhere.

use axum::{Router, extract::RawQuery, response::IntoResponse as _, routing::get};
use http::{HeaderValue, header};

/// A file of the page.
#[derive(Clone, Copy)]
pub(super) struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

pub(super) const STYLE: Asset =
    Asset { path: "/assets/page.css", kind: "text/css; charset=utf-8", text: include_str!("assets/page.css") };
pub(super) const SCRIPT: Asset =
    Asset { path: "/assets/page.js", kind: "text/javascript; charset=utf-8", text: include_str!("assets/page.js") };
const ICON: Asset = Asset { path: "/assets/icon.svg", kind: "image/svg+xml", text: include_str!("assets/icon.svg") };

impl Asset {
    /// Where it is. Another text has another address, so that browsers may keep it for ever.
    pub(super) fn address(&self) -> String {
        format!("{}?{}", self.path, self.version())
    }

    fn version(&self) -> String {
        format!("{:08x}", crc32fast::hash(self.text.as_bytes()))
    }
}

/// Nobody's secrets: whoever asks has them.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    [STYLE, SCRIPT, ICON].into_iter().fold(Router::new(), |router, asset| {
        let path = asset.path;
        router.route(
            path,
            get(move |RawQuery(query): RawQuery| async move {
                let current = query.is_some_and(|query| query == asset.version());
                let keep = if current { "public, max-age=31536000, immutable" } else { "no-cache" };
                let fields = [
                    (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
                    (header::CACHE_CONTROL, HeaderValue::from_static(keep)),
                    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
                ];
                (fields, asset.text).into_response()
            }),
        )
    })
}
