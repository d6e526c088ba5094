//! Trees laid over a root: files are replaced, directories are merged, the later tree wins.
//!
//! # Invariants
//! - A directory that the root has keeps its owner, mode, time and attributes: a folder on a build host says what is in a
//!   directory, not whose it is.
//! - A directory never takes the place of something else, nor the other way round: a folder `sbin` over a root whose `sbin`
//!   is a link to `usr/sbin` would hide every program there.
//! - Content that was replaced is forgotten: it becomes no object.

use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;

use composefs::generic_tree::Directory;
use composefs::generic_tree::FileSystem;
use composefs::generic_tree::Inode;
use composefs::generic_tree::LeafContent;
use composefs::generic_tree::LeafId;
use composefs::generic_tree::Stat;

use super::Content;
use super::FileContent;
use super::RootError;
use super::RootTree;
use super::TreeFault;
use super::Unhashed;
use super::archive;
use super::content::Origin;
use super::directory;

type Names = Directory<FileContent>;

/// Reads the trees at `overlays`, each a directory or a tar archive, and lays them over `base` in their order.
///
/// # Errors
/// Those of reading each; [`TreeFault::OverlayDirectory`] and [`TreeFault::OverlayNotDirectory`] where a name is a directory
/// in only one of two.
pub(crate) fn lay_over(
    base: (RootTree, Origin),
    overlays: &[PathBuf],
) -> Result<(RootTree, Origin), RootError> {
    if overlays.is_empty() {
        return Ok(base);
    }
    let (mut root, origin) = base;
    in_layer(&mut root, 0);
    let mut origins = vec![origin];
    for path in overlays {
        let (mut tree, origin) = read(path)?;
        in_layer(&mut tree, origins.len());
        origins.push(origin);
        root = Merge::of(&root, &tree)?;
    }
    Ok((root, Origin::Layers(origins)))
}

fn read(path: &Path) -> Result<(RootTree, Origin), RootError> {
    if !path.is_dir() {
        return archive::read(path);
    }
    let (mut root, origin) = directory::read(path)?;
    // Whose files these are on the build host means nothing on a device.
    root.tree.for_each_stat_mut(|stat: &mut Stat| {
        stat.st_uid = 0;
        stat.st_gid = 0;
    });
    Ok((root, origin))
}

/// Says of all content that it is to be found in a layer.
pub(super) fn in_layer(root: &mut RootTree, layer: usize) {
    for file in &mut root.unhashed {
        file.content = Content::Layer {
            layer,
            content: Box::new(file.content.clone()),
        };
    }
}

/// A tree that is being made of two.
struct Merge<'t> {
    lower: Source<'t>,
    upper: Source<'t>,
    made: RootTree,
    path: PathBuf,
}

/// A tree that is being merged.
struct Source<'t> {
    root: &'t RootTree,
    /// For each of its larger files the place in the merged list, once it has one.
    places: Vec<Option<usize>>,
}

impl<'t> Source<'t> {
    fn new(root: &'t RootTree) -> Self {
        Self {
            root,
            places: vec![None; root.unhashed.len()],
        }
    }

    /// Copies an inode, and its content's place when a kept name needs it.
    fn copy_leaf(&mut self, id: LeafId, made: &mut RootTree) -> LeafId {
        let leaf = self.root.tree.leaf(id).clone();
        let content = match leaf.content {
            LeafContent::Regular(FileContent::Object(index)) => {
                LeafContent::Regular(FileContent::Object(self.place(index, &mut made.unhashed)))
            }
            other => other,
        };
        made.tree.push_leaf(leaf.stat, content)
    }

    fn place(&mut self, index: usize, list: &mut Vec<Unhashed>) -> usize {
        let (Some(place), Some(file)) = (self.places.get_mut(index), self.root.unhashed.get(index))
        else {
            // The reader of the tree made these indices for this list.
            return index;
        };
        *place.get_or_insert_with(|| {
            list.push(file.clone());
            list.len() - 1
        })
    }

    fn copy_directory(&mut self, directory: &Names, made: &mut RootTree) -> Names {
        let mut copy = Directory::new(directory.stat.clone());
        for (name, inode) in directory.sorted_entries() {
            let inode = self.copy_inode(inode, made);
            copy.insert(name, inode);
        }
        copy
    }

    fn copy_inode(
        &mut self,
        inode: &Inode<FileContent>,
        made: &mut RootTree,
    ) -> Inode<FileContent> {
        match inode {
            Inode::Leaf(id, _) => Inode::leaf(self.copy_leaf(*id, made)),
            Inode::Directory(directory) => {
                Inode::Directory(Box::new(self.copy_directory(directory, made)))
            }
        }
    }
}

impl<'t> Merge<'t> {
    fn of(lower: &'t RootTree, upper: &'t RootTree) -> Result<RootTree, RootError> {
        let mut merge = Self {
            lower: Source::new(lower),
            upper: Source::new(upper),
            made: RootTree {
                tree: FileSystem::new(lower.tree.root.stat.clone()),
                unhashed: Vec::new(),
            },
            path: PathBuf::new(),
        };
        let root = merge.directory(&lower.tree.root, &upper.tree.root)?;
        merge.made.tree.root = root;
        Ok(merge.made)
    }

