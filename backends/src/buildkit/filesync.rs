//! Serves a build context: fsutil's diff-copy, the sending side. First the metadata of every
//! entry, then the bytes of those files that the daemon doesn't have.

use std::{io::Read as _, sync::Arc};

use bollard_buildkit_proto::{
    fsutil::types::{Packet, Stat, packet::PacketType},
    moby::filesync::packet::file_sync_server::FileSync,
};
use futures_util::StreamExt as _;
use percent_encoding::percent_decode_str;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::filter;
use crate::{Entry, EntryKind, Tree};

/// The size of a data packet in fsutil's own sender.
const CHUNK: usize = 32 * 1024;
/// Files that are read at a time, as in fsutil's own sender.
const READERS: usize = 4;
/// Packets that wait for the wire: 512 KiB at most.
const WAITING_PACKETS: usize = 16;
/// Every entry's time. A constant, so that the same content gives the same layer; 1980-01-02, because
/// ZIP files, and with them Python wheels, know no earlier date.
const MODIFIED_NANOS: i64 = 315_619_200 * 1_000_000_000;

/// Serves one tree under the names by which the Dockerfile frontend asks for it.
pub(super) struct ContextSync {
    tree: Arc<Tree>,
    tasks: TaskTracker,
}

type Outbound = mpsc::Sender<Result<Packet, Status>>;

impl ContextSync {
    pub(super) fn new(tree: Arc<Tree>, tasks: TaskTracker) -> Self {
        Self { tree, tasks }
    }
}

#[tonic::async_trait]
impl FileSync for ContextSync {
    type DiffCopyStream = ReceiverStream<Result<Packet, Status>>;
    type TarStreamStream = ReceiverStream<Result<Packet, Status>>;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Self::DiffCopyStream>, Status> {
        let asked = asked(request.metadata())?;
        let (sender, outbound) = mpsc::channel(WAITING_PACKETS);
        let tree = Arc::clone(&self.tree);
        let tasks = self.tasks.clone();
        self.tasks.spawn(async move {
            if let Err(status) = send(tree, asked, request.into_inner(), &sender, &tasks).await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("contexts go by diff-copy"))
    }
}

/// What the daemon wants of which folder.
fn asked(metadata: &MetadataMap) -> Result<filter::Request, Status> {
    let name = list(metadata, "dir-name").and_then(|names| names.into_iter().next()).unwrap_or_default();
    if !matches!(name.as_str(), "context" | "dockerfile") {
        return Err(Status::not_found(format!("this build has no folder {name:?}")));
    }
    Ok(filter::Request {
        include: list(metadata, "include-patterns").unwrap_or_default(),
        exclude: list(metadata, "exclude-patterns").unwrap_or_default(),
        follow: list(metadata, "followpaths"),
    })
}

/// A list in gRPC metadata; form-encoded as a whole where one of its values isn't ASCII.
fn list(metadata: &MetadataMap, key: &str) -> Option<Vec<String>> {
    let encoded = metadata.get(format!("{key}-encoded")).is_some_and(|v| v == "1");
    let values: Vec<String> = metadata
        .get_all(key)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(|value| match encoded {
            true => percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned(),
            false => value.to_owned(),
        })
        .collect();
    (!values.is_empty()).then_some(values)
}

async fn send(
    tree: Arc<Tree>,
    asked: filter::Request,
    mut inbound: Streaming<Packet>,
    sender: &Outbound,
    tasks: &TaskTracker,
) -> Result<(), Status> {
    let walk = {
        let (tree, sender) = (Arc::clone(&tree), sender.clone());
        tasks.spawn_blocking(move || send_stats(&tree, &asked, &sender))
    };
    let sent = walk.await.map_err(|_| Status::internal("the context's index could not be sent"))??;
    let readers = Arc::new(Semaphore::new(READERS));
    while let Some(packet) = inbound.next().await {
        let packet = packet?;
        match packet.r#type() {
            PacketType::PacketReq => {
                let index = usize::try_from(packet.id).ok().and_then(|id| sent.get(id)).copied();
                let index = index.ok_or_else(|| Status::invalid_argument("no such file was announced"))?;
                let permit = Arc::clone(&readers).acquire_owned().await;
                let (tree, sender) = (Arc::clone(&tree), sender.clone());
                tasks.spawn_blocking(move || {
                    send_file(&tree, index, packet.id, &sender);
                    drop(permit);
                });
            }
            PacketType::PacketFin => {
                let _ = sender.send(Ok(blank(PacketType::PacketFin))).await;
                break;
            }
            // Its own words: they go back to the daemon as the reason of the solve's end.
            PacketType::PacketErr => return Err(Status::aborted(String::from_utf8_lossy(&packet.data).into_owned())),
            PacketType::PacketStat | PacketType::PacketData => {}
        }
    }
    Ok(())
}

