//! What an install did, counted as it goes.

/// What an install did. All sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tally {
    /// Fed: headers, manifest, signatures, `info/` entries.
    pub framing_bytes: u64,
    /// Fed: index.
    pub index_bytes: u64,
    /// Fed: ranges that were written.
    pub data_bytes: u64,
    /// Of these, ranges of patches.
    pub patch_bytes: u64,
    /// Fed: ranges that were only checked.
    pub audit_bytes: u64,
    /// Written into the target set.
    pub written_bytes: u64,
    /// Of these, copied from the running set.
    pub copied_bytes: u64,
    /// Found in the target set, so neither asked for nor written: whole blobs, and parts that an earlier attempt left; on the route
    /// from a base also the objects that stay, as the manifests say.
    pub present_bytes: u64,
    /// Of these, bytes whose stored form an audit read from the bundle all the same.
    pub present_audited_bytes: u64,
    /// Read back from the medium and compared.
    pub read_back_bytes: u64,
    /// Blobs published.
    pub blobs: u32,
    /// Of these, blobs that were made by a patch.
    pub patched_blobs: u32,
    /// Bases that could not be patched because they are damaged; their blobs were fetched in another way.
    pub damaged_bases: u32,
    /// Blobs in the running set that could not be copied because they are damaged there.
    pub damaged_blobs: u32,
}

impl Tally {
    /// Bytes that came from the source, all told.
    pub const fn source_bytes(&self) -> u64 {
        self.framing_bytes + self.index_bytes + self.data_bytes + self.audit_bytes
    }
}
