//! `kiln openfaas`: the keys that open build secrets.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use secrecy::zeroize::Zeroizing;

use super::fail;
use crate::{
    sealed::{KeyFileError, PublicKeyInfo, SealingKeys, generate},
    serve::causes,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a key pair: the private key goes into the file, the public one is printed
    Keygen {
        /// The file of private keys, `openfaas.build_secrets_key_file`
        #[arg(long, env = "KILN_OPENFAAS__BUILD_SECRETS_KEY_FILE")]
        file: PathBuf,
        /// Put the new key before the one that is there, which still opens what was sealed for it
        #[arg(long)]
        rotate: bool,
    },
}

/// No key was made.
#[derive(Debug, thiserror::Error)]
enum KeygenError {
    /// There is a key.
    #[error("{0} is there already; --rotate puts a new key before the old one")]
    Exists(PathBuf),
    /// There is something, but no key.
    #[error("{0} can't be used")]
    KeyFile(PathBuf, #[source] KeyFileError),
    /// The system has none.
    #[error("the system has no random numbers")]
    Random,
    /// Nothing was written.
    #[error("{0} can't be written")]
    Write(PathBuf, #[source] io::Error),
}

pub(crate) fn run(verb: &Verb) -> ExitCode {
    let Verb::Keygen { file, rotate } = verb;
    match keygen(file, *rotate) {
        Ok(PublicKeyInfo { key_id, public_key, .. }) => {
            eprintln!("kiln: the key {key_id} is in {}; callers seal for the public key", file.display());
            println!("{public_key}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &causes(&error)),
    }
}

/// Writes the file anew, so that whoever reads it meanwhile reads the old one or the new one.
fn keygen(file: &Path, rotate: bool) -> Result<PublicKeyInfo, KeygenError> {
    let unwritten = |error| KeygenError::Write(file.to_owned(), error);
    let old = match SealingKeys::read(file) {
        Err(KeyFileError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => None,
        Ok(_) | Err(KeyFileError::Invalid) if !rotate => return Err(KeygenError::Exists(file.to_owned())),
        Err(error) => return Err(KeygenError::KeyFile(file.to_owned(), error)),
        Ok(keys) => Some(keys.current()),
    };
    let mut text = Zeroizing::new(String::with_capacity(128));
    let new = generate().ok_or(KeygenError::Random)?;
    for line in [Some(new), old].into_iter().flatten() {
        text.push_str(&line);
        text.push('\n');
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Nobody else may read it, from its first byte on.
    let mut written = tempfile::NamedTempFile::new_in(folder).map_err(unwritten)?;
    written.write_all(text.as_bytes()).and_then(|()| written.as_file().sync_all()).map_err(unwritten)?;
    let placed = if rotate { written.persist(file) } else { written.persist_noclobber(file) };
    placed.map_err(|error| unwritten(error.error))?;
    let keys = SealingKeys::parse(text.as_bytes()).map_err(|error| KeygenError::KeyFile(file.to_owned(), error))?;
    Ok(keys.public())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_rotated_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let first = keygen(&file, false).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(keygen(&file, false), Err(KeygenError::Exists(_))));
        assert_eq!(SealingKeys::read(&file).unwrap().public(), first);
        let old = std::fs::read_to_string(&file).unwrap();
        let second = keygen(&file, true).unwrap();
        assert_ne!(first, second);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.ends_with(&old) && SealingKeys::read(&file).unwrap().public() == second);
        let third = keygen(&file, true).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2, "the oldest goes");
        assert_ne!(second, third);
        std::fs::write(&file, "no key").unwrap();
        assert!(matches!(keygen(&file, true), Err(KeygenError::KeyFile(..))));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "no key");
        assert!(matches!(keygen(&folder.path().join("no/folder"), false), Err(KeygenError::Write(..))));
    }
}
