//! Names that a disk needs and nobody chooses: GUIDs and volume numbers, drawn from what is on the disk.
//!
//! # Invariants
//! - The same bundle gives the same names; another bundle, or another place on the disk, gives others.

use sha2::{Digest, Sha256};
use twinseal_core::wire::digest::Sha256Digest;
use uuid::{Builder, Uuid};

/// Keeps these names apart from other digests of the same manifest.
const CONTEXT: &[u8] = b"twinseal disk image v1\0";

/// What names are drawn from.
#[derive(Clone, Copy)]
pub(super) struct Identity {
    /// SHA-256 of the bundle's manifest.
    pub manifest_sha256: Sha256Digest,
}

impl Identity {
    /// The GUID of something, of the kind for names that follow from data (RFC 9562, version 8).
    pub(super) fn guid(&self, kind: &str, label: &str) -> Uuid {
        let mut bytes = [0; 16];
        let digest = self.digest(kind, label);
        bytes
            .iter_mut()
            .zip(digest)
            .for_each(|(to, from)| *to = from);
        Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// The number of a FAT volume.
    pub(super) fn volume_number(&self, label: &str) -> u32 {
        let [first, second, third, fourth, ..] = self.digest("volume", label);
        u32::from_le_bytes([first, second, third, fourth])
    }

    fn digest(&self, kind: &str, label: &str) -> Sha256Digest {
        Sha256::new()
            .chain_update(CONTEXT)
            .chain_update(self.manifest_sha256)
            .chain_update(kind)
            .chain_update([0])
            .chain_update(label)
            .finalize()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_bundle_kind_and_label() {
        let identity = |byte| Identity {
            manifest_sha256: [byte; 32],
        };
        let guid = identity(1).guid("partition", "root-a");
        assert_eq!(guid, identity(1).guid("partition", "root-a"));
        assert_eq!(guid.get_version_num(), 8);
        for other in [
            identity(2).guid("partition", "root-a"),
            identity(1).guid("file-system", "root-a"),
            identity(1).guid("partition", "root-b"),
            identity(1).guid("partitionr", "oot-a"),
        ] {
            assert_ne!(guid, other);
        }
    }
}
