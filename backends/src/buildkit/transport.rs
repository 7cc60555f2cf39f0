//! The ways to a BuildKit daemon: a unix socket, TCP with mutual TLS, a Docker Engine that hands
//! over a connection, or whoever else can open one.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use bollard_buildkit_proto::moby::buildkit::v1::{BytesMessage, control_client::ControlClient};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, future::BoxFuture};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::{TcpStream, UnixStream},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{
    either::Either,
    io::{CopyToBytes, SinkWriter, StreamReader},
    sync::PollSender,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::EngineError;

/// A daemon on the same machine answers in milliseconds, one across a network in a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A status message carries up to 1 MiB of a step's output, a solve error the whole Dockerfile.
const MAX_MESSAGE: usize = 16 << 20;

/// Chunks of the session that wait for the wire; the session's own flow control bounds the rest.
const WAITING_CHUNKS: usize = 16;

type Socket = Either<UnixStream, TcpStream>;
type Hijacked = TokioIo<hyper::upgrade::Upgraded>;
type Control = TokioIo<Either<Socket, Either<Hijacked, DuplexStream>>>;

/// A byte stream in both directions.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Opens byte streams to a daemon that has no address here; shown as where it is.
pub trait Dial: fmt::Display + fmt::Debug + Send + Sync {
    /// This end of a new stream.
    fn dial(&self) -> BoxFuture<'static, io::Result<DuplexStream>>;
}

/// Where something listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

/// Not an address of an engine.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no address of an engine; write unix:///path/to.sock or tcp://host:port")]
pub struct InvalidAddress(String);

/// TCP without TLS.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} without TLS: whoever reaches it is root there; use a unix socket or TLS, \
     or set insecure_engine = true if nobody else can reach it"
)]
pub struct InsecureAddress(pub Address);

/// How a daemon on TCP and Kiln prove to each other who they are. All three are PEM.
#[derive(Clone)]
pub struct Tls {
    /// The authority that signed the daemon's certificate.
    pub ca: Vec<u8>,
    /// The client's certificate.
    pub cert: Vec<u8>,
    /// Its key.
    pub key: SecretSlice<u8>,
    /// The name in the daemon's certificate; the address's host if `None`.
    pub server_name: Option<String>,
}

/// A way to a BuildKit daemon. Making one doesn't connect.
#[derive(Clone, Debug)]
pub enum Transport {
    /// A daemon of its own.
    Buildkitd(Address, Option<Tls>),
    /// The one inside a Docker Engine.
    DockerEngine(Address),
    /// A daemon to which somebody else opens the way; always with TLS.
    Dialed(Arc<dyn Dial>, Tls),
}

/// A connection to a daemon; all of it closes when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) control: ControlClient<Channel>,
    transport: Transport,
}

// === impl Address ===

impl std::str::FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddress(text.to_owned());
        match text.split_once("://").ok_or_else(invalid)? {
            ("unix", path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            ("tcp", authority) => {
                let authority = authority.trim_end_matches('/');
                let parsed: http::uri::Authority = authority.parse().map_err(|_| invalid())?;
                // Credentials in an address would end up in logs.
                if parsed.port().is_none() || authority.contains('@') {
                    return Err(invalid());
                }
                Ok(Self::Tcp(authority.to_owned()))
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

impl Address {
    async fn dial(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Unix(path) => Either::Left(UnixStream::connect(path.as_path()).await?),
            Self::Tcp(authority) => {
                let stream = TcpStream::connect(authority.as_str()).await?;
                stream.set_nodelay(true)?;
                Either::Right(stream)
            }
        })
    }
}

// === impl Tls ===

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl Tls {
    fn config(&self, host: &str) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.cert, self.key.expose_secret()))
            .domain_name(self.server_name.as_deref().unwrap_or(host))
    }
}

// === impl Transport ===

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buildkitd(address, _) => write!(f, "buildkitd at {address}"),
            Self::DockerEngine(address) => write!(f, "the Docker Engine at {address}"),
            Self::Dialed(way, _) => way.fmt(f),
        }
    }
}

