//! The objects of a set, read whole: what is there, what its image asks for, and which of them are damaged.
//!
//! # Invariants
//! - An object that is not damaged here was read to its last byte, through the kernel's check of every block where it is sealed,
//!   through its digest where it is not.
//!
//! An image names its objects in the extended attributes that overlayfs follows, `overlay.redirect` with the value `/xx/…`
//! (Documentation/filesystems/overlayfs.rst, "Metadata only copy up"; composefs writes them so). They are found by looking for that
//! text: a file inside the image that holds the same text would name an object too many, which is then reported as missing.

use crate::config::Sealing;
use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::wire::digest::{BlobDigest, DigestAlgorithm};
use twinseal_platform_linux::verity::measure;

/// Objects are read in pieces of this size.
const PIECE_BYTES: usize = 1024 * 1024;

/// What stands before the digest of an object in an image: the end of the attribute's name, and the start of its value.
const REDIRECT: &[u8] = b"overlay.redirect/";

/// A digest in hex and the separator after its first two digits, at its longest.
const REDIRECT_MAX_BYTES: usize = 2 * 64 + 1;

/// Why an object counts as damaged.
#[derive(Debug)]
pub enum Damage {
    /// There is no such file.
    Missing,
    /// The kernel refuses it: a block has another digest than was sealed, or the medium cannot be read.
    Refused,
    /// It is not sealed with fs-verity.
    NotSealed,
    /// It has another digest than its name.
    OtherDigest,
    /// It cannot be opened or read for another reason.
    Unreadable(io::Error),
}

/// The objects of a set.
#[derive(Debug)]
pub struct Objects {
    folder: PathBuf,
    /// Digests in hex and sizes of what is there.
    present: BTreeMap<String, u64>,
    /// Digests in hex of what the images ask for.
    needed: BTreeSet<String>,
    /// Images that cannot be read whole: what they ask for is not all known.
    unread: Vec<String>,
    /// Whether the image that the set must have is listed among its images, which is where an initramfs looks for it.
    listed: bool,
}

impl Objects {
    /// Looks through the root slot that is mounted at `root`. `seal` is the image that the set must have, when that is known.
    ///
    /// # Errors
    /// When the slot cannot be looked through.
    pub fn list(root: &Path, seal: Option<&BlobDigest>) -> io::Result<Self> {
        let folder = root.join("composefs/objects");
        let mut found = Self {
            present: present(&folder)?,
            folder,
            needed: BTreeSet::new(),
            unread: Vec::new(),
            listed: true,
        };
        let mut images = BTreeSet::new();
        for entry in fs::read_dir(root.join("composefs/images"))? {
            let name = entry?.file_name().into_string().ok();
            images.extend(name.filter(|name| is_digest(name)));
        }
        if let Some(seal) = seal {
            found.listed = !images.insert(seal.to_hex().to_string());
        }
        for image in images {
            if redirects(&found.path(&image), &mut found.needed).is_err() {
                found.unread.push(image.clone());
            }
            found.needed.insert(image);
        }
        Ok(found)
    }

    /// Whether the image that the set must have is listed among its images.
    pub const fn is_listed(&self) -> bool {
        self.listed
    }

    /// Bytes of everything that is there.
    pub fn bytes(&self) -> u64 {
        self.present.values().sum()
    }

    /// Number of objects that are there or are asked for.
    pub fn count(&self) -> u32 {
        let missing = self.missing().count();
        u32::try_from(self.present.len() + missing).unwrap_or(u32::MAX)
    }

    /// Whether every image could be read, so that it is known what must be there.
    pub fn is_complete(&self) -> bool {
        self.unread.is_empty()
    }

    /// Where an object is in the root slot that is mounted at `root`.
    pub fn path_in(root: &Path, digest: &BlobDigest) -> PathBuf {
        let hex = digest.to_hex();
        let (shard, rest) = hex.split_at_checked(2).unwrap_or((&hex, ""));
        root.join("composefs/objects").join(shard).join(rest)
    }

    /// Where an object is.
    fn path(&self, hex: &str) -> PathBuf {
        let (shard, rest) = hex.split_at_checked(2).unwrap_or((hex, ""));
        self.folder.join(shard).join(rest)
    }

    /// Reads everything; `progress` takes bytes as they are read, `damaged` each object that is not well.
    pub fn check(
        &self,
        sealing: Sealing,
        mut progress: impl FnMut(u64),
        mut damaged: impl FnMut(BlobDigest, Damage),
    ) {
        let mut piece = vec![0; PIECE_BYTES];
        let missing = self.missing().map(|hex| (hex, None));
        let present = self.present.keys().map(|hex| (hex, Some(self.path(hex))));
        for (hex, path) in present.chain(missing) {
            let Some(digest) = BlobDigest::from_hex(hex.as_bytes()) else {
                continue;
            };
            let checked = path.map_or(Err(Damage::Missing), |path| {
                check_in_pieces(&path, &digest, sealing, &mut piece, &mut progress)
            });
            if let Err(damage) = checked {
                damaged(digest, damage);
            }
        }
    }

