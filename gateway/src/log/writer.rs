//! The appending end of a build's log: the one who runs the build has it.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Write as _},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::{sync::watch, task::spawn_blocking};

use super::{Mark, Record, RecordKind};

/// Appends records; followers see them as soon as `write` returns.
#[derive(Debug)]
pub struct Writer {
    file: Arc<File>,
    mark: watch::Sender<Mark>,
    bytes: u64,
    bytes_at_most: u64,
    next: u64,
    clipped: bool,
}

impl Writer {
    pub(super) async fn open(path: &Path, mark: watch::Sender<Mark>, bytes_at_most: u64) -> io::Result<Self> {
        let path = path.to_owned();
        let (file, bytes, last) = spawn_blocking(move || open_and_cut(&path)).await.map_err(io::Error::other)??;
        mark.send_modify(|mark| mark.bytes = bytes);
        Ok(Self { file: Arc::new(file), mark, bytes, bytes_at_most, next: last + 1, clipped: false })
    }

    /// Appends records, all in one write, with the time of now.
    ///
    /// # Errors
    /// When the disk refuses them.
    pub async fn write(&mut self, records: &[(RecordKind, u32, Bytes)]) -> io::Result<()> {
        let mut buf = Vec::new();
        let mut next = self.next;
        let time = Timestamp::now();
        for (kind, step, bytes) in records {
            let full = self.bytes + (buf.len() + bytes.len()) as u64 > self.bytes_at_most;
            let (kind, bytes) = match (kind.is_output() && full, self.clipped) {
                (false, _) => (*kind, bytes.clone()),
                (true, false) => {
                    self.clipped = true;
                    (RecordKind::Clipped, Bytes::from_static(b"the log is full; further output isn't kept"))
                }
                (true, true) => continue,
            };
            Record { seq: next, time, kind, step: *step, bytes }.encode(&mut buf);
            next += 1;
        }
        let bytes = self.bytes + buf.len() as u64;
        let (file, whole) = (Arc::clone(&self.file), self.bytes);
        spawn_blocking(move || append(&file, whole, &buf)).await.map_err(io::Error::other)??;
        self.bytes = bytes;
        self.next = next;
        self.mark.send_modify(|mark| mark.bytes = bytes);
        Ok(())
    }

    /// Waits until all that was written is on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn sync(&self) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        spawn_blocking(move || file.sync_data()).await.map_err(io::Error::other)?
    }
}

/// Appends to a file that is whole up to `whole`: what a full disk cut off an earlier time goes
/// first, or nobody would read beyond it.
fn append(mut file: &File, whole: u64, buf: &[u8]) -> io::Result<()> {
    if file.metadata()?.len() != whole {
        file.set_len(whole)?;
    }
    file.write_all(buf)
}

/// Opens the file at its end, cuts what a crash left half written, and finds the last number.
fn open_and_cut(path: &Path) -> io::Result<(File, u64, u64)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut reader = BufReader::new(&file);
    let (mut bytes, mut last) = (0, 0);
    while let Some((record, taken)) = Record::decode(&mut reader)? {
        bytes += taken;
        last = record.seq;
    }
    file.set_len(bytes)?;
    Ok((file, bytes, last))
}
