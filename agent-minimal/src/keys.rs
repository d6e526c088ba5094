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

/// A key with its prefix, and the letters of base 64 that it takes: the last one stands for nothing.
const KEY_BYTES: usize = PREFIX.len() + 32;
const KEY_LETTERS: usize = (KEY_BYTES + 1) / 3 * 4;

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
    let failed = |errno| AgentError::KeyUnread {
        file: join(&[folder]).unwrap_or_default(),
        errno,
    };
    let Some(directory) = if_there(open_directory_path(folder)).map_err(failed)? else {
        return Ok(());
    };
    let mut stopped = Ok(());
    let read = for_each_entry(directory, |name| {
        if let Ok(name) = name.to_str()
            && name.len() > ".pub".len()
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
    // A byte more shows that it is longer.
    let mut buffer = [0; KEY_FILE_MAX_BYTES + 1];
    let text = files::read(file, &mut buffer).map_err(|errno| AgentError::KeyUnread {
        file: file.clone(),
        errno,
    })?;
    let wrong = || AgentError::Key { file: file.clone() };
    parse(text).map(TrustedKey::ed25519).ok_or_else(wrong)
}

/// The key in a PEM text: comments, the key, and nothing behind it.
fn parse(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() > KEY_FILE_MAX_BYTES || text.contains(&0) {
        return None;
    }
    let key = (0..text.len()).find_map(|at| {
        let (before, line) = text.split_at_checked(at)?;
        let is_line = matches!(before.last(), None | Some(b'\n'));
        line.strip_prefix(b"-----BEGIN ").filter(|_| is_line)
    })?;
    let (letters, rest) = line_end(key.strip_prefix(b"PUBLIC KEY-----")?)?.split_first_chunk()?;
    let rest = line_end(rest)?.strip_prefix(b"-----END PUBLIC KEY-----")?;
    if !rest.trim_ascii().is_empty() {
        return None;
    }
    let bytes = decode(letters)?;
    let (key, padding) = bytes.strip_prefix(&PREFIX)?.split_first_chunk()?;
    (padding == [0]).then_some(*key)
}

/// What stands behind the end of a line.
fn line_end(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(b"\r").unwrap_or(text);
    rest.strip_prefix(b"\n")
        .or((rest.len() < text.len()).then_some(rest))
}

/// The bytes of a key in base 64, and a zero for its padding.
fn decode(letters: &[u8; KEY_LETTERS]) -> Option<[u8; KEY_BYTES + 1]> {
    let mut bytes = [0; KEY_BYTES + 1];
    let (letters, padding) = letters.split_last_chunk::<1>()?;
    if padding != b"=" {
        return None;
    }
    let mut letters = letters.iter();
    for three in bytes.chunks_mut(3) {
        let mut value: u32 = 0;
        for letter in letters.by_ref().take(4).chain(b"A").take(4) {
            value = value << 6 | sextet(*letter)?;
        }
        let [_, value @ ..] = value.to_be_bytes();
        three.copy_from_slice(&value);
    }
    Some(bytes)
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
            &PEM.replace("ZuE=", "ZuF="),
            &PEM.replace("ZuE=", "ZuEA"),
            &PEM.replace("ZuE=", "ZuE=\n"),
            &PEM.replace("MCow", "MC\now"),
            &PEM.replace("-----BEGIN", "x-----BEGIN"),
            &PEM.replace("-----END", "x-----END"),
            &PEM.repeat(2),
            &[PEM, "and more"].concat(),
            &[&" ".repeat(KEY_FILE_MAX_BYTES), "\n", PEM].concat(),
            &["\0\n", PEM].concat(),
            &["-----BEGIN CERTIFICATE-----\n", PEM].concat(),
            &PEM.replace("GGb9", "G!b9").replace("AGb9", "A!b9"),
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        for text in [
            &["A comment\nof two lines\n", PEM, "\n \n"].concat(),
            PEM.trim_end(),
            &PEM.replace('\n', "\r\n"),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(KEY), "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let missing: OwnPath = join(&[path, "/none.pub"]).unwrap();
        let missing = load(Some(&[missing]), path).unwrap_err();
        assert_eq!(missing.code(), twinseal_core::exit::USAGE);
        assert!(matches!(load(None, path), Err(AgentError::NoKeys { .. })));
        fs::write(folder.path().join("bad.pub"), "x").unwrap();
        assert!(matches!(load(None, path), Err(AgentError::Key { .. })));
    }
}
