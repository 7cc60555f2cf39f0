//! One gateway for one data folder: a second would take the first one's running builds for cut off.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// The folder is this process's as long as it has this; a crash gives it back, too.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder.
    ///
    /// # Errors
    /// When another process has it, or it can't be written.
    pub fn take(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::other("another kiln serves from it; stop that first")),
            Err(error) => Err(error.into()),
        }
    }
}
