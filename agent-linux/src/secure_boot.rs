//! Whether the firmware checks signatures: the variable `SecureBoot` (UEFI specification 2.10, section 3.3).

use crate::config::{Description, EFI_VARIABLES, Loader};
use std::fs;
use std::path::Path;

/// The variable, with the GUID of those that the specification defines.
const VARIABLE: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Whether Secure Boot is on; `None` when nobody says so: no UEFI firmware, or one without the variable.
pub fn is_on(description: &Description) -> Option<bool> {
    let folder = match &description.loader {
        Loader::Uefi { variables } => variables.as_path(),
        Loader::Record => Path::new(EFI_VARIABLES),
    };
    read(folder)
}

/// Four bytes of attributes come first (Documentation/filesystems/efivarfs.rst), then one byte, 1 for on.
fn read(folder: &Path) -> Option<bool> {
    match fs::read(folder.join(VARIABLE)).ok()?.as_slice() {
        [_, _, _, _, 1] => Some(true),
        [_, _, _, _, 0] => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_says_it_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), None);
        for (bytes, says) in [
            (&[6, 0, 0, 0, 1][..], Some(true)),
            (&[6, 0, 0, 0, 0], Some(false)),
            (&[6, 0, 0, 0, 2], None),
            (&[6, 0, 0, 0], None),
            (&[6, 0, 0, 0, 1, 1], None),
        ] {
            fs::write(folder.path().join(VARIABLE), bytes).unwrap();
            assert_eq!(read(folder.path()), says, "{bytes:?}");
        }
    }
}
