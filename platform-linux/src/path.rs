//! Every name inside a slot: fixed words, and digests in hex.
//!
//! The root slot has the layout of the composefs tools: `composefs/objects/xx/…` with the first two hex digits as a directory,
//! and `composefs/images/<digest>` as a relative symbolic link to the object that holds the image. `composefs/tmp` is ours.
//!
//! # Invariants
//! - No name here comes from a bundle, except digests, whose hex core makes.

use core::ffi::CStr;
use core::fmt::Write;
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

/// What a set's UKI is called in [`ENTRY_DIRECTORY`], without its counter and suffix. FAT knows no case.
const ENTRY_STEMS: [&str; 2] = ["twinse-a", "twinse-b"];

/// The suffix of what systemd-boot takes for an entry.
const ENTRY_SUFFIX: &str = ".efi";

/// The name of the UKI while the set must not boot. It stands in the same directory as its bootable name and is short and in
/// capitals, because a rename on FAT is a few directory entries: in one small directory all of them lie in one
/// sector and reach the medium together, while two directories would let a power cut leave both names, or none, for one file.
pub(crate) const STAGED_UKI: &str = "TWINSEAL.NEW";

/// The name of a set's UKI: the longest has two counters of ten digits.
pub(crate) type UkiName = String<40>;

/// Where a set's UKI stands in its boot slot, and which names it has there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootLayout {
    /// `EFI/BOOT/BOOTX64.EFI`: the firmware boots the UKI itself, even when it has lost its variables.
    RemovableMedia,
    /// `EFI/Linux/TWINSE-A.EFI` of set A and `TWINSE-B.EFI` of set B, as entries of systemd-boot. A set that is not, and never was,
    /// the default has a counter in the name: `twinse-b+0.efi`. Nothing outside of `EFI/Linux` is touched.
    EntryFolder(Set),
}

/// What the name of a UKI says to systemd-boot (Boot Loader Specification, "Boot Counting").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tries {
    /// No counter: it may boot for ever.
    Uncounted,
    /// `+LEFT` or `+LEFT-DONE`.
    Counted {
        /// How often it may still be tried. With 0 it comes after all others and boots by itself only when there is no other.
        left: u32,
        /// How often it was tried.
        done: u32,
    },
}

impl Tries {
    /// Installed, and nobody has asked for it yet.
    pub(crate) const NONE: Self = Self::Counted { left: 0, done: 0 };

    /// About to be tried, once.
    pub(crate) const ONE: Self = Self::Counted { left: 1, done: 0 };

    /// Whether systemd-boot would start it once, and count that.
    pub(crate) const fn has_some(self) -> bool {
        matches!(self, Self::Counted { left, .. } if left > 0)
    }
}

impl BootLayout {
    /// The directory of the UKI, part by part.
    pub(crate) const fn directory(self) -> [&'static str; 2] {
        match self {
            Self::RemovableMedia => BOOT_DIRECTORY,
            Self::EntryFolder(_) => ENTRY_DIRECTORY,
        }
    }

    /// Path of the UKI of a set that was told as the default, part by part, from the boot slot.
    pub const fn file(self) -> [&'static str; 3] {
        match self {
            Self::RemovableMedia => REMOVABLE_MEDIA_FILE,
            Self::EntryFolder(set) => entry_file(set),
        }
    }

    /// The name that makes the UKI bootable when an install is done.
    pub(crate) fn bootable_uki(self) -> UkiName {
        match self {
            // At most twelve letters: they fit.
            Self::RemovableMedia => UkiName::try_from(BOOTABLE_UKI).unwrap_or_default(),
            Self::EntryFolder(set) => entry_name(set, Tries::NONE),
        }
    }

    /// What the name of a file in the directory says, when it is a bootable name of this set's UKI.
    pub(crate) fn tries_of(self, name: &CStr) -> Option<Tries> {
        let name = name.to_str().ok()?;
        match self {
            Self::RemovableMedia => name
                .eq_ignore_ascii_case(BOOTABLE_UKI)
                .then_some(Tries::Uncounted),
            Self::EntryFolder(set) => tries_of_entry(set, name),
        }
    }
}

/// The file of a set's entry, part by part, when it has no counter. In capitals it needs one directory entry on FAT.
pub(crate) const fn entry_file(set: Set) -> [&'static str; 3] {
    let [outer, inner] = ENTRY_DIRECTORY;
    let name = match set {
        Set::A => "TWINSE-A.EFI",
        Set::B => "TWINSE-B.EFI",
    };
    [outer, inner, name]
}

