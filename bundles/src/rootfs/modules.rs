//! Kernel modules in a root, unpacked: patches of plain files are small.
//!
//! Names stay, `.ko.xz` and all. The index that `depmod` made of them (`modules.dep`, `modules.dep.bin`) stays right, and what loads
//! modules tells their compression by their first bytes: libkmod (`kmod_file_open` in `libkmod/libkmod-file.c`) and busybox.
//!
//! # Invariants
//! - Content that a file elsewhere shares with a module (a hard link) stays as it is.
//! - A module that stays as it is is one that a kernel could not have loaded either, or one that nobody should unpack.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use composefs::generic_tree::{Directory, Inode, LeafContent};

use super::content::Origin;
use super::overlay::in_layer;
use super::{Content, FileContent, RootError, RootTree, Unhashed};
use crate::plain;

/// Where kernels have their modules: the second is a link to the first, or has them itself.
const FOLDERS: [[&str; 3]; 2] = [["usr", "lib", "modules"], ["", "lib", "modules"]];

/// Endings of compressed modules.
const ENDINGS: [&str; 3] = [".ko.xz", ".ko.zst", ".ko.gz"];

/// Largest module, unpacked.
const MODULE_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// What unpacked modules are called in messages.
const LAYER: &str = "unpacked kernel modules";

/// Unpacks the modules of a root.
///
/// # Errors
/// [`RootError::Decompress`] for a module that is damaged, [`RootError::Temporary`] when there is no room for them.
pub(super) fn unpack(base: (RootTree, Origin)) -> Result<(RootTree, Origin), RootError> {
    let (mut root, origin) = base;
    let modules = modules_alone(&root);
    if modules.is_empty() {
        return Ok((root, origin));
    }
    let temporary = |source| RootError::Temporary { source };
    let mut file = BufWriter::new(tempfile::tempfile().map_err(temporary)?);
    let mut places = Vec::new();
    let mut offset = 0;
    for index in modules {
        let Some(unhashed) = root.unhashed.get(index) else {
            continue;
        };
        let packed = origin.read(&unhashed.content, unhashed.size)?;
        let plain =
            plain::module(&packed, MODULE_MAX_BYTES).map_err(|source| RootError::Decompress {
                path: origin.name(&unhashed.content).to_owned(),
                source,
            })?;
        if let Some(plain) = plain {
            file.write_all(&plain).map_err(temporary)?;
            let size = plain.len() as u64;
            places.push((index, offset, size));
            offset += size;
        }
    }
    let file = file
        .into_inner()
        .map_err(|error| temporary(error.into_error()))?;
    let mut origins = match origin {
        Origin::Layers(origins) => origins,
        one => {
            in_layer(&mut root, 0);
            vec![one]
        }
    };
    let layer = origins.len();
    for (index, offset, size) in places {
        let content = Content::Layer {
            layer,
            content: Box::new(Content::Archive {
                offset,
                length: size,
            }),
        };
        root.unhashed
            .iter_mut()
            .skip(index)
            .take(1)
            .for_each(|place| {
                *place = Unhashed {
                    content: content.clone(),
                    size,
                };
            });
    }
    let path = PathBuf::from(LAYER);
    origins.push(Origin::Archive { file, path });
    Ok((root, Origin::Layers(origins)))
}

/// The contents that only compressed modules have, by their place among the larger files.
fn modules_alone(root: &RootTree) -> BTreeSet<usize> {
    let mut walk = Walk {
        root,
        modules: BTreeSet::new(),
        others: BTreeSet::new(),
    };
    walk.directory(&root.tree.root, &mut Vec::new());
    walk.modules.difference(&walk.others).copied().collect()
}

struct Walk<'t> {
    root: &'t RootTree,
    modules: BTreeSet<usize>,
    others: BTreeSet<usize>,
}

impl<'t> Walk<'t> {
    fn directory(&mut self, directory: &'t Directory<FileContent>, path: &mut Vec<&'t OsStr>) {
        for (name, inode) in directory.sorted_entries() {
            match inode {
                Inode::Directory(below) => {
                    path.push(name);
                    self.directory(below, path);
                    path.pop();
                }
                Inode::Leaf(id, _) => {
                    let LeafContent::Regular(FileContent::Object(index)) =
                        self.root.tree.leaf(*id).content
                    else {
                        continue;
                    };
                    if in_modules(path) && is_compressed(name) {
                        self.modules.insert(index);
                    } else {
                        self.others.insert(index);
                    }
                }
            }
        }
    }
}

