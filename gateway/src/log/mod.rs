//! A build's output: append-only framed records, readable from any place while they grow and after.

mod frame;
mod reader;
mod writer;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kiln_backends::BuildId;
use tokio::sync::watch;

pub use frame::{Record, RecordKind};
pub use reader::Reader;
pub use writer::Writer;

/// The logs of all builds, below one folder.
#[derive(Clone, Debug)]
pub struct Logs {
    folder: Arc<Path>,
    live: Arc<Mutex<Live>>,
    bytes_at_most: u64,
}

/// What followers wait for.
#[derive(Debug, Default)]
struct Live {
    marks: HashMap<BuildId, watch::Sender<Mark>>,
    /// Logs whose last record is on its way, though their builds may have ended.
    held: HashSet<BuildId>,
    /// Once the process stops: nobody waits any more.
    closed: bool,
}

/// The end of a log, to be waited for.
#[derive(Debug)]
pub struct End(watch::Receiver<Mark>);

/// How far a growing log has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Mark {
    bytes: u64,
    sealed: bool,
}

impl Logs {
    /// The logs below `folder`, each of `bytes_at_most`.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn open(folder: &Path, bytes_at_most: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.into(), live: Arc::default(), bytes_at_most })
    }

    /// Opens a build's log for appending; a record that a crash cut off is removed.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub async fn append(&self, id: BuildId) -> io::Result<Writer> {
        Writer::open(&self.path(id), self.mark(id), self.bytes_at_most).await
    }

    /// Reads a build's log from the record after `seq` on. With `follow` it waits for more until
    /// the log is sealed; otherwise it ends where the log ends now.
    #[must_use]
    pub fn read(&self, id: BuildId, after: u64, follow: bool) -> Reader {
        let growing = follow.then(|| self.mark(id).subscribe());
        Reader::new(self.path(id), after, growing)
    }

    /// The end of a build's log, for those who want nothing else of it.
    #[must_use]
    pub fn end(&self, id: BuildId) -> End {
        End(self.mark(id).subscribe())
    }

    /// Tells the followers of a build that nothing will be appended any more.
    pub fn seal(&self, id: BuildId) {
        self.live().seal(id);
    }

    /// As [`Logs::seal`], on behalf of a reader who found the build ended: not while its log is held.
    pub fn seal_unless_held(&self, id: BuildId) {
        let mut live = self.live();
        if !live.held.contains(&id) {
            live.seal(id);
        }
    }

    /// Until what this gives is dropped, readers wait for the last record of a build that may end meanwhile.
    #[must_use]
    pub fn hold(&self, id: BuildId) -> Held {
        self.live().held.insert(id);
        Held(self.clone(), id)
    }

    /// Lets all followers go once they have read what is there: the process stops, and whoever
    /// comes back to the next one goes on behind the last record seen.
    pub fn close(&self) {
        let mut live = self.live();
        live.closed = true;
        for (_, sender) in live.marks.drain() {
            sender.send_modify(|mark| mark.sealed = true);
        }
    }

    /// Removes a build's log; that there is none is no error.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub async fn remove(&self, id: BuildId) -> io::Result<()> {
        self.seal(id);
        match tokio::fs::remove_file(self.path(id)).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn mark(&self, id: BuildId) -> watch::Sender<Mark> {
        let mut live = self.live();
        let sealed = live.closed;
        live.marks.entry(id).or_insert_with(|| watch::Sender::new(Mark { bytes: 0, sealed })).clone()
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// 256 folders by the last, random byte of the id: the first bytes are its time.
    fn path(&self, id: BuildId) -> PathBuf {
        let last = id.0.as_bytes()[15];
        self.folder.join(format!("{last:02x}")).join(format!("{id}.log"))
    }
}

/// A log whose last record is on its way.
#[derive(Debug)]
pub struct Held(Logs, BuildId);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.live().held.remove(&self.1);
    }
}

impl Live {
    fn seal(&mut self, id: BuildId) {
        if let Some(sender) = self.marks.remove(&id) {
            sender.send_modify(|mark| mark.sealed = true);
        }
    }
}

