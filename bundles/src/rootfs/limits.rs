//! What an image can hold, checked before it is made.
//!
//! The writer of the image may stop the whole program at some of these, and the kernel or `mkcomposefs` refuses others;
//! here each one is an error that names the file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use composefs::generic_tree::Directory;
use composefs::generic_tree::Inode;
use composefs::generic_tree::LeafContent;
use composefs::generic_tree::Stat;

use super::FileContent;
use super::RootError;
use super::RootTree;
use super::TreeFault;

/// Longest name in a directory (`NAME_MAX` of Linux).
pub(crate) const NAME_MAX_BYTES: usize = 255;

/// Longest path and longest target of a symbolic link (`PATH_MAX` of Linux without its zero byte).
pub(crate) const PATH_MAX_BYTES: usize = 4095;

/// Most names in a path. It stops walks over the tree, which call themselves for every directory, from leaving the stack;
/// real roots stay below 50. Readers check it while they read, before there is a tree to walk.
pub(crate) const PATH_MAX_NAMES: usize = 512;

/// Largest file: one EROFS chunk, 2^(12 + 31) bytes. `mkcomposefs` goes further; nobody seals such files.
pub(crate) const FILE_MAX_BYTES: u64 = 1 << 43;

/// Longest name of an extended attribute (`XATTR_NAME_MAX` of Linux).
const ATTRIBUTE_NAME_MAX_BYTES: usize = 255;

/// Most bytes of names and values on one inode. `mkcomposefs` stops at 32767 with its own two attributes included.
const ATTRIBUTES_MAX_BYTES: usize = 32_000;

/// What each attribute adds to the sum: its header, padding, and the 8 bytes by which `trusted.overlay.` names grow.
const ATTRIBUTE_OVERHEAD_BYTES: usize = 16;

/// Most attributes on one inode: EROFS counts shared ones in 8 bits, and an image adds up to six of its own.
const ATTRIBUTES_MAX: usize = 240;

/// The namespaces of extended attributes in Linux.
const NAMESPACES: [&[u8]; 4] = [b"security.", b"system.", b"trusted.", b"user."];

/// Refuses a tree that the image cannot hold, naming the first such file.
pub(crate) fn check(root: &RootTree) -> Result<(), RootError> {
    Check {
        root,
        path: PathBuf::new(),
    }
    .check_directory(&root.tree.root, true)
}

/// Refuses a path that is too long or has too many names.
pub(crate) fn check_path(path: &Path) -> Result<(), RootError> {
    let fault = if path.as_os_str().len() > PATH_MAX_BYTES {
        TreeFault::PathTooLong
    } else if path.components().count() > PATH_MAX_NAMES {
        TreeFault::NestedTooDeeply
    } else {
        return Ok(());
    };
    Err(RootError::Tree {
        path: path.to_owned(),
        fault,
    })
}

/// A device number as the kernel gives it to programs: 12 bits of major, 20 bits of minor.
pub(crate) fn device_number(major: i64, minor: i64) -> Option<u64> {
    let major = u64::try_from(major).ok().filter(|major| *major < 1 << 12)?;
    let minor = u64::try_from(minor).ok().filter(|minor| *minor < 1 << 20)?;
    Some((minor & 0xff) | (major << 8) | ((minor & 0xf_ff00) << 12))
}

/// Whether `name`, in the root, is that of a directory of objects: `00` to `ff`.
pub(crate) fn is_object_directory_name(name: &OsStr) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.len() == 2 && name.as_bytes().iter().all(is_digit)
}

struct Check<'a> {
    root: &'a RootTree,
    path: PathBuf,
}

