//! What the makers of scenarios and of the demo both do: certificates, the disk of a new device, digests, and flipped bits.
//!
//! # Invariants
//! - A digest is measured by other people's program, never by ours.

use crate::command::{CommandError, Invocation, Runner};
use crate::programs::Tool;
use std::fs;
use std::io;
use std::path::Path;

/// What makes keys and certificates.
pub const CERTIFICATE_TOOLS: &[Tool] = &[Tool {
    program: "openssl",
    package: "openssl",
}];

/// What finds digests.
pub const DIGEST_TOOLS: &[Tool] = &[
    Tool {
        program: "fsverity",
        package: "fsverity",
    },
    Tool {
        program: "tar",
        package: "tar",
    },
];

/// Makes an RSA key of 2048 bits, as UEFI firmware takes it, and a certificate that it signed itself.
///
/// # Errors
/// When openssl fails.
pub fn certificate(
    runner: &Runner,
    owner: &str,
    key: &Path,
    certificate: &Path,
) -> Result<(), CommandError> {
    let make = Invocation::new("openssl")
        .arguments([
            "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650",
        ])
        .arguments(["-subj", &format!("/CN={owner}"), "-keyout"])
        .argument(key)
        .argument("-out")
        .argument(certificate);
    runner.run(&make)?.expect_success().map(drop)
}

/// Signs a program of the firmware for Secure Boot.
///
/// # Errors
/// When sbsign fails.
pub fn sign(
    runner: &Runner,
    program: &Path,
    key: &Path,
    certificate: &Path,
    out: &Path,
) -> Result<(), CommandError> {
    let sign = Invocation::new("sbsign")
        .argument("--key")
        .argument(key)
        .argument("--cert")
        .argument(certificate)
        .argument("--output")
        .arguments([out, program]);
    runner.run(&sign)?.expect_success().map(drop)
}

/// Makes the disk of a new device with a bundle in set a, with this systemd-boot if there is one, and with more words to the bundler.
///
/// # Errors
/// When the bundler fails.
pub fn disk(
    runner: &Runner,
    bundler: &Path,
    bundle: &Path,
    trusted_key: &Path,
    systemd_boot: Option<&Path>,
    out: &Path,
    more: &[&str],
) -> Result<(), CommandError> {
    let mut make = Invocation::new(bundler)
        .argument("disk")
        .argument(bundle)
        .argument("--out")
        .argument(out)
        .argument("--trusted-key")
        .argument(trusted_key)
        .arguments(more);
    if let Some(program) = systemd_boot {
        make = make
            .arguments(["--loader", "systemd-boot", "--systemd-boot"])
            .argument(program);
    }
    runner.run(&make)?.expect_success().map(drop)
}

/// The fs-verity digest of a file, in hex.
///
/// # Errors
/// When fsverity fails.
pub fn digest(runner: &Runner, file: &Path) -> Result<String, CommandError> {
    let measure = Invocation::new("fsverity")
        .arguments(["digest", "--compact"])
        .argument(file);
    let measured = runner.run(&measure)?.expect_success()?;
    Ok(measured.stdout.trim().to_owned())
}

/// The same of a file in a tar of a root, named by its path there; it is unpacked into `scratch`.
///
/// # Errors
/// When tar or fsverity fails, also when there is no such file.
pub fn digest_in_tar(
    runner: &Runner,
    tar: &Path,
    path: &str,
    scratch: &Path,
) -> Result<String, CommandError> {
    let name = path.trim_start_matches('/');
    let unpack = Invocation::new("tar")
        .argument("-xf")
        .argument(tar)
        .argument("-C")
        .argument(scratch)
        .argument(format!("./{name}"));
    runner.run(&unpack)?.expect_success()?;
    digest(runner, &scratch.join(name))
}

/// Copies a file with one bit of the byte at `offset` flipped.
///
/// # Errors
/// When the file is shorter, or cannot be read or written.
pub fn flip_bit(from: &Path, to: &Path, offset: u64) -> io::Result<()> {
    let mut bytes = fs::read(from)?;
    let length = bytes.len();
    let byte = usize::try_from(offset)
        .ok()
        .and_then(|offset| bytes.get_mut(offset));
    *byte.ok_or_else(|| {
        let text = format!("{length} bytes are too few to flip a bit at {offset}");
        io::Error::new(io::ErrorKind::UnexpectedEof, text)
    })? ^= 1;
    fs::write(to, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_is_flipped_in_the_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "abc").unwrap();
        flip_bit(&from, &to, 1).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"acc");
        assert_eq!(fs::read(&from).unwrap(), b"abc");
        let error = flip_bit(&from, &to, 3).unwrap_err();
        assert!(error.to_string().contains("too few"), "{error}");
    }
}
