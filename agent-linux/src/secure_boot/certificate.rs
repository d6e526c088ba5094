//! One X.509 certificate, as far as a chain of signatures needs it.
//!
//! Validity times, key usages for other than signing certificates, and policies are not looked at: a firmware has no clock that
//! it could trust, and EDK2 asks OpenSSL for any purpose and no times.
//!
//! # Invariants
//! - Only RSA with PKCS#1 v1.5 and SHA-2 counts: what every UEFI firmware checks.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader};
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::name::Name;

/// `rsaEncryption` (RFC 8017, appendix A.1): a key, and the name that many messages have for its signatures.
pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `sha256WithRSAEncryption`.
pub(super) const RSA_SHA256: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
/// `sha384WithRSAEncryption`.
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
/// `sha512WithRSAEncryption`.
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");

/// Longest subject that is shown, in characters.
const SUBJECT_MAX: usize = 120;

/// A certificate that could be read.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    whole: Vec<u8>,
    /// The part that its issuer signed.
    signed: Vec<u8>,
    fields: CertificateInner<Raw>,
}

impl Certificate {
    /// Reads a certificate in DER; `None` when it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fields = CertificateInner::<Raw>::from_der(bytes).ok()?;
        let outer = AnyRef::from_der(bytes).ok()?;
        let signed = SliceReader::new(outer.value()).ok()?.tlv_bytes().ok()?;
        Some(Self {
            whole: bytes.to_vec(),
            signed: signed.to_vec(),
            fields,
        })
    }

    /// Its DER.
    pub fn bytes(&self) -> &[u8] {
        &self.whole
    }

    /// SHA-256 of the part that its issuer signed: what `dbx` has of a revoked certificate.
    pub fn signed_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.signed).into()
    }

    /// Whom it names, on one line, for people.
    pub fn subject(&self) -> String {
        let name = self.fields.tbs_certificate().subject().to_string();
        name.chars()
            .filter(|character| !character.is_control())
            .take(SUBJECT_MAX)
            .collect()
    }

    /// Whether this is the certificate with this serial number (the content of its INTEGER) of this issuer.
    pub fn is_named(&self, issuer: &Name, serial: &[u8]) -> bool {
        let tbs = self.fields.tbs_certificate();
        tbs.issuer() == issuer
            && without_zeros(tbs.serial_number().as_bytes()) == without_zeros(serial)
    }

    /// Whether its key made this signature, with one of the algorithms that count.
    pub fn made(&self, algorithm: ObjectIdentifier, message: &[u8], signature: &[u8]) -> bool {
        let parameters: &RsaParameters = match algorithm {
            RSA_SHA256 => &RSA_PKCS1_2048_8192_SHA256,
            RSA_SHA384 => &RSA_PKCS1_2048_8192_SHA384,
            RSA_SHA512 => &RSA_PKCS1_2048_8192_SHA512,
            _ => return false,
        };
        let key = self.fields.tbs_certificate().subject_public_key_info();
        let Some(bytes) = key.subject_public_key.as_bytes() else {
            return false;
        };
        key.algorithm.oid == RSA
            && UnparsedPublicKey::new(parameters, bytes)
                .verify(message, signature)
                .is_ok()
    }

    /// Whether `issuer` may sign certificates and has signed this one.
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        let Some(signature) = self.fields.signature().as_bytes() else {
            return false;
        };
        let (tbs, above) = (
            self.fields.tbs_certificate(),
            issuer.fields.tbs_certificate(),
        );
        tbs.issuer() == above.subject()
            && tbs.signature() == self.fields.signature_algorithm()
            && issuer.is_authority()
            && issuer.made(
                self.fields.signature_algorithm().oid,
                &self.signed,
                signature,
            )
    }

    /// Whether it may sign certificates, by the rules of OpenSSL (`X509_check_ca`), which EDK2 uses.
    fn is_authority(&self) -> bool {
        let tbs = self.fields.tbs_certificate();
        let (Ok(usage), Ok(constraints)) = (
            tbs.get_extension::<KeyUsage>(),
            tbs.get_extension::<BasicConstraints>(),
        ) else {
            return false;
        };
        let usage = usage.map(|(_, usage)| usage.key_cert_sign());
        if usage == Some(false) {
            return false;
        }
        match constraints {
            Some((_, constraints)) => constraints.ca,
            // Version 1 knows no extensions: there a certificate that names itself as its issuer is one.
            None => {
                usage == Some(true) || (tbs.extensions().is_none() && tbs.issuer() == tbs.subject())
            }
        }
    }
}

/// A name in DER, as it stands in a message.
pub(super) fn name(bytes: &[u8]) -> Option<Name> {
    Name::from_der(bytes).ok()
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
