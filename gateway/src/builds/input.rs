//! What an image is made from, as one hash: equal ones give equal images, as far as they are pinned.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use kiln_auth::UserName;

use super::{Request, Resolved};
use crate::recipes::{Kind, extend};

/// Changes with what is hashed below, and how.
const FORM: &str = "kiln-input-1";

/// The recipes of this version of Kiln.
static RECIPES: LazyLock<String> = LazyLock::new(|| fields(&extend::texts().map(str::as_bytes).collect::<Vec<_>>()));

/// The hash of all that a request's image is made from: not of where it goes, which is only a name.
pub(super) fn hash(owner: &UserName, request: &Request, base: &Resolved, file: Option<&[u8]>, with_ca: bool) -> String {
    let file = file.map(normalised);
    fields(&[
        FORM.as_bytes(),
        owner.as_str().as_bytes(),
        base.digest.as_bytes(),
        base.platform.as_bytes(),
        request.kind.map_or("", Kind::as_str).as_bytes(),
        // Without a file nothing is installed, so neither recipe nor authorities matter.
        file.as_ref().map_or("", |_| &RECIPES).as_bytes(),
        file.as_ref().map_or(b"", |_| if with_ca { b"ca" } else { b"no" }),
        file.as_deref().unwrap_or_default(),
        request.size.as_deref().unwrap_or_default().as_bytes(),
    ])
}

/// A hash over fields, each with its length, so that none runs into the next.
pub(crate) fn fields(fields: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for field in fields {
        context.update(&(field.len() as u64).to_be_bytes());
        context.update(field);
    }
    BASE64_URL_SAFE_NO_PAD.encode(context.finish())
}

/// A file of lines without what editors and version control change on their own: how lines end, and how many
/// empty ones there are at the end.
fn normalised(file: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = file.split(|byte| *byte == b'\n').collect();
    for line in &mut lines {
        *line = line.strip_suffix(b"\r").unwrap_or(line);
    }
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines.join(&b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(owner: &str, digest: &str, kind: Option<Kind>, size: Option<&str>, file: Option<&str>) -> String {
        let request = Request { kind, size: size.map(str::to_owned), ..Request::default() };
        let base = Resolved { digest: digest.to_owned(), platform: "linux/amd64".to_owned() };
        hash(&UserName::parse(owner).unwrap(), &request, &base, file.map(str::as_bytes), false)
    }

    #[test]
    fn whatever_changes_the_image_changes_the_hash_and_nothing_else() {
        let python = Some(Kind::Python);
        let first = of("ann", "sha256:a", python, None, Some("x\ny\n"));
        for same in ["x\ny", "x\r\ny\r\n", "x\ny\n\n"] {
            assert_eq!(of("ann", "sha256:a", python, None, Some(same)), first, "{same:?}");
        }
        let others = [
            of("anna", "sha256:a", python, None, Some("x\ny\n")),
            of("ann", "sha256:b", python, None, Some("x\ny\n")),
            of("ann", "sha256:a", Some(Kind::Ruby), None, Some("x\ny\n")),
            of("ann", "sha256:a", python, Some("large"), Some("x\ny\n")),
            of("ann", "sha256:a", python, None, Some("xy\n")),
            of("ann", "sha256:a", python, None, Some("")),
            of("ann", "sha256:a", python, None, None),
        ];
        let mut all: Vec<_> = others.iter().chain([&first]).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), others.len() + 1);
    }

    #[test]
    fn no_field_runs_into_the_next() {
        assert_ne!(fields(&[b"ab", b"c"]), fields(&[b"a", b"bc"]));
        assert_ne!(fields(&[b"ab"]), fields(&[b"ab", b""]));
    }
}
