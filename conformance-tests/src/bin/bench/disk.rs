//! What the disk under the gateway's data is worth: appends of 4 KiB, each with its `fdatasync`.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

/// A file that is appended to.
pub(crate) struct Disk(File);

impl Disk {
    /// On the disk of `folder`.
    pub(crate) fn below(folder: &Path) -> io::Result<Self> {
        File::create_new(folder.join("fdatasync")).map(Self)
    }

    /// Appends and syncs once.
    pub(crate) fn sync(&mut self) -> io::Result<Duration> {
        let began = Instant::now();
        self.0.write_all(&[0x5a; 4096])?;
        self.0.sync_data()?;
        Ok(began.elapsed())
    }

    /// Syncs one after the other for so long; returns how many a second.
    pub(crate) fn rate(&mut self, within: Duration) -> io::Result<f64> {
        let (began, mut syncs) = (Instant::now(), 0.0);
        while began.elapsed() < within {
            self.sync()?;
            syncs += 1.0;
        }
        Ok(syncs / began.elapsed().as_secs_f64())
    }
}
