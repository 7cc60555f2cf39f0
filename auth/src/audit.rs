//! Audit lines: who did what, from where, and what came of it. One target, one set of fields, never
//! a secret.

use std::fmt::Display;

use crate::{Origin, UserName};

/// One line. What isn't known, or doesn't apply, is left out.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    what: &'static str,
    who: &'a str,
    whose: Option<&'a UserName>,
    origin: Option<Origin>,
    build: Option<&'a dyn Display>,
    target: Option<&'a dyn Display>,
    reason: Option<&'a dyn Display>,
}

impl<'a> Line<'a> {
    /// Somebody who isn't known, or a part of Kiln itself, does `what`.
    #[must_use]
    pub fn of(what: &'static str, who: &'a str) -> Self {
        Self { what, who, whose: None, origin: None, build: None, target: None, reason: None }
    }

    /// A user does `what`.
    #[must_use]
    pub fn by(what: &'static str, user: &'a UserName) -> Self {
        Self::of(what, user.as_str())
    }

    /// From this address, by this door.
    #[must_use]
    pub fn from(self, origin: impl Into<Option<Origin>>) -> Self {
        Self { origin: origin.into(), ..self }
    }

    /// To what is another user's.
    #[must_use]
    pub fn whose(self, owner: &'a UserName) -> Self {
        Self { whose: Some(owner), ..self }
    }

    /// To this build.
    #[must_use]
    pub fn build(self, build: &'a dyn Display) -> Self {
        Self { build: Some(build), ..self }
    }

    /// For this repository and tag.
    #[must_use]
    pub fn target(self, target: &'a dyn Display) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Because of this.
    #[must_use]
    pub fn reason(self, reason: &'a dyn Display) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// It was done.
    pub fn done(self) {
        let Self { what, who, origin, .. } = self;
        let whose = self.whose.map(UserName::as_str);
        let (from, door) = (origin.map(|o| o.from.to_string()), origin.map(|o| o.door));
        let (build, target, reason) = self.texts();
        tracing::info!(target: "kiln::audit", what, who, whose, from, door, build, target, outcome = "done", reason);
    }

    /// It was refused.
    pub fn refused(self) {
        let Self { what, who, origin, .. } = self;
        let whose = self.whose.map(UserName::as_str);
        let (from, door) = (origin.map(|o| o.from.to_string()), origin.map(|o| o.door));
        let (build, target, reason) = self.texts();
        tracing::warn!(target: "kiln::audit", what, who, whose, from, door, build, target, outcome = "refused", reason);
    }

    fn texts(self) -> (Option<String>, Option<String>, Option<String>) {
        let text = |part: Option<&dyn Display>| part.map(ToString::to_string);
        (text(self.build), text(self.target), text(self.reason))
    }
}

impl std::fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("what", &self.what).field("who", &self.who).finish_non_exhaustive()
    }
}
