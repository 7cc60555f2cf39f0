//! From a request's body to a tree: a tar, plain or compressed, as a caller wrote it.
//!
//! ```text
//! body ─► Spool::receive ─► Spooled ─► Spooled::unpack ─► Tree ─► package::open ─► Package
//!         one unnamed file,            indexed in place;           config, context,
//!         hashed on the way            decompressed once           sealed secrets
//! ```
//!
//! Nothing is parsed before the signature is right, nothing with a caller's name is ever created on
//! disk, and what isn't needed any more is gone with its last descriptor, however the request ends.
//!
//! Kiln has its own reader of headers: what the engine gets is made of the index alone, so no second
//! reader can disagree about an archive, and where readers are known to disagree this one refuses.
//! The `tar` crate's reader holds names and extended headers in memory at whatever length they
//! claim, and ends an extended record at the first line feed within its value.

pub mod config;
mod decompress;
mod error;
mod header;
mod index;
mod limits;
mod nodes;
pub mod package;
mod path;
mod pax;
mod room;
mod spool;
mod unpacking;

pub use self::{
    decompress::Compression,
    error::{ArchiveError, Fault, UnpackError},
    limits::Limits,
    spool::{ReceiveError, Spool, Spooled},
};
pub(crate) use room::no_room;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod roundtrip;
