//! The seal, checked as firmware and early userspace would, with other people's tools: sbverify, objcopy, fsverity.
//!
//! # Invariants
//! - Nothing of the UKI is believed before the owner's certificate has proved its signature.

use crate::board::BoardError;
use crate::command::{Invocation, Runner};
use std::path::{Path, PathBuf};

/// Where firmware looks for a UKI on a disk without boot entries (UEFI specification, removable media), on x86-64 and on ARM: an agent
/// writes the name of the processor that it was built for, which may be one that this machine emulates.
const UKIS: [&str; 3] = [
    "EFI/BOOT/BOOTX64.EFI",
    "EFI/BOOT/BOOTAA64.EFI",
    "EFI/BOOT/BOOTARM.EFI",
];

/// The kernel parameter that states the seal.
const PARAMETER: &str = "composefs=";

/// Digits of a SHA-256 in hex.
const DIGEST_DIGITS: usize = 64;

/// A sealed image whose seal holds.
#[derive(Clone, Debug)]
pub(super) struct Seal {
    /// Digest of the composefs image, in hex.
    pub digest: String,
    /// The image.
    pub image: PathBuf,
}

/// Follows the chain from the owner's certificate to the composefs image of a set.
pub(super) fn check(
    runner: &Runner,
    certificate: &Path,
    boot: &Path,
    root: &Path,
) -> Result<Seal, BoardError> {
    let [uki, emulated @ ..] = UKIS.map(|name| boot.join(name));
    let uki = emulated.into_iter().find(|uki| uki.exists()).unwrap_or(uki);
    let signature = Invocation::new("sbverify")
        .argument("--cert")
        .argument(certificate)
        .argument(&uki);
    runner.run(&signature)?.expect_success()?;
    let section = Invocation::new("objcopy")
        .arguments(["--output-target=binary", "--only-section=.cmdline"])
        .argument(&uki)
        .argument("/dev/stdout");
    let command_line = runner.run(&section)?.expect_success()?.stdout;
    let digest = stated(&uki, &command_line)?;
    let image = root.join("composefs/images").join(&digest);
    let measure = Invocation::new("fsverity")
        .arguments(["digest", "--compact"])
        .argument(&image);
    let found = runner
        .run(&measure)?
        .expect_success()?
        .stdout
        .trim()
        .to_owned();
    if found != digest {
        return Err(BoardError::SealBroken {
            stated: digest,
            image,
            found,
        });
    }
    Ok(Seal { digest, image })
}

/// The one seal on a command line, which may be filled up with zeros or spaces to the end of its section.
fn stated(uki: &Path, command_line: &str) -> Result<String, BoardError> {
    let command_line = command_line.trim_matches(['\0', ' ', '\n']);
    let values: Vec<&str> = command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(PARAMETER))
        .collect();
    let is_digest = |value: &str| {
        value.len() == DIGEST_DIGITS
            && value
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    match values.as_slice() {
        [value] if is_digest(value) => Ok((*value).to_owned()),
        _ => Err(BoardError::SealNotStated {
            uki: uki.to_owned(),
            found: values.iter().filter(|value| is_digest(value)).count(),
            command_line: command_line.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_seal_is_taken() {
        let digest = "5a".repeat(32);
        let read = |text: &str| stated(Path::new("UKI"), text);
        assert_eq!(
            read(&format!("quiet composefs={digest} ro\0\0\0")).unwrap(),
            digest
        );
        assert_eq!(read(&format!("composefs={digest}   ")).unwrap(), digest);
        let two = format!("composefs={digest} composefs={digest}");
        for (text, seals) in [
            ("quiet", 0),
            (two.as_str(), 2),
            ("composefs=5a", 0),
            (&format!("xcomposefs={digest}"), 0),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                matches!(error, BoardError::SealNotStated { found, .. } if found == seals),
                "{text}: {error}"
            );
        }
    }
}
