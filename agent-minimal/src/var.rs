//! `/var`: what the sealed image has there is the start of what the device has there.
//!
//! ```text
//! data/var         the device's /var
//! data/var.new     what is being copied from the image
//! data/var-filled  all of the image's /var was copied once
//! ```
//!
//! # Invariants
//! - What the device has is never replaced, and once `var-filled` is there nothing is looked at any more: only a `var` that is
//!   gone as a whole is filled again.
//!
//! # Power loss
//! What is missing is copied aside and brought to the medium, then moved into place, one rename for each entry or whole
//! directory. A cut leaves some of it in place; the next boot copies what is still missing.

use crate::files::{self, OwnPath, WalkPath, is_directory};
use crate::tree::{self, Step, copy, remove, sync};
use core::ffi::CStr;
use rustix::fs::{CWD, Mode, Stat};
use rustix::io::Errno;
use twinseal_platform_linux::calls::{mkdirat, rename};
use twinseal_platform_linux::file::{for_each_entry, join};

/// Fills `data/var` from the image's `/var`; gives whether there was something to do.
///
/// # Errors
/// What cannot be copied; the next boot tries again.
pub fn fill(data: &str, sealed_var: &str, step: Step<'_>) -> Result<bool, Errno> {
    let below = |name| join(&[data, name]);
    let (var, new): (OwnPath, OwnPath) = (below("/var")?, below("/var.new")?);
    let filled: OwnPath = below("/var-filled")?;
    if files::exists(&filled)? && is_directory(&var) {
        return Ok(false);
    }
    remove(&new, step)?;
    if is_directory(sealed_var) {
        let skip = |below: &CStr| is_there_whole(&var, sealed_var, below);
        copy(sealed_var, &new, &skip, step)?;
        sync(data)?;
        place(&mut WalkPath::new(&new)?, &mut WalkPath::new(&var)?, step)?;
    }
    if !is_directory(&var) {
        step()?;
        mkdirat(CWD, var.as_str(), Mode::from_raw_mode(0o755))?;
    }
    step()?;
    remove(&new, step)?;
    sync(data)?;
    step()?;
    files::make_durably(&filled, data)?;
    Ok(true)
}

/// Whether the device has an entry. A directory may be there in part. What cannot be looked at is not there, and shows when it is
/// placed.
fn is_there_whole(var: &str, sealed_var: &str, below: &CStr) -> bool {
    let about = |root: &str| -> Option<Stat> {
        let mut path = WalkPath::new(root).ok()?;
        path.enter(below).ok()?;
        files::about(path.as_c_str()).ok()?
    };
    let is_directory = |about: &Stat| files::kind(about).is_dir();
    about(var).is_some_and(|device| {
        let image = about(sealed_var);
        !(is_directory(&device) && image.as_ref().is_some_and(is_directory))
    })
}

/// Moves an entry to its place: as a whole when nothing is there, otherwise what is in it.
fn place(new: &mut WalkPath, to: &mut WalkPath, step: Step<'_>) -> Result<(), Errno> {
    if files::about(to.as_c_str())?.is_none() {
        step()?;
        return rename(new.as_c_str(), to.as_c_str());
    }
    // Both are directories, or the entry would not have been copied.
    let directory = tree::open_directory(new.as_c_str())?;
    for_each_entry(directory, |name| {
        let lengths = (new.enter(name)?, to.enter(name)?);
        place(new, to, step)?;
        new.leave(lengths.0);
        to.leave(lengths.1);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{cut_after, listing};
    use std::fs;
    use std::path::Path;
    use std::string::String;
    use std::vec::Vec;
    use tempfile::TempDir;

    fn fill(data: &Path, sealed_var: &Path, step: Step<'_>) -> Result<bool, Errno> {
        super::fill(data.to_str().unwrap(), sealed_var.to_str().unwrap(), step)
    }

    fn image() -> TempDir {
        let image = tempfile::tempdir().unwrap();
        let root = image.path();
        fs::create_dir_all(root.join("lib/deep")).unwrap();
        fs::create_dir(root.join("tmp")).unwrap();
        fs::write(root.join("lib/deep/file"), "image").unwrap();
        fs::write(root.join("lib/settings"), "image").unwrap();
        fs::write(root.join("lib/deep/other"), "image").unwrap();
        std::os::unix::fs::symlink("lib/settings", root.join("link")).unwrap();
        image
    }

    /// A device that was provisioned: the agent's state is there, and a file that the image has too.
    fn device() -> TempDir {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir_all(data.path().join("var/lib/twinseal")).unwrap();
        fs::write(data.path().join("var/lib/twinseal/boot-record"), "state").unwrap();
        fs::write(data.path().join("var/lib/settings"), "device").unwrap();
        data
    }

    fn contents(data: &TempDir) -> Vec<(String, String)> {
        let var = data.path().join("var");
        let content = |name: &String| fs::read_to_string(var.join(name)).unwrap_or_default();
        listing(&var)
            .into_keys()
            .map(|name| (name.clone(), content(&name)))
            .collect()
    }

    #[test]
    fn what_is_missing_is_copied_and_what_is_there_stays() {
        let (image, data) = (image(), device());
        assert!(fill(data.path(), image.path(), &mut || Ok(())).unwrap());
        let has = |name: &str| fs::read_to_string(data.path().join("var").join(name)).unwrap();
        assert_eq!(has("lib/deep/file"), "image");
        assert_eq!(has("lib/settings"), "device");
        assert_eq!(has("lib/twinseal/boot-record"), "state");
        fs::remove_file(data.path().join("var/lib/deep/file")).unwrap();
        assert!(!fill(data.path(), image.path(), &mut || Ok(())).unwrap());
        assert!(
            !data.path().join("var/lib/deep/file").exists(),
            "filled once"
        );
    }

    #[test]
    fn a_new_device_gets_all_of_it() {
        let (image, data) = (image(), tempfile::tempdir().unwrap());
        fill(data.path(), image.path(), &mut || Ok(())).unwrap();
        assert_eq!(listing(image.path()), listing(&data.path().join("var")));
        let empty = tempfile::tempdir().unwrap();
        fill(empty.path(), &image.path().join("none"), &mut || Ok(())).unwrap();
        assert!(empty.path().join("var").is_dir());
    }

    #[test]
    fn what_was_lost_as_a_whole_is_filled_again() {
        let (image, data) = (image(), tempfile::tempdir().unwrap());
        fill(data.path(), image.path(), &mut || Ok(())).unwrap();
        fs::remove_dir_all(data.path().join("var")).unwrap();
        assert!(fill(data.path(), image.path(), &mut || Ok(())).unwrap());
        assert_eq!(listing(image.path()), listing(&data.path().join("var")));
    }

    #[test]
    fn a_cut_at_any_step_is_made_good_by_the_next_boot() {
        let image = image();
        let whole = device();
        fill(whole.path(), image.path(), &mut || Ok(())).unwrap();
        let mut cuts = 0;
        loop {
            let data = device();
            let cut = fill(data.path(), image.path(), &mut cut_after(cuts));
            if cut.is_ok() {
                break;
            }
            assert!(!data.path().join("var-filled").exists(), "cut {cuts}");
            fill(data.path(), image.path(), &mut || Ok(())).unwrap();
            assert_eq!(contents(&data), contents(&whole), "cut {cuts}");
            assert!(!data.path().join("var.new").exists(), "cut {cuts}");
            cuts += 1;
        }
        std::println!("{cuts} cuts");
        assert!(cuts > 10);
    }
}
