//! `kiln probe`: whether the gateway of this configuration answers; for images that have no other client.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use super::{ConfigArgs, fail};

/// How long an answer may take: less than whoever runs the probe waits for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

pub(crate) async fn run(config: &ConfigArgs) -> ExitCode {
    // Docker keeps every status but 0 and 1 for itself.
    let listen = match config.load() {
        Ok(config) => config.listen,
        Err(error) => return fail(1, &error),
    };
    match ask(own(listen)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &crate::serve::causes(&error)),
    }
}

async fn ask(gateway: SocketAddr) -> reqwest::Result<()> {
    // A proxy would ask its own loopback.
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build()?;
    client.get(format!("http://{gateway}/healthz")).send().await?.error_for_status()?;
    Ok(())
}

/// Where this machine reaches the listener: one on all addresses answers on loopback, too.
fn own(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, listen.port())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn a_listener_is_asked_where_it_is() {
        for (listen, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ] {
            assert_eq!(own(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[tokio::test]
    async fn only_a_good_answer_is_one() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        for (status, well) in [("200 OK", true), ("404 Not Found", false), ("503 Service Unavailable", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let answered = tokio::spawn(async move {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                assert!(connection.read(&mut head).await.unwrap() > 0);
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                connection.write_all(answer.as_bytes()).await.unwrap();
            });
            assert_eq!(ask(address).await.is_ok(), well, "{status}");
            answered.await.unwrap();
            assert!(ask(address).await.is_err(), "nobody listens any more");
        }
    }
}
