//! The streamed answer (`Accept: application/x-ndjson`): one JSON object a line while the build goes
//! on, and always a last one with its outcome.

use std::{
    collections::VecDeque,
    convert::Infallible,
    time::{Duration, Instant},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::timeout;

use super::{
    answer::outcome,
    dialect::{Dialect, Fault, quoted},
    lines::Lines,
};
use crate::{builds::Attached, log::Reader};

const CONTENT_TYPE: &str = "application/x-ndjson";
/// A word so often keeps proxies and clients from taking a quiet build for a dead connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The longest piece of a log in one line, in bytes: a client's scanner takes lines of 64 KiB, and JSON
/// writes a byte as six at most.
const PIECE: usize = 5_000;

/// An answer on its way out. Dropped before its end, it takes the build with it.
struct Streamed {
    attached: Attached,
    /// `None` once the log has ended.
    reader: Option<Reader>,
    lines: Lines,
    ready: VecDeque<Bytes>,
    image: String,
    begun: Instant,
    over: bool,
}

/// Whether the caller asks for lines.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accept.flat_map(|value| value.split(','));
    kinds.any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(CONTENT_TYPE)))
}

/// The answer about a build that goes on. Its status is 200, whatever becomes of the build.
pub(super) async fn answer(attached: Attached, image: String, begun: Instant) -> Response {
    let reader = match attached.follow().await {
        Ok(reader) => reader,
        Err(error) => return Dialect::Pro.fault(&Fault::internal(&error)),
    };
    let lines = Lines::new(Dialect::Pro);
    let mut streamed = Streamed { attached, reader, lines, ready: VecDeque::new(), image, begun, over: false };
    // At once, so that the caller sees the request taken.
    streamed.ready.push_back(streamed.progress(None));
    let lines = stream::unfold(streamed, |mut streamed| async {
        Some((Ok::<_, Infallible>(streamed.line().await?), streamed))
    });
    respond(Body::from_stream(lines))
}

/// The answer about an archive that became no build: its last line, at once.
pub(super) fn refusal(fault: &Fault) -> Response {
    respond(Body::from(failed("", &fault.text, Duration::ZERO)))
}

fn respond(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

/// The line that clients decide by: they know `failed`, and no other word, for what isn't a success.
fn failed(image: &str, text: &str, took: Duration) -> String {
    let error = quoted(pieces(text).next().unwrap_or_default());
    format!("{{\"image\":{},\"status\":\"failed\",\"error\":{error},{}}}\n", quoted(image), duration(took))
}

fn duration(took: Duration) -> String {
    format!("\"duration\":{:.3}", took.as_secs_f64())
}

impl Streamed {
    /// The next line; `None` behind the last.
    async fn line(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.over {
                return None;
            }
            let Some(reader) = &mut self.reader else {
                self.over = true;
                return Some(self.last().await);
            };
            match timeout(HEARTBEAT, reader.next()).await {
                Err(_) => return Some(self.progress(None)),
                Ok(Ok(Some(record))) => {
                    let text = self.lines.line(&record).unwrap_or_default();
                    let pieces: Vec<Bytes> = pieces(&text).map(|piece| self.progress(Some(piece))).collect();
                    self.ready.extend(pieces);
                }
                Ok(Ok(None)) => self.reader = None,
                Ok(Err(error)) => {
                    tracing::error!(%error, "a log can't be read");
                    self.reader = None;
                }
            }
        }
    }

    fn progress(&self, line: Option<&str>) -> Bytes {
        let log = line.map_or_else(String::new, |line| format!(r#""log":[{}],"#, quoted(line)));
        format!("{{{log}\"status\":\"in_progress\",{}}}\n", duration(self.begun.elapsed())).into()
    }

    /// What became of the build.
    async fn last(&mut self) -> Bytes {
        let ended = match self.attached.ended().await {
            Ok(Some(build)) => outcome(&build),
            Ok(None) => (StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping; send the build again".to_owned()),
            Err(error) => {
                let Fault { status, text, .. } = Fault::internal(&error);
                (status, text)
            }
        };
        let took = self.begun.elapsed();
        match ended {
            (StatusCode::OK, _) => {
                let image = quoted(&self.image);
                format!("{{\"image\":{image},\"status\":\"success\",{}}}\n", duration(took)).into()
            }
            (_, text) => failed(&self.image, &text, took).into(),
        }
    }
}

/// A text in pieces that fit into lines.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, later) = rest.split_at(rest.floor_char_boundary(PIECE));
        rest = later;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_between_characters_and_nothing_is_lost() {
        let text = "ä".repeat(PIECE);
        let pieces: Vec<_> = pieces(&text).collect();
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE) && pieces.concat() == text);
        assert!(quoted(&"\0".repeat(PIECE)).len() < 32 * 1024);
    }

    #[test]
    fn lines_come_to_those_who_ask_for_them() {
        for (accept, asked) in [
            ("application/x-ndjson", true),
            ("text/plain, application/x-ndjson; q=0.9", true),
            ("*/*", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())]);
            assert_eq!(wanted(&headers), asked, "{accept}");
        }
    }
}
