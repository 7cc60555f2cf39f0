//! Claims about certificates: by host, as the table says.

use std::{io::Write as _, sync::Arc};

use axum::{Router, http::StatusCode, routing::any};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use kiln_gateway::registry::{
    Authentication, Host, Network, ProcessRegistry, Push, Registries, RegistryClient, RegistryError, RegistrySettings,
};
use tokio_rustls::{TlsAcceptor, rustls};

use crate::fixture::{Real, client_with};

/// An empty registry with a certificate that nobody knows; returns that certificate too.
async fn start() -> (Host, String) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key.into()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = Host::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let router = Router::new().route("/v2/", any(async || StatusCode::OK));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                builder.serve_connection(TokioIo::new(stream), service).await.unwrap_or_default();
            });
        }
    });
    (host, cert.pem())
}

#[tokio::test]
async fn a_certificate_is_taken_where_the_table_says_so_and_only_there() {
    let (host, pem) = start().await;
    let mut ca_file = tempfile::NamedTempFile::new().unwrap();
    ca_file.write_all(pem.as_bytes()).unwrap();
    let ca_file = Some(ca_file.path().to_owned());
    let plain = RegistrySettings { plain_http: Some(false), ..RegistrySettings::default() };
    let push = Push { host: host.clone(), plain_http: false, skip_verify: false, credential: None };
    let other = Host::parse("other.invalid").unwrap();
    for (settings, on, taken) in [
        (plain.clone(), &host, false),
        (RegistrySettings { ca_file: ca_file.clone(), ..plain.clone() }, &host, true),
        (RegistrySettings { skip_verify: true, ..plain.clone() }, &host, true),
        (RegistrySettings { ca_file, skip_verify: true, ..plain.clone() }, &other, false),
    ] {
        let table = Registries::from_iter([(host.clone(), plain.clone()), (on.clone(), settings.clone())]);
        match client_with(table).ping(&push).await {
            Ok(authentication) => assert!(taken && authentication == Authentication::None, "{settings:?} on {on}"),
            Err(RegistryError::Unavailable { cause, .. }) => {
                assert!(!taken && cause.contains("certificate"), "{settings:?} on {on}: {cause}");
            }
            Err(error) => panic!("{settings:?} on {on}: {error}"),
        }
    }
}

#[tokio::test]
async fn where_the_operator_lets_it_be_insecure_a_registry_itself_says_how_it_is_spoken_to() {
    let (with_tls, _) = start().await;
    let plain = Real::open().host;
    let anywhere = vec!["*".to_owned()];
    let process =
        |insecure| ProcessRegistry { insecure, allowed_user_registries: anywhere.clone(), ..Default::default() };
    let client = |insecure, table| RegistryClient::new(&process(insecure), table, &Network::default()).unwrap();
    let insecure = client(true, Registries::default());
    assert_eq!(insecure.manner(&with_tls).await, (false, true));
    assert_eq!(insecure.manner(&plain).await, (true, true));
    let push = Push { host: with_tls.clone(), plain_http: false, skip_verify: true, credential: None };
    assert_eq!(insecure.ping(&push).await.unwrap(), Authentication::None);
    // What the table names stays as it says, and without the setting so does everything.
    let settings = RegistrySettings { plain_http: Some(false), ..RegistrySettings::default() };
    let table = || Registries::from_iter([(with_tls.clone(), settings.clone())]);
    for client in [client(true, table()), client(false, table())] {
        assert_eq!(client.manner(&with_tls).await, (false, false));
        assert!(matches!(client.ping(&push).await, Err(RegistryError::Unavailable { .. })));
    }
}
