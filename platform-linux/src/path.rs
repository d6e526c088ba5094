//! Every name inside a slot: fixed words, and digests in hex.
//!
//! The root slot has the layout of the composefs tools: `composefs/objects/xx/…` with the first two hex digits as a directory,
//! and `composefs/images/<digest>` as a relative symbolic link to the object that holds the image. `composefs/tmp` is ours.
//!
//! # Invariants
//! - No name here comes from a bundle, except digests, whose hex core makes.

use core::ffi::CStr;
use heapless::String;
use twinseal_core::boot::Set;
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

/// The UKI at the removable-media path, part by part.
pub(crate) const REMOVABLE_MEDIA_FILE: [&str; 3] = ["EFI", "BOOT", BOOTABLE_UKI];

/// Where systemd-boot itself stands in the boot slot of set A, besides [`REMOVABLE_MEDIA_FILE`]; `bootctl install` puts it there.
pub(crate) const LOADER_FILE: [&str; 3] = [
    "EFI",
    "systemd",
    if cfg!(target_arch = "x86_64") {
        "systemd-bootx64.efi"
    } else if cfg!(target_arch = "aarch64") {
        "systemd-bootaa64.efi"
    } else if cfg!(target_arch = "riscv64") {
        "systemd-bootriscv64.efi"
    } else if cfg!(target_arch = "arm") {
        "systemd-bootarm.efi"
    } else {
        panic!("the name of systemd-boot for this architecture is not known")
    },
];

/// Directory where systemd-boot looks for UKIs (Boot Loader Specification, "Type #2 EFI Unified Kernel Images"), part by part.
const ENTRY_DIRECTORY: [&str; 2] = ["EFI", "Linux"];

/// What a set's UKI is called in [`ENTRY_DIRECTORY`] after an install: `loader.conf` lets nothing boot under this name that was not
/// asked for.
const INSTALLED_ENTRIES: [&str; 2] = ["TWINTRYA.EFI", "TWINTRYB.EFI"];

/// What a set's UKI is called in [`ENTRY_DIRECTORY`] once the set was told as the default.
const COMMITTED_ENTRIES: [&str; 2] = ["TWINSE-A.EFI", "TWINSE-B.EFI"];

/// The name of the UKI while the set must not boot. It stands in the same directory as its bootable name and is short and in
/// capitals, because a rename on FAT is a few directory entries: in one small directory all of them lie in one
/// sector and reach the medium together, while two directories would let a power cut leave both names, or none, for one file.
pub(crate) const STAGED_UKI: &str = "TWINSEAL.NEW";

/// Where a set's UKI stands in its boot slot, and which names it has there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootLayout {
    /// `EFI/BOOT/BOOTX64.EFI`: the firmware boots the UKI itself, even when it has lost its variables.
    RemovableMedia,
    /// An entry of systemd-boot in `EFI/Linux`: `TWINTRYB.EFI` when set B was installed, `TWINSE-B.EFI` once it was told as the
    /// default. Nothing outside of `EFI/Linux` is touched.
    EntryFolder(Set),
}

/// What the name of a UKI says about its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Installed, and never told as the default since.
    Installed,
    /// Has been the default; or the layout has one name for both.
    Committed,
}

impl BootLayout {
    /// The directory of the UKI, part by part.
    pub(crate) const fn directory(self) -> [&'static str; 2] {
        match self {
            Self::RemovableMedia => BOOT_DIRECTORY,
            Self::EntryFolder(_) => ENTRY_DIRECTORY,
        }
    }

    /// The name of the UKI in the directory.
    pub(crate) const fn uki(self, standing: Standing) -> &'static str {
        match (self, standing) {
            (Self::RemovableMedia, _) => BOOTABLE_UKI,
            (Self::EntryFolder(set), Standing::Installed) => set.of(INSTALLED_ENTRIES),
            (Self::EntryFolder(set), Standing::Committed) => set.of(COMMITTED_ENTRIES),
        }
    }

    /// Path of the UKI of a set that was told as the default, part by part, from the boot slot.
    pub const fn file(self) -> [&'static str; 3] {
        let [outer, inner] = self.directory();
        [outer, inner, self.uki(Standing::Committed)]
    }
}

/// What systemd-boot calls the entry of a set: its file's name in small letters.
pub(crate) const fn entry_id(set: Set, standing: Standing) -> &'static str {
    match standing {
        Standing::Installed => set.of(["twintrya.efi", "twintryb.efi"]),
        Standing::Committed => set.of(["twinse-a.efi", "twinse-b.efi"]),
    }
}

/// Whether a firmware, or systemd-boot, may take a file of this name in the UKI's directory for something to boot.
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

    /// A long name takes more directory entries, and a rename of it may touch more than one sector.
    #[test]
    fn every_name_of_a_uki_is_short_and_taken_away_by_an_install() {
        let mut names = std::vec![STAGED_UKI];
        for set in Set::BOTH {
            for standing in [Standing::Installed, Standing::Committed] {
                for layout in [BootLayout::RemovableMedia, BootLayout::EntryFolder(set)] {
                    let name = layout.uki(standing);
                    assert!(may_boot(&std::ffi::CString::new(name).unwrap()), "{name}");
                    names.push(name);
                }
                let name = BootLayout::EntryFolder(set).uki(standing);
                assert_eq!(name.to_ascii_lowercase(), entry_id(set, standing));
            }
        }
        for name in names {
            let (stem, suffix) = name.split_once('.').unwrap();
            assert!(stem.len() <= 8 && suffix.len() <= 3, "{name}");
            assert!(
                name.bytes().all(|byte| !byte.is_ascii_lowercase()),
                "{name}"
            );
        }
    }
}
