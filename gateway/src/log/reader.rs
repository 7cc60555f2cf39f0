//! The reading end of a build's log: from any record on, and on as it grows.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufReader, Seek as _, SeekFrom},
    path::PathBuf,
};

use tokio::{sync::watch, task::spawn_blocking};

use super::{Mark, Record};

/// How much is handed on at once.
const CHUNK: u64 = 256 * 1024;
/// How much one call reads: many followers of one log take few calls each.
const READ: usize = 64 * 1024;

/// A place in a log.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    after: u64,
    at: u64,
    growing: Option<watch::Receiver<Mark>>,
    read: VecDeque<Record>,
}

impl Reader {
    pub(super) fn new(path: PathBuf, after: u64, growing: Option<watch::Receiver<Mark>>) -> Self {
        Self { path, after, at: 0, growing, read: VecDeque::new() }
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            while let Some(record) = self.read.pop_front() {
                if record.seq > self.after {
                    return Ok(Some(record));
                }
            }
            let mark = self.growing.as_mut().map(|growing| *growing.borrow_and_update());
            if self.fetch().await? {
                continue;
            }
            match (mark, &mut self.growing) {
                (Some(Mark { sealed: false, .. }), Some(growing)) => {
                    if growing.changed().await.is_err() {
                        self.growing = None;
                    }
                }
                _ => return Ok(None),
            }
        }
    }

    /// Reads what is there beyond the place; false if nothing is.
    async fn fetch(&mut self) -> io::Result<bool> {
        let (path, at) = (self.path.clone(), self.at);
        let (records, to) = spawn_blocking(move || read_chunk(&path, at)).await.map_err(io::Error::other)??;
        self.at = to;
        self.read = records;
        Ok(!self.read.is_empty())
    }
}

fn read_chunk(path: &PathBuf, at: u64) -> io::Result<(VecDeque<Record>, u64)> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((VecDeque::new(), at)),
        Err(e) => return Err(e),
    };
    file.seek(SeekFrom::Start(at))?;
    let mut reader = BufReader::with_capacity(READ, file);
    let (mut records, mut to) = (VecDeque::new(), at);
    while to - at < CHUNK {
        let Some((record, taken)) = Record::decode(&mut reader)? else { break };
        records.push_back(record);
        to += taken;
    }
    Ok((records, to))
}
