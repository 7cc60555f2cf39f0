//! A list of builds, a page at a time.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use kiln_auth::UserName;

use super::Builds;
use crate::ledger::{Build, Filter, LedgerError};

/// A page of an owner's builds.
#[derive(Debug)]
pub struct Page {
    /// The newest first.
    pub builds: Vec<Build>,
    /// What to ask for the next page with, if there may be one. Such a page may be short, or empty.
    pub next: Option<String>,
}

impl Builds {
    /// A page of an owner's builds that fit, at most `limit`; `None` when the cursor isn't one of this owner's.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn page(
        &self,
        owner: &UserName,
        filter: &Filter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Option<Page>, LedgerError> {
        let below = match cursor.map(|cursor| self.place(owner, cursor)) {
            Some(None) => return Ok(None),
            Some(place) => place,
            None => None,
        };
        let rows = self.0.ledger.list(owner, filter, below, limit).await?;
        let next = rows.below.map(|place| self.cursor(owner, place)).transpose();
        let next = next.map_err(|error| LedgerError::Corrupt(error.to_string()))?;
        Ok(Some(Page { builds: rows.builds, next }))
    }

    /// Sealed: a place in the order of acceptance counts everybody's builds, which is nobody's business.
    fn cursor(&self, owner: &UserName, place: i64) -> std::io::Result<String> {
        let sealed = self.0.seal.seal(owner.as_str().as_bytes(), &place.to_be_bytes())?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    fn place(&self, owner: &UserName, cursor: &str) -> Option<i64> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let place = self.0.seal.open_sealed(owner.as_str().as_bytes(), &sealed).ok()?;
        Some(i64::from_be_bytes(place.try_into().ok()?))
    }
}
