//! A certificate authority of a test's own, for steps to trust beside the system's.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::Launch;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

/// An authority that signs nothing: it is only looked for.
pub(crate) struct Authority {
    der: Vec<u8>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Self { der: certificate.der().to_vec(), pem: certificate.pem() }
    }

    /// A gateway whose steps trust it.
    pub(crate) fn trusted_by(&self, launch: Launch) -> Launch {
        let file = launch.folder().join("ca.pem");
        std::fs::write(&file, &self.pem).unwrap();
        launch.set("KILN_STEPS__CA_FILE", file.display().to_string())
    }

    /// What betrays it wherever it was copied to, each with a name: as DER, as one line of base64, as a line of PEM.
    pub(crate) fn traces(&self) -> [(&'static str, Vec<u8>); 3] {
        let line = self.pem.lines().nth(2).unwrap().as_bytes().to_vec();
        let base64 = BASE64_STANDARD.encode(&self.der).into_bytes();
        [("the CA as DER", self.der.clone()), ("the CA as base64", base64), ("the CA as PEM", line)]
    }
}

/// A gateway whose steps reach the package registries, also where a proxy signs for them: its authority is among the
/// system's, and steps are given those along with the operator's.
pub(crate) fn online(launch: Launch) -> Launch {
    Authority::new().trusted_by(launch)
}
