//! Certificate authorities for build steps behind a corporate proxy: the system's with the operator's,
//! as PEM for most programs and as a PKCS#12 trust store for Java.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry};
use rustls::pki_types::{CertificateDer, pem, pem::PemObject};

/// The trust store's password. It protects nothing: the store has no secrets, and Java wants one.
pub const TRUST_STORE_PASSWORD: &str = "changeit";

/// The most that BuildKit lets a secret have, in bytes (buildkit `session/secrets`, `MaxSecretSize`).
const LARGEST: usize = 500 * 1024;

/// What build steps trust, in both forms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustStore {
    pem: Vec<u8>,
    pkcs12: Vec<u8>,
}

/// No trust store can be made.
#[derive(Debug, thiserror::Error)]
pub enum TrustStoreError {
    /// The operator's bundle isn't PEM.
    #[error("the CA bundle is no PEM: {0}")]
    Pem(pem::Error),
    /// It has no certificate.
    #[error("the CA bundle has no certificate")]
    Empty,
    /// One of its certificates can't be read.
    #[error("certificate {number} of the CA bundle can't be read: {source}")]
    Certificate {
        /// Which, counted from 1.
        number: usize,
        /// Why.
        source: p12_keystore::error::Error,
    },
    /// The PKCS#12 form can't be made.
    #[error("the trust store for Java can't be made: {0}")]
    Pkcs12(p12_keystore::error::Error),
    /// More than an engine hands to a step.
    #[error("the CA bundle is too large: with the system's authorities it has {0} bytes, and {LARGEST} are the most")]
    TooLarge(usize),
}

impl TrustStore {
    /// Adds the certificates of `bundle`, PEM, to the system's.
    ///
    /// # Errors
    /// See [`TrustStoreError`]. A certificate of the system's that can't be read is left out.
    pub fn with(bundle: &[u8]) -> Result<Self, TrustStoreError> {
        let mut system = rustls_native_certs::load_native_certs().certs;
        system.retain(|der| Certificate::from_der(der).is_ok());
        Self::of(bundle, system)
    }

    /// All authorities, PEM.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// The same as PKCS#12, each marked as a trust anchor as Java's `keytool` marks them.
    #[must_use]
    pub fn pkcs12(&self) -> &[u8] {
        &self.pkcs12
    }

    fn of(bundle: &[u8], mut authorities: Vec<CertificateDer<'static>>) -> Result<Self, TrustStoreError> {
        let own: Vec<_> =
            CertificateDer::pem_slice_iter(bundle).collect::<Result<_, _>>().map_err(TrustStoreError::Pem)?;
        if own.is_empty() {
            return Err(TrustStoreError::Empty);
        }
        for (index, der) in own.into_iter().enumerate() {
            let unreadable = |source| TrustStoreError::Certificate { number: index + 1, source };
            Certificate::from_der(&der).map_err(unreadable)?;
            if !authorities.contains(&der) {
                authorities.push(der);
            }
        }
        let mut store = KeyStore::new();
        for (index, der) in authorities.iter().enumerate() {
            let certificate = Certificate::from_der(der).map_err(TrustStoreError::Pkcs12)?;
            store.add_entry(&format!("kiln-{index}"), KeyStoreEntry::Certificate(certificate));
        }
        let pkcs12 = store.writer(TRUST_STORE_PASSWORD).write().map_err(TrustStoreError::Pkcs12)?;
        let pem = authorities.iter().flat_map(|der| to_pem(der)).collect::<Vec<u8>>();
        match pem.len().max(pkcs12.len()) {
            size if size > LARGEST => Err(TrustStoreError::TooLarge(size)),
            _ => Ok(Self { pem, pkcs12 }),
        }
    }
}

fn to_pem(der: &[u8]) -> Vec<u8> {
    let encoded = BASE64_STANDARD.encode(der);
    let lines = encoded.as_bytes().chunks(64).flat_map(|line| [line, b"\n"].concat());
    [&b"-----BEGIN CERTIFICATE-----\n"[..], &lines.collect::<Vec<u8>>(), b"-----END CERTIFICATE-----\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use p12_keystore::Pkcs12ImportPolicy;

    fn authority(name: &str) -> rcgen::Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.self_signed(&key).unwrap()
    }

    #[test]
    fn both_forms_have_the_systems_authorities_and_the_operators() {
        let (system, own) = (authority("System"), authority("Corporate Proxy"));
        // Naming one that the system has doesn't make two of it.
        let bundle = format!("a comment\n{}{}", own.pem(), system.pem());
        let store = TrustStore::of(bundle.as_bytes(), vec![system.der().clone()]).unwrap();
        let pem: Vec<_> = CertificateDer::pem_slice_iter(store.pem()).map(Result::unwrap).collect();
        assert_eq!(pem, [system.der().clone(), own.der().clone()]);
        // This reading leaves out what isn't marked as a trust anchor, as Java's does.
        let read = KeyStore::from_pkcs12(store.pkcs12(), TRUST_STORE_PASSWORD, Pkcs12ImportPolicy::Strict).unwrap();
        let ders = read.entries().map(|(_, entry)| match entry {
            KeyStoreEntry::Certificate(certificate) => certificate.as_der().to_vec(),
            other => panic!("a certificate, not {other:?}"),
        });
        assert_eq!(ders.collect::<Vec<_>>(), [system.der().to_vec(), own.der().to_vec()]);
    }

    #[test]
    fn a_bundle_that_is_none_is_refused_with_its_fault() {
        let truncated = authority("x").pem().lines().take(3).collect::<Vec<_>>().join("\n");
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let fault = |bundle: &str| TrustStore::of(bundle.as_bytes(), Vec::new()).unwrap_err().to_string();
        assert_eq!(fault(""), "the CA bundle has no certificate");
        assert_eq!(fault("no PEM at all"), "the CA bundle has no certificate");
        assert!(fault(&truncated).starts_with("the CA bundle is no PEM: "), "{}", fault(&truncated));
        assert!(fault(nonsense).starts_with("certificate 1 of the CA bundle can't be read: "), "{}", fault(nonsense));
    }

    #[test]
    fn more_than_an_engine_hands_to_a_step_is_refused() {
        let bundle: String = (0..1000).map(|n| authority(&n.to_string()).pem()).collect();
        assert!(matches!(TrustStore::of(bundle.as_bytes(), Vec::new()), Err(TrustStoreError::TooLarge(_))));
    }
}
