//! The least that a server can do: a bare hyper one, in a process of its own, that sends back what it gets.

use std::{
    convert::Infallible,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::Result;

/// The argument with which this program is that server.
pub(crate) const ECHO_MODE: &str = "--echo";

/// The running server; ends with the value.
pub(crate) struct Echo {
    child: Child,
    /// Its `host:port`.
    pub(crate) address: String,
}

impl Echo {
    pub(crate) fn start() -> Result<Self> {
        let mut child = Command::new("/proc/self/exe").arg(ECHO_MODE).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().to_owned() })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until the process is killed.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let echo = async |request: Request<Incoming>| Ok::<_, Infallible>(Response::new(request.into_body()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo)));
    }
}
