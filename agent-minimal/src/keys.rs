//! The keys that this device trusts for releases: files with one Ed25519 public key each in PEM (RFC 7468, RFC 8410), as
//! `openssl pkey -pubout` writes them.

use crate::description::KEYS_MAX;
use crate::error::AgentError;
use crate::files::{self, OwnPath};
use heapless::Vec;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_platform_linux::file::{for_each_entry, if_there, join, open_directory_path};

/// Where keys are, when the description names none; a part of the sealed system.
pub const KEYS_FOLDER: &str = "/usr/lib/twinseal/keys";

/// Largest key file that is read: a key takes 113 bytes, the rest is room for comments before it.
const KEY_FILE_MAX_BYTES: usize = 16 * 1024;

/// What every Ed25519 key in this form starts with: a sequence of the algorithm 1.3.101.112 and 33 bytes (RFC 8410, section 4).
const PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The keys of a device.
pub type Keys = Vec<TrustedKey, KEYS_MAX>;

/// Reads the files named, or every `*.pub` of `folder`.
///
/// # Errors
/// [`AgentError`] names the file that is no key, or says that there is none.
pub fn load(named: Option<&[OwnPath]>, folder: &str) -> Result<Keys, AgentError> {
    let shown: OwnPath = join(&[folder]).unwrap_or_default();
    let mut keys = Keys::new();
    let mut add = |file: &OwnPath| {
        let too_many = AgentError::TooManyKeys {
            folder: shown.clone(),
            limit: KEYS_MAX,
        };
        keys.push(read(file)?).map_err(|_| too_many)
    };
    match named {
        Some(files) => files.iter().try_for_each(&mut add)?,
        None => each_public_key(folder, add)?,
    }
    if keys.is_empty() {
        return Err(AgentError::NoKeys { folder: shown });
    }
    Ok(keys)
}

fn each_public_key<A>(folder: &str, mut add: A) -> Result<(), AgentError>
where
    A: FnMut(&OwnPath) -> Result<(), AgentError>,
{
    let failed = |errno| AgentError::File {
        file: join(&[folder]).unwrap_or_default(),
        done: "read",
        errno,
    };
    let Some(directory) = if_there(open_directory_path(folder)).map_err(failed)? else {
        return Ok(());
    };
    let mut stopped = Ok(());
    let read = for_each_entry(directory, |name| {
        if let Ok(name) = name.to_str()
            && name.ends_with(".pub")
            && stopped.is_ok()
        {
            stopped = add(&join(&[folder, "/", name])?);
        }
        Ok(())
    });
    stopped.and(read.map_err(failed))
}

fn read(file: &OwnPath) -> Result<TrustedKey, AgentError> {
    let mut buffer = [0; KEY_FILE_MAX_BYTES];
    let text = files::read(file, &mut buffer).map_err(|errno| AgentError::File {
        file: file.clone(),
        done: "read",
        errno,
    })?;
    let wrong = || AgentError::Key { file: file.clone() };
    parse(text).map(TrustedKey::ed25519).ok_or_else(wrong)
}

/// The key in a PEM text.
fn parse(text: &[u8]) -> Option<[u8; 32]> {
    let (_, rest) = around(text, b"-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = around(rest, b"-----END PUBLIC KEY-----")?;
    let mut bytes = Vec::<u8, { PREFIX.len() + 32 + 1 }>::new();
    let mut letters = body
        .iter()
        .copied()
        .filter(|letter| !letter.is_ascii_whitespace());
    while let Some(first) = letters.next() {
        let four = [first, letters.next()?, letters.next()?, letters.next()?];
        let padding = four
            .iter()
            .rev()
            .take_while(|letter| **letter == b'=')
            .count();
        let mut value: u32 = 0;
        for letter in four.into_iter().take(4 - padding) {
            value = value << 6 | sextet(letter)?;
        }
        let made = (value << (6 * padding)).to_be_bytes();
        let made = made.get(1..4 - padding.min(2))?;
        bytes.extend_from_slice(made).ok()?;
        if padding > 2 || (padding > 0 && letters.next().is_some()) {
            return None;
        }
    }
    bytes.strip_prefix(&PREFIX)?.try_into().ok()
}

/// What stands before and behind these words.
fn around<'t>(text: &'t [u8], words: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let at = text.windows(words.len()).position(|found| found == words)?;
    Some((text.get(..at)?, text.get(at + words.len()..)?))
}

/// The value of a letter of base 64 (RFC 4648, section 4).
fn sextet(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    // The example of RFC 8410, section 10.1.
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    const KEY: [u8; 32] = [
        0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b,
        0x96, 0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31,
        0x66, 0xe1,
    ];

    #[test]
    fn a_key_of_openssl_is_read_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("release.pub"), PEM).unwrap();
        fs::write(folder.path().join("notes.txt"), "no key").unwrap();
        let keys = load(None, folder.path().to_str().unwrap()).unwrap();
        assert_eq!(keys, [TrustedKey::ed25519(KEY)]);
    }

    #[test]
    fn what_is_not_one_key_is_refused() {
        for text in [
            "",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            &PEM.replace("PUBLIC", "PRIVATE"),
            &PEM.replace("MCow", "MCox"),
            &PEM.replace("ZuE=", "ZuE"),
            &PEM.replace("ZuE=", "ZuE=AAAA"),
            &PEM.replace("ZuE=", "Zu=="),
            &PEM.replace("GGb9", "G!b9").replace("AGb9", "A!b9"),
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert!(matches!(load(None, path), Err(AgentError::NoKeys { .. })));
        fs::write(folder.path().join("bad.pub"), "x").unwrap();
        assert!(matches!(load(None, path), Err(AgentError::Key { .. })));
    }
}