impl Check<'_> {
    fn fault<T>(&self, fault: TreeFault) -> Result<T, RootError> {
        let path = if self.path.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            self.path.clone()
        };
        Err(RootError::Tree { path, fault })
    }

    fn check_directory(
        &mut self,
        directory: &Directory<FileContent>,
        is_root: bool,
    ) -> Result<(), RootError> {
        self.check_stat(&directory.stat)?;
        for (name, inode) in directory.sorted_entries() {
            self.path.push(name);
            if name.len() > NAME_MAX_BYTES {
                return self.fault(TreeFault::NameTooLong);
            }
            match inode {
                Inode::Directory(directory) => self.check_directory(directory, false)?,
                Inode::Leaf(id, _) => {
                    let leaf = self.root.tree.leaf(*id);
                    self.check_stat(&leaf.stat)?;
                    self.check_content(&leaf.content)?;
                    // The writer could take it for one of the 256 that it makes itself.
                    if is_root && is_whiteout(&leaf.content) && is_object_directory_name(name) {
                        return self.fault(TreeFault::WhiteoutName);
                    }
                }
            }
            self.path.pop();
        }
        Ok(())
    }

    fn check_content(&self, content: &LeafContent<FileContent>) -> Result<(), RootError> {
        match content {
            LeafContent::Regular(FileContent::Object(index)) => {
                let size = self.root.unhashed.get(*index).map_or(0, |file| file.size);
                if size > FILE_MAX_BYTES {
                    return self.fault(TreeFault::FileTooLarge);
                }
            }
            LeafContent::Symlink(target) => {
                if !(1..=PATH_MAX_BYTES).contains(&target.len()) {
                    return self.fault(TreeFault::LinkTargetLength);
                }
            }
            LeafContent::CharacterDevice(number) | LeafContent::BlockDevice(number) => {
                if *number > u64::from(u32::MAX) {
                    return self.fault(TreeFault::DeviceNumber);
                }
            }
            LeafContent::Regular(FileContent::Inline(_))
            | LeafContent::Fifo
            | LeafContent::Socket => {}
        }
        Ok(())
    }

    fn check_stat(&self, stat: &Stat) -> Result<(), RootError> {
        // The crate takes such a time for one in the far future, `mkcomposefs` for what it is: the images would differ.
        if stat.st_mtim_sec < 0 {
            return self.fault(TreeFault::TimeBefore1970);
        }
        let mut sum = 0_usize;
        for (name, value) in &stat.xattrs {
            let name = name.as_bytes();
            let mut spaces = NAMESPACES
                .iter()
                .filter(|space| name.starts_with(space) && name.len() > space.len());
            if name.len() > ATTRIBUTE_NAME_MAX_BYTES || name.contains(&0) || spaces.next().is_none()
            {
                return self.fault(TreeFault::AttributeName);
            }
            sum = sum.saturating_add(name.len() + value.len() + ATTRIBUTE_OVERHEAD_BYTES);
        }
        if sum > ATTRIBUTES_MAX_BYTES || stat.xattrs.len() > ATTRIBUTES_MAX {
            return self.fault(TreeFault::AttributesTooLarge);
        }
        Ok(())
    }
}

/// Whether overlayfs takes this for "no such file": a character device 0:0.
pub(crate) fn is_whiteout<T>(content: &LeafContent<T>) -> bool {
    matches!(content, LeafContent::CharacterDevice(0))
}

#[cfg(test)]
mod tests {
    use composefs::generic_tree::FileSystem;

    use super::super::Content;
    use super::super::Unhashed;
    use super::*;

    fn check_file(
        name: &str,
        content: LeafContent<FileContent>,
        change: impl FnOnce(&mut Stat),
    ) -> Option<TreeFault> {
        let mut root = RootTree {
            tree: FileSystem::new(Stat::uninitialized()),
            unhashed: Vec::new(),
        };
        let mut stat = Stat::uninitialized();
        change(&mut stat);
        let id = root.tree.push_leaf(stat, content);
        root.tree.root.insert(OsStr::new(name), Inode::leaf(id));
        fault_of(&root)
    }

    fn fault_of(root: &RootTree) -> Option<TreeFault> {
        match check(root) {
            Ok(()) => None,
            Err(RootError::Tree { fault, .. }) => Some(fault),
            Err(other) => panic!("{other}"),
        }
    }

    fn with_attributes(attributes: &[(&str, usize)]) -> Option<TreeFault> {
        check_file("file", LeafContent::Fifo, |stat| {
            let attributes = attributes.iter();
            stat.xattrs = attributes
                .map(|(name, size)| (OsStr::new(name).into(), vec![0; *size].into()))
                .collect();
        })
    }

