//! UKIs at the edge of what a device could boot sealed. Everything around them is right.

use twinseal_core::error::{BundleInvalid, UkiFault};
use twinseal_core::verify::seal::CMDLINE_MAX_BYTES;
use twinseal_core::wire::digest::BlobDigest;

use super::draft::Recipe;
use super::tiny_uki::{pe_file, sections};
use super::{Base, Vector, accepted, first_key, refused};
use crate::error::Error;

pub(super) fn vectors(base: &Base<'_>) -> Result<Vec<Vector>, Error> {
    let mut vectors = command_lines(base)?;
    vectors.extend(files(base)?);
    Ok(vectors)
}

/// The bundle with another UKI, signed.
fn with_uki(base: &Base<'_>, uki: Vec<u8>) -> Result<Vec<u8>, Error> {
    let draft = Recipe {
        uki: Some(uki),
        ..Recipe::new(base.image)
    }
    .draft()?;
    Ok(draft.signed_by(&[&first_key()]))
}

fn seal(base: &Base<'_>) -> String {
    format!("composefs={}", BlobDigest::sha256(base.image.digest))
}

fn command_lines(base: &Base<'_>) -> Result<Vec<Vector>, Error> {
    let seal = seal(base);
    let other = BlobDigest::sha256([0xee; 32]);
    let padded = |bytes: usize| format!("{} {seal}", "x".repeat(bytes - seal.len() - 1));
    let unsealed = [
        (
            "uki-unsealed",
            "the UKI's command line seals nothing",
            "quiet".to_owned(),
        ),
        (
            "uki-seal-optional",
            "the seal may be skipped at boot (`composefs=?`)",
            seal.replace('=', "=?"),
        ),
        (
            "uki-sealed-twice",
            "the command line has two seals",
            format!("{seal} composefs={other}"),
        ),
        (
            "uki-seal-inside",
            "the seal is a part of another argument",
            format!("a=\"b {seal}\""),
        ),
        (
            "uki-seal-quoted",
            "the digest stands in quotes",
            format!("{}\"", seal.replace('=', "=\"")),
        ),
        (
            "uki-seal-elsewhere",
            "`composefs=` stands in another argument too",
            format!("a=composefs= {seal}"),
        ),
        (
            "uki-seal-hidden",
            "the seal is followed by a NUL and more",
            format!("{seal}\0 rw"),
        ),
        (
            "uki-seal-short",
            "the digest lacks its last digit",
            seal.get(..seal.len() - 1).unwrap_or("").to_owned(),
        ),
    ];
    let fault = |fault| BundleInvalid::Uki { fault };
    let make = |cmdline: &str| with_uki(base, pe_file(&sections(cmdline)));
    let mut vectors = vec![
        accepted(
            "good-cmdline-limit",
            "the command line is as long as it may be",
            make(&padded(CMDLINE_MAX_BYTES))?,
        ),
        accepted(
            "good-cmdline-nul",
            "the command line ends with a line break and NULs",
            make(&format!("{seal}\n\0\0"))?,
        ),
        refused(
            "uki-cmdline-long",
            "the command line is a byte longer than the kernel keeps",
            fault(UkiFault::CmdlineTooLong),
            make(&padded(CMDLINE_MAX_BYTES + 1))?,
        ),
        refused(
            "uki-seals-another",
            "the UKI seals another composefs image than the bundle carries",
            BundleInvalid::SealUki { sealed: other },
            make(&format!("composefs={other}"))?,
        ),
    ];
    for (name, what, cmdline) in unsealed {
        vectors.push(refused(name, what, fault(UkiFault::Seal), make(&cmdline)?));
    }
    Ok(vectors)
}

fn files(base: &Base<'_>) -> Result<Vec<Vector>, Error> {
    let seal = seal(base);
    let mut two_lines = sections(&seal);
    two_lines.push((".cmdline", b"quiet".to_vec()));
    let mut no_line = sections(&seal);
    no_line.retain(|(name, _)| *name != ".cmdline");
    let mut wild = pe_file(&sections(&seal));
    // The offset of the PE header, in the DOS header.
    wild.splice(60..64, [0xff; 4]);
    let cases = [
        (
            "uki-cmdline-twice",
            "the UKI has two command lines",
            UkiFault::Cmdline,
            pe_file(&two_lines),
        ),
        (
            "uki-cmdline-none",
            "the UKI has no command line",
            UkiFault::Cmdline,
            pe_file(&no_line),
        ),
        (
            "uki-not-pe",
            "the UKI's headers point outside the file",
            UkiFault::NotPe,
            wild,
        ),
        (
            "uki-text",
            "the UKI is a text",
            UkiFault::NotPe,
            seal.into_bytes().repeat(20),
        ),
    ];
    let vectors = cases.map(|(name, what, fault, uki)| {
        Ok(refused(
            name,
            what,
            BundleInvalid::Uki { fault },
            with_uki(base, uki)?,
        ))
    });
    vectors.into_iter().collect()
}
