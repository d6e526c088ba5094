//! Media that somebody brought: file systems on any block device, and the bundles in their root folder.
//!
//! # Invariants
//! - A medium is mounted for reading only, and not even its journal is replayed: nothing of it is written.
//! - A name that is no bundle's, a symbolic link, and whatever is no regular file is passed over.
//! - Nothing in a bundle is looked at here: the caller proves its signatures and says how new it is. Its name says nothing.

use crate::calls::openat;
use crate::fault::During;
use crate::file::{NO_LINKS, for_each_entry, open_directory_path, read_up_to, regular_length};
use crate::mount::Mounted;
use crate::partition::{BlockDevices, DeviceName};
use core::ffi::CStr;
use heapless::String;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};

/// Longest name of a bundle; what is longer is passed over.
pub const BUNDLE_NAME_MAX_BYTES: usize = 96;

/// How the name of a bundle ends.
const SUFFIX: &str = ".tseal";

/// As much of a device as tells a file system from others.
const HEAD_BYTES: usize = 2048;

/// A file system that is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// `s_magic` of its superblock fits.
    Ext4,
    /// Its boot sector says which FAT it is.
    Fat,
}

impl FileSystem {
    /// What the kernel calls it.
    const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Fat => "vfat",
        }
    }

    /// What it is mounted with, so that nothing is written to it.
    const fn options(self) -> Option<&'static CStr> {
        match self {
            Self::Ext4 => Some(c"noload"),
            Self::Fat => None,
        }
    }
}

/// A block device with a file system that is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// The kernel's name of the device, `sda1` say.
    pub name: DeviceName,
    /// Path of its node.
    pub node: String<160>,
    /// What is on it.
    pub file_system: FileSystem,
}

impl Medium {
    /// The medium whose name comes next after `last`, in the order of names; `None` when there is none. Devices that cannot be read
    /// are none.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn after(
        last: Option<&str>,
        devices: &BlockDevices<'_>,
    ) -> Result<Option<Self>, StorageFault> {
        let mut last = last.map(DeviceName::try_from).transpose().unwrap_or(None);
        while let Some(name) = devices.name_after(last.as_deref())? {
            let node = devices.node_of(&name);
            if let Ok(Some(file_system)) = recognise(&node) {
                return Ok(Some(Self {
                    name,
                    node,
                    file_system,
                }));
            }
            last = Some(name);
        }
        Ok(None)
    }

    /// Mounts it on `directory`, for reading only.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn mount<'p>(&self, directory: &'p str) -> Result<Mounted<'p>, StorageError> {
        let file_system = self.file_system;
        Mounted::mount_medium(
            &self.node,
            directory,
            file_system.name(),
            file_system.options(),
        )
    }
}

/// What is on the block device, or in the file, at `path`.
///
/// # Errors
/// What the kernel says.
pub fn recognise(path: &str) -> Result<Option<FileSystem>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let device = openat(CWD, path, flags, Mode::empty())?;
    let mut head = [0; HEAD_BYTES];
    read_up_to(&device, 0, &mut head)?;
    let is =
        |offset: usize, bytes: &[u8]| head.get(offset..).is_some_and(|at| at.starts_with(bytes));
    // The superblock begins at 1024, its magic number at 56 in it.
    if is(1080, &[0x53, 0xef]) {
        return Ok(Some(FileSystem::Ext4));
    }
    // Types of FAT12 and FAT16, and of FAT32 (FAT specification 1.03, section 3).
    let is_fat = is(510, &[0x55, 0xaa]) && (is(54, b"FAT1") || is(82, b"FAT32"));
    Ok(is_fat.then_some(FileSystem::Fat))
}

/// A name of a bundle: letters, digits, `.`, `-` and `_`, not beginning with `.`, and `.tseal` at its end.
pub type BundleName = String<BUNDLE_NAME_MAX_BYTES>;

/// How new a bundle is: anti-rollback version, then sequence, as its proved manifest has them.
pub type Newness = (u64, u64);

/// A bundle in a folder.
#[derive(Debug)]
pub struct FoundBundle {
    /// Its name.
    pub name: BundleName,
    /// The open file.
    pub file: OwnedFd,
    /// How new it is.
    pub newness: Newness,
}

/// The newest bundle in a folder; `None` when there is none. Of two that are equally new the first by name. `prove` is asked for each
/// file whose name is that of a bundle: it proves the front matter and says how new it is, or `None` for one that is refused. `no_bundle`
/// hears of what is only nearly one, by a name in plain letters: another name that ends alike, or no file. Hidden ones are meant for
/// nobody.
///
/// # Errors
/// When the folder cannot be read. A file that cannot be opened is none.
pub fn newest_bundle<P>(
    directory: &str,
    mut prove: P,
    no_bundle: &dyn Fn(&str),
) -> Result<Option<FoundBundle>, StorageError>
where
    P: FnMut(&str, &OwnedFd) -> Option<Newness>,
{
    const OBJECT: StorageObject = StorageObject::Medium;
    let directory = open_directory_path(directory).during(StorageOperation::Open, OBJECT)?;
    let mut newest: Option<FoundBundle> = None;
    for_each_entry(&directory, |name| {
        let Some((name, file)) = bundle_name(name)
            .and_then(|name| open_bundle(&directory, &name).map(|file| (name, file)))
        else {
            let letters = name.to_bytes();
            let end = letters.len().saturating_sub(SUFFIX.len());
            let end = letters.get(end..).unwrap_or_default();
            if end.eq_ignore_ascii_case(SUFFIX.as_bytes()) && !letters.starts_with(b".") {
                no_bundle(&shown(letters));
            }
            return Ok(());
        };
        let Some(newness) = prove(&name, &file) else {
            return Ok(());
        };
        let order = |found: &FoundBundle| (newness, &found.name).cmp(&(found.newness, &name));
        if newest.as_ref().is_none_or(|found| order(found).is_gt()) {
            newest = Some(FoundBundle {
                name,
                file,
                newness,
            });
        }
        Ok(())
    })
    .during(StorageOperation::Read, OBJECT)?;
    Ok(newest)
}

fn open_bundle(directory: &OwnedFd, name: &str) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | NO_LINKS;
    let file = openat(directory, name, flags, Mode::empty()).ok()?;
    regular_length(&file).ok().map(|_| file)
}

/// A name for people, cut off where it is too long: a console takes orders in letters that are none.
fn shown(name: &[u8]) -> BundleName {
    let letters = name.iter().take(BUNDLE_NAME_MAX_BYTES);
    let letter = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '?',
    };
    letters.map(letter).collect()
}

fn bundle_name(name: &CStr) -> Option<BundleName> {
    let name = BundleName::try_from(name.to_str().ok()?).ok()?;
    let is_allowed = |letter: u8| letter.is_ascii_alphanumeric() || b".-_".contains(&letter);
    let is_bundle = name.ends_with(SUFFIX) && name.len() > SUFFIX.len() && !name.starts_with('.');
    (is_bundle && name.bytes().all(is_allowed)).then_some(name)
}
