//! `/etc`: the sealed one with the device's changes over it, a generation of changes for each set.
//!
//! ```text
//! etc/a/upper, etc/a/work   what an overlay needs
//! etc/a/seal                the digest of the image that this generation belongs to
//! etc/a.new                 a generation that is being made
//! ```
//!
//! A set that holds another image than its generation belongs to starts with a copy of the other set's changes: a trial may change
//! `/etc` as it likes, and the set to go back to never sees that.
//!
//! # Invariants
//! - The other set's generation is only read.
//! - A generation is replaced only when its mark is missing or is another image's, never because the medium did not give it.
//!
//! # Power loss
//! A generation is made aside and brought to the medium before it gets its name. A cut leaves the old generation, none, or the new
//! one, and perhaps something aside that the next boot removes.

use crate::files::{self, OWN_PATH_MAX_BYTES, OwnPath};
use crate::tree::{self, Step, copy, sync};
use heapless::String;
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use twinseal_core::boot::Set;
use twinseal_core::wire::digest::{BlobDigest, SHA512_BYTES};
use twinseal_platform_linux::calls::{mkdirat, rename};
use twinseal_platform_linux::file::{if_there, join};

/// A digest in hex and the end of its line.
const MARK_MAX_BYTES: usize = 2 * SHA512_BYTES + 1;

/// The two folders of an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The changes.
    pub upper: OwnPath,
    /// The kernel's own.
    pub work: OwnPath,
}

/// Finds the generation of a set and image in `etc`, or makes it.
///
/// # Errors
/// What cannot be read or made.
pub fn generation(
    etc: &str,
    set: Set,
    seal: &BlobDigest,
    step: Step<'_>,
) -> Result<Generation, Errno> {
    let own: OwnPath = join(&[etc, set.of(["/a", "/b"])])?;
    let mark: String<MARK_MAX_BYTES> = join(&[&seal.to_hex(), "\n"])?;
    let generation = Generation {
        upper: join(&[&own, "/upper"])?,
        work: join(&[&own, "/work"])?,
    };
    if !(is_marked(&own, &mark)? && is_directory(&generation.upper)?) {
        make(etc, set, &own, &mark, step)?;
    }
    if !is_directory(&generation.work)? {
        make_directory(&generation.work)?;
    }
    Ok(generation)
}

/// Has the generation of a set belong to another image from now on, durably: that of a set which is rebuilt and was in use. Fine when there
/// is none.
///
/// # Errors
/// What cannot be written.
pub fn keep(etc: &str, set: Set, seal: &BlobDigest) -> Result<(), Errno> {
    let own: OwnPath = join(&[etc, set.of(["/a", "/b"])])?;
    if !is_directory(&join::<OWN_PATH_MAX_BYTES>(&[&own, "/upper"])?)? {
        return Ok(());
    }
    let [new, seen]: [OwnPath; 2] = [join(&[&own, "/seal.new"])?, join(&[&own, "/seal"])?];
    let mark: String<MARK_MAX_BYTES> = join(&[&seal.to_hex(), "\n"])?;
    if is_marked(&own, &mark)? {
        return Ok(());
    }
    match files::write(&new, mark.as_bytes()) {
        // The mark that is there has a block, which takes another one.
        Err(Errno::NOSPC | Errno::DQUOT) => return files::overwrite(&seen, mark.as_bytes()),
        written => written?,
    }
    sync(etc)?;
    rename(new.as_str(), seen.as_str())?;
    sync(etc)
}

/// Whether a generation belongs to the image of a mark. A mark that the medium does not give says neither, and a generation that
/// may be the right one must not be thrown away for it.
fn is_marked(own: &str, mark: &str) -> Result<bool, Errno> {
    let path: OwnPath = join(&[own, "/seal"])?;
    // One byte more, so that a longer mark is another one.
    let mut buffer = [0; MARK_MAX_BYTES + 1];
    let found = if_there(files::read(&path, &mut buffer))?;
    Ok(found.is_some_and(|found| found == mark.as_bytes()))
}

/// Whether a directory is there; what cannot be looked at is an error, not absent.
fn is_directory(path: &str) -> Result<bool, Errno> {
    let about = files::about(path)?;
    Ok(about.is_some_and(|about| files::kind(&about).is_dir()))
}

