//! Reads a root file system from a tar archive, without unpacking it. The module above says what is decided where archives
//! are ambiguous or incomplete.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use composefs::INLINE_CONTENT_MAX_V0;
use composefs::generic_tree::Directory;
use composefs::generic_tree::FileSystem;
use composefs::generic_tree::Inode;
use composefs::generic_tree::LeafContent;
use composefs::generic_tree::LeafId;
use composefs::generic_tree::Stat;

use super::ArchiveFault;
use super::Content;
use super::FileContent;
use super::RootError;
use super::RootTree;
use super::Unhashed;
use super::compression::open_archive;
use super::content::Origin;
use super::header::MemberKind;
use super::limits::check_path;
use super::members::Member;
use super::members::Members;
use super::members::display_name;

/// The mode of directories, the root included, that an archive needs and does not have.
const MISSING_DIRECTORY_MODE: u32 = 0o755;

/// Reads the archive at `path` (plain, zstd or gzip) and says where its content lies.
///
/// # Errors
/// [`RootError::Archive`] for what the archive breaks, [`RootError::Tree`] for paths that are too long,
/// [`RootError::Read`], [`RootError::Decompress`], [`RootError::CompressionNotRead`] and [`RootError::Temporary`] for what
/// keeps it from being read.
pub(crate) fn read(path: &Path) -> Result<(RootTree, Origin), RootError> {
    let file = open_archive(path, &std::env::temp_dir())?;
    let origin = Origin::Archive {
        file: clone_handle(&file, path)?,
        path: path.to_owned(),
    };
    let mut members = Members::new(&file, path)?;
    let mut unpacking = Unpacking {
        root: RootTree {
            tree: FileSystem::new(missing_directory_stat()),
            unhashed: Vec::new(),
        },
        origin,
    };
    while let Some(member) = members.next_member()? {
        unpacking.add(member)?;
    }
    Ok((unpacking.root, unpacking.origin))
}

fn clone_handle(file: &File, path: &Path) -> Result<File, RootError> {
    file.try_clone().map_err(|source| RootError::Read {
        path: path.to_owned(),
        source,
    })
}

fn missing_directory_stat() -> Stat {
    Stat {
        st_mode: MISSING_DIRECTORY_MODE,
        ..Stat::uninitialized()
    }
}

struct Unpacking {
    root: RootTree,
    origin: Origin,
}

impl Unpacking {
    fn add(&mut self, member: Member) -> Result<(), RootError> {
        let Member {
            offset,
            content_offset,
            name,
            kind,
            stat,
        } = member;
        let fault = |fault| RootError::Archive {
            member: display_name(&name),
            offset,
            fault,
        };
        check_path(&display_name(&name))?;
        let components = components(&name).map_err(fault)?;
        let Some((last, parents)) = components.split_last() else {
            if !matches!(kind, MemberKind::Directory) {
                return Err(fault(ArchiveFault::RootNotDirectory));
            }
            self.root.tree.root.stat = stat;
            return Ok(());
        };
        let leaf = match kind {
            MemberKind::Directory => return self.add_directory(parents, last, stat).map_err(fault),
            MemberKind::HardLink(target) => self.linked_leaf(&target).map_err(fault)?,
            MemberKind::File(size) => {
                let content = self.file_content(content_offset, size)?;
                self.root
                    .tree
                    .push_leaf(stat, LeafContent::Regular(content))
            }
            MemberKind::Special(content) => self.root.tree.push_leaf(stat, content),
        };
        let directory = self.parent(parents).map_err(fault)?;
        if directory.lookup(last).is_some() {
            return Err(fault(ArchiveFault::NamedTwice));
        }
        directory.insert(last, Inode::leaf(leaf));
        Ok(())
    }

    fn add_directory(
        &mut self,
        parents: &[&OsStr],
        name: &OsStr,
        stat: Stat,
    ) -> Result<(), ArchiveFault> {
        let directory = self.parent(parents)?;
        match directory.lookup(name) {
            Some(Inode::Leaf(..)) => return Err(ArchiveFault::NamedTwice),
            // `merge` keeps what the directory already holds.
            Some(Inode::Directory(_)) | None => {
                directory.merge(name, Inode::Directory(Box::new(Directory::new(stat))))
            }
        }
        Ok(())
    }

    /// The directory at `parents`, with whatever is missing on the way made.
    fn parent(&mut self, parents: &[&OsStr]) -> Result<&mut Directory<FileContent>, ArchiveFault> {
        let mut directory = &mut self.root.tree.root;
        for name in parents {
            if directory.lookup(name).is_none() {
                directory.insert(
                    name,
                    Inode::Directory(Box::new(Directory::new(missing_directory_stat()))),
                );
            }
            directory = directory
                .get_directory_mut(name)
                .map_err(|_| ArchiveFault::ThroughNonDirectory)?;
        }
        Ok(directory)
    }

    /// A new inode equal to the one that `target` names.
    fn linked_leaf(&mut self, target: &[u8]) -> Result<LeafId, ArchiveFault> {
        let components = components(target)?;
        let (last, parents) = components
            .split_last()
            .ok_or(ArchiveFault::LinkTargetDirectory)?;
        let mut directory = &self.root.tree.root;
        for name in parents {
            directory = directory
                .get_directory(name)
                .map_err(|_| ArchiveFault::LinkTargetMissing)?;
        }
        let id = match directory.lookup(last) {
            Some(Inode::Leaf(id, _)) => *id,
            Some(Inode::Directory(_)) => return Err(ArchiveFault::LinkTargetDirectory),
            None => return Err(ArchiveFault::LinkTargetMissing),
        };
        let leaf = self.root.tree.leaf(id).clone();
        Ok(self.root.tree.push_leaf(leaf.stat, leaf.content))
    }

    fn file_content(&mut self, offset: u64, size: u64) -> Result<FileContent, RootError> {
        let content = Content::Archive {
            offset,
            length: size,
        };
        if size <= INLINE_CONTENT_MAX_V0 as u64 {
            return Ok(FileContent::Inline(
                self.origin.read(&content, size)?.into_boxed_slice(),
            ));
        }
        self.root.unhashed.push(Unhashed { content, size });
        Ok(FileContent::Object(self.root.unhashed.len() - 1))
    }
}

/// The directories of a member's name and its last part; none for the root.
fn components(name: &[u8]) -> Result<Vec<&OsStr>, ArchiveFault> {
    if name.is_empty() || name.contains(&0) {
        return Err(ArchiveFault::NameInvalid);
    }
    if name.starts_with(b"/") {
        return Err(ArchiveFault::AbsoluteName);
    }
    let parts = name
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".");
    parts
        .map(|part| {
            if part == b".." {
                Err(ArchiveFault::ParentName)
            } else {
                Ok(OsStr::from_bytes(part))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
