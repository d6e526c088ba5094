//! The demo's output folder: its own, known by a marker file.
//!
//! # Invariants
//! - A folder without the marker is never written to and nothing in it is removed, unless it is empty or new.

use super::error::DemoError;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const MARKER: &str = ".twinseal-demo";
const MARKER_TEXT: &str = "This folder was made by `twinseal-hil demo`. The next run removes it.\n";

/// What `--keep` keeps: made by the maker's half of the demo.
const MAKERS: [&str; 4] = ["keys", "recipes", "bundles", "overlay"];

/// Says that the maker's half is complete.
const MAKERS_DONE: &str = "bundles/.complete";

/// The output folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Whether a folder is that of an earlier run.
    pub(super) fn is_of_a_demo(path: &Path) -> bool {
        path.join(MARKER).is_file()
    }

    /// Makes the folder, or takes over and empties that of an earlier run; with `keep`, all but what the maker made.
    pub(super) fn begin(path: &Path, keep: bool) -> Result<Self, DemoError> {
        fs::create_dir_all(path).map_err(DemoError::file(path, "made"))?;
        let path = fs::canonicalize(path).map_err(DemoError::file(path, "found"))?;
        let folder = Self { path };
        let marker = folder.at(MARKER);
        let empty = folder.entries()?.is_empty();
        if !empty && !marker.is_file() {
            return Err(DemoError::FolderNotOurs {
                folder: folder.path,
            });
        }
        let keep = keep && folder.is_made();
        for entry in folder.entries()? {
            let is_makers = keep && MAKERS.iter().any(|name| entry.ends_with(name));
            if !is_makers && entry != marker {
                remove(&entry)?;
            }
        }
        fs::write(&marker, MARKER_TEXT).map_err(DemoError::file(&marker, "written"))?;
        MAKERS.iter().try_for_each(|name| {
            let made = folder.at(name);
            fs::create_dir_all(&made).map_err(DemoError::file(&made, "made"))
        })?;
        Ok(folder)
    }

    /// A path in the folder.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether the maker's half of an earlier run is there, complete.
    pub(super) fn is_made(&self) -> bool {
        self.at(MAKERS_DONE).is_file()
    }

    /// Says that the maker's half is complete.
    pub(super) fn set_made(&self) -> Result<(), DemoError> {
        let file = self.at(MAKERS_DONE);
        fs::write(&file, "").map_err(DemoError::file(&file, "written"))
    }

    fn entries(&self) -> Result<Vec<PathBuf>, DemoError> {
        let read = || -> std::io::Result<Vec<PathBuf>> {
            fs::read_dir(&self.path)?
                .map(|entry| Ok(entry?.path()))
                .collect()
        };
        read().map_err(DemoError::file(&self.path, "read"))
    }
}

/// Removes a file or a folder; a symbolic link is removed, not followed.
fn remove(path: &Path) -> Result<(), DemoError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(DemoError::file(path, "removed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_folder_is_emptied() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("out");
        assert!(!Folder::is_of_a_demo(&path));
        let folder = Folder::begin(&path, false).unwrap();
        assert!(Folder::is_of_a_demo(&path));
        fs::write(folder.at("rest"), "").unwrap();
        fs::create_dir(folder.at("device")).unwrap();
        Folder::begin(&path, false).unwrap();
        assert!(!folder.at("rest").exists() && !folder.at("device").exists());

        let strange = temporary.path().join("strange");
        fs::create_dir(&strange).unwrap();
        fs::write(strange.join("precious"), "").unwrap();
        let error = Folder::begin(&strange, false).unwrap_err();
        assert!(matches!(error, DemoError::FolderNotOurs { .. }), "{error}");
        assert!(strange.join("precious").exists());
        assert_eq!(
            fs::read_dir(&strange).unwrap().count(),
            1,
            "nothing was put there"
        );
    }

    #[test]
    fn a_link_in_the_folder_is_not_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let (path, strange) = (
            temporary.path().join("out"),
            temporary.path().join("strange"),
        );
        let folder = Folder::begin(&path, false).unwrap();
        fs::create_dir(&strange).unwrap();
        fs::write(strange.join("precious"), "").unwrap();
        std::os::unix::fs::symlink(&strange, folder.at("link")).unwrap();
        Folder::begin(&path, false).unwrap();
        assert!(strange.join("precious").exists() && !folder.at("link").exists());
    }

    #[test]
    fn what_the_maker_made_is_kept_only_when_it_is_complete() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::begin(temporary.path(), true).unwrap();
        fs::write(folder.at("bundles/v1.tseal"), "").unwrap();
        assert!(
            !Folder::begin(temporary.path(), true)
                .unwrap()
                .at("bundles/v1.tseal")
                .exists()
        );
        fs::write(folder.at("bundles/v1.tseal"), "").unwrap();
        folder.set_made().unwrap();
        let again = Folder::begin(temporary.path(), true).unwrap();
        assert!(again.at("bundles/v1.tseal").exists() && again.is_made());
        let anew = Folder::begin(temporary.path(), false).unwrap();
        assert!(!anew.at("bundles/v1.tseal").exists() && !anew.is_made());
    }
}