fn make(etc: &str, set: Set, own: &str, mark: &str, step: Step<'_>) -> Result<(), Errno> {
    let new: OwnPath = join(&[own, ".new"])?;
    let inside = |name| join(&[&new, name]);
    let (upper, work): (OwnPath, OwnPath) = (inside("/upper")?, inside("/work")?);
    let seal: OwnPath = inside("/seal")?;
    tree::remove(&new, step)?;
    step()?;
    files::make_directories(etc)?;
    make_directory(&new)?;
    let others: OwnPath = join(&[etc, set.other().of(["/a", "/b"]), "/upper"])?;
    if is_directory(&others)? {
        copy(&others, &upper, &|_| false, step)?;
    } else {
        step()?;
        make_directory(&upper)?;
    }
    step()?;
    make_directory(&work)?;
    files::write(&seal, mark.as_bytes())?;
    sync(etc)?;
    tree::remove(own, step)?;
    step()?;
    rename(new.as_str(), own)?;
    sync(etc)
}

fn make_directory(path: &str) -> Result<(), Errno> {
    mkdirat(CWD, path, Mode::from_raw_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{cut_after, listing};
    use std::fs;
    use std::os::unix::fs::FileTypeExt;
    use std::path::{Path, PathBuf};
    use std::{format, println};
    use tempfile::TempDir;

    /// The generation in a folder.
    fn generation(
        etc: &Path,
        set: Set,
        seal: &BlobDigest,
        step: Step<'_>,
    ) -> Result<Folders, Errno> {
        let made = super::generation(etc.to_str().unwrap(), set, seal, step)?;
        let [upper, work] = [made.upper, made.work].map(|path| PathBuf::from(path.as_str()));
        Ok(Folders { upper, work })
    }

    struct Folders {
        upper: PathBuf,
        work: PathBuf,
    }

    fn seal(byte: u8) -> BlobDigest {
        BlobDigest::sha256([byte; 32])
    }

    fn never() -> impl FnMut() -> Result<(), Errno> {
        || Ok(())
    }

    /// Set A has run and was changed; set B held something else before.
    fn device() -> TempDir {
        let etc = tempfile::tempdir().unwrap();
        let a = generation(etc.path(), Set::A, &seal(1), &mut never()).unwrap();
        fs::create_dir(a.upper.join("network")).unwrap();
        fs::write(a.upper.join("network/address"), "10.0.0.7").unwrap();
        fs::write(a.upper.join("hostname"), "ward-3").unwrap();
        let b = etc.path().join("b");
        fs::create_dir_all(b.join("upper")).unwrap();
        fs::write(b.join("upper/hostname"), "old").unwrap();
        fs::write(b.join("seal"), format!("{}\n", seal(9).to_hex())).unwrap();
        etc
    }

    #[test]
    fn a_new_image_starts_with_a_copy_of_the_other_sets_changes() {
        let etc = device();
        let b = generation(etc.path(), Set::B, &seal(2), &mut never()).unwrap();
        let a = etc.path().join("a/upper");
        assert_eq!(listing(&a), listing(&b.upper));
        assert!(b.work.is_dir());
        // From here on each has its own.
        fs::write(b.upper.join("hostname"), "changed in the trial").unwrap();
        let again = generation(etc.path(), Set::B, &seal(2), &mut never()).unwrap();
        assert_eq!(
            fs::read_to_string(again.upper.join("hostname")).unwrap(),
            "changed in the trial"
        );
        assert_eq!(fs::read_to_string(a.join("hostname")).unwrap(), "ward-3");
        assert!(!etc.path().join("b.new").exists());
    }

    #[test]
    fn without_a_mark_the_copy_is_fresh() {
        let etc = device();
        let b = generation(etc.path(), Set::B, &seal(2), &mut never()).unwrap();
        fs::write(b.upper.join("hostname"), "of a trial that failed").unwrap();
        fs::remove_file(etc.path().join("b/seal")).unwrap();
        let b = generation(etc.path(), Set::B, &seal(2), &mut never()).unwrap();
        assert_eq!(
            fs::read_to_string(b.upper.join("hostname")).unwrap(),
            "ward-3"
        );
    }

    #[test]
    fn a_set_that_is_rebuilt_keeps_its_own_changes() {
        let etc = device();
        let path = etc.path().to_str().unwrap();
        let before = listing(&etc.path().join("a/upper"));
        keep(path, Set::A, &seal(2)).unwrap();
        let a = generation(etc.path(), Set::A, &seal(2), &mut never()).unwrap();
        assert_eq!(listing(&a.upper), before);
        // Without any, the other set's are copied.
        fs::remove_dir_all(etc.path().join("a")).unwrap();
        keep(path, Set::A, &seal(3)).unwrap();
        let a = generation(etc.path(), Set::A, &seal(3), &mut never()).unwrap();
        assert_eq!(fs::read_to_string(a.upper.join("hostname")).unwrap(), "old");
    }

    #[test]
    fn a_mark_that_cannot_be_read_throws_nothing_away() {
        let etc = device();
        let mark = etc.path().join("a/seal");
        fs::remove_file(&mark).unwrap();
        // Reading it gives an error, and not that it is missing.
        fs::create_dir(&mark).unwrap();
        let before = listing(etc.path());
        for seal in [seal(1), seal(2)] {
            let refused = generation(etc.path(), Set::A, &seal, &mut never());
            assert_eq!(refused.err(), Some(Errno::ISDIR));
            assert_eq!(listing(etc.path()), before);
        }
        // The other set's changes cannot be looked at: a generation without them would lose the device's settings.
        fs::remove_dir_all(etc.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", etc.path().join("a")).unwrap();
        fs::remove_file(etc.path().join("b/seal")).unwrap();
        let old = listing(&etc.path().join("b"));
        assert!(generation(etc.path(), Set::B, &seal(2), &mut never()).is_err());
        assert_eq!(listing(&etc.path().join("b")), old);
    }

    #[test]
    fn a_first_generation_is_empty() {
        let etc = tempfile::tempdir().unwrap();
        let a = generation(&etc.path().join("etc"), Set::A, &seal(1), &mut never()).unwrap();
        assert_eq!(fs::read_dir(a.upper).unwrap().count(), 0);
    }

    #[test]
    fn what_is_deleted_or_opaque_stays_so_and_origins_are_left_out() {
        use rustix::fs::{CWD, FileType, Mode, XattrFlags, lgetxattr, lsetxattr, mknodat};
        let etc = device();
        let upper = etc.path().join("a/upper");
        mknodat(
            CWD,
            upper.join("gone"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
        .unwrap();
        let attribute = |name: &str, value: &[u8]| {
            lsetxattr(upper.join("network"), name, value, XattrFlags::empty()).unwrap();
        };
        attribute("trusted.overlay.opaque", b"y");
        attribute("trusted.overlay.origin", b"a file handle");
        attribute("trusted.overlay.uuid", &[7; 16]);
        let b = generation(etc.path(), Set::B, &seal(2), &mut never()).unwrap();
        let gone = fs::symlink_metadata(b.upper.join("gone")).unwrap();
        assert!(gone.file_type().is_char_device());
        let mut value = [0; 16];
        let copied = b.upper.join("network");
        assert_eq!(
            lgetxattr(&copied, "trusted.overlay.opaque", &mut value),
            Ok(1)
        );
        for name in ["trusted.overlay.origin", "trusted.overlay.uuid"] {
            assert!(lgetxattr(&copied, name, &mut value).is_err(), "{name}");
        }
    }

    #[test]
    fn a_cut_at_any_step_is_made_good_by_the_next_boot() {
        let mut cuts = 0;
        loop {
            let etc = device();
            let before = listing(&etc.path().join("a"));
            let cut = generation(etc.path(), Set::B, &seal(2), &mut cut_after(cuts));
            assert_eq!(listing(&etc.path().join("a")), before, "cut {cuts}");
            if cut.is_ok() {
                break;
            }
            let b = generation(etc.path(), Set::B, &seal(2), &mut never()).unwrap();
            assert_eq!(
                listing(&b.upper),
                listing(&etc.path().join("a/upper")),
                "cut {cuts}"
            );
            assert!(!etc.path().join("b.new").exists(), "cut {cuts}");
            cuts += 1;
        }
        println!("{cuts} cuts");
        assert!(cuts > 10);
    }
}
