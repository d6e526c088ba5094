//! The kernel command line, which the UKI's signature covers.
//!
//! # Invariants
//! - The seal is read by core, with the rules by which an install checked it: exactly one, or none.

use twinseal_core::verify::seal::seal_of_command_line;
use twinseal_core::wire::digest::BlobDigest;

/// Seconds until the watchdog resets the machine, when nothing else is said: a slow first boot fits in.
pub const WATCHDOG_DEFAULT_SECONDS: u32 = 60;

/// The first program of the system, when nothing else is said.
pub const INIT_DEFAULT: &str = "/sbin/init";

/// What the command line says to `/init`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine<'l> {
    /// `composefs=`; `None` when it is missing, stands twice, or is no digest.
    pub seal: Option<BlobDigest>,
    /// `twinseal.watchdog=SECONDS`; 0 leaves the watchdog alone.
    pub watchdog_seconds: u32,
    /// `twinseal.starts=NUMBER`: so many starts of a committed set may go without a word that it is well. `None`, and 0: they are
    /// not counted.
    pub starts: Option<u32>,
    /// `init=`: the first program of the system.
    pub init: &'l str,
    /// `twinseal.recover`: the recovery is to run instead of the system.
    pub recover: bool,
    /// `twinseal.recover.url=`: where the recovery finds a bundle.
    pub recover_url: Option<&'l str>,
    /// `twinseal.recover.ip=`: the recovery's address, `dhcp` when nothing is said.
    pub recover_address: &'l str,
}

impl<'l> CommandLine<'l> {
    /// Reads what `/proc/cmdline` gives. Of a word that stands several times the last one counts, as for the kernel; a number
    /// that cannot be read leaves the default.
    pub fn parse(bytes: &'l [u8]) -> Self {
        let mut quoted = false;
        let words = bytes.split(|letter| {
            quoted ^= *letter == b'"';
            !quoted && letter.is_ascii_whitespace()
        });
        let mut line = Self {
            seal: seal_of_command_line(bytes),
            watchdog_seconds: WATCHDOG_DEFAULT_SECONDS,
            starts: None,
            init: INIT_DEFAULT,
            recover: false,
            recover_url: None,
            recover_address: "dhcp",
        };
        for word in words.filter_map(|word| core::str::from_utf8(word).ok()) {
            if let Some(seconds) = word.strip_prefix("twinseal.watchdog=") {
                line.watchdog_seconds = seconds.parse().unwrap_or(WATCHDOG_DEFAULT_SECONDS);
            }
            if let Some(starts) = word.strip_prefix("twinseal.starts=") {
                line.starts = starts.parse().ok().filter(|starts| *starts > 0);
            }
            line.recover |= word == "twinseal.recover";
            if let Some(url) = word.strip_prefix("twinseal.recover.url=") {
                line.recover_url = Some(url);
            }
            if let Some(address) = word.strip_prefix("twinseal.recover.ip=") {
                line.recover_address = address;
            }
            if let Some(init) = word.strip_prefix("init=")
                && init.starts_with('/')
            {
                line.init = init;
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn words_are_read_and_defaults_stay() {
        let seal = "1f".repeat(32);
        let text = format!("console=ttyS0 composefs={seal}\n");
        let line = CommandLine::parse(text.as_bytes());
        assert_eq!(line.seal, Some(BlobDigest::sha256([0x1f; 32])));
        assert_eq!((line.watchdog_seconds, line.init), (60, "/sbin/init"));
        let line = CommandLine::parse(b"twinseal.watchdog=0 init=/bin/sh init=/usr/lib/first");
        assert_eq!((line.seal, line.watchdog_seconds), (None, 0));
        assert_eq!(line.init, "/usr/lib/first");
    }

    #[test]
    fn the_recovery_has_words_of_its_own() {
        let line = CommandLine::parse(b"quiet");
        let defaults = (line.recover, line.recover_url, line.recover_address);
        assert_eq!(defaults, (false, None, "dhcp"));
        let line = CommandLine::parse(
            b"twinseal.recover twinseal.recover.url=http://a/b twinseal.recover.ip=10.0.0.2/8",
        );
        let words = (line.recover, line.recover_url, line.recover_address);
        assert_eq!(words, (true, Some("http://a/b"), "10.0.0.2/8"));
        assert!(!CommandLine::parse(b"twinseal.recovery").recover);
    }

    #[test]
    fn starts_are_counted_only_where_a_number_says_so() {
        let starts = |text: &'static str| CommandLine::parse(text.as_bytes()).starts;
        assert_eq!(starts("quiet twinseal.starts=5"), Some(5));
        for none in ["quiet", "twinseal.starts=0", "twinseal.starts=many"] {
            assert_eq!(starts(none), None, "{none}");
        }
    }

    #[test]
    fn quoted_and_unreadable_words_change_nothing() {
        let line = CommandLine::parse(b"a=\"b init=/x\" twinseal.watchdog=soon init=relative");
        assert_eq!((line.watchdog_seconds, line.init), (60, "/sbin/init"));
        let twice = format!("composefs={0} composefs={0}", "1f".repeat(32));
        assert_eq!(CommandLine::parse(twice.as_bytes()).seal, None);
    }
}
