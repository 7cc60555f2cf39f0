//! The OCI grammar of repositories and tags, as functions over text.
//!
//! `oci-spec` reads the same by one regular expression that takes 10 MiB once it is compiled, half of a
//! gateway at rest, and lets other alphabets into tags; the tests hold these functions against it.

/// The longest repository, in bytes, that registries and their clients agree on.
const LONGEST_REPOSITORY: usize = 255;
/// The longest tag, in bytes.
const LONGEST_TAG: usize = 128;

/// Whether this is `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, components of that form joined by `/`.
#[must_use]
pub fn is_repository(text: &str) -> bool {
    text.len() <= LONGEST_REPOSITORY && text.split('/').all(is_component)
}

/// Whether this is `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// Whether this is one path component of a repository.
pub(crate) fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators_are_single =
        text.split(alphanumeric).all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'));
    text.starts_with(alphanumeric) && text.ends_with(alphanumeric) && separators_are_single
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::distribution::Reference;
    use proptest::prelude::*;

    fn by_library(repository: &str, tag: &str) -> bool {
        let parsed = Reference::try_from(format!("registry.invalid/{repository}:{tag}"));
        parsed.is_ok_and(|parsed| parsed.repository() == repository && parsed.tag() == Some(tag))
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(is_repository(&"a".repeat(255)) && !is_repository(&"a".repeat(256)));
        assert!(is_tag(&"a".repeat(128)) && !is_tag(&"a".repeat(129)));
    }

    proptest! {
        #[test]
        fn ascii_is_read_as_the_library_reads_it(repository in "[a-cA0/._-]{0,12}", tag in "[a-cA0._:-]{0,6}") {
            prop_assert_eq!(is_repository(&repository) && is_tag(&tag), by_library(&repository, &tag));
        }

        #[test]
        fn nothing_beyond_the_library_is_accepted(repository in "\\PC{0,20}", tag in "\\PC{0,10}") {
            prop_assert!(!(is_repository(&repository) && is_tag(&tag)) || by_library(&repository, &tag));
        }
    }
}
