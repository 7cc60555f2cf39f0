//! Adds a user to the file: the work of `kiln user add`.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, fchown},
    path::Path,
};

use secrecy::{ExposeSecret, SecretString};
use tempfile::NamedTempFile;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::{KeyHash, Users, UsersFileError};
use crate::{Environment, UserName, WskToken};

/// How hard to guess a key that isn't Kiln's own must be, in bits.
const ENOUGH_BITS: f64 = 128.0;

/// A user to add to the file.
#[derive(Debug)]
pub struct NewUser {
    /// Their name, and that of their repositories.
    pub name: UserName,
    /// Variables of theirs; with `rotate` they are added to those that are there.
    pub environment: Environment,
    /// A token that they have already; without one, Kiln generates it.
    pub token: Option<WskToken>,
    /// Whether to give a new token to a user who is there.
    pub rotate: bool,
}

impl NewUser {
    /// A new user with a generated token and no variables.
    #[must_use]
    pub fn named(name: UserName) -> Self {
        Self { name, environment: Environment::default(), token: None, rotate: false }
    }
}

/// Adds a user to the file, which is made if it isn't there, and returns their token: the file has
/// only a hash of it.
///
/// The file is replaced as a whole and atomically, with mode 0600 and the owner it had; comments
/// and order stay. A running gateway sees it with the next request. Blocks on the disk.
///
/// # Errors
/// When the user is there and `rotate` isn't set, when a given key can be guessed, or when the
/// file can't be read or written.
pub fn add_user(path: &Path, user: NewUser) -> Result<WskToken, UsersFileError> {
    let io = |source| UsersFileError::io(path, source);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(io)?;
    // Two commands at once must not lose one user. The file itself is replaced, so the lock is its
    // folder's; closing the folder releases it.
    let folder_handle = File::open(folder).map_err(io)?;
    folder_handle.lock().map_err(io)?;

    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io(error)),
    };
    let (text, token) = with_user(&text, path, user)?;
    replace(path, folder, &text).map_err(io)?;
    // Makes the rename itself durable.
    folder_handle.sync_all().map_err(io)?;
    Ok(token)
}

/// The file's text with the user in it.
fn with_user(text: &str, path: &Path, user: NewUser) -> Result<(String, WskToken), UsersFileError> {
    let malformed = || UsersFileError::Format { path: path.to_owned(), line: 1 };
    // First as the gateway reads it: its errors name the line.
    Users::parse(text, path)?;
    let mut document: DocumentMut = text.parse().map_err(|_| malformed())?;

    let token = match user.token {
        Some(token) if bits(token.key()) < ENOUGH_BITS => return Err(UsersFileError::WeakKey),
        Some(token) => token,
        None => WskToken::generate().map_err(|_| UsersFileError::NoRandomness)?,
    };
    let hash = KeyHash::of(token.key()).map_err(|_| UsersFileError::NoRandomness)?;

    let users = document.entry("users").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let users = users.as_array_of_tables_mut().ok_or_else(malformed)?;
    let there = users.iter().position(|entry| entry.get("name").and_then(Item::as_str) == Some(user.name.as_str()));
    let index = match there {
        Some(_) if !user.rotate => return Err(UsersFileError::Exists(user.name)),
        Some(index) => index,
        None => {
            users.push(Table::new());
            users.len() - 1
        }
    };
    let entry = users.get_mut(index).ok_or_else(malformed)?;
    entry["name"] = value(user.name.as_str());
    entry["token_uuid"] = value(token.uuid());
    entry["key"] = value(hash.to_text());
    for (name, content) in user.environment.iter() {
        entry["env"][name] = value(content);
    }

    let text = document.to_string();
    // What the gateway couldn't read must not replace what it can, and tells a taken token.
    Users::parse(&text, path)?;
    Ok((text, token))
}

/// Writes a new file beside the old one and puts it in its place.
fn replace(path: &Path, folder: &Path, text: &str) -> io::Result<()> {
    // Mode 0600 from the start.
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Ok(old) = fs::metadata(path) {
        let new = file.as_file().metadata()?;
        // An administrator's command must not take the file away from the gateway's own account.
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A coarse upper bound of a key's entropy, in bits: its length times what its own alphabet could
/// carry. It finds the passwords and repetitions that people type, not a cleverly bad key.
fn bits(key: &SecretString) -> f64 {
    let letters: Vec<char> = key.expose_secret().chars().collect();
    let alphabet = letters.iter().collect::<HashSet<_>>().len().max(1);
    f64::from(u32::try_from(letters.len()).unwrap_or(u32::MAX))
        * f64::from(u32::try_from(alphabet).unwrap_or(u32::MAX)).log2()
}
