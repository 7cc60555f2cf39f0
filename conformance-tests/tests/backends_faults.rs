//! Engines that go away, hang, come back, or want certificates: through a proxy before a real one.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod backends_bench;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use kiln_backends::{
    BuildBackend, BuildId, BuildkitdBackend, BuildkitdConfig, DockerBackend, DockerConfig, EngineError, InstanceId,
    RunError,
    buildkit::{Address, Tls},
    conformance::Bench,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What the proxy does with what it is given.
#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Open,
    /// Nothing passes, nothing is closed.
    Hung,
    /// Every connection is closed, at once.
    Cut,
}

/// A unix socket before an engine's.
struct Proxy {
    socket: PathBuf,
    state: watch::Sender<State>,
    server: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Proxy {
    fn before(engine: &str) -> Self {
        let engine = PathBuf::from(engine.strip_prefix("unix://").unwrap());
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (state, changes) = watch::channel(State::Open);
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *changes.borrow() == State::Open {
                    tokio::spawn(forward(client, engine.clone(), changes.clone()));
                }
            }
        });
        Self { socket, state, server, _folder: folder }
    }

    fn address(&self) -> Address {
        Address::Unix(self.socket.clone())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn forward(client: impl AsyncRead + AsyncWrite, engine: PathBuf, mut state: watch::Receiver<State>) {
    let Ok(engine) = UnixStream::connect(engine).await else { return };
    let (from_client, to_client) = tokio::io::split(client);
    let (from_engine, to_engine) = engine.into_split();
    let (there, back) = (state.clone(), state.clone());
    tokio::select! {
        _ = async { tokio::join!(pass(from_client, to_engine, there), pass(from_engine, to_client, back)) } => {}
        _ = state.wait_for(|state| *state == State::Cut) => {}
    }
}

async fn pass(from: impl AsyncRead, to: impl AsyncWrite, mut state: watch::Receiver<State>) -> io::Result<()> {
    let (mut from, mut to) = (Box::pin(from), Box::pin(to));
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut chunk).await?;
        state.wait_for(|state| *state != State::Hung).await.map_err(io::Error::other)?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..read]).await?;
    }
}

fn buildkitd(proxy: &Proxy) -> Bench {
    backends_bench::bench(BuildkitdBackend::new(BuildkitdConfig::at(proxy.address())).unwrap())
}

fn docker(proxy: &Proxy) -> Bench {
    let config = DockerConfig::at(proxy.address(), InstanceId(BuildId::new().0));
    backends_bench::bench(DockerBackend::new(config).unwrap())
}

fn endless(bench: &Bench) -> kiln_backends::BuildSpec {
    bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\nRUN echo {}; echo runs; sleep 600", bench.unique())))
}

async fn lost_and_found_again(bench: Bench, proxy: &Proxy) {
    let mut running = bench.start(endless(&bench));
    running.shows("runs").await;
    proxy.state.send_replace(State::Cut);
    let outcome = running.end().await;
    assert!(matches!(outcome.result, Err(RunError::Engine { retryable: true, .. })), "{outcome:?}");

    let down = bench.build("ann", "FROM {base}").await;
    assert!(matches!(down.result, Err(RunError::Engine { retryable: true, .. })), "{down:?}");
    assert!(matches!(bench.backend.probe().await, Err(EngineError::Unreachable { .. })));

    proxy.state.send_replace(State::Open);
    assert!(bench.build("ann", "FROM {base}").await.digest().starts_with("sha256:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buildkitd_that_went_away_is_found_again() {
    let proxy = Proxy::before(&backends_bench::needed("KILN_TEST_BUILDKIT"));
    lost_and_found_again(buildkitd(&proxy), &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_engine_that_went_away_is_found_again() {
    let proxy = Proxy::before(&backends_bench::needed("KILN_TEST_DOCKER"));
    lost_and_found_again(docker(&proxy), &proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_is_given_up_after_twenty_seconds_of_silence() {
    let proxy = Proxy::before(&backends_bench::needed("KILN_TEST_BUILDKIT"));
    let bench = buildkitd(&proxy);
    let mut running = bench.start(endless(&bench));
    running.shows("runs").await;
    proxy.state.send_replace(State::Hung);
    let hung = std::time::Instant::now();
    let outcome = running.end().await;
    assert!(
        matches!(outcome.result, Err(RunError::Engine { retryable: true, source: EngineError::Lost(_) })),
        "{outcome:?}"
    );
    // The last ping may have come up to 5 s before.
    let took = hung.elapsed();
    assert!((Duration::from_secs(14)..Duration::from_secs(27)).contains(&took), "{took:?}");
}

/// A buildkitd on TCP that wants certificates of one authority.
struct Guarded {
    address: Address,
    tls: Tls,
    server: JoinHandle<()>,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An authority, and what it signs.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: rcgen::Issuer::new(params, key), certificate }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// What a client of this authority shows.
    fn client(&self) -> Tls {
        let (certificate, key) = self.sign("kiln");
        Tls {
            ca: self.certificate.pem().into_bytes(),
            cert: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes().into(),
            server_name: Some("buildkitd.internal".to_owned()),
        }
    }
}

async fn guarded(engine: &str) -> Guarded {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let authority = Authority::new();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (certificate, key) = authority.sign("buildkitd.internal");
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let engine = PathBuf::from(engine.strip_prefix("unix://").unwrap());
    let server = tokio::spawn(async move {
        let (_open, state) = watch::channel(State::Open);
        while let Ok((client, _)) = listener.accept().await {
            if let Ok(client) = acceptor.accept(client).await {
                tokio::spawn(forward(client, engine.clone(), state.clone()));
            }
        }
    });
    Guarded { address, tls: authority.client(), server }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_both_sides_prove_who_they_are() {
    let guarded = guarded(&backends_bench::needed("KILN_TEST_BUILDKIT")).await;
    let with = |tls| BuildkitdConfig { tls, ..BuildkitdConfig::at(guarded.address.clone()) };

    let bench = backends_bench::bench(BuildkitdBackend::new(with(Some(guarded.tls.clone()))).unwrap());
    assert!(bench.build("ann", "FROM {base}").await.digest().starts_with("sha256:"));

    let own = &guarded.tls;
    let stranger = Authority::new().client();
    let wrong_client = Tls { ca: own.ca.clone(), ..stranger.clone() };
    let wrong_server = Tls { server_name: Some("other.internal".to_owned()), ..own.clone() };
    for tls in [stranger, wrong_client, wrong_server] {
        let refused = BuildkitdBackend::new(with(Some(tls))).unwrap().probe().await;
        assert!(matches!(refused, Err(EngineError::Unreachable { .. })), "{refused:?}");
    }
    assert!(BuildkitdBackend::new(with(None)).is_err(), "plain TCP wants insecure_engine = true");
}
