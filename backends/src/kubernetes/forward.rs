//! The ways to a daemon in a pod: its address, or through the API server.

use std::{fmt, io, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::{
    io::DuplexStream,
    time::{Instant, sleep},
};

use super::{daemon::PORT, trouble::Trouble};
use crate::buildkit::{Address, Connection, Dial, Tls, Transport};

/// Between tries to reach a daemon that starts, the first time and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(500));

/// A pod's port through the API server.
struct Forward {
    pods: Api<Pod>,
    pod: String,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the daemon in pod {}", self.pod)
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Dial for Forward {
    fn dial(&self) -> BoxFuture<'static, io::Result<DuplexStream>> {
        let (pods, pod) = (self.pods.clone(), self.pod.clone());
        Box::pin(async move {
            let mut forwarder = pods.portforward(&pod, &[PORT]).await.map_err(io::Error::other)?;
            forwarder.take_stream(PORT).ok_or_else(|| io::ErrorKind::NotConnected.into())
        })
    }
}

/// To a pod's address.
pub(super) fn at(address: &str, tls: Tls) -> Transport {
    let authority = if address.contains(':') { format!("[{address}]:{PORT}") } else { format!("{address}:{PORT}") };
    Transport::Buildkitd(Address::Tcp(authority), Some(tls))
}

/// Through the API server.
pub(super) fn through(pods: Api<Pod>, pod: String, tls: Tls) -> Transport {
    Transport::Dialed(Arc::new(Forward { pods, pod }), tls)
}

/// Connects to a daemon whose container runs, and which listens in a moment.
pub(super) async fn connect(transport: &Transport, until: Instant) -> Result<Connection, Trouble> {
    let mut pause = PAUSE.0;
    loop {
        let error = match transport.connect().await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        if Instant::now() + pause >= until {
            return Err(Trouble::Silent(error.to_string()));
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_become_authorities() {
        let tls = Tls { ca: Vec::new(), cert: Vec::new(), key: Vec::new().into(), server_name: None };
        for (address, shown) in
            [("10.1.2.3", "buildkitd at tcp://10.1.2.3:1234"), ("fd00::7", "buildkitd at tcp://[fd00::7]:1234")]
        {
            assert_eq!(at(address, tls.clone()).to_string(), shown);
        }
    }
}
