//! Who calls Kiln, and what they may name.
//!
//! [`scope`] is the smallest part and has no dependencies on transports: a target that a caller
//! names becomes a [`ScopedTarget`] here or nowhere. The feature `providers` adds identities,
//! the providers that prove them, and the tower layer that asks those providers.

pub mod scope;

pub use scope::{InvalidTarget, InvalidUserName, OutOfScope, Scope, ScopedTarget, Target, UserName};
