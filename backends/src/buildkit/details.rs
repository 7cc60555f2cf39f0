//! The typed part of a daemon's error: which step, which line, which exit code. The rest of it
//! (stack traces, command lines and paths of the daemon) is left where it is.

use bollard_buildkit_proto::google::rpc;
use prost::Message as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What is known about where a solve failed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Details {
    /// The digest of the step.
    pub(super) vertex: Option<String>,
    /// The line in the Dockerfile, counted from 1.
    pub(super) line: Option<u32>,
    /// The exit status of the step's process.
    pub(super) exit_code: Option<i32>,
    /// Whether the frontend itself refused, before any step.
    pub(super) frontend: bool,
}

#[derive(Deserialize)]
struct Vertex {
    digest: String,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    start: Position,
}

#[derive(Deserialize)]
struct Position {
    #[serde(default)]
    line: u32,
}

#[derive(Deserialize)]
struct Exit {
    #[serde(rename = "Code", default)]
    code: u32,
}

impl Details {
    pub(super) fn of(status: &tonic::Status) -> Self {
        let mut details = Self::default();
        // Undecodable details are as good as none: the message is still there.
        for any in rpc::Status::decode(status.details()).unwrap_or_default().details {
            let name = any.type_url.rsplit('/').next().unwrap_or_default();
            match name {
                "errdefs.Vertex+json" => details.vertex = json::<Vertex>(&any.value).map(|vertex| vertex.digest),
                "errdefs.Source+json" => {
                    let range = json::<Source>(&any.value).and_then(|source| source.ranges.into_iter().next());
                    details.line = range.map(|range| range.start.line).filter(|line| *line > 0).or(details.line);
                }
                "gatewayapi.ExitMessage+json" => {
                    details.exit_code = json::<Exit>(&any.value).and_then(|exit| i32::try_from(exit.code).ok());
                }
                "errdefs.Frontend+json" => details.frontend = true,
                _ => {}
            }
        }
        details
    }
}

fn json<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_slice(value).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use bollard_buildkit_proto::google::protobuf::Any;

    use super::*;

    /// An error as a daemon sends it.
    pub(crate) fn status(message: &str, details: &[(&str, &str)]) -> tonic::Status {
        let details = details.iter().map(|(name, value)| Any {
            type_url: format!("github.com/moby/buildkit/{name}+json"),
            value: value.as_bytes().to_vec(),
        });
        let details = rpc::Status { code: 2, message: message.to_owned(), details: details.collect() };
        tonic::Status::with_details(tonic::Code::Unknown, message, details.encode_to_vec().into())
    }

    #[test]
    fn step_line_and_exit_code_are_read_and_the_rest_is_left() {
        let status = status(
            "exit code: 3",
            &[
                ("stack.Stack", r#"{"frames":[{"name":"x","file":"/src/secret.go","line":9}]}"#),
                (
                    "errdefs.Source",
                    r#"{"info":{"filename":"Dockerfile"},"ranges":[{"start":{"line":2},"end":{"line":4}}]}"#,
                ),
                ("errdefs.Vertex", r#"{"digest":"sha256:76"}"#),
                ("gatewayapi.ExitMessage", r#"{"Code":3}"#),
            ],
        );
        let expected =
            Details { vertex: Some("sha256:76".to_owned()), line: Some(2), exit_code: Some(3), frontend: false };
        assert_eq!(Details::of(&status), expected);
    }

    #[test]
    fn details_that_are_not_understood_are_none() {
        let odd = status("x", &[("errdefs.Source", "[]"), ("errdefs.Vertex", "{"), ("unknown.Thing", "{}")]);
        assert_eq!(Details::of(&odd), Details::default());
        let garbage = tonic::Status::with_details(tonic::Code::Unknown, "x", vec![0xff, 0xff].into());
        assert_eq!(Details::of(&garbage), Details::default());
    }
}
