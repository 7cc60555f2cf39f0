//! Names as archives have them, and the paths they become.

use super::{Fault, Limits};

/// `NAME_MAX` and `PATH_MAX` less its NUL: what the engine's file system can hold.
const LONGEST_COMPONENT: usize = 255;
const LONGEST_PATH: usize = 4095;

/// The path of an entry from the archive's root, without `.` and empty components; `""` is the root.
pub(super) fn entry_path(name: &[u8], limits: &Limits) -> Result<String, Fault> {
    let name = text(name)?;
    if name.starts_with('/') {
        return Err(Fault::Absolute);
    }
    let mut path = String::with_capacity(name.len().min(LONGEST_PATH));
    let mut depth = 0;
    for component in name.split('/').filter(|component| !matches!(*component, "" | ".")) {
        if component == ".." {
            return Err(Fault::Parent);
        }
        if depth > 0 {
            path.push('/');
        }
        path.push_str(component);
        depth += 1;
        if component.len() > LONGEST_COMPONENT || path.len() > LONGEST_PATH {
            return Err(Fault::LongName);
        }
        if depth > limits.depth {
            return Err(Fault::Depth(limits.depth));
        }
    }
    Ok(path)
}

/// Where the symbolic link at `path` points, as it will be handed on.
///
/// An absolute target stays: a virtual environment has `bin/python -> /usr/bin/python3`, and the engine
/// resolves it from the context's root. A relative one may not climb above the archive, as the real
/// builders have it; only words are compared, since nothing here follows a link.
pub(super) fn link_target(path: &str, target: &[u8]) -> Result<String, Fault> {
    let target = text(target)?;
    if target.is_empty() {
        return Err(Fault::Unnamed);
    }
    if target.len() > LONGEST_PATH {
        return Err(Fault::LongName);
    }
    if !target.starts_with('/') {
        let mut depth = path.matches('/').count();
        for component in target.split('/') {
            depth = match component {
                "" | "." => depth,
                ".." => depth.checked_sub(1).ok_or(Fault::LinkLeaves)?,
                _ => depth + 1,
            };
        }
    }
    Ok(target.to_owned())
}

fn text(name: &[u8]) -> Result<&str, Fault> {
    if name.contains(&0) {
        return Err(Fault::Nul);
    }
    std::str::from_utf8(name).map_err(|_| Fault::NotUtf8)
}
