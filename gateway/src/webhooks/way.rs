//! The way to receivers: to permitted addresses only, without following redirections, within a deadline.

use std::{error::Error, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode, header};
use reqwest::{Certificate, Client, Proxy, Url, dns::Resolve, redirect::Policy};

use super::message::Message;
use crate::{
    config,
    registry::{AddressRefused, Guarded, Reach, SystemNames},
};

/// What came of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Met {
    /// The receiver answered, perhaps with when to try again.
    Answer(StatusCode, Option<Duration>),
    /// There was no answer; for the owner, why.
    Silence(&'static str),
    /// It leads to the inside.
    Refused,
}

#[derive(Debug)]
pub(super) struct Way {
    client: Client,
    reach: Reach,
}

impl Way {
    pub(super) fn new(settings: &config::Webhooks, extra_ca: Option<&[u8]>) -> Result<Self, reqwest::Error> {
        Self::by(SystemNames, settings, extra_ca)
    }

    /// With names resolved by `names`.
    fn by(
        names: impl Resolve + 'static,
        settings: &config::Webhooks,
        extra_ca: Option<&[u8]>,
    ) -> Result<Self, reqwest::Error> {
        let reach = Reach::with(&settings.allow_networks);
        let mut builder = Client::builder()
            .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
            .timeout(settings.timeout)
            .redirect(Policy::none())
            .referer(false)
            // Each attempt resolves anew, and no receiver keeps connections of ours.
            .pool_max_idle_per_host(0)
            .no_proxy();
        let mut exempt = Vec::new();
        if let Some(url) = &settings.proxy {
            builder = builder.proxy(Proxy::all(url)?);
            exempt.extend(Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)));
        }
        if let Some(pem) = extra_ca {
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem)?);
        }
        let guarded = Guarded { names, reach: reach.clone(), exempt: exempt.into() };
        Ok(Self { client: builder.dns_resolver(Arc::new(guarded)).build()?, reach })
    }

    /// Whether a URL's host may be sent to, as far as it can be seen without resolving its name.
    pub(super) fn admits(&self, url: &Url) -> bool {
        let name = url.domain().map(|name| name.trim_end_matches('.'));
        let loopback = name.is_some_and(|name| name == "localhost" || name.ends_with(".localhost"));
        self.reach.admits_host(url) && (!loopback || self.reach.admits(std::net::Ipv4Addr::LOCALHOST.into()))
    }

    /// Sends a message once. Of the answer nothing is read but its head.
    pub(super) async fn send(&self, url: &str, message: Message) -> Met {
        // Addresses aren't resolved, so the client's resolver doesn't see them.
        let Some(url) = Url::parse(url).ok().filter(|url| self.admits(url)) else { return Met::Refused };
        match self.client.post(url).headers(message.headers).body(message.body).send().await {
            Ok(answer) => Met::Answer(answer.status(), retry_after(answer.headers())),
            Err(error) if is_refused(&error) => Met::Refused,
            Err(error) if error.is_timeout() => Met::Silence("it didn't answer in time"),
            Err(error) if error.is_connect() => Met::Silence("it can't be connected to"),
            Err(_) => Met::Silence("the connection broke before it had answered"),
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

fn is_refused(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(deeper) = cause {
        if deeper.is::<AddressRefused>() {
            return true;
        }
        cause = deeper.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, SocketAddr},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use http::HeaderValue;
    use reqwest::dns::{Addrs, Name, Resolving};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Names that lead elsewhere each time they are asked for.
    #[derive(Clone)]
    struct Rebinding {
        addresses: Arc<[Ipv4Addr]>,
        asked: Arc<AtomicUsize>,
    }

    impl Resolve for Rebinding {
        fn resolve(&self, _name: Name) -> Resolving {
            let at = self.asked.fetch_add(1, Ordering::Relaxed);
            let address = SocketAddr::from((self.addresses[at.min(self.addresses.len() - 1)], 0));
            Box::pin(async move { Ok(Box::new([address].into_iter()) as Addrs) })
        }
    }

    fn message() -> Message {
        Message::new(HeaderValue::from_static("text/plain"), "x")
    }

    /// Answers each connection to `listener` with `head`; counts them.
    fn serve(listener: TcpListener, head: &'static str) -> Arc<AtomicUsize> {
        let met = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&met);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(head.as_bytes()).await;
            }
        });
        met
    }

    #[tokio::test]
    async fn a_name_that_is_bound_anew_reaches_nothing_inside() {
        let outside = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = outside.local_addr().unwrap().port();
        let inside = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let outside = serve(outside, "HTTP/1.1 204 No Content\r\n\r\n");
        let inside = serve(inside, "HTTP/1.1 204 No Content\r\n\r\n");
        let settings = toml::from_str("allow_networks = ['127.0.0.2/32']\nplain_http = true").unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let addresses = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::LOCALHOST].into();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let way = Way::by(Rebinding { addresses, asked: Arc::clone(&asked) }, &settings, None).unwrap();
        let url = format!("http://hooks.example:{port}/");
        assert_eq!(way.send(&url, message()).await, Met::Answer(StatusCode::NO_CONTENT, None));
        assert_eq!(asked.load(Ordering::Relaxed), 1, "what was looked at is what was connected to");
        assert_eq!(way.send(&url, message()).await, Met::Refused);
        assert_eq!((outside.load(Ordering::Relaxed), inside.load(Ordering::Relaxed)), (1, 0));
        assert_eq!(way.send(&format!("http://127.0.0.1:{port}/"), message()).await, Met::Refused);
        assert_eq!(inside.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn redirections_are_answers_like_others() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let met = serve(
            listener,
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: /other\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
        );
        let settings = toml::from_str("allow_networks = ['127.0.0.0/8']\nplain_http = true").unwrap();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let way = Way::new(&settings, None).unwrap();
        let answer = way.send(&format!("http://localhost:{port}/"), message()).await;
        assert_eq!(answer, Met::Answer(StatusCode::TEMPORARY_REDIRECT, Some(Duration::from_secs(7))));
        assert_eq!(met.load(Ordering::Relaxed), 1);
    }
}
