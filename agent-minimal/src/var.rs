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

use crate::tree::{Step, copy, remove, sync};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Fills `data/var` from the image's `/var`; gives whether there was something to do.
///
/// # Errors
/// What cannot be copied; the next boot tries again.
pub fn fill(data: &Path, sealed_var: &Path, step: Step<'_>) -> io::Result<bool> {
    let filled = data.join("var-filled");
    let (var, new) = (data.join("var"), data.join("var.new"));
    if filled.try_exists()? && var.is_dir() {
        return Ok(false);
    }
    remove(&new, step)?;
    if sealed_var.is_dir() {
        let skip = |below: &Path| is_there_whole(&var.join(below), &sealed_var.join(below));
        copy(sealed_var, &new, &skip, step)?;
        sync(data)?;
        place(&new, &var, step)?;
    }
    if !var.is_dir() {
        step()?;
        fs::create_dir(&var)?;
    }
    step()?;
    remove(&new, step)?;
    sync(data)?;
    step()?;
    File::create(&filled)?.sync_all()?;
    File::open(data)?.sync_all()?;
    Ok(true)
}

/// Whether the device has an entry. A directory may be there in part.
fn is_there_whole(device: &Path, image: &Path) -> bool {
    let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
    let both_directories = is_directory(device) && is_directory(image);
    !both_directories && fs::symlink_metadata(device).is_ok()
}

/// Moves an entry to its place: as a whole when nothing is there, otherwise what is in it.
fn place(new: &Path, to: &Path, step: Step<'_>) -> io::Result<()> {
    match fs::symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            step()?;
            fs::rename(new, to)
        }
        Err(error) => Err(error),
        Ok(_) => {
            for entry in fs::read_dir(new)? {
                let name = entry?.file_name();
                place(&new.join(&name), &to.join(&name), step)?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{cut_after, listing};
    use tempfile::TempDir;

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
        println!("{cuts} cuts");
        assert!(cuts > 10);
    }
}