    fn directory(&mut self, lower: &Names, upper: &Names) -> Result<Names, RootError> {
        let mut merged = Directory::new(lower.stat.clone());
        for (name, inode) in lower.sorted_entries() {
            let inode = match upper.lookup(name) {
                Some(over) => self.inode(name, inode, over)?,
                None => self.lower.copy_inode(inode, &mut self.made),
            };
            merged.insert(name, inode);
        }
        for (name, inode) in upper.sorted_entries() {
            if lower.lookup(name).is_none() {
                merged.insert(name, self.upper.copy_inode(inode, &mut self.made));
            }
        }
        Ok(merged)
    }

    /// What becomes of a name that both have.
    fn inode(
        &mut self,
        name: &OsStr,
        lower: &Inode<FileContent>,
        upper: &Inode<FileContent>,
    ) -> Result<Inode<FileContent>, RootError> {
        self.path.push(name);
        let fault = |path: &Path, fault| RootError::Tree {
            path: path.to_owned(),
            fault,
        };
        let inode = match (lower, upper) {
            (Inode::Leaf(..), Inode::Leaf(id, _)) => {
                Inode::leaf(self.upper.copy_leaf(*id, &mut self.made))
            }
            (Inode::Directory(lower), Inode::Directory(upper)) => {
                Inode::Directory(Box::new(self.directory(lower, upper)?))
            }
            (Inode::Leaf(..), Inode::Directory(_)) => {
                return Err(fault(&self.path, TreeFault::OverlayDirectory));
            }
            (Inode::Directory(_), Inode::Leaf(..)) => {
                return Err(fault(&self.path, TreeFault::OverlayNotDirectory));
            }
        };
        self.path.pop();
        Ok(inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::composefs_image::{FileKind, file_list, from_tar};
    use crate::rootfs::RootOptions;
    use crate::vectors::archive_of;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const LONG: usize = 100;

    struct Folder(tempfile::TempDir);

    impl Folder {
        /// A root archive with `usr/bin/tool`, `etc/name` and a link `sbin`.
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            folder.archive("root.tar", &[("usr/bin/tool", b'r'), ("etc/name", b'r')]);
            folder
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn archive(&self, name: &str, files: &[(&str, u8)]) -> PathBuf {
            let entries: Vec<_> = files
                .iter()
                .map(|(name, byte)| ((*name).to_owned(), vec![*byte; LONG]))
                .collect();
            fs::write(self.at(name), archive_of(&entries)).unwrap();
            self.at(name)
        }

        fn image(
            &self,
            overlays: &[PathBuf],
        ) -> Result<crate::composefs_image::ComposefsImage, RootError> {
            let options = RootOptions {
                epoch: Some(0),
                overlays: overlays.to_vec(),
                keep_compressed: false,
            };
            from_tar(&self.at("root.tar"), &options)
        }
    }

    #[test]
    fn later_files_win_and_replaced_content_is_no_object() {
        let folder = Folder::new();
        let over = folder.at("over");
        fs::create_dir_all(over.join("usr/bin")).unwrap();
        fs::create_dir_all(over.join("opt/new")).unwrap();
        fs::set_permissions(over.join("usr"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(over.join("usr/bin/tool"), [b'd'; LONG]).unwrap();
        fs::write(over.join("opt/new/file"), [b'd'; LONG + 1]).unwrap();
        symlink("file", over.join("opt/new/link")).unwrap();
        let last = folder.archive("last.tar", &[("opt/new/file", b'l'), ("etc/more", b'm')]);
        let image = folder.image(&[over, last]).unwrap();

        let mut bytes = Vec::new();
        for object in &image.objects {
            let mut content = Vec::new();
            image
                .open_object(object)
                .unwrap()
                .read_to_end(&mut content)
                .unwrap();
            bytes.push(content[0]);
        }
        bytes.sort_unstable();
        assert_eq!(
            bytes, *b"dlmr",
            "the first tool and the first new file are gone"
        );
        let files = file_list(&image.erofs).unwrap();
        let find = |path: &str| {
            files
                .iter()
                .find(|file| file.path == Path::new(path))
                .unwrap()
        };
        assert_eq!(
            find("/usr").mode & 0o7777,
            0o755,
            "the root's directory stays as it was"
        );
        for path in ["/usr/bin/tool", "/opt/new", "/opt/new/link"] {
            assert_eq!((find(path).user, find(path).group), (0, 0), "{path}");
        }
        assert_eq!(find("/opt/new/file").size, LONG as u64);
        assert!(matches!(
            find("/opt/new/link").kind,
            FileKind::Symlink { .. }
        ));
    }

    #[test]
    fn the_same_tree_in_one_archive_makes_the_same_image() {
        let folder = Folder::new();
        let over = folder.archive("over.tar", &[("usr/bin/tool", b'o'), ("zed", b'z')]);
        let layered = folder.image(&[over]).unwrap();
        let files = [("usr/bin/tool", b'o'), ("etc/name", b'r'), ("zed", b'z')];
        folder.archive("root.tar", &files);
        assert_eq!(layered.digest, folder.image(&[]).unwrap().digest);
    }

    #[test]
    fn a_directory_over_a_file_and_a_file_over_a_directory_are_refused() {
        let folder = Folder::new();
        for (name, expected) in [
            ("etc/name/file", "is a directory in an overlay"),
            ("usr/bin", "is a directory in the root"),
        ] {
            let over = folder.archive("over.tar", &[(name, b'o')]);
            let error = folder.image(&[over]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let missing = folder.image(&[folder.at("no-such")]).unwrap_err();
        assert!(matches!(missing, RootError::Read { .. }), "{missing}");
    }
}
