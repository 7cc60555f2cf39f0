//! How a registry is spoken to.

/// What protects the way to a registry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Manner {
    /// Plain HTTP instead of TLS.
    pub plain_http: bool,
    /// Any certificate is taken, of its token service, too.
    pub skip_verify: bool,
}
