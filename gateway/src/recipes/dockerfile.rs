//! A typed writer of Dockerfiles: what it can't write safely it refuses.

use std::fmt::Write as _;

/// A Dockerfile being written, an instruction a call.
#[derive(Debug, Default)]
pub struct Dockerfile(String);

/// A value can't stand in a Dockerfile.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} can't be written into a Dockerfile")]
pub struct Unwritable {
    what: &'static str,
    value: String,
}

/// A mount of a `RUN` instruction.
#[derive(Clone, Copy, Debug)]
pub enum Mount {
    /// A folder of the context, read-only.
    Context {
        /// The folder.
        source: &'static str,
        /// Where the step sees it.
        target: &'static str,
    },
    /// A secret that the session serves.
    Secret {
        /// Its id.
        id: &'static str,
        /// Where the step sees it.
        target: &'static str,
    },
}

impl Dockerfile {
    /// `FROM` one image, named by digest.
    ///
    /// # Errors
    /// When the name has anything but the characters of image references.
    pub fn from(mut self, image: &str) -> Result<Self, Unwritable> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_/:@[]".contains(c);
        if image.is_empty() || !image.chars().all(plain) {
            return Err(Unwritable { what: "the image", value: image.to_owned() });
        }
        self.line(format_args!("FROM {image}"));
        Ok(self)
    }

    /// `USER`, verbatim.
    ///
    /// # Errors
    /// When the instruction would mean something else than the text: blanks, quotes, `$`, `\`.
    pub fn user(mut self, user: &str) -> Result<Self, Unwritable> {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"$\\\"'#".contains(c);
        if user.is_empty() || !user.chars().all(plain) {
            return Err(Unwritable { what: "the user", value: user.to_owned() });
        }
        self.line(format_args!("USER {user}"));
        Ok(self)
    }

    /// `RUN` in exec form.
    #[must_use]
    pub fn run(mut self, mounts: &[Mount], argv: &[&str]) -> Self {
        let mut text = "RUN".to_owned();
        for mount in mounts {
            // Writing to a string can't fail.
            let _ = match mount {
                Mount::Context { source, target } => write!(text, " --mount=type=bind,source={source},target={target}"),
                Mount::Secret { id, target } => {
                    write!(text, " --mount=type=secret,id={id},target={target},required=true")
                }
            };
        }
        let argv = serde_json::Value::from(argv.to_vec());
        self.line(format_args!("{text} {argv}"));
        self
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_come_out_one_a_line() {
        let mounts = [Mount::Context { source: ".kiln", target: "/tmp/.kiln" }];
        let text = Dockerfile::default().from("docker.io/a/b@sha256:00").unwrap().user("root").unwrap();
        let text = text.run(&mounts, &["/bin/sh", "a b\"$c"]).user("65534:nogroup").unwrap().finish();
        let want = "FROM docker.io/a/b@sha256:00\nUSER root\n\
                    RUN --mount=type=bind,source=.kiln,target=/tmp/.kiln [\"/bin/sh\",\"a b\\\"$c\"]\nUSER 65534:nogroup\n";
        assert_eq!(text, want);
    }

    #[test]
    fn what_would_end_the_line_or_be_expanded_is_refused() {
        for text in ["", "a b", "a\nRUN x", "a\rb", "$HOME", "a\\", "a\u{2028}b", "\"a\"", "#a"] {
            assert!(Dockerfile::default().from(text).is_err(), "{text:?}");
            assert!(Dockerfile::default().user(text).is_err(), "{text:?}");
        }
    }
}