impl End {
    /// Done once nothing will be appended any more.
    pub async fn come(mut self) {
        // Whoever seals a log drops its mark; without one there is nothing to wait for.
        let _ = self.0.wait_for(|mark| mark.sealed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn texts(mut reader: Reader) -> Vec<(u64, String)> {
        let mut all = Vec::new();
        while let Some(record) = reader.next().await.unwrap() {
            all.push((record.seq, String::from_utf8_lossy(&record.bytes).into_owned()));
        }
        all
    }

    #[tokio::test]
    async fn a_follower_sees_every_record_once_and_ends_with_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path(), 1 << 20).unwrap();
        let id = BuildId::new();
        let follower = tokio::spawn(texts(logs.read(id, 0, true)));
        let mut writer = logs.append(id).await.unwrap();
        for text in ["one", "two", "three"] {
            writer.write(&[(RecordKind::Stdout, 1, text.into())]).await.unwrap();
        }
        writer.sync().await.unwrap();
        logs.seal(id);
        let want = [(1, "one".to_owned()), (2, "two".to_owned()), (3, "three".to_owned())];
        assert_eq!(follower.await.unwrap(), want);
        assert_eq!(texts(logs.read(id, 1, false)).await, want[1..]);
    }

    #[tokio::test]
    async fn a_torn_tail_is_cut_and_numbering_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path(), 1 << 20).unwrap();
        let id = BuildId::new();
        logs.append(id).await.unwrap().write(&[(RecordKind::Stdout, 1, "one".into())]).await.unwrap();
        let path = logs.path(id);
        let whole = fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            let mut torn = whole.clone();
            torn.extend_from_slice(&whole[..cut]);
            fs::write(&path, &torn).unwrap();
            logs.append(id).await.unwrap().write(&[(RecordKind::Stdout, 1, "two".into())]).await.unwrap();
            assert_eq!(texts(logs.read(id, 0, false)).await, [(1, "one".to_owned()), (2, "two".to_owned())], "{cut}");
        }
    }

    #[tokio::test]
    async fn what_a_full_disk_cut_off_goes_with_the_next_write() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path(), 1 << 20).unwrap();
        let id = BuildId::new();
        let mut writer = logs.append(id).await.unwrap();
        writer.write(&[(RecordKind::Stdout, 1, "one".into())]).await.unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(logs.path(id)).unwrap();
        io::Write::write_all(&mut file, b"half a record").unwrap();
        writer.write(&[(RecordKind::Stdout, 1, "two".into())]).await.unwrap();
        assert_eq!(texts(logs.read(id, 0, false)).await, [(1, "one".to_owned()), (2, "two".to_owned())]);
    }

    #[tokio::test]
    async fn followers_old_and_new_end_when_the_logs_are_closed() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path(), 1 << 20).unwrap();
        let id = BuildId::new();
        let follower = tokio::spawn(texts(logs.read(id, 0, true)));
        logs.append(id).await.unwrap().write(&[(RecordKind::Stdout, 1, "one".into())]).await.unwrap();
        logs.close();
        assert_eq!(follower.await.unwrap(), [(1, "one".to_owned())]);
        assert_eq!(texts(logs.read(id, 0, true)).await, [(1, "one".to_owned())]);
    }

    #[tokio::test]
    async fn output_beyond_the_limit_is_dropped_with_a_word_and_the_end_still_fits() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path(), 200).unwrap();
        let id = BuildId::new();
        let mut writer = logs.append(id).await.unwrap();
        for _ in 0..10 {
            writer.write(&[(RecordKind::Stdout, 1, vec![b'x'; 60].into())]).await.unwrap();
        }
        writer.write(&[(RecordKind::End, 0, "succeeded".into())]).await.unwrap();
        let mut kinds = Vec::new();
        let mut reader = logs.read(id, 0, false);
        while let Some(record) = reader.next().await.unwrap() {
            kinds.push(record.kind);
        }
        assert_eq!(kinds, [RecordKind::Stdout, RecordKind::Stdout, RecordKind::Clipped, RecordKind::End]);
    }
}
