//! A caller who says that a body comes, and sends none.

use kiln_conformance_tests::Kiln;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// An open request.
pub(crate) struct Stalled(TcpStream);

impl Stalled {
    /// Posts to `path` as this user: the head, and nothing of its body.
    pub(crate) async fn post(kiln: &Kiln, user: &str, path: &str) -> Self {
        let mut stream = TcpStream::connect(kiln.url.trim_start_matches("http://")).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: kiln\r\nauthorization: {}\r\ncontent-type: application/json\r\n\
             content-length: 100\r\n\r\n",
            kiln.token(user)
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self(stream)
    }

    /// Everything that comes back until the gateway closes the connection.
    pub(crate) async fn answer(mut self) -> String {
        let mut answer = Vec::new();
        // A connection that is closed with the body missing may end with a reset.
        let _ = self.0.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }
}
