//! Which blob of a base release a new one is most likely to be like: by its path, by its path without versions, by content.
//!
//! # Invariants
//! - Looking for a pair costs the same whatever the number of objects: paths and sketches are looked up, never compared in turn.
//! - The same two releases give the same pairs, in the same order.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use twinseal_core::wire::index::Role;

use super::sketch::{Sketch, Sketcher};
use crate::assemble::BaseRelease;
use crate::error::Error;

/// Objects that are tried because of their path.
const BY_PATH_MAX: usize = 2;

/// Objects that are tried because of their content.
const BY_CONTENT_MAX: usize = 2;

/// A number that more objects than this have in their sketches says nothing about any of them.
const SHARED_BY_MAX: usize = 64;

/// Numbers of its sketch that an object must share with another one to be tried.
const SHARED_MIN: usize = 2;

/// Endings that say how a file is compressed: with them or without, it is the same file.
const COMPRESSED_ENDINGS: [&[u8]; 3] = [b".xz", b".zst", b".gz"];

/// The paths of a base's objects.
#[derive(Debug)]
pub struct Paths {
    exact: HashMap<PathBuf, usize>,
    /// By the path without versions; the objects in the order of their paths.
    versionless: HashMap<Vec<u8>, Vec<usize>>,
}

impl Paths {
    /// The paths of a base; an object is named by its position in the base's index.
    pub fn of(base: &BaseRelease) -> Self {
        let objects = base.index().iter().enumerate();
        let objects = objects.filter(|(_, indexed)| indexed.blob.role == Role::Object);
        let places: HashMap<_, _> = objects
            .map(|(place, indexed)| (indexed.blob.digest.as_bytes(), place))
            .collect();
        let (mut exact, mut versionless) = (HashMap::new(), HashMap::<_, Vec<usize>>::new());
        for (path, digest) in base.files() {
            if let Some(place) = places.get(digest.as_bytes()) {
                exact.insert(path.clone(), *place);
                versionless
                    .entry(without_versions(path))
                    .or_default()
                    .push(*place);
            }
        }
        Self { exact, versionless }
    }

    /// The objects to try for one that has these paths in the new release.
    pub fn candidates(&self, paths: &[PathBuf]) -> Vec<usize> {
        let exact = paths.iter().filter_map(|path| self.exact.get(path));
        let alike = paths
            .iter()
            .filter_map(|path| self.versionless.get(&without_versions(path)));
        let mut found = Vec::new();
        for place in exact.chain(alike.flatten()) {
            if !found.contains(place) {
                found.push(*place);
            }
            if found.len() == BY_PATH_MAX {
                break;
            }
        }
        found
    }
}

/// A path in which every version is the same: `libfoo.so.1.2.3` and `libfoo.so.1.3` become `libfoo.so.#`.
fn without_versions(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let ending = COMPRESSED_ENDINGS
        .iter()
        .find(|ending| bytes.ends_with(ending));
    let bytes = bytes
        .get(..bytes.len() - ending.map_or(0, |ending| ending.len()))
        .unwrap_or(bytes);
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, more)) = rest.split_first() {
        rest = more;
        if !byte.is_ascii_digit() {
            plain.push(*byte);
            continue;
        }
        plain.push(b'#');
        while let [next, after @ ..] = rest {
            let joins = b".-+~_:".contains(next) && after.first().is_some_and(u8::is_ascii_digit);
            if !next.is_ascii_digit() && !joins {
                break;
            }
            rest = after;
        }
    }
    plain
}

/// The paths of each object of a composefs image, by digest.
pub fn paths_by_digest(erofs: &[u8]) -> Result<BTreeMap<[u8; 32], Vec<PathBuf>>, Error> {
    use crate::composefs_image::{FileKind, file_list};
    let mut paths = BTreeMap::<_, Vec<_>>::new();
    for file in file_list(erofs)? {
        if let (FileKind::ObjectFile, Some(digest)) = (&file.kind, file.digest) {
            paths.entry(digest).or_default().push(file.path);
        }
    }
    Ok(paths)
}

/// The objects of a base by what is in them.
#[derive(Debug, Default)]
pub struct Contents {
    by_number: HashMap<u32, Vec<usize>>,
}

