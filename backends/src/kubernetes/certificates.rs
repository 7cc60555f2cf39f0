//! The certificates of one build: an authority that lives as long as it takes to sign the two.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::buildkit::Tls;

/// The name in every daemon's certificate: addresses of pods come and go.
const SERVER_NAME: &str = "buildkitd.kiln.internal";
/// A node's clock may be behind.
const EARLIER: Duration = Duration::from_secs(3600);

/// What a daemon and Kiln prove to each other with, for one build.
pub(super) struct Certificates {
    /// The authority's certificate, PEM.
    pub(super) authority: String,
    /// The daemon's certificate, PEM.
    pub(super) server: String,
    /// The daemon's key, PEM.
    pub(super) server_key: String,
    /// Kiln's side; its key is in no pod.
    pub(super) client: Tls,
}

/// Makes certificates that hold for `lasting` from now on.
///
/// # Errors
/// When the system has no random numbers.
pub(super) fn issue(lasting: Duration) -> Result<Certificates, rcgen::Error> {
    let now = SystemTime::now();
    let with = |names: &[&str], name: &str| {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = ((now - EARLIER).into(), (now + lasting).into());
        Ok::<_, rcgen::Error>(params)
    };
    let mut authority = with(&[], "kiln build authority")?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate()?;
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let authority = Issuer::new(authority, authority_key);
    let sign = |names: &[&str], name: &str, purpose| {
        let mut params = with(names, name)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        Ok::<_, rcgen::Error>((params.signed_by(&key, &authority)?.pem(), key.serialize_pem()))
    };
    let (server, server_key) = sign(&[SERVER_NAME], "buildkitd", ExtendedKeyUsagePurpose::ServerAuth)?;
    let (client, client_key) = sign(&[], "kiln", ExtendedKeyUsagePurpose::ClientAuth)?;
    let client = Tls {
        ca: authority_pem.clone().into_bytes(),
        cert: client.into_bytes(),
        key: client_key.into_bytes().into(),
        server_name: Some(SERVER_NAME.to_owned()),
    };
    Ok(Certificates { authority: authority_pem, server, server_key, client })
}
