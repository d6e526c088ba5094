//! UEFI Secure Boot signatures: Authenticode over a PE file, the same bytes every time.
//!
//! [`sign`] does with an RSA key what `sbsign` does, but leaves the signing time out, so that signing the same image
//! with the same key and certificate always gives the same file. For a key that cannot leave its token,
//! [`to_be_signed`] gives the bytes to sign and [`attach`] takes the signature.
//!
//! An image that is signed is refused. To sign it anew, say so: `sign(&strip_signatures(image)?, ...)`.
//!
//! Only RSA with SHA-256 is made, because that is what every UEFI firmware checks. Validity dates and key usages of
//! the certificate are not looked at, as firmware does not look at them: what counts is whether the certificate, or
//! one above it, is in the firmware's `db`.
//!
//! # Invariants
//!
//! - No signature leaves this module that was not checked with the certificate's key.
//! - [`image_digest`] of an image and of its signed form are equal.

mod error;
mod image;
mod keys;
mod message;

#[cfg(test)]
mod tests;

pub use error::{AuthenticodeError, CertificateError, ImageError, KeyError};

use image::Signable;
use keys::Signer;

/// Signs `pe` with the private key in `key_pem` (PKCS#8 or PKCS#1, not encrypted) for the certificate in
/// `certificate_pem`, and returns the signed file, with its PE checksum set.
///
/// # Errors
///
/// [`AuthenticodeError::Image`] when `pe` cannot be signed or already is, [`AuthenticodeError::Certificate`] and
/// [`AuthenticodeError::Key`] when those cannot be used or do not belong together.
pub fn sign(pe: &[u8], key_pem: &str, certificate_pem: &str) -> Result<Vec<u8>, AuthenticodeError> {
    let request = Request::new(pe, certificate_pem)?;
    let signature = request.signer.sign(key_pem, &request.attributes)?;
    request.attach(&signature)
}

/// The bytes that a signature of `pe` covers: the DER `SET` of signed attributes. Sign them with RSA PKCS#1 v1.5 and
/// SHA-256 (the signer hashes them), and hand the result to [`attach`] with the same image and certificate.
///
/// # Errors
///
/// [`AuthenticodeError::Image`] when `pe` cannot be signed or already is, [`AuthenticodeError::Certificate`] when the
/// certificate cannot be used.
pub fn to_be_signed(pe: &[u8], certificate_pem: &str) -> Result<Vec<u8>, AuthenticodeError> {
    Ok(Request::new(pe, certificate_pem)?.attributes)
}

/// `pe` with `raw_signature`, which was made over [`to_be_signed`]: the RSA number, big-endian, as long as the
/// modulus.
///
/// # Errors
///
/// As [`to_be_signed`], and [`AuthenticodeError::SignatureInvalid`] when the signature is not by the certificate's key.
pub fn attach(
    pe: &[u8],
    certificate_pem: &str,
    raw_signature: &[u8],
) -> Result<Vec<u8>, AuthenticodeError> {
    Request::new(pe, certificate_pem)?.attach(raw_signature)
}

/// The SHA-256 that Authenticode takes over a PE file, signed or not: the number that firmware compares and that a
/// `dbx` or `db` entry of type SHA-256 holds.
///
/// # Errors
///
/// [`AuthenticodeError::Image`], when `pe` is no PE file or tools would not agree on its digest.
pub fn image_digest(pe: &[u8]) -> Result<[u8; 32], AuthenticodeError> {
    Ok(Signable::parse(pe)?.digest())
}

/// Whether `pe` has any signature; says nothing about whose or whether it is valid.
///
/// # Errors
///
/// [`AuthenticodeError::Image`], as [`image_digest`].
pub fn is_signed(pe: &[u8]) -> Result<bool, AuthenticodeError> {
    Ok(Signable::parse(pe)?.is_signed())
}

/// `pe` without its signatures and with a checksum of 0. An unsigned image keeps its other bytes; one that was signed
/// keeps the up to 7 zero bytes that signing filled in behind its last section.
///
/// # Errors
///
/// [`AuthenticodeError::Image`], as [`image_digest`].
pub fn strip_signatures(pe: &[u8]) -> Result<Vec<u8>, AuthenticodeError> {
    Ok(Signable::parse(pe)?.without_signature()?)
}

/// An unsigned image, who shall sign it, and what they shall sign.
struct Request<'a> {
    image: Signable<'a>,
    signer: Signer,
    attributes: Vec<u8>,
}

impl<'a> Request<'a> {
    fn new(pe: &'a [u8], certificate_pem: &str) -> Result<Self, AuthenticodeError> {
        let image = Signable::parse(pe)?;
        if image.is_signed() {
            return Err(ImageError::AlreadySigned.into());
        }
        let signer = Signer::from_pem(certificate_pem)?;
        let attributes = message::signed_attributes(&image.digest()).map_err(encoding)?;
        Ok(Self {
            image,
            signer,
            attributes,
        })
    }

    fn attach(&self, signature: &[u8]) -> Result<Vec<u8>, AuthenticodeError> {
        if !self.signer.accepts(&self.attributes, signature) {
            return Err(AuthenticodeError::SignatureInvalid);
        }
        let message =
            message::encode(&self.image.digest(), &self.signer, signature).map_err(encoding)?;
        Ok(self.image.with_signature(&message)?)
    }
}

fn encoding(error: der::Error) -> AuthenticodeError {
    AuthenticodeError::Encoding {
        reason: error.to_string(),
    }
}
