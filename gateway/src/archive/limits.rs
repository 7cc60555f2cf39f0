//! How much one archive may be.

/// What bounds one archive. All sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The body as sent. 4 GiB: twice the largest context that is measured.
    pub body: u64,
    /// The archive once decompressed, and all its files with each name of a file counted. 8 GiB.
    pub unpacked: u64,
    /// How many times its compressed size an archive may become, beyond the first `ratio_free`
    /// bytes. 200: source code gives 5 to 20, and what gives more is made to.
    pub ratio: u64,
    /// What an archive may become at any ratio. 64 MiB: an empty database file or a disk image full
    /// of zeros is nothing to refuse.
    pub ratio_free: u64,
    /// Entries of the tree, folders that only lead to others among them. 200 000: some three times
    /// a large `node_modules`.
    pub entries: usize,
    /// The names of all entries together, and where its links point. 32 MiB: 160 bytes for each.
    pub names: u64,
    /// Folders above an entry. 128; `PATH_MAX` would allow 2 047.
    pub depth: usize,
    /// What a decompressor may take of memory. 66 MiB: `xz -9` needs 65, and `zstd --long` more.
    pub decoder_memory: u64,
    /// What must be left free on the disk while it is written there. 0 unless the operator says more.
    pub free: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 4 << 30,
            unpacked: 8 << 30,
            ratio: 200,
            ratio_free: 64 << 20,
            entries: 200_000,
            names: 32 << 20,
            depth: 128,
            decoder_memory: 66 << 20,
            free: 0,
        }
    }
}