/// Sends the metadata of what was asked for, and an empty packet at the end.
fn send_stats(tree: &Tree, asked: &filter::Request, sender: &Outbound) -> Result<Vec<usize>, Status> {
    let selected = filter::select(tree, asked).map_err(|e| Status::invalid_argument(e.to_string()))?;
    for index in &selected {
        let packet = Packet { stat: Some(stat(&tree.entries()[*index])), ..blank(PacketType::PacketStat) };
        if sender.blocking_send(Ok(packet)).is_err() {
            return Ok(selected);
        }
    }
    let _ = sender.blocking_send(Ok(blank(PacketType::PacketStat)));
    Ok(selected)
}

/// Sends a file's bytes, and an empty packet at the end; a context that was cut off fails the build.
fn send_file(tree: &Tree, index: usize, id: u32, sender: &Outbound) {
    let mut reader = tree.read(&tree.entries()[index]);
    let mut chunk = vec![0; CHUNK];
    loop {
        let packet = match reader.read(&mut chunk) {
            Ok(read) => Ok(Packet { id, data: chunk[..read].to_vec(), ..blank(PacketType::PacketData) }),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => Err(Status::data_loss(format!("the build context can't be read: {}", e.kind()))),
        };
        let last = packet.as_ref().map_or(true, |packet| packet.data.is_empty());
        if sender.blocking_send(packet).is_err() || last {
            return;
        }
    }
}

fn blank(kind: PacketType) -> Packet {
    Packet { r#type: kind.into(), ..Packet::default() }
}

/// An entry as Go's `os.FileMode` has it.
fn stat(entry: &Entry) -> Stat {
    const DIR: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const STICKY: u32 = 1 << 20;
    let special = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];
    let bits: u32 = special.iter().filter(|(unix, _)| entry.mode & unix != 0).map(|(_, go)| go).sum();
    let (kind, size, linkname) = match &entry.kind {
        EntryKind::Dir => (DIR, 0, String::new()),
        EntryKind::File { size, .. } => (0, i64::try_from(*size).unwrap_or(i64::MAX), String::new()),
        EntryKind::Symlink { target } => (SYMLINK, 0, target.clone()),
    };
    Stat {
        path: entry.path.clone(),
        mode: (entry.mode & 0o777) | bits | kind,
        size,
        mod_time: MODIFIED_NANOS,
        linkname,
        ..Stat::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_ascii_arrive_encoded() {
        let mut metadata = MetadataMap::new();
        metadata.append("followpaths", "a+b%2Fc".parse().unwrap());
        assert_eq!(list(&metadata, "followpaths").unwrap(), ["a+b%2Fc"]);
        metadata.append("followpaths", "%C3%BC".parse().unwrap());
        metadata.insert("followpaths-encoded", "1".parse().unwrap());
        assert_eq!(list(&metadata, "followpaths").unwrap(), ["a b/c", "ü"]);
        assert_eq!(list(&metadata, "include-patterns"), None);
    }

    #[test]
    fn modes_are_go_modes() {
        let tree = Tree::builder().file("d/x", 0o4755, b"abc").unwrap().symlink("l", "d").unwrap().build();
        let modes: Vec<_> = tree.entries().iter().map(|e| stat(e).mode).collect();
        assert_eq!(modes, [1 << 31 | 0o755, 1 << 23 | 0o755, 1 << 27 | 0o777]);
    }

    #[tokio::test]
    async fn a_cut_off_context_fails_instead_of_sending_a_shorter_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        let tree = Arc::new(Tree::builder().section("a", 0o644, 0, 100).unwrap().over(file));
        let (sender, mut packets) = mpsc::channel(8);
        tokio::task::spawn_blocking(move || send_file(&tree, 0, 0, &sender)).await.unwrap();
        assert_eq!(packets.recv().await.unwrap().unwrap().data.len(), 10);
        assert_eq!(packets.recv().await.unwrap().unwrap_err().code(), tonic::Code::DataLoss);
        assert!(packets.recv().await.is_none());
    }
}
