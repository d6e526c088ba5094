//! What the installer asks its source for.

/// A run of bytes of the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// First byte.
    pub offset: u64,
    /// Bytes; never 0, never over `request_max_bytes`.
    pub bytes: u32,
    /// What for.
    pub purpose: Purpose,
    /// What is asked for after it: for a source that reads and hashes ahead.
    pub ahead: Ahead,
}

/// What follows a request. All of it will be asked for, unless the install fails before, so that reading it early costs
/// nothing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// So many bytes, right behind the request; 0 when nothing is certain. In pieces that are mostly as long as the request.
    pub bytes: u64,
    /// Whether the hashes of fs-verity trees are of use with them.
    pub trees: bool,
    /// So many bytes from the start of the request on are most likely asked for, with gaps of at most
    /// [`RUN_GAP_BYTES`](super::RUN_GAP_BYTES): for a source that pays for every request. 0 when nobody has looked.
    pub run_bytes: u64,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Purpose {
    /// Headers, manifest, signatures, `info/` entries.
    Framing,
    /// Blocks of the index.
    Index,
    /// Ranges that will be written.
    Data,
    /// Ranges that are only checked.
    Audit,
}
