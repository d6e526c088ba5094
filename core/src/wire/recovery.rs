//! What the recovery system in an initramfs knows of its device: one file of text, `recovery`, beside `/init` in the signed UKI.
//!
//! ```text
//! twinseal recovery 1
//! compatible acme-gateway
//! anti-rollback 7
//! key 8f…                      (64 hex digits, an Ed25519 public key; a line for each key)
//! ```
//!
//! # Invariants
//! - One value has one encoding: text is accepted only when it is the very text that [`Recovery::emit`] makes.
//! - There is at least one key.

use super::text::Name;
use core::fmt::Write;
use heapless::{String, Vec};

/// Most keys. As many as a device description can name.
pub const KEYS_MAX_COUNT: usize = 8;

/// Largest file: every line at its longest. Stops a file that is something else from being read on.
pub const RECOVERY_MAX_BYTES: usize = 1024;

/// First line; the number is that of the format.
const HEAD: &str = "twinseal recovery 1\n";

/// Bytes of a public key of Ed25519.
pub const KEY_BYTES: usize = 32;

/// What a recovery system knows of its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    compatible: Name,
    anti_rollback: u64,
    keys: Vec<[u8; KEY_BYTES], KEYS_MAX_COUNT>,
}

impl Recovery {
    /// From its parts; `None` without a key or with too many.
    pub fn new(compatible: Name, anti_rollback: u64, keys: &[[u8; KEY_BYTES]]) -> Option<Self> {
        let keys = Vec::from_slice(keys).ok().filter(|keys| !keys.is_empty())?;
        Some(Self {
            compatible,
            anti_rollback,
            keys,
        })
    }

    /// Device type.
    pub const fn compatible(&self) -> &Name {
        &self.compatible
    }

    /// Anti-rollback version of the release that the UKI is of: the recovery installs nothing below it.
    pub const fn anti_rollback(&self) -> u64 {
        self.anti_rollback
    }

    /// Public keys that are trusted for releases.
    pub fn keys(&self) -> &[[u8; KEY_BYTES]] {
        &self.keys
    }

    /// Reads the file's bytes; `None` when they are not what [`Self::emit`] makes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(bytes).ok()?;
        let mut lines = text.strip_prefix(HEAD)?.lines();
        let compatible = Name::new(lines.next()?.strip_prefix("compatible ")?)?;
        let anti_rollback = lines.next()?.strip_prefix("anti-rollback ")?.parse().ok()?;
        let mut keys = Vec::<_, KEYS_MAX_COUNT>::new();
        for line in lines {
            keys.push(key_of(line.strip_prefix("key ")?)?).ok()?;
        }
        let read = Self::new(compatible, anti_rollback, &keys)?;
        (read.emit().as_bytes() == bytes).then_some(read)
    }

    /// The file's text.
    pub fn emit(&self) -> String<RECOVERY_MAX_BYTES> {
        let mut text = String::new();
        // The longest of each line fits, so nothing here fails.
        let _ = write!(
            text,
            "{HEAD}compatible {}\nanti-rollback {}\n",
            self.compatible, self.anti_rollback
        );
        for key in &self.keys {
            let _ = text.push_str("key ");
            for byte in key {
                let _ = write!(text, "{byte:02x}");
            }
            let _ = text.push('\n');
        }
        text
    }
}

fn key_of(hex: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::text::NAME_MAX_BYTES;

    fn example() -> Recovery {
        let name = Name::new("acme-gateway").unwrap();
        Recovery::new(name, 7, &[[0x8f; KEY_BYTES], [1; KEY_BYTES]]).unwrap()
    }

    #[test]
    fn what_is_emitted_reads_back() {
        let text = example().emit();
        let head = "twinseal recovery 1\ncompatible acme-gateway\nanti-rollback 7\nkey 8f8f";
        assert!(text.starts_with(head), "{text}");
        assert_eq!(Recovery::parse(text.as_bytes()), Some(example()));
    }

    #[test]
    fn the_longest_of_everything_fits() {
        let name = [b'x'; NAME_MAX_BYTES];
        let name = Name::new(core::str::from_utf8(&name).unwrap()).unwrap();
        let longest = Recovery::new(name, u64::MAX, &[[0xff; KEY_BYTES]; KEYS_MAX_COUNT]).unwrap();
        assert_eq!(Recovery::parse(longest.emit().as_bytes()), Some(longest));
    }

    #[test]
    fn no_other_spelling_and_no_cut_is_read() {
        let text = example().emit();
        for end in 0..text.len() {
            let cut = Recovery::parse(&text.as_bytes()[..end]);
            // Behind the first key stands a whole file with that key alone.
            let shorter =
                cut.is_some_and(|cut| cut.keys().len() == 1 && text[..end].ends_with("8f\n"));
            assert!(
                shorter || Recovery::parse(&text.as_bytes()[..end]).is_none(),
                "{end}"
            );
        }
        for at in 0..text.len() {
            let mut flipped = [0; RECOVERY_MAX_BYTES];
            flipped[..text.len()].copy_from_slice(text.as_bytes());
            flipped[at] ^= 0x80;
            assert_eq!(Recovery::parse(&flipped[..text.len()]), None, "{at}");
        }
        for other in [
            "twinseal recovery 1\ncompatible a\nanti-rollback 7\n",
            "twinseal recovery 1\ncompatible a\nanti-rollback +7\nkey 00",
            "twinseal recovery 2\ncompatible a\nanti-rollback 7\n",
            "",
        ] {
            assert_eq!(Recovery::parse(other.as_bytes()), None, "{other}");
        }
        let capitals = text.replace("8f", "8F");
        assert_eq!(Recovery::parse(capitals.as_bytes()), None);
    }

    #[test]
    fn there_is_a_key() {
        assert_eq!(Recovery::new(Name::new("a").unwrap(), 0, &[]), None);
    }
}
