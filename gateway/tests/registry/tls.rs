//! Claims about certificates: by host, as the table says.

use std::{io::Write as _, sync::Arc};

use axum::{Router, http::StatusCode, routing::any};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use kiln_gateway::registry::{
    Authentication, Credential, Host, Manner, Network, ProcessRegistry, Push, Registries, RegistryClient,
    RegistryError, RegistrySettings,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

fn manner(plain_http: bool, skip_verify: bool) -> Manner {
    Manner { plain_http, skip_verify }
}

#[tokio::test]
async fn a_certificate_is_taken_where_the_table_says_so_and_only_there() {
    let (host, pem) = start().await;
    let mut ca_file = tempfile::NamedTempFile::new().unwrap();
    ca_file.write_all(pem.as_bytes()).unwrap();
    let ca_file = Some(ca_file.path().to_owned());
    let plain = RegistrySettings { plain_http: Some(false), ..RegistrySettings::default() };
    let push = Push { host: host.clone(), manner: Manner::default(), credential: None };
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
    assert_eq!(insecure.manner(&with_tls, None).await, manner(false, true));
    assert_eq!(insecure.manner(&plain, None).await, manner(true, true));
    assert_eq!(
        insecure.manner(&plain, Credential::from_pair("a:b").as_ref()).await,
        manner(true, true),
        "on this machine"
    );
    // What breaks off is no answer.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broken = Host::parse(&silent.local_addr().unwrap().to_string()).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = silent.accept().await {
            let mut hello = [0; 64];
            let read = stream.read(&mut hello).await.unwrap_or_default();
            if hello[..read].starts_with(b"GET ") {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap_or_default();
            }
        }
    });
    assert_eq!(insecure.manner(&broken, None).await, manner(false, true));
    let push = Push { host: with_tls.clone(), manner: manner(false, true), credential: None };
    assert_eq!(insecure.ping(&push).await.unwrap(), Authentication::None);
    // That is for pushes to it: whatever else is asked is asked with certificates verified.
    let verified = Push { manner: manner(false, false), ..push.clone() };
    assert!(matches!(insecure.ping(&verified).await, Err(RegistryError::Unavailable { .. })));
    // What the table names stays as it says, and without the setting so does everything.
    let settings = RegistrySettings { plain_http: Some(false), ..RegistrySettings::default() };
    let table = || Registries::from_iter([(with_tls.clone(), settings.clone())]);
    for client in [client(true, table()), client(false, table())] {
        assert_eq!(client.manner(&with_tls, None).await, manner(false, false));
        assert!(matches!(client.ping(&push).await, Err(RegistryError::Unavailable { .. })));
    }
}

/// A proxy behind which every host speaks plain HTTP alone.
async fn plain_everywhere() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let read = stream.read(&mut asked).await.unwrap_or_default();
                let answer: &[u8] = if asked[..read].starts_with(b"CONNECT") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap_or_default();
                    stream.read(&mut asked).await.unwrap_or_default();
                    b"HTTP/1.1 400 Bad Request\r\n\r\n"
                } else {
                    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                };
                stream.write_all(answer).await.unwrap_or_default();
            });
        }
    });
    url
}

#[tokio::test]
async fn no_credential_goes_over_plain_http_that_the_table_does_not_name() {
    let proxy = Some(plain_everywhere().await);
    let network = Network { http_proxy: proxy.clone(), https_proxy: proxy, ..Network::default() };
    let process =
        ProcessRegistry { insecure: true, allowed_user_registries: vec!["*".to_owned()], ..ProcessRegistry::default() };
    let client = RegistryClient::new(&process, Registries::default(), &network).unwrap();
    let (host, credential) = (Host::parse("plain.invalid").unwrap(), Credential::from_pair("a:b"));
    assert_eq!(client.manner(&host, None).await, manner(true, true));
    assert_eq!(client.manner(&host, credential.as_ref()).await, manner(false, true));
}
