//! Archives as the door's clients send them: made by GNU tar, signed, each on a connection of its own.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use rustix::fs::sendfile;
use tempfile::TempDir;

use crate::Result;

/// The key that archives are signed with.
pub(crate) const KEY: &str = "key-goes-here";
/// A signature that is nobody's.
pub(super) const FORGED: &str = "sha256=0000000000000000000000000000000000000000000000000000000000000000";
/// How much the kernel is given to send at a time.
const SENT_AT_ONCE: usize = 16 << 20;
/// What a Dockerfile copies.
pub(super) const SMALL: usize = 1_000;

/// An archive on disk.
pub(super) struct Archive {
    folder: TempDir,
    signature: String,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
    /// From the first byte sent to the last one read.
    pub(super) took: Duration,
}

impl Archive {
    /// An archive, on the disk of `below`, whose Dockerfile copies the file `small`; the context holds so
    /// many bytes more, which nobody wants.
    pub(super) fn pack(below: &Path, config: &str, unwanted: u64) -> Result<Self> {
        let folder = TempDir::new_in(below)?;
        let (files, context) = (folder.path().join("files"), folder.path().join("files/context"));
        fs::create_dir_all(&context)?;
        fs::write(files.join("com.openfaas.docker.config"), config)?;
        fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY small /small\n")?;
        fs::write(context.join("small"), [0x5a; SMALL])?;
        // A hole here, zeros in the archive.
        File::create_new(context.join("unwanted"))?.set_len(unwanted)?;
        let archive = folder.path().join("archive");
        done(Command::new("tar").arg("-C").arg(&files).arg("-cf").arg(&archive).arg("."))?;

        let mut mac = Mac(hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes())));
        io::copy(&mut File::open(&archive)?, &mut mac)?;
        let digest: String = mac.0.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { folder, signature: format!("sha256={digest}") })
    }

    /// The archive's file.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    /// The folder of what was packed as the context.
    pub(super) fn context(&self) -> PathBuf {
        self.folder.path().join("files/context")
    }

    /// Sends it and reads the whole answer.
    pub(super) async fn send(&self, address: &str) -> Result<Answer> {
        self.send_as(address, &self.signature).await
    }

    /// The same under another signature.
    pub(super) async fn send_as(&self, address: &str, signature: &str) -> Result<Answer> {
        let (address, path, signature) = (address.to_owned(), self.path(), signature.to_owned());
        Ok(tokio::task::spawn_blocking(move || post(&address, &path, &signature)).await??)
    }

    /// Sends it and takes no answer but that the image is pushed.
    pub(super) async fn build(&self, address: &str) -> Result<Duration> {
        match self.send(address).await? {
            Answer { status: 200, took, .. } => Ok(took),
            Answer { text, .. } => Err(text.into()),
        }
    }
}

/// Runs a program to its good end.
pub(super) fn done(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into()),
    }
}

/// Threads and the kernel's own copying: who sends costs the machine as little as can be.
fn post(address: &str, archive: &Path, signature: &str) -> io::Result<Answer> {
    let body = File::open(archive)?;
    let length = body.metadata()?.len();
    let head = format!(
        "POST /build HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\
         x-build-signature: {signature}\r\n\r\n"
    );
    let began = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(head.as_bytes())?;
    // `io::copy` reads and sends 8 KiB at a time.
    while sendfile(&stream, &body, None, SENT_AT_ONCE)? > 0 {}
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let took = began.elapsed();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok(Answer { status, text, took })
}

/// Hashes what is written to it.
struct Mac(hmac::Context);

impl io::Write for Mac {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