/// What systemd-boot calls the entry of a set: its file's name without counter, in small letters.
pub(crate) const fn entry_id(set: Set) -> &'static str {
    match set {
        Set::A => "twinse-a.efi",
        Set::B => "twinse-b.efi",
    }
}

/// The name of a set's UKI with these tries.
pub(crate) fn entry_name(set: Set, tries: Tries) -> UkiName {
    let [_, _, uncounted] = entry_file(set);
    let stem = set.of(ENTRY_STEMS);
    let mut name = UkiName::new();
    // Stem, suffix and two counters of ten digits: the name has room for the longest.
    let _ = match tries {
        Tries::Uncounted => name.push_str(uncounted).map_err(|_| core::fmt::Error),
        Tries::Counted { left, done: 0 } => write!(name, "{stem}+{left}{ENTRY_SUFFIX}"),
        Tries::Counted { left, done } => write!(name, "{stem}+{left}-{done}{ENTRY_SUFFIX}"),
    };
    name
}

fn tries_of_entry(set: Set, name: &str) -> Option<Tries> {
    let stem = set.of(ENTRY_STEMS);
    let (start, rest) = name.split_at_checked(stem.len())?;
    let (counter, suffix) = rest.split_at_checked(rest.len().checked_sub(ENTRY_SUFFIX.len())?)?;
    if !start.eq_ignore_ascii_case(stem) || !suffix.eq_ignore_ascii_case(ENTRY_SUFFIX) {
        return None;
    }
    if counter.is_empty() {
        return Some(Tries::Uncounted);
    }
    let counter = counter.strip_prefix('+')?;
    let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
    Some(Tries::Counted {
        left: digits(left)?,
        done: digits(done)?,
    })
}

fn digits(text: &str) -> Option<u32> {
    let all = text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
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
        for set in Set::BOTH {
            let [_, _, name] = entry_file(set);
            assert!(may_boot(&std::ffi::CString::new(name).unwrap()));
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

    #[test]
    fn entries_are_named_as_the_specification_of_boot_counting_says() {
        let counted = |left, done| Tries::Counted { left, done };
        for (tries, expected) in [
            (Tries::Uncounted, "TWINSE-B.EFI"),
            (Tries::NONE, "twinse-b+0.efi"),
            (Tries::ONE, "twinse-b+1.efi"),
            (counted(0, 1), "twinse-b+0-1.efi"),
            (
                counted(u32::MAX, u32::MAX),
                "twinse-b+4294967295-4294967295.efi",
            ),
        ] {
            let name = entry_name(Set::B, tries);
            assert_eq!(name, expected);
            let name = std::ffi::CString::new(name.as_str()).unwrap();
            assert_eq!(
                BootLayout::EntryFolder(Set::B).tries_of(&name),
                Some(tries),
                "{name:?}"
            );
            assert!(may_boot(&name), "an install takes it away: {name:?}");
            assert_eq!(BootLayout::EntryFolder(Set::A).tries_of(&name), None);
            assert_eq!(BootLayout::RemovableMedia.tries_of(&name), None);
        }
    }

    #[test]
    fn only_a_whole_name_is_that_of_an_entry() {
        let b = BootLayout::EntryFolder(Set::B);
        assert_eq!(b.tries_of(c"Twinse-B+1-0.Efi"), Some(Tries::ONE));
        for name in [
            c"twinse-b",
            c"twinse-b.efi.bak",
            c"twinse-bb.efi",
            c"twinse-b+.efi",
            c"twinse-b+1-.efi",
            c"twinse-b++1.efi",
            c"twinse-b+1+1.efi",
            c"twinse-b+4294967296.efi",
            c"twinse-b-1.efi",
            c".efi",
            c"TWINSEAL.NEW",
            c"",
        ] {
            assert_eq!(b.tries_of(name), None, "{name:?}");
        }
    }

    #[test]
    fn an_entry_without_counter_has_a_short_name_and_its_own_identity() {
        for set in Set::BOTH {
            let [_, _, name] = entry_file(set);
            assert!(name.len() <= 12 && name.bytes().all(|byte| !byte.is_ascii_lowercase()));
            assert_eq!(name.to_ascii_lowercase(), entry_id(set));
            assert_eq!(entry_name(set, Tries::Uncounted), name);
        }
    }
}
