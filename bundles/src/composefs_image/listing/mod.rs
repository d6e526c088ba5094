//! Reads an EROFS composefs image: every file with its metadata and digest, and every object that it names.
//!
//! The bytes may be hostile: `verify` reads them after nothing but a signature check, and `inspect` perhaps without one.
//!
//! # Invariants
//! - No input makes this panic, run for ever or take memory without bound: directories are entered once, entries are
//!   counted against the size of the image, lists against [`LISTING_MAX_BYTES`]. Nothing here relies on catching a panic
//!   (releases abort on one): what is used of the `composefs` crate checks its bounds, and the tests feed it damaged images.
//! - A file that is listed as an object is one that the kernel can open with `verity=require`: the path to the object and
//!   the digest that it demands agree.

mod inode;

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use composefs::erofs::reader::DirectoryBlock;
use composefs::erofs::reader::ErofsReaderError;
use composefs::erofs::reader::Image;
use composefs::erofs::reader::InodeOps;
use zerocopy::FromBytes;

use super::Digest;
use crate::rootfs::ImageFault;
use crate::rootfs::RootError;
use crate::rootfs::limits::NAME_MAX_BYTES;
use crate::rootfs::limits::PATH_MAX_BYTES;

/// The largest image that is read. An image takes about 300 bytes a file, so this is some three million files; it stops a
/// bundle from making a small host run out of memory.
const IMAGE_MAX_BYTES: usize = 1 << 30;

/// Most bytes of paths, link targets and attributes in one list. It stops an image in which many files share one long
/// path or attribute from growing a thousandfold when it is listed.
const LISTING_MAX_BYTES: usize = 1 << 30;

/// The smallest directory entry: a header of 12 bytes and a name of one.
const ENTRY_MIN_BYTES: usize = 13;

/// One file of an image, as a mounted root shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its absolute path; the root is `/`.
    pub path: PathBuf,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, `0` to `0o7777`.
    pub mode: u32,
    /// Number of the owner.
    pub user: u32,
    /// Number of the group.
    pub group: u32,
    /// Modification time, seconds since 1970.
    pub modified_seconds: i64,
    /// Nanoseconds to add to them.
    pub modified_nanoseconds: u32,
    /// Bytes of content of a regular file, of the target of a symbolic link, else 0.
    pub size: u64,
    /// fs-verity digest of the content of a regular file, whether it is an object or not.
    pub digest: Option<Digest>,
    /// Extended attributes by full name.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a file of an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file whose content is in the image.
    InlineFile {
        /// That content, at most 5000 bytes.
        content: Vec<u8>,
    },
    /// A regular file whose content is the object of its digest.
    ObjectFile,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: PathBuf,
    },
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
}

/// Every object that the image refers to, once, in order: what a bundle must bring or a device must have.
///
/// # Errors
/// [`RootError::Image`] if `erofs` is not an image that this tool accepts.
pub fn objects_named_by(erofs: &[u8]) -> Result<Vec<Digest>, RootError> {
    let files = file_list(erofs)?;
    let objects = files
        .into_iter()
        .filter(|file| file.kind == FileKind::ObjectFile)
        .filter_map(|file| file.digest);
    let mut objects: Vec<Digest> = objects.collect();
    objects.sort_unstable();
    objects.dedup();
    Ok(objects)
}

/// Every file in the image, directories before what they hold, names in the order of their bytes.
///
/// The 256 whiteouts that hide the directories of objects are not files and are left out.
///
/// # Errors
/// [`RootError::Image`] if `erofs` is not an image that this tool accepts.
pub fn file_list(erofs: &[u8]) -> Result<Vec<FileEntry>, RootError> {
    let budget = Budget {
        entries: erofs.len() / ENTRY_MIN_BYTES,
        bytes: LISTING_MAX_BYTES,
    };
    Ok(read_files(erofs, budget)?)
}

fn read_files(erofs: &[u8], mut budget: Budget) -> Result<Vec<FileEntry>, ImageFault> {
    let image = Image::open_max_size(erofs, IMAGE_MAX_BYTES)?.restrict_to_composefs()?;
    let mut entered = HashSet::new();
    let mut files = Vec::new();
    // A list of what is still to read, instead of calls within calls: depth costs no stack.
    let mut waiting = vec![Found {
        inode: u64::from(image.sb.root_nid.get()),
        path: PathBuf::from("/"),
    }];
    while let Some(Found { inode, path }) = waiting.pop() {
        let Some(file) = inode::read_file(&image, inode, path, &mut budget)? else {
            continue;
        };
        if file.kind == FileKind::Directory {
            if !entered.insert(inode) {
                return Err(ImageFault::DirectoryTwice(file.path));
            }
            let children = read_directory(&image, inode, &file.path, &mut budget)?;
            waiting.extend(children.into_iter().rev());
        } else if files.is_empty() {
            return Err(ImageFault::KindUnknown(file.path));
        }
        files.push(file);
    }
    Ok(files)
}

/// A file that was found in a directory and not yet read.
struct Found {
    inode: u64,
    path: PathBuf,
}

/// What a list may still take.
struct Budget {
    entries: usize,
    bytes: usize,
}

impl Budget {
    fn spend_entry(&mut self) -> Result<(), ImageFault> {
        self.entries = self
            .entries
            .checked_sub(1)
            .ok_or(ImageFault::ListingTooLarge)?;
        Ok(())
    }

    fn spend_bytes(&mut self, count: usize) -> Result<(), ImageFault> {
        self.bytes = self
            .bytes
            .checked_sub(count)
            .ok_or(ImageFault::ListingTooLarge)?;
        Ok(())
    }
}

/// What a directory holds, in order. EROFS sorts names over all blocks of a directory; the kernel relies on it.
fn read_directory(
    image: &Image<'_>,
    inode: u64,
    path: &Path,
    budget: &mut Budget,
) -> Result<Vec<Found>, ImageFault> {
    let inode = image.inode(inode)?;
    let mut children = Vec::new();
    let mut before: Option<Vec<u8>> = None;
    let mut read_block = |block: &DirectoryBlock| {
        for entry in block.entries()? {
            let entry = entry?;
            budget.spend_entry()?;
            if !is_name(entry.name) || before.as_deref().is_some_and(|before| before >= entry.name)
            {
                return Err(ImageFault::NameRefused(path.to_owned()));
            }
            before = Some(entry.name.to_vec());
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            let child = path.join(OsStr::from_bytes(entry.name));
            // The slash of the root makes these paths one byte longer than those that are counted.
            if child.as_os_str().len() > PATH_MAX_BYTES + 1 {
                return Err(ImageFault::NameRefused(path.to_owned()));
            }
            budget.spend_bytes(child.as_os_str().len())?;
            children.push(Found {
                inode: entry.nid(),
                path: child,
            });
        }
        Ok(())
    };
    for block in image.inode_blocks(&inode)? {
        read_block(image.directory_block(block)?)?;
    }
    if let Some(inline) = inode.inline() {
        read_block(
            DirectoryBlock::ref_from_bytes(inline).map_err(|_| ErofsReaderError::OutOfBounds)?,
        )?;
    }
    Ok(children)
}

fn is_name(name: &[u8]) -> bool {
    (1..=NAME_MAX_BYTES).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0)
}

#[cfg(test)]
mod tests;