    fn missing(&self) -> impl Iterator<Item = &String> {
        self.needed
            .iter()
            .filter(|hex| !self.present.contains_key(*hex))
    }
}

/// Checks one object: sealed, with the right digest, and readable to its end.
///
/// # Errors
/// What is wrong with it.
pub fn check_object(path: &Path, digest: &BlobDigest, sealing: Sealing) -> Result<(), Damage> {
    check_in_pieces(path, digest, sealing, &mut vec![0; PIECE_BYTES], |_| ())
}

/// The same, in pieces as large as `piece`; `progress` takes bytes as they are read.
fn check_in_pieces(
    path: &Path,
    digest: &BlobDigest,
    sealing: Sealing,
    piece: &mut [u8],
    progress: impl FnMut(u64),
) -> Result<(), Damage> {
    let file = File::open(path).map_err(damage)?;
    let sealed = sealing == Sealing::Required;
    if sealed {
        match measure(&file) {
            Ok(Some(measured)) if measured == *digest => {}
            Ok(Some(_)) => return Err(Damage::OtherDigest),
            Ok(None) | Err(_) => return Err(Damage::NotSealed),
        }
    }
    // What the page cache has was checked when it was read; what counts is the medium.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    // The kernel compares every block of a sealed file with the digest that it was just asked for.
    if sealed || digest.algorithm() != DigestAlgorithm::Sha256 {
        return read(file, piece, |_| (), progress).map_err(damage);
    }
    let found = digest_of(file, piece, progress).map_err(damage)?;
    if found == *digest {
        Ok(())
    } else {
        Err(Damage::OtherDigest)
    }
}

/// The fs-verity digest of a file outside the object store, from the medium.
///
/// # Errors
/// When it is not there or cannot be read.
pub fn file_digest(path: &Path) -> Result<BlobDigest, Damage> {
    let file = File::open(path).map_err(damage)?;
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    digest_of(file, &mut vec![0; PIECE_BYTES], |_| ()).map_err(damage)
}

/// Reads a file to its end and computes its fs-verity digest.
fn digest_of(file: File, piece: &mut [u8], progress: impl FnMut(u64)) -> io::Result<BlobDigest> {
    let mut digest = VerityDigest::new();
    read(file, piece, |bytes| digest.update(bytes), progress)?;
    Ok(digest.finish())
}

