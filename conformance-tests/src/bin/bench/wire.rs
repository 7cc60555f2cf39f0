//! A caller that costs next to nothing: ready-made HTTP/1.1 requests over one open connection.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// An open connection.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of the buffer the last answer was.
    told: usize,
}

impl Wire {
    pub(crate) async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::with_capacity(4096), told: 0 }
    }

    /// Sends a request and reads the whole answer; returns the body of a 200.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<&str> {
        match self.exchange(request).await? {
            (200, body) => Ok(body),
            (_, body) => Err(bad(body)),
        }
    }

    /// Sends a request and reads the whole answer; returns its status and body.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, &str)> {
        self.stream.write_all(request).await?;
        self.answer().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads the next whole answer; none when the other side has said its last.
    pub(crate) async fn answer(&mut self) -> io::Result<Option<(u16, &str)>> {
        self.buffer.drain(..self.told);
        self.told = 0;
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head]).map_err(io::Error::other)?;
        let field = |line: &str| line.strip_prefix("content-length: ").and_then(|length| length.parse().ok());
        let length: usize = text.lines().find_map(field).ok_or_else(|| bad(text))?;
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| bad(text))?;
        while self.buffer.len() < head + length {
            if !self.read().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.told = head + length;
        let body = std::str::from_utf8(&self.buffer[head..self.told]).map_err(io::Error::other)?;
        Ok(Some((status, body)))
    }

    /// Whether there was more.
    async fn read(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
