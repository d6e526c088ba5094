//! Whiteouts in the input: character devices 0:0, which overlayfs would take for "no such file".
//!
//! The image escapes them, so that they appear as what they are (`mkcomposefs` does so too). The writer of the image adds
//! marks to each whiteout and to its directory, and would store a mark twice that is there already: those of the input go.

use std::ffi::OsStr;
use std::path::PathBuf;

use composefs::generic_tree::Directory;
use composefs::generic_tree::FileSystem;
use composefs::generic_tree::Inode;
use composefs::generic_tree::LeafId;
use composefs::generic_tree::Stat;

use crate::rootfs::FileContent;
use crate::rootfs::limits::is_whiteout;

/// What a whiteout is given.
const WHITEOUT_MARKS: [&str; 2] = ["trusted.overlay.whiteout", "user.overlay.whiteout"];

/// What a directory with whiteouts is given.
const DIRECTORY_MARKS: [&str; 4] = [
    "trusted.overlay.opaque",
    "trusted.overlay.whiteouts",
    "user.overlay.opaque",
    "user.overlay.whiteouts",
];

/// Removes the marks that the writer will add, and says whether there are any whiteouts.
pub(super) fn prepare(tree: &mut FileSystem<FileContent>) -> bool {
    let mut found = Found::default();
    found.search(tree, &tree.root, &mut PathBuf::new());
    for id in &found.whiteouts {
        if let Some(leaf) = tree.leaves.get_mut(id.0) {
            remove_marks(&mut leaf.stat, &WHITEOUT_MARKS);
        }
    }
    for path in &found.directories {
        if let Ok(directory) = tree.root.get_directory_mut(path.as_os_str()) {
            remove_marks(&mut directory.stat, &DIRECTORY_MARKS);
        }
    }
    !found.whiteouts.is_empty()
}

fn remove_marks(stat: &mut Stat, marks: &[&str]) {
    stat.xattrs
        .retain(|name, _| !marks.iter().any(|mark| OsStr::new(mark) == name.as_ref()));
}

#[derive(Default)]
struct Found {
    whiteouts: Vec<LeafId>,
    directories: Vec<PathBuf>,
}

impl Found {
    fn search(
        &mut self,
        tree: &FileSystem<FileContent>,
        directory: &Directory<FileContent>,
        path: &mut PathBuf,
    ) {
        let before = self.whiteouts.len();
        let leaves = directory.inodes().filter_map(|inode| match inode {
            Inode::Leaf(id, _) => Some(*id),
            Inode::Directory(_) => None,
        });
        self.whiteouts
            .extend(leaves.filter(|id| is_whiteout(&tree.leaf(*id).content)));
        if self.whiteouts.len() > before {
            self.directories.push(path.clone());
        }
        for (name, inode) in directory.sorted_entries() {
            if let Inode::Directory(directory) = inode {
                path.push(name);
                self.search(tree, directory, path);
                path.pop();
            }
        }
    }
}
