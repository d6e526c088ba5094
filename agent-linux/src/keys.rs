//! The keys that this device trusts for releases: PEM files with one Ed25519 public key each (SPKI, RFC 8410), as
//! `openssl pkey -pubout` writes them.

use crate::error::{AgentError, KeyProblem};
use ed25519::pkcs8::{DecodePublicKey, PublicKeyBytes};
use std::fs;
use std::path::{Path, PathBuf};
use twinseal_core::verify::signature::TrustedKey;
use twinseal_core::wire::signatures::KeyId;

/// Largest key file that is read: an Ed25519 key takes 113 bytes, the rest is room for comments.
const KEY_FILE_MAX_BYTES: u64 = 16 * 1024;

/// Reads the keys of a device description: the files it names, or every `*.pub` of `default_folder` in the order of their names.
///
/// # Errors
/// [`AgentError::Key`] names the file and what is wrong with it; [`AgentError::NoKeys`] when there is none.
pub fn load(
    named: Option<&[PathBuf]>,
    default_folder: &Path,
) -> Result<Vec<TrustedKey>, AgentError> {
    let files = match named {
        Some(files) => files.to_vec(),
        None => public_key_files(default_folder),
    };
    let keys = files
        .iter()
        .map(|file| read(file))
        .collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err(AgentError::NoKeys {
            folder: default_folder.to_path_buf(),
        });
    }
    Ok(keys)
}

/// A key id as it is shown everywhere: lower-case hex.
pub fn id_text(id: &KeyId) -> String {
    hex(id)
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn public_key_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pub"));
    files.sort();
    files
}

fn read(file: &Path) -> Result<TrustedKey, AgentError> {
    let wrong = |problem: KeyProblem| AgentError::Key {
        file: file.to_path_buf(),
        problem,
    };
    let size = fs::metadata(file)
        .map_err(|error| wrong(error.into()))?
        .len();
    if size > KEY_FILE_MAX_BYTES {
        return Err(wrong(KeyProblem::TooLarge {
            size,
            limit: KEY_FILE_MAX_BYTES,
        }));
    }
    let text = fs::read(file).map_err(|error| wrong(error.into()))?;
    // Comments may be in any encoding, and an empty line at the end is nobody's fault.
    let text = String::from_utf8_lossy(text.trim_ascii_end());
    let key = PublicKeyBytes::from_public_key_pem(&text);
    let key = key.map_err(|error| wrong(error.into()))?;
    Ok(TrustedKey::ed25519(key.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of RFC 8410, section 10.1.
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    const KEY: [u8; 32] = [
        0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b,
        0x96, 0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31,
        0x66, 0xe1,
    ];

    #[test]
    fn a_key_of_openssl_is_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("release.pub"), PEM).unwrap();
        fs::write(folder.path().join("notes.txt"), "no key").unwrap();
        assert_eq!(
            load(None, folder.path()).unwrap(),
            [TrustedKey::ed25519(KEY)]
        );
    }

    #[test]
    fn what_is_not_one_ed25519_key_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("release.pub");
        for text in [
            "",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            &PEM.replace("PUBLIC", "PRIVATE"),
            &PEM.repeat(2),
        ] {
            fs::write(&file, text).unwrap();
            let error = load(Some(std::slice::from_ref(&file)), folder.path()).unwrap_err();
            assert!(error.to_string().contains("release.pub"), "{error}");
        }
        assert!(matches!(
            load(Some(&[]), folder.path()),
            Err(AgentError::NoKeys { .. })
        ));
        assert!(matches!(
            load(None, Path::new("/nonexistent")),
            Err(AgentError::NoKeys { .. })
        ));
    }
}
