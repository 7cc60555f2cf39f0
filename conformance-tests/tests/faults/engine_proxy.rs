//! A unix socket before the real engine's that can be away, cut, or silent.

use std::{io, path::PathBuf};

use kiln_conformance_tests::engine;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};

/// What becomes of connections.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Way {
    /// They reach the engine.
    Open,
    /// They stay, and nothing passes.
    Silent,
    /// They are closed, the old and the new.
    Cut,
}

/// The proxy; nothing listens there until it is up, nor after it was dropped.
#[derive(Debug)]
pub(crate) struct EngineProxy {
    folder: TempDir,
    way: watch::Sender<Way>,
    server: Option<JoinHandle<()>>,
}

impl EngineProxy {
    /// A place for a proxy: its address is that of no engine so far.
    pub(crate) fn down() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), way: watch::Sender::new(Way::Open), server: None }
    }

    /// A proxy to the development buildkitd.
    pub(crate) fn up(way: Way) -> Self {
        let mut proxy = Self::down();
        proxy.way.send_replace(way);
        proxy.come_up();
        proxy
    }

    pub(crate) fn come_up(&mut self) {
        let address = engine("KILN_TEST_BUILDKIT");
        let engine = PathBuf::from(address.strip_prefix("unix://").expect("a unix socket"));
        let listener = UnixListener::bind(self.socket()).unwrap();
        let way = self.way.subscribe();
        self.server = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, engine.clone(), way.clone()));
            }
        }));
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn turn(&self, way: Way) {
        self.way.send_replace(way);
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }
}

impl Drop for EngineProxy {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

async fn forward(client: UnixStream, engine: PathBuf, mut way: watch::Receiver<Way>) {
    let Ok(engine) = UnixStream::connect(engine).await else { return };
    let ((from_client, to_client), (from_engine, to_engine)) = (client.into_split(), engine.into_split());
    let (there, back) = (pass(from_client, to_engine, way.clone()), pass(from_engine, to_client, way.clone()));
    tokio::select! {
        _ = async { tokio::join!(there, back) } => {}
        _ = way.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
) -> io::Result<()> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut chunk).await?;
        way.wait_for(|way| *way != Way::Silent).await.map_err(io::Error::other)?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..read]).await?;
    }
}
