//! What archives leave of their disk.

use std::{fs::File, io};

/// What may be written between two looks. A look takes a microsecond, and 64 archives at once overshoot
/// the mark by 64 MiB at most.
pub(super) const LOOK_EVERY: usize = 1 << 20;

/// Whether more may be written to this file: not if less than `free` bytes would be left to others.
///
/// # Errors
/// `StorageFull`, as from a disk that has nothing left at all.
pub(super) fn look(file: &File, free: u64) -> io::Result<()> {
    let disk = rustix::fs::fstatvfs(file)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < free {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

/// What its sender is told of an archive for which there is no room; of any other fault nothing.
pub(crate) fn no_room(cause: &io::Error) -> Option<&'static str> {
    let full = cause.kind() == io::ErrorKind::StorageFull;
    full.then_some("the gateway has no room on its disk for this archive; try again")
}