/// Reads a file to its end, piece by piece.
fn read(
    mut file: File,
    piece: &mut [u8],
    mut take: impl FnMut(&[u8]),
    mut progress: impl FnMut(u64),
) -> io::Result<()> {
    loop {
        match file.read(piece) {
            Ok(0) => return Ok(()),
            Ok(bytes) => {
                take(piece.get(..bytes).unwrap_or(&[]));
                progress(bytes as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn damage(error: io::Error) -> Damage {
    match error.raw_os_error() {
        Some(code) if code == Errno::IO.raw_os_error() || code == Errno::BADMSG.raw_os_error() => {
            Damage::Refused
        }
        Some(code) if code == Errno::NOENT.raw_os_error() => Damage::Missing,
        _ => Damage::Unreadable(error),
    }
}

/// Every object that is there, with its size.
fn present(folder: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut present = BTreeMap::new();
    for shard in fs::read_dir(folder)? {
        let shard = shard?;
        let Some(start) = shard
            .file_name()
            .into_string()
            .ok()
            .filter(|name| name.len() == 2)
        else {
            continue;
        };
        for entry in fs::read_dir(shard.path())? {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap_or_default();
            let hex = format!("{start}{name}");
            if is_digest(&hex) {
                present.insert(hex, entry.metadata()?.len());
            }
        }
    }
    Ok(present)
}

/// Only our own spelling of a digest is a name.
fn is_digest(name: &str) -> bool {
    BlobDigest::from_hex(name.as_bytes()).is_some_and(|digest| digest.to_hex().as_str() == name)
}

/// Adds the objects that an image asks for.
fn redirects(image: &Path, needed: &mut BTreeSet<String>) -> io::Result<()> {
    let mut file = File::open(image)?;
    let keep_bytes = REDIRECT.len() + REDIRECT_MAX_BYTES;
    let mut window = Vec::with_capacity(PIECE_BYTES + keep_bytes);
    loop {
        let before = window.len();
        file.by_ref()
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut window)?;
        let ended = window.len() == before;
        needed.extend(
            window
                .windows(REDIRECT.len())
                .enumerate()
                .filter_map(|(at, text)| {
                    let value = (text == REDIRECT).then(|| window.get(at + REDIRECT.len()..))??;
                    // What may go on in the next piece is looked at again with it.
                    (ended || value.len() >= REDIRECT_MAX_BYTES).then(|| redirect(value))?
                }),
        );
        if ended {
            return Ok(());
        }
        let drop_bytes = window.len().saturating_sub(keep_bytes);
        window.drain(..drop_bytes);
    }
}

/// The digest at the start of `value`: two digits, a separator, the rest.
fn redirect(value: &[u8]) -> Option<String> {
    let (shard, rest) = value.split_at_checked(2)?;
    let rest = rest.strip_prefix(b"/")?;
    let digits = rest
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let length = if digits >= 126 { 126 } else { 62 };
    let hex = String::from_utf8([shard, rest.get(..length)?].concat()).ok()?;
    is_digest(&hex).then_some(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with one image that asks for the objects.
    fn repository(image: &[u8], objects: &[&[u8]]) -> (tempfile::TempDir, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("composefs/images")).unwrap();
        let names = std::iter::once(image)
            .chain(objects.iter().copied())
            .map(|bytes| {
                let mut digest = VerityDigest::new();
                digest.update(bytes);
                let hex = digest.finish().to_hex().to_string();
                let shard = folder.path().join("composefs/objects").join(&hex[..2]);
                fs::create_dir_all(&shard).unwrap();
                fs::write(shard.join(&hex[2..]), bytes).unwrap();
                hex
            });
        let names: Vec<String> = names.collect();
        std::os::unix::fs::symlink("x", folder.path().join("composefs/images").join(&names[0]))
            .unwrap();
        (folder, names)
    }

    fn check(objects: &Objects, sealing: Sealing) -> (u64, Vec<(String, Damage)>) {
        let (mut bytes, mut damaged) = (0, Vec::new());
        objects.check(
            sealing,
            |read| bytes += read,
            |digest, damage| damaged.push((digest.to_string(), damage)),
        );
        (bytes, damaged)
    }

    #[test]
    fn what_an_image_asks_for_is_found_wherever_it_stands() {
        let hex = "1f".repeat(32);
        for before in [
            0,
            1,
            PIECE_BYTES - 100,
            PIECE_BYTES - 17,
            PIECE_BYTES,
            2 * PIECE_BYTES - 3,
        ] {
            let mut image = vec![b'o'; before];
            image.extend_from_slice(format!("overlay.redirect/1f/{}", &hex[2..]).as_bytes());
            image.extend_from_slice(&[0; 7]);
            let (folder, names) = repository(&image, &[]);
            let objects = Objects::list(folder.path(), None).unwrap();
            assert_eq!(
                objects.needed,
                BTreeSet::from([hex.clone(), names[0].clone()]),
                "{before}"
            );
            let (bytes, damaged) = check(&objects, Sealing::Absent);
            assert_eq!(bytes, image.len() as u64);
            assert!(matches!(&damaged[..], [(name, Damage::Missing)] if *name == hex));
            assert_eq!(objects.count(), 2);
        }
        assert_eq!(redirect(format!("1f/{}", "zz".repeat(31)).as_bytes()), None);
        assert_eq!(redirect(b"1f/1f1f"), None);
        assert_eq!(
            redirect(format!("aa/{}", "aa".repeat(63)).as_bytes()),
            Some("aa".repeat(64))
        );
    }

    #[test]
    fn a_changed_object_and_one_that_is_not_sealed_are_named() {
        let (folder, names) = repository(b"image", &[b"one", b"two"]);
        let objects = Objects::list(folder.path(), None).unwrap();
        assert!(check(&objects, Sealing::Absent).1.is_empty());
        fs::write(objects.path(&names[1]), "another").unwrap();
        let (_, damaged) = check(&objects, Sealing::Absent);
        assert!(matches!(&damaged[..], [(name, Damage::OtherDigest)] if *name == names[1]));
        let (_, damaged) = check(&objects, Sealing::Required);
        assert_eq!(damaged.len(), 3);
        assert!(
            damaged
                .iter()
                .all(|(_, damage)| matches!(damage, Damage::NotSealed))
        );
    }

    #[test]
    fn an_image_that_must_be_there_and_is_not_is_missing() {
        let (folder, _) = repository(b"image", &[]);
        let seal = BlobDigest::sha256([7; 32]);
        let objects = Objects::list(folder.path(), Some(&seal)).unwrap();
        assert!(!objects.is_complete() && !objects.is_listed());
        let (_, damaged) = check(&objects, Sealing::Absent);
        assert!(matches!(&damaged[..], [(name, Damage::Missing)] if *name == seal.to_string()));
        assert!(Objects::list(Path::new("/no/such"), None).is_err());
    }

    #[test]
    fn what_the_kernel_refuses_is_told_from_what_cannot_be_opened() {
        assert!(matches!(
            damage(io::Error::from_raw_os_error(5)),
            Damage::Refused
        ));
        assert!(matches!(
            damage(io::Error::from_raw_os_error(2)),
            Damage::Missing
        ));
        assert!(matches!(
            damage(io::Error::from_raw_os_error(13)),
            Damage::Unreadable(_)
        ));
    }
}