impl Transport {
    /// Opens a connection of its own, so that an engine that was restarted is found again.
    pub(crate) async fn connect(&self) -> Result<Connection, EngineError> {
        let unreachable = |cause: String| EngineError::Unreachable { endpoint: self.to_string(), cause };
        // No HTTP/2 pings: buildkitd answers them with too_many_pings. The session's health checks
        // tell whether it lives.
        let mut endpoint = Endpoint::from_static("http://buildkit");
        let tls = match self {
            Self::Buildkitd(Address::Tcp(authority), Some(tls)) => {
                let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
                Some(tls.config(host.trim_matches(['[', ']'])))
            }
            Self::Dialed(_, tls) => Some(tls.config("buildkit")),
            Self::Buildkitd(..) | Self::DockerEngine(_) => None,
        };
        if let Some(tls) = tls {
            endpoint =
                Endpoint::from_static("https://buildkit").tls_config(tls).map_err(|e| unreachable(causes(&e)))?;
        }
        let transport = self.clone();
        let dial = tower::service_fn(move |_: http::Uri| transport.clone().dial_control());
        let channel = timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(dial))
            .await
            .map_err(|_| unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))?
            .map_err(|e| unreachable(causes(&e)))?;
        let control = ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        Ok(Connection { control, transport: self.clone() })
    }

    /// Boxed: otherwise the compiler can't prove that a build may run on any thread.
    fn dial_control(self) -> BoxFuture<'static, io::Result<Control>> {
        Box::pin(async move {
            let stream = match &self {
                Self::Buildkitd(address, _) => Either::Left(address.dial().await?),
                Self::DockerEngine(address) => {
                    Either::Right(Either::Left(hijack(address, "/grpc", HeaderMap::new()).await?))
                }
                Self::Dialed(way, _) => Either::Right(Either::Right(way.dial().await?)),
            };
            Ok(TokioIo::new(stream))
        })
    }
}

/// An error with its causes: the outer ones say only that something went wrong.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// What a call's error says, with the transport's causes if it never got an answer.
pub(crate) fn words(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(cause) => format!("{}: {}", status.message(), causes(cause)),
        None => status.message().to_owned(),
    }
}

// === impl Connection ===

impl Connection {
    /// The byte stream on which the daemon calls back.
    pub(crate) async fn open_session(&self, headers: HeaderMap) -> Result<Box<dyn Io>, EngineError> {
        match &self.transport {
            Transport::Buildkitd(..) | Transport::Dialed(..) => self.tunnel(headers).await,
            Transport::DockerEngine(address) => {
                let hijacked = timeout(CONNECT_TIMEOUT, hijack(address, "/session", headers))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    .map_err(|e| EngineError::Unreachable {
                        endpoint: self.transport.to_string(),
                        cause: causes(&e),
                    })?;
                Ok(Box::new(hijacked))
            }
        }
    }

    /// A stream inside the control channel: `Control.Session` carries its bytes in messages.
    async fn tunnel(&self, headers: HeaderMap) -> Result<Box<dyn Io>, EngineError> {
        let (sender, outbound) = mpsc::channel::<Bytes>(WAITING_CHUNKS);
        let outbound = ReceiverStream::new(outbound).map(|data| BytesMessage { data: data.into() });
        let mut request = tonic::Request::new(outbound);
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        let inbound = self
            .control
            .clone()
            .session(request)
            .await
            .map_err(|e| EngineError::Lost(format!("it refused the session: {}", words(&e))))?
            .into_inner();
        let reader = StreamReader::new(inbound.map(|message| match message {
            Ok(message) => Ok(Bytes::from(message.data)),
            Err(status) => Err(io::Error::other(status)),
        }));
        let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let writer = SinkWriter::new(CopyToBytes::new(PollSender::new(sender).sink_map_err(closed)));
        Ok(Box::new(tokio::io::join(reader, writer)))
    }
}

/// Asks a Docker Engine for the connection itself, as `docker build` does.
async fn hijack(address: &Address, path: &'static str, headers: HeaderMap) -> io::Result<Hijacked> {
    let mut request = Request::post(path)
        .header(header::HOST, "docker")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "h2c")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    request.headers_mut().extend(headers);
    let stream = address.dial().await?;
    let (send, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // The connection is done when it is handed over, or, refused, when `send` is gone.
    let (upgraded, driven) = tokio::join!(upgrade(send, request), connection.with_upgrades());
    let upgraded = upgraded?;
    driven.map_err(io::Error::other)?;
    Ok(TokioIo::new(upgraded))
}

async fn upgrade(
    mut send: hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> io::Result<hyper::upgrade::Upgraded> {
    let path = request.uri().path().to_owned();
    let answer = send.send_request(request).await.map_err(io::Error::other)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(io::Error::other(format!("{path} answered {}", answer.status())));
    }
    hyper::upgrade::on(answer).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unix_sockets_or_tcp_with_a_port() {
        for good in ["unix:///run/buildkit/buildkitd.sock", "tcp://127.0.0.1:1234", "tcp://[::1]:1234"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in ["", "unix://relative", "tcp://host", "tcp://u:p@host:1", "http://host:1", "/run/x.sock"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_is_down_is_unreachable_and_names_the_address() {
        let nobody = Transport::Buildkitd(Address::Unix("/nonexistent/kiln.sock".into()), None);
        let error = nobody.connect().await.err().unwrap().to_string();
        assert!(error.contains("unix:///nonexistent/kiln.sock"), "{error}");
    }
}