    #[test]
    fn names_and_paths_have_a_longest() {
        assert_eq!(
            check_file(&"n".repeat(255), LeafContent::Fifo, |_| ()),
            None
        );
        assert_eq!(
            check_file(&"n".repeat(256), LeafContent::Fifo, |_| ()),
            Some(TreeFault::NameTooLong)
        );
        let of_path = |path: String| match check_path(Path::new(&path)) {
            Ok(()) => None,
            Err(RootError::Tree { fault, .. }) => Some(fault),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(of_path("long-name/".repeat(409) + "12345"), None);
        assert_eq!(
            of_path("long-name/".repeat(409) + "123456"),
            Some(TreeFault::PathTooLong)
        );
        assert_eq!(of_path("d/".repeat(511) + "f"), None);
        assert_eq!(
            of_path("d/".repeat(512) + "f"),
            Some(TreeFault::NestedTooDeeply)
        );
    }

    #[test]
    fn links_lead_somewhere() {
        let link = |length: usize| {
            let target = "t".repeat(length);
            check_file(
                "link",
                LeafContent::Symlink(OsStr::new(&target).into()),
                |_| (),
            )
        };
        assert_eq!(link(0), Some(TreeFault::LinkTargetLength));
        assert_eq!(link(1), None);
        assert_eq!(link(4095), None);
        assert_eq!(link(4096), Some(TreeFault::LinkTargetLength));
    }

    #[test]
    fn files_have_a_largest() {
        let file = |size| {
            let unhashed = Unhashed {
                content: Content::Archive {
                    offset: 0,
                    length: size,
                },
                size,
            };
            let mut root = RootTree {
                tree: FileSystem::new(Stat::uninitialized()),
                unhashed: vec![unhashed],
            };
            let id = root.tree.push_leaf(
                Stat::uninitialized(),
                LeafContent::Regular(FileContent::Object(0)),
            );
            root.tree.root.insert(OsStr::new("file"), Inode::leaf(id));
            fault_of(&root)
        };
        assert_eq!(file(FILE_MAX_BYTES), None);
        assert_eq!(file(FILE_MAX_BYTES + 1), Some(TreeFault::FileTooLarge));
    }

    #[test]
    fn device_numbers_are_those_of_linux() {
        assert_eq!(device_number(259, 70_000), Some(0x1111_0370));
        assert_eq!(device_number(4095, 1_048_575), Some(0xffff_ffff));
        assert_eq!(device_number(4096, 0), None);
        assert_eq!(device_number(0, 1 << 20), None);
        assert_eq!(device_number(-1, 0), None);
        let device = LeafContent::BlockDevice(1 << 32);
        assert_eq!(
            check_file("disk", device, |_| ()),
            Some(TreeFault::DeviceNumber)
        );
    }

    #[test]
    fn attributes_must_fit_an_inode() {
        assert_eq!(
            with_attributes(&[("user.a", 0), ("security.capability", 20)]),
            None
        );
        for name in [
            "user.",
            "other.name",
            "a",
            "user.\0",
            &format!("user.{}", "n".repeat(251)),
        ] {
            assert_eq!(
                with_attributes(&[(name, 1)]),
                Some(TreeFault::AttributeName),
                "{name:?}"
            );
        }
        assert_eq!(with_attributes(&[("user.a", 31_978)]), None);
        assert_eq!(
            with_attributes(&[("user.a", 31_979)]),
            Some(TreeFault::AttributesTooLarge)
        );
        let names: Vec<String> = (0..241).map(|index| format!("user.{index}")).collect();
        let many: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        assert_eq!(with_attributes(&many[1..]), None);
        assert_eq!(with_attributes(&many), Some(TreeFault::AttributesTooLarge));
    }

    #[test]
    fn times_begin_with_1970() {
        let at = |seconds| check_file("file", LeafContent::Fifo, |stat| stat.st_mtim_sec = seconds);
        assert_eq!(at(0), None);
        assert_eq!(at(-1), Some(TreeFault::TimeBefore1970));
    }

    #[test]
    fn whiteouts_may_not_take_the_names_of_object_directories() {
        let whiteout = |name| check_file(name, LeafContent::CharacterDevice(0), |_| ());
        assert_eq!(whiteout("7f"), Some(TreeFault::WhiteoutName));
        assert_eq!(whiteout("7F"), None);
        assert_eq!(whiteout("7ff"), None);
        assert_eq!(
            check_file("7f", LeafContent::CharacterDevice(1), |_| ()),
            None
        );
    }
}