impl Contents {
    /// Reads every object of a base that is not longer than `limit_bytes`, once.
    ///
    /// # Errors
    /// When the base is damaged.
    pub fn of(base: &BaseRelease, limit_bytes: u64) -> Result<Self, Error> {
        let mut contents = Self::default();
        for (place, indexed) in base.index().iter().enumerate() {
            if indexed.blob.role != Role::Object || indexed.blob.size > limit_bytes {
                continue;
            }
            let mut sketcher = Sketcher::default();
            let memory = Path::new("memory");
            base.bundle().read_blob(indexed, &mut sketcher, memory)?;
            for number in sketcher.finish().numbers() {
                contents.by_number.entry(*number).or_default().push(place);
            }
        }
        Ok(contents)
    }

    /// The objects to try for one with this sketch: those that share most with it.
    pub fn candidates(&self, sketch: &Sketch) -> Vec<usize> {
        let mut shared = BTreeMap::<usize, usize>::new();
        let lists = sketch
            .numbers()
            .iter()
            .filter_map(|number| self.by_number.get(number));
        for place in lists.filter(|list| list.len() <= SHARED_BY_MAX).flatten() {
            *shared.entry(*place).or_default() += 1;
        }
        let mut found: Vec<_> = shared
            .into_iter()
            .filter(|(_, count)| *count >= SHARED_MIN)
            .collect();
        found.sort_by_key(|(place, count)| (std::cmp::Reverse(*count), *place));
        found.truncate(BY_CONTENT_MAX);
        found.into_iter().map(|(place, _)| place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_compression_make_no_difference_to_a_name() {
        let plain = |path: &str| String::from_utf8(without_versions(Path::new(path))).unwrap();
        for (path, expected) in [
            ("/usr/lib/libfoo.so.1.2.3", "/usr/lib/libfoo.so.#"),
            ("/usr/lib/libfoo.so.1.10", "/usr/lib/libfoo.so.#"),
            (
                "/lib/modules/6.12.117+deb13-cloud-amd64/kernel/fs/a.ko.xz",
                "/lib/modules/#+deb#-cloud-amd#/kernel/fs/a.ko",
            ),
            (
                "/lib/modules/6.12.9+deb13-cloud-amd64/kernel/fs/a.ko",
                "/lib/modules/#+deb#-cloud-amd#/kernel/fs/a.ko",
            ),
            ("/usr/bin/tool", "/usr/bin/tool"),
            ("/doc/notes-2024-01-02.txt.gz", "/doc/notes-#.txt"),
            ("/a.1.", "/a.#."),
        ] {
            assert_eq!(plain(path), expected, "{path}");
        }
    }

    #[test]
    fn the_same_path_comes_first_and_then_other_versions_of_it() {
        let paths = Paths {
            exact: HashMap::from([("/a.2".into(), 5), ("/b".into(), 6)]),
            versionless: HashMap::from([(b"/a.#".to_vec(), vec![4, 5, 7])]),
        };
        assert_eq!(paths.candidates(&["/a.2".into()]), [5, 4]);
        assert_eq!(paths.candidates(&["/a.3".into()]), [4, 5]);
        assert_eq!(paths.candidates(&["/b".into()]), [6]);
        assert!(paths.candidates(&["/c".into()]).is_empty());
    }

    #[test]
    fn content_finds_what_shares_most_of_it() {
        let mut contents = Contents::default();
        let text = |from: u32| -> Vec<u8> {
            (from..from + 3000)
                .flat_map(|line| format!("line {line} of a text\n").into_bytes())
                .collect()
        };
        for (place, from) in [0, 2000, 9000].into_iter().enumerate() {
            for number in Sketch::of(&text(from)).numbers() {
                contents.by_number.entry(*number).or_default().push(place);
            }
        }
        assert_eq!(
            contents.candidates(&Sketch::of(&text(2100))).first(),
            Some(&1)
        );
        assert!(
            contents
                .candidates(&Sketch::of(b"nothing of it"))
                .is_empty()
        );
        // What everybody has says nothing.
        let common = Sketch::of(&text(0));
        for number in common.numbers() {
            contents
                .by_number
                .insert(*number, vec![0; SHARED_BY_MAX + 1]);
        }
        assert!(contents.candidates(&common).is_empty());
    }
}
