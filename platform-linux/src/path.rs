//! Every name inside a slot: fixed words, and digests in hex.
//!
//! The root slot has the layout of the composefs tools: `composefs/objects/xx/…` with the first two hex digits as a directory,
//! and `composefs/images/<digest>` as a relative symbolic link to the object that holds the image. `composefs/tmp` is ours.
//!
//! # Invariants
//! - No name here comes from a bundle, except digests, whose hex core makes.

use core::ffi::CStr;
use heapless::String;
use twinseal_core::wire::digest::{BlobDigest, SHA512_BYTES};

/// The composefs repository, in the root slot.
pub(crate) const COMPOSEFS: &str = "composefs";
/// Its objects.
pub(crate) const OBJECTS: &str = "objects";
/// Its images.
pub(crate) const IMAGES: &str = "images";
/// What is being written.
pub(crate) const TEMPORARY: &str = "tmp";
/// The symbolic link that is about to become an image's name, in [`TEMPORARY`]. Not a digest, so [`digest_of`] does not know it.
pub(crate) const NEW_LINK: &str = "new-link";
/// The file that shows whether the file system can do fs-verity, in [`TEMPORARY`].
pub(crate) const PROBE: &str = "probe";

/// Directory of the removable-media path, in the boot slot, part by part (UEFI specification 2.10, section 3.5.1.1).
pub(crate) const BOOT_DIRECTORY: [&str; 2] = ["EFI", "BOOT"];

/// The name that the firmware boots, of the machine that this code is built for.
pub(crate) const BOOTABLE_UKI: &str = if cfg!(target_arch = "x86_64") {
    "BOOTX64.EFI"
} else if cfg!(target_arch = "aarch64") {
    "BOOTAA64.EFI"
} else if cfg!(target_arch = "riscv64") {
    "BOOTRISCV64.EFI"
} else if cfg!(target_arch = "arm") {
    "BOOTARM.EFI"
} else {
    panic!("the removable-media path of this architecture is not known")
};

/// The name of the UKI while the set must not boot. It stands in the same directory as [`BOOTABLE_UKI`] and is short and in
/// capitals, because a rename on FAT is two directory entries: in one directory, without long-name entries, both lie in one
/// sector and reach the medium together, while two directories would let a power cut leave both names, or none, for one file.
pub(crate) const STAGED_UKI: &str = "TWINSEAL.NEW";

/// Whether a firmware may take a file of this name in [`BOOT_DIRECTORY`] for something to boot. FAT knows no case.
pub(crate) fn may_boot(name: &CStr) -> bool {
    let suffix = name.to_bytes().rsplit(|byte| *byte == b'.').next();
    suffix.is_some_and(|suffix| {
        suffix.eq_ignore_ascii_case(b"EFI") && suffix.len() < name.to_bytes().len()
    })
}

/// The digest that is a file's name, when it is one as we write it: all in lower case.
pub(crate) fn digest_of(name: &[u8]) -> Option<BlobDigest> {
    let lower = !name.iter().any(u8::is_ascii_uppercase);
    lower.then(|| BlobDigest::from_hex(name)).flatten()
}

/// The names of an object.
pub(crate) struct ObjectName(String<{ 2 * SHA512_BYTES }>);

impl ObjectName {
    /// The names of the object with this digest.
    pub(crate) fn new(digest: &BlobDigest) -> Self {
        Self(digest.to_hex())
    }

    /// The whole digest in hex.
    pub(crate) fn hex(&self) -> &str {
        self.0.as_str()
    }

    /// The directory in `objects`.
    pub(crate) fn shard(&self) -> &str {
        self.0.get(..2).unwrap_or_default()
    }

    /// The name in that directory.
    pub(crate) fn rest(&self) -> &str {
        self.0.get(2..).unwrap_or_default()
    }

    /// What `images/<digest>` points to.
    pub(crate) fn link_target(&self) -> String<{ 12 + 2 * SHA512_BYTES }> {
        let mut target = String::new();
        // `../objects/`, the digest and one more separator: the string has room for the longest.
        let _ = core::fmt::Write::write_fmt(
            &mut target,
            format_args!("../{OBJECTS}/{}/{}", self.shard(), self.rest()),
        );
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_lies_where_composefs_tools_look() {
        let name = ObjectName::new(&BlobDigest::sha256([0x1f; 32]));
        assert_eq!((name.shard(), name.rest().len()), ("1f", 62));
        assert_eq!(
            name.link_target().as_str(),
            std::format!("../objects/1f/{}", "1f".repeat(31))
        );
        let long = BlobDigest::from_hex(&[b'a'; 128]).unwrap();
        assert_eq!(ObjectName::new(&long).link_target().len(), 12 + 128);
    }

    #[test]
    fn only_our_own_spelling_of_a_digest_is_a_name() {
        assert_eq!(
            digest_of("1f".repeat(32).as_bytes()),
            Some(BlobDigest::sha256([0x1f; 32]))
        );
        for name in [
            "1F".repeat(32),
            "1f".repeat(31),
            NEW_LINK.into(),
            PROBE.into(),
        ] {
            assert_eq!(digest_of(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn bootable_names_are_known_in_any_case() {
        for name in [c"BOOTX64.EFI", c"bootia32.efi", c"a.b.Efi", c".efi"] {
            assert!(may_boot(name), "{name:?}");
        }
        for name in [c"TWINSEAL.NEW", c"EFI", c"efi", c"x.efi.bak", c""] {
            assert!(!may_boot(name), "{name:?}");
        }
        assert!(
            STAGED_UKI.len() <= 12
                && STAGED_UKI
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'.')
        );
    }
}
