//! Reads a root file system from a directory, in the order of the bytes of names.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use composefs::INLINE_CONTENT_MAX_V0;
use composefs::generic_tree::Directory;
use composefs::generic_tree::FileSystem;
use composefs::generic_tree::Inode;
use composefs::generic_tree::LeafContent;
use composefs::generic_tree::Stat;
use rustix::io::Errno;

use super::Content;
use super::FileContent;
use super::RootError;
use super::RootTree;
use super::TreeFault;
use super::Unhashed;
use super::content::Origin;
use super::limits::check_path;

/// The most that Linux gives for a list of attribute names or for one value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const ATTRIBUTE_BUFFER_BYTES: usize = 64 * 1024;

/// Reads the tree at `path` and says where its content lies.
///
/// # Errors
/// [`RootError::Read`] for what the host refuses, [`RootError::Changed`] for a file that changes meanwhile,
/// [`RootError::Tree`] if `path` is no directory or nests too deeply.
pub(crate) fn read(path: &Path) -> Result<(RootTree, Origin), RootError> {
    let path = fs::canonicalize(path).map_err(|source| RootError::Read {
        path: path.to_owned(),
        source,
    })?;
    let metadata = read_metadata(&path, &path)?;
    if !metadata.is_dir() {
        return Err(RootError::Tree {
            path,
            fault: TreeFault::NotADirectory,
        });
    }
    let mut scan = Scan {
        origin: Origin::Directory(path.clone()),
        root: path,
        tree: FileSystem::new(Stat::uninitialized()),
        unhashed: Vec::new(),
        linked: HashMap::new(),
        names: vec![0; ATTRIBUTE_BUFFER_BYTES],
        value: vec![0; ATTRIBUTE_BUFFER_BYTES],
    };
    let root = scan.read_directory(Path::new(""), &metadata)?;
    let mut tree = scan.tree;
    tree.root = root;
    Ok((
        RootTree {
            tree,
            unhashed: scan.unhashed,
        },
        scan.origin,
    ))
}

struct Scan {
    root: PathBuf,
    /// The same directory, as what content is read from.
    origin: Origin,
    tree: FileSystem<FileContent>,
    unhashed: Vec<Unhashed>,
    /// Files with several names by device and inode number, so that each is read once.
    linked: HashMap<(u64, u64), usize>,
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Scan {
    fn read_directory(
        &mut self,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<Directory<FileContent>, RootError> {
        let mut directory = Directory::new(self.read_stat(path, metadata)?);
        for name in self.read_names(path)? {
            let path = path.join(&name);
            check_path(&path)?;
            let metadata = read_metadata(&self.root.join(&path), &path)?;
            let inode = if metadata.is_dir() {
                Inode::Directory(Box::new(self.read_directory(&path, &metadata)?))
            } else {
                let stat = self.read_stat(&path, &metadata)?;
                let content = self.read_content(&path, &metadata)?;
                Inode::leaf(self.tree.push_leaf(stat, content))
            };
            directory.insert(&name, inode);
        }
        Ok(directory)
    }

    /// The names in a directory, in the order of their bytes.
    fn read_names(&self, path: &Path) -> Result<Vec<OsString>, RootError> {
        let entries = fs::read_dir(self.root.join(path));
        let names =
            entries.and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut names: Vec<OsString> = names.map_err(|source| read_error(path, source))?;
        names.sort_unstable();
        Ok(names)
    }

    fn read_content(
        &mut self,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<LeafContent<FileContent>, RootError> {
        let kind = metadata.file_type();
        Ok(if kind.is_file() {
            LeafContent::Regular(self.read_file(path, metadata)?)
        } else if kind.is_symlink() {
            let target =
                fs::read_link(self.root.join(path)).map_err(|source| read_error(path, source))?;
            LeafContent::Symlink(target.into_os_string().into_boxed_os_str())
        } else if kind.is_char_device() {
            LeafContent::CharacterDevice(metadata.rdev())
        } else if kind.is_block_device() {
            LeafContent::BlockDevice(metadata.rdev())
        } else if kind.is_fifo() {
            LeafContent::Fifo
        } else {
            LeafContent::Socket
        })
    }

    fn read_file(&mut self, path: &Path, metadata: &Metadata) -> Result<FileContent, RootError> {
        let size = metadata.len();
        let content = Content::File {
            path: path.to_owned(),
        };
        if size <= INLINE_CONTENT_MAX_V0 as u64 {
            let bytes = self.origin.read(&content, size)?;
            return Ok(FileContent::Inline(bytes.into_boxed_slice()));
        }
        let key = (metadata.dev(), metadata.ino());
        if let Some(index) = self.linked.get(&key) {
            return Ok(FileContent::Object(*index));
        }
        let index = self.unhashed.len();
        self.unhashed.push(Unhashed { content, size });
        if metadata.nlink() > 1 {
            self.linked.insert(key, index);
        }
        Ok(FileContent::Object(index))
    }

    fn read_stat(&mut self, path: &Path, metadata: &Metadata) -> Result<Stat, RootError> {
        let mut stat = Stat {
            st_mode: metadata.mode() & 0o7777,
            st_uid: metadata.uid(),
            st_gid: metadata.gid(),
            st_mtim_sec: metadata.mtime(),
            st_mtim_nsec: u32::try_from(metadata.mtime_nsec()).unwrap_or_default(),
            xattrs: Default::default(),
        };
        let full_path = self.root.join(path);
        let length = match rustix::fs::llistxattr(&full_path, self.names.as_mut_slice()) {
            // A file system without extended attributes.
            Err(Errno::OPNOTSUPP) => 0,
            other => other.map_err(|error| read_error(path, error.into()))?,
        };
        let names = self.names.get(..length).unwrap_or_default();
        for name in names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
        {
            let length = rustix::fs::lgetxattr(&full_path, name, self.value.as_mut_slice());
            let length = length.map_err(|error| read_error(path, error.into()))?;
            let value = self.value.get(..length).unwrap_or_default();
            stat.xattrs
                .insert(OsStr::from_bytes(name).into(), value.into());
        }
        Ok(stat)
    }
}

fn read_metadata(full_path: &Path, path: &Path) -> Result<Metadata, RootError> {
    fs::symlink_metadata(full_path).map_err(|source| read_error(path, source))
}

fn read_error(path: &Path, source: io::Error) -> RootError {
    // The root itself has the empty path.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    RootError::Read {
        path: path.to_owned(),
        source,
    }
}
