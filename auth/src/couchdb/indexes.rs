//! What spares CouchDB from reading every document for every unknown token.
//!
//! A Mango index helps where a field equals a value, as `login` does. It doesn't help `$elemMatch`, which
//! CouchDB evaluates in memory, document by document, whatever index there is (apache/couchdb#2236,
//! #1388): only a map function reaches into lists. So the subjects get a view from the public half of each
//! token to its document. The secret half stands neither in the view nor in the question.

use http::Method;
use serde_json::{Value, json};

use super::{METADATA, SUBJECTS};

/// The design document of the view.
pub(super) const DESIGN: &str = "_design/kiln";
/// The view.
pub(super) const VIEW: &str = "_design/kiln/_view/tokens";

const MAP: &str = "function (doc) { (doc.namespaces || []).forEach(function (n) { emit(n.uuid, null); }); }";

/// One index, as it is made.
#[derive(Clone, Debug)]
pub struct Index {
    /// What it is for.
    pub purpose: &'static str,
    /// In which database.
    pub database: &'static str,
    /// The request that makes it.
    pub method: Method,
    /// Where it goes, below the database.
    pub path: &'static str,
    /// What it says.
    pub body: Value,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Made {
    /// It is there now.
    Created,
    /// It was there before.
    Exists,
    /// Something else of that name is there, and was left alone.
    Differs,
}

impl Index {
    /// All that lookups can use.
    #[must_use]
    pub fn all() -> [Self; 2] {
        [
            Self {
                purpose: "finds a user's metadata by login",
                database: METADATA,
                method: Method::POST,
                path: "_index",
                body: json!({
                    "index": { "fields": ["login"] }, "ddoc": "kiln-login", "name": "login", "type": "json",
                }),
            },
            Self {
                purpose: "finds a subject by its token's uuid; used once identity.couchdb.view = true",
                database: SUBJECTS,
                method: Method::PUT,
                path: DESIGN,
                body: json!({ "language": "javascript", "views": { "tokens": { "map": MAP } } }),
            },
        ]
    }
}
