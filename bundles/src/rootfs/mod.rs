//! Root file systems: a directory or a tar archive in, one tree of inodes out.
//!
//! A directory is taken as it stands: owners, modes, times with nanoseconds, extended attributes, device nodes, pipes and
//! sockets, other file systems mounted below it too. What this user cannot see is not in the tree: without root, `trusted.`
//! attributes are invisible and foreign files may be unreadable, which is an error.
//!
//! A tar archive, plain or compressed with zstd or gzip, needs no root and is not unpacked. It gives the tree that GNU tar
//! would make of it as root with `--extract --preserve-permissions --numeric-owner --delay-directory-restore --xattrs
//! --xattrs-include='*'`, with these decisions where archives are ambiguous or incomplete:
//! - **A name given twice** is refused, because readers could disagree about it. Only directories may come again, and then
//!   their last owner, mode, time and attributes count.
//! - **A directory that is missing** above a member is made: mode 0755, owner 0, time 0 (or [`RootOptions::epoch`]), no
//!   attributes. The same holds for **the root** of an archive without a `./` member.
//! - **Names** may begin with `./` and end with `/`; absolute names, `..`, and names below anything but a directory (a
//!   symbolic link too) are refused.
//! - **Hard links** must name a member that came before and is not a directory.
//! - **Sparse members, access control lists and labels under tar's own keywords**, and members other than files,
//!   directories, links, devices and pipes are refused, so that nothing is lost in silence. Tar has no sockets.
//! - **The end** must be marked, with nothing but zeros behind it: an archive that was cut short is never a smaller root.
//!
//! Further directories and archives can be laid over the root ([`RootOptions::overlays`]; `overlay.rs` has the rules).
//!
//! Kernel modules are unpacked, unless [`RootOptions::keep_compressed`] says otherwise (`modules.rs` says why).
//!
//! What an image cannot hold is refused for both: see [`TreeFault`].
//!
//! # Invariants
//! - Equal input gives an equal tree: a directory's entries are taken in the order of their bytes, not in that of the disk.
//! - The content of a file larger than 64 bytes is never held in memory: the tree names where it lies ([`Content`]).
//! - Every name in the tree has its own inode. Names that were hard links share their content, not their inode; so does
//!   `mkcomposefs`, whose image is the one to equal.

pub(crate) mod archive;
mod compression;
pub(crate) mod content;
pub(crate) mod directory;
mod error;
mod header;
pub(crate) mod limits;
mod members;
mod modules;
pub(crate) mod overlay;
mod pax;
#[cfg(test)]
pub(crate) mod test_archive;
#[cfg(test)]
pub(crate) mod test_sequence;

pub use content::Content;
pub use error::ArchiveFault;
pub use error::ImageFault;
pub use error::RootError;
pub use error::TreeFault;

use std::path::PathBuf;

use composefs::generic_tree::FileSystem;
use composefs::generic_tree::Stat;

/// How to turn a root file system into an image. The default changes nothing but compressed kernel modules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootOptions {
    /// Seconds since 1970 that become the modification time of every file, directory and link, with no nanoseconds; the
    /// usual `SOURCE_DATE_EPOCH`. `None` keeps every time as it is. `Some(0)` is what `mkcomposefs --use-epoch` does.
    pub epoch: Option<u64>,
    /// Directories and tar archives that are laid over the root, in this order. Files of a directory belong to root.
    pub overlays: Vec<PathBuf>,
    /// Leave kernel modules compressed, as they come. Otherwise they are unpacked, under the same names.
    pub keep_compressed: bool,
}

impl RootOptions {
    /// Every time becomes `epoch`, and nothing is laid over.
    pub const fn at_epoch(epoch: u64) -> Self {
        Self {
            epoch: Some(epoch),
            overlays: Vec::new(),
            keep_compressed: false,
        }
    }
}

/// The content of a regular file while its digest is not yet known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileContent {
    /// At most [`composefs::INLINE_CONTENT_MAX_V0`] (64) bytes, which live in the image itself.
    Inline(Box<[u8]>),
    /// An index into [`RootTree::unhashed`].
    Object(usize),
}

/// Content that will become an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unhashed {
    /// Where the bytes lie.
    pub(crate) content: Content,
    /// How many there are.
    pub(crate) size: u64,
}

/// A root file system that was read, except for the content of its larger files.
#[derive(Debug)]
pub(crate) struct RootTree {
    /// Every inode by name.
    pub(crate) tree: FileSystem<FileContent>,
    /// The larger files. Several inodes may name one of them.
    pub(crate) unhashed: Vec<Unhashed>,
}

/// The root with everything that is laid over it, and its modules unpacked unless they are to stay.
///
/// # Errors
/// Those of reading each overlay; [`RootError::Decompress`] for a module that is damaged.
pub(crate) fn complete(
    base: (RootTree, content::Origin),
    options: &RootOptions,
) -> Result<(RootTree, content::Origin), RootError> {
    let root = overlay::lay_over(base, &options.overlays)?;
    if options.keep_compressed {
        Ok(root)
    } else {
        modules::unpack(root)
    }
}

impl RootTree {
    /// Gives every inode the time that `options` asks for.
    pub(crate) fn normalise(&mut self, options: &RootOptions) {
        let Some(epoch) = options.epoch else { return };
        let seconds = i64::try_from(epoch).unwrap_or(i64::MAX);
        self.tree.for_each_stat_mut(|stat: &mut Stat| {
            stat.st_mtim_sec = seconds;
            stat.st_mtim_nsec = 0;
        });
    }
}
