//! The catalogue of `ensure`: the bases that an operator allows, by builder id.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use crate::{recipes::Kind, registry::BaseRef};

/// Where the catalogue lies unless configured.
const DEFAULT_FILE: &str = "/etc/openserverless/builders.json";

/// Builders by id.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Catalog {
    builders: BTreeMap<String, Builder>,
}

/// One builder.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Builder {
    pub(super) kind: Kind,
    pub(super) source: String,
}

/// The catalogue can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file can't be read.
    #[error("the builder catalogue {path}: {source}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no catalogue.
    #[error("the builder catalogue: {0}")]
    Syntax(#[from] serde_json::Error),
    /// A builder's id or source is out of grammar.
    #[error("the builder catalogue: {0:?} is no builder id, or its source no image reference")]
    Builder(String),
}

impl Catalog {
    /// Reads the catalogue: from text, else from the file, else from the default place, where its
    /// absence means an empty one.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub fn load(json: Option<&str>, file: Option<&Path>) -> Result<Self, CatalogError> {
        let text = match (json, file) {
            (Some(json), _) => json.to_owned(),
            (None, file) => {
                let path = file.unwrap_or(Path::new(DEFAULT_FILE));
                match std::fs::read_to_string(path) {
                    Ok(text) => text,
                    Err(e) if file.is_none() && e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
                    Err(source) => return Err(CatalogError::Unreadable { path: path.display().to_string(), source }),
                }
            }
        };
        let catalog: Self = serde_json::from_str(&text)?;
        match catalog.builders.iter().find(|(id, builder)| !is_id(id) || !is_source(&builder.source)) {
            Some((id, _)) => Err(CatalogError::Builder(id.clone())),
            None => Ok(catalog),
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Builder> {
        self.builders.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Builder)> {
        self.builders.iter().map(|(id, builder)| (id.as_str(), builder))
    }
}

/// `^[a-z0-9][a-z0-9._:-]{0,62}$`
fn is_id(id: &str) -> bool {
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    id.len() <= 63 && id.bytes().next().is_some_and(lower) && id.bytes().all(|b| lower(b) || b"._:-".contains(&b))
}

/// `^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}$`, and a reference too, which that alone doesn't promise.
fn is_source(source: &str) -> bool {
    source.len() <= 512
        && source.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && source.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@-".contains(&b))
        && BaseRef::parse(source).is_ok()
}
