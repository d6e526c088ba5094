//! What went over a link.

use serde::Serialize;

/// What went over a link and what was done to it, over all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Connections that a client opened.
    pub connections: u64,
    /// Of these, reset before they carried anything.
    pub dropped: u64,
    /// Requests.
    pub requests: u64,
    /// Of these, refused by the link itself.
    pub refused: u64,
    /// Of these, answered by the link with a lie.
    pub lies: u64,
    /// Of these, asked for another file.
    pub replaced: u64,
    /// Bytes that were read from clients: requests with their heads.
    pub up_bytes: u64,
    /// Bytes that were written to clients: answers with their heads. Above TCP, as `up_bytes`; a byte that a reset took from the
    /// client's own memory is among them, since it went over the wire.
    pub down_bytes: u64,
    /// Of these, bytes of bodies.
    pub body_bytes: u64,
    /// Connections that were cut.
    pub cuts: u64,
    /// Silences.
    pub stalls: u64,
    /// Bytes that were changed.
    pub corrupted_bytes: u64,
}

impl Report {
    /// Bytes in both directions.
    pub const fn bytes(&self) -> u64 {
        self.up_bytes + self.down_bytes
    }

    /// What came after an earlier report of the same link.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            connections: self.connections - earlier.connections,
            dropped: self.dropped - earlier.dropped,
            requests: self.requests - earlier.requests,
            refused: self.refused - earlier.refused,
            lies: self.lies - earlier.lies,
            replaced: self.replaced - earlier.replaced,
            up_bytes: self.up_bytes - earlier.up_bytes,
            down_bytes: self.down_bytes - earlier.down_bytes,
            body_bytes: self.body_bytes - earlier.body_bytes,
            cuts: self.cuts - earlier.cuts,
            stalls: self.stalls - earlier.stalls,
            corrupted_bytes: self.corrupted_bytes - earlier.corrupted_bytes,
        }
    }
}
