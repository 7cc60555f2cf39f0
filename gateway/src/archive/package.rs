//! What an OpenFaaS archive holds: the build configuration, the folder `context/`, and perhaps sealed
//! secrets. A pure function of the tree.

use std::io::Read as _;

use kiln_backends::{Entry, EntryKind, Tree};
use secrecy::SecretSlice;

use super::config::{BuildConfig, InvalidConfig};
use crate::recipes::{DOCKERFILE, has_dockerfile};

/// The configuration's name since of-builder 0.7.1.
const CONFIG: &str = "com.openfaas.docker.config";
/// Its name before, which a folder of the caller's may have as well.
const OLD_CONFIG: &str = "config";
const SECRETS: &str = "com.openfaas.secrets";
const CONTEXT: &str = "context";

/// The longest configuration, in bytes: build arguments are settings, not files.
const LONGEST_CONFIG: u64 = 256 * 1024;
/// The longest envelope: 500 KiB of secrets, which is all that a daemon takes of one, in base64, and more.
const LONGEST_SECRETS: u64 = 1024 * 1024;

/// An archive taken apart.
#[derive(Debug)]
pub struct Package {
    /// What to build.
    pub config: BuildConfig,
    /// Which file said so.
    pub layout: Layout,
    /// The build context: neither the configuration nor the secrets are in it.
    pub context: Tree,
    /// The Dockerfile's path within the context.
    pub dockerfile: String,
    /// The envelope of sealed secrets, as it came.
    pub secrets: Option<SecretSlice<u8>>,
}

/// Which of its two names the configuration has; without a signature header it chooses the dialect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// `com.openfaas.docker.config`.
    Current,
    /// `config`, of of-builder before 0.7.1.
    Old,
}

/// The archive is a good one, but nothing that can be built.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPackage {
    /// There is no configuration.
    #[error("the archive has no file com.openfaas.docker.config at its root")]
    NoConfig,
    /// It isn't as expected.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// Something that must be a file is a folder or a link.
    #[error("{0} must be a regular file")]
    NotFile(&'static str),
    /// A file is longer than it has reason to be.
    #[error("{0} is longer than {1} bytes")]
    TooLong(&'static str, u64),
    /// There is nothing to build from.
    #[error("the archive has no folder context/; a link to one doesn't count")]
    NoContext,
    /// There is no recipe.
    #[error("the archive has no file context/Dockerfile")]
    NoDockerfile,
    /// The spool can't be read: the operator's business.
    #[error("the spooled archive can't be read")]
    Spool(#[source] std::io::Error),
}

/// Takes an archive apart. Reads two small files of it.
///
/// # Errors
/// When something is missing or isn't what it must be.
pub fn open(tree: &Tree) -> Result<Package, InvalidPackage> {
    let (layout, entry) = match (tree.get(CONFIG), tree.get(OLD_CONFIG)) {
        (Some(entry), _) => (Layout::Current, entry),
        (None, Some(entry)) if matches!(entry.kind, EntryKind::File { .. }) => (Layout::Old, entry),
        (None, _) => return Err(InvalidPackage::NoConfig),
    };
    let config = BuildConfig::parse(&read(tree, entry, CONFIG, LONGEST_CONFIG)?)?;
    let secrets = tree.get(SECRETS).map(|entry| read(tree, entry, SECRETS, LONGEST_SECRETS)).transpose()?;
    let context = tree.subtree(CONTEXT).ok_or(InvalidPackage::NoContext)?;
    if !has_dockerfile(&context, DOCKERFILE) {
        return Err(InvalidPackage::NoDockerfile);
    }
    let dockerfile = DOCKERFILE.to_owned();
    Ok(Package { config, layout, context, dockerfile, secrets: secrets.map(SecretSlice::from) })
}

fn read(tree: &Tree, entry: &Entry, name: &'static str, longest: u64) -> Result<Vec<u8>, InvalidPackage> {
    let EntryKind::File { size, .. } = entry.kind else { return Err(InvalidPackage::NotFile(name)) };
    if size > longest {
        return Err(InvalidPackage::TooLong(name, longest));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    tree.read(entry).read_to_end(&mut bytes).map_err(InvalidPackage::Spool)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use kiln_backends::TreeBuilder;
    use secrecy::ExposeSecret as _;

    use super::*;

    const JSON: &[u8] = br#"{"image":"u/f"}"#;

    fn tree(files: &[(&str, &[u8])]) -> TreeBuilder {
        files.iter().fold(Tree::builder(), |tree, (path, bytes)| tree.file(path, 0o644, bytes).unwrap())
    }

    #[test]
    fn the_context_is_what_lies_below_context_and_nothing_else() {
        let tree = tree(&[(CONFIG, JSON), ("context/Dockerfile", b"FROM x"), ("context/a/b", b""), (SECRETS, b"s")]);
        let package = open(&tree.build()).unwrap();
        let paths: Vec<_> = package.context.entries().iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["Dockerfile", "a", "a/b"]);
        assert_eq!(package.config.image.as_deref(), Some("u/f"));
        assert_eq!((package.layout, package.dockerfile.as_str()), (Layout::Current, "Dockerfile"));
        assert_eq!(package.secrets.unwrap().expose_secret(), b"s");
    }

    #[test]
    fn the_old_name_counts_where_it_is_a_file_and_the_new_one_is_not_there() {
        let old = open(&tree(&[("config", JSON), ("context/dockerfile", b"")]).build()).unwrap();
        assert_eq!((old.layout, old.secrets.is_none()), (Layout::Old, true));
        let both = [("config", &b"not JSON"[..]), (CONFIG, JSON), ("context/Dockerfile", b"")];
        assert_eq!(open(&tree(&both).build()).unwrap().layout, Layout::Current);
        let folder = open(&tree(&[("config/x", JSON), ("context/Dockerfile", b"")]).build());
        assert!(matches!(folder, Err(InvalidPackage::NoConfig)));
    }

    #[test]
    fn what_can_not_be_built_says_what_is_missing() {
        let long = vec![b' '; 256 * 1024 + 1];
        let link = |path, target| tree(&[]).symlink(path, target).unwrap();
        type Is = fn(&InvalidPackage) -> bool;
        let cases: [(TreeBuilder, Is); 9] = [
            (tree(&[]), |e| matches!(e, InvalidPackage::NoConfig)),
            (tree(&[(CONFIG, b"")]), |e| matches!(e, InvalidPackage::Config(InvalidConfig::Empty))),
            (tree(&[(CONFIG, &long)]), |e| matches!(e, InvalidPackage::TooLong(CONFIG, _))),
            (link(CONFIG, "context/x"), |e| matches!(e, InvalidPackage::NotFile(CONFIG))),
            (link("config", "context/x"), |e| matches!(e, InvalidPackage::NoConfig)),
            (tree(&[(CONFIG, JSON)]), |e| matches!(e, InvalidPackage::NoContext)),
            (link(CONTEXT, "/etc").file(CONFIG, 0o644, JSON).unwrap(), |e| matches!(e, InvalidPackage::NoContext)),
            (tree(&[(CONFIG, JSON), ("context/x", b"")]), |e| matches!(e, InvalidPackage::NoDockerfile)),
            (tree(&[(CONFIG, JSON), ("context/Dockerfile/x", b"")]), |e| matches!(e, InvalidPackage::NoDockerfile)),
        ];
        for (at, (tree, expected)) in cases.into_iter().enumerate() {
            let error = open(&tree.build()).unwrap_err();
            assert!(expected(&error), "{at}: {error}");
        }
    }
}