fn in_modules(path: &[&OsStr]) -> bool {
    FOLDERS.iter().any(|folder| {
        let names = folder.iter().filter(|name| !name.is_empty());
        path.iter()
            .zip(names.clone())
            .filter(|(one, other)| **one == **other)
            .count()
            == names.count()
    })
}

fn is_compressed(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    ENDINGS
        .iter()
        .any(|ending| name.ends_with(ending.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::composefs_image::{ComposefsImage, FileEntry, file_list, from_tar};
    use crate::rootfs::RootOptions;
    use crate::vectors::archive_of;
    use std::io::Read;
    use std::path::Path;

    fn image(
        entries: &[(&str, Vec<u8>)],
        options: &RootOptions,
    ) -> Result<ComposefsImage, RootError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.tar");
        let entries: Vec<_> = entries
            .iter()
            .map(|(name, content)| ((*name).to_owned(), content.clone()))
            .collect();
        std::fs::write(&path, archive_of(&entries)).unwrap();
        from_tar(&path, options)
    }

    fn file(image: &ComposefsImage, path: &str) -> FileEntry {
        let files = file_list(&image.erofs).unwrap();
        files
            .into_iter()
            .find(|file| file.path == Path::new(path))
            .unwrap()
    }

    fn content(image: &ComposefsImage, path: &str) -> Vec<u8> {
        let digest = file(image, path).digest;
        let object = image
            .objects
            .iter()
            .find(|object| Some(object.digest) == digest)
            .unwrap();
        let mut content = Vec::new();
        image
            .open_object(object)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        content
    }

    #[test]
    fn modules_are_plain_under_their_own_names_and_nothing_else_is_touched() {
        let plain = |byte| [b"\x7fELF".as_slice(), &vec![byte; 9000]].concat();
        let packed = |byte| {
            zstd::encode_all(plain(byte).repeat(1).as_slice(), 1)
                .map(|mut packed| {
                    // Longer than what the image keeps in itself.
                    packed.extend(zstd::encode_all(&b""[..], 1).unwrap().repeat(20));
                    packed
                })
                .unwrap()
        };
        let entries = [
            ("usr/lib/modules/6.12/kernel/fs/a.ko.zst", packed(1)),
            ("usr/lib/modules/6.12/kernel/b.ko", plain(2)),
            ("usr/lib/modules/6.12/kernel/text.ko.zst", vec![b't'; 100]),
            ("lib/modules/6.12/c.ko.zst", packed(3)),
            ("usr/share/modules/d.ko.zst", packed(4)),
        ];
        let unpacked = image(&entries, &RootOptions::default()).unwrap();
        let kept = RootOptions {
            keep_compressed: true,
            ..RootOptions::default()
        };
        let kept = image(&entries, &kept).unwrap();
        for (path, byte) in [
            ("/usr/lib/modules/6.12/kernel/fs/a.ko.zst", 1),
            ("/lib/modules/6.12/c.ko.zst", 3),
        ] {
            assert_eq!(content(&unpacked, path), plain(byte), "{path}");
            assert_eq!(file(&unpacked, path).size, 9004);
            assert_eq!(content(&kept, path), packed(byte));
        }
        for (path, expected) in &entries[1..] {
            let path = format!("/{path}");
            if !path.ends_with("c.ko.zst") {
                assert_eq!(content(&unpacked, &path), *expected, "{path}");
            }
        }
        assert_eq!(
            unpacked.objects.len(),
            kept.objects.len(),
            "no object that nobody names"
        );
    }

    #[test]
    fn a_damaged_module_is_named() {
        let mut torn =
            zstd::encode_all(&[b"\x7fELF".as_slice(), &[9; 100_000]].concat()[..], 1).unwrap();
        torn.truncate(torn.len() - 3);
        torn.extend([0; 100]);
        let error = image(&[("lib/modules/1/x.ko.zst", torn)], &RootOptions::default());
        assert!(
            matches!(error, Err(RootError::Decompress { .. })),
            "{error:?}"
        );
    }
}
