//! One X.509 certificate (RFC 5280), as far as a chain of signatures needs it.
//!
//! Validity times, key usages for other than signing certificates, and policies are not looked at: a firmware has no clock that
//! it could trust, and EDK2 asks OpenSSL for any purpose and no times.
//!
//! # Invariants
//! - Only RSA with PKCS#1 v1.5 and SHA-2 counts: what every UEFI firmware checks.

use super::asn1::{
    BIT_STRING, BOOLEAN, CONTEXT_0, INTEGER, Malformed, OCTET_STRING, SEQUENCE, SET, Walk,
};
use der::asn1::ObjectIdentifier;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};

/// `rsaEncryption` (RFC 8017, appendix A.1): a key, and the name that many messages have for its signatures.
pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `sha256WithRSAEncryption`.
pub(super) const RSA_SHA256: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
/// `sha384WithRSAEncryption`.
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
/// `sha512WithRSAEncryption`.
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
/// `id-ce-keyUsage` (RFC 5280, section 4.2.1.3).
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
/// `id-ce-basicConstraints` (RFC 5280, section 4.2.1.9).
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
/// `[1]` and `[2]`, IMPLICIT BIT STRING: unique identifiers, which nobody uses.
const UNIQUE_IDS: [u8; 2] = [0x81, 0x82];
/// `[3]`, EXPLICIT: the extensions.
const EXTENSIONS: u8 = CONTEXT_0 + 3;
/// `keyCertSign`, bit 5 of a key usage.
const KEY_CERT_SIGN: u8 = 0x80 >> 5;

/// Attributes of names and how they are shown (RFC 4514, section 3; X.520).
const ATTRIBUTES: [(ObjectIdentifier, &str); 7] = [
    (ObjectIdentifier::new_unwrap("2.5.4.3"), "CN"),
    (ObjectIdentifier::new_unwrap("2.5.4.6"), "C"),
    (ObjectIdentifier::new_unwrap("2.5.4.7"), "L"),
    (ObjectIdentifier::new_unwrap("2.5.4.8"), "ST"),
    (ObjectIdentifier::new_unwrap("2.5.4.10"), "O"),
    (ObjectIdentifier::new_unwrap("2.5.4.11"), "OU"),
    (
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.1"),
        "emailAddress",
    ),
];

/// Longest subject that is shown, in characters.
const SUBJECT_MAX: usize = 120;

/// A certificate that could be read.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    whole: Vec<u8>,
    /// The part that its issuer signed, how, and the signature.
    signed: Vec<u8>,
    algorithm: ObjectIdentifier,
    signature: Vec<u8>,
    serial: Vec<u8>,
    /// Names in DER: they are compared byte for byte.
    issuer: Vec<u8>,
    subject: Vec<u8>,
    /// The RSA key (RFC 8017, appendix A.1.1); `None` for a key of another kind.
    key: Option<Vec<u8>>,
    /// Whether it may sign certificates.
    is_authority: bool,
}

impl Certificate {
    /// Reads a certificate in DER; `None` when it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes).ok()
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut outer = Walk::over(bytes)?;
        let mut certificate = outer.enter(SEQUENCE)?;
        let signed = certificate.take(SEQUENCE)?;
        let algorithm = certificate.algorithm()?;
        let signature = bits(certificate.take(BIT_STRING)?.value)?;
        let mut fields = Walk::into(signed)?;
        let version = fields.optional(CONTEXT_0)?;
        let serial = fields.take(INTEGER)?.value;
        // What was signed says how (RFC 5280, section 4.1.2.3).
        if fields.algorithm()? != algorithm || !certificate.is_over() || !outer.is_over() {
            return Err(Malformed);
        }
        let issuer = fields.take(SEQUENCE)?.whole;
        fields.take(SEQUENCE)?;
        let subject = fields.take(SEQUENCE)?.whole;
        let mut key = fields.enter(SEQUENCE)?;
        let is_rsa = key.algorithm() == Ok(RSA);
        let key = is_rsa
            .then(|| bits(key.take(BIT_STRING)?.value))
            .transpose()?;
        for identifier in UNIQUE_IDS {
            fields.optional(identifier)?;
        }
        let extensions = fields.optional(EXTENSIONS)?;
        let grants = extensions.map_or(Ok(Grants::default()), |found| {
            Grants::read(Walk::into(found)?)
        })?;
        let is_own_root = version.is_none() && issuer == subject;
        Ok(Self {
            whole: bytes.to_vec(),
            signed: signed.whole.to_vec(),
            algorithm,
            signature: signature.to_vec(),
            serial: serial.to_vec(),
            issuer: issuer.to_vec(),
            subject: subject.to_vec(),
            key: key.map(<[u8]>::to_vec),
            is_authority: grants.make_authority(is_own_root),
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

    /// Whom it names, on one line, for people: the last part of the name first (RFC 4514, section 2.1).
    pub fn subject(&self) -> String {
        let mut parts = name_parts(&self.subject).unwrap_or_default();
        parts.reverse();
        let name = parts.join(",");
        name.chars()
            .filter(|character| !character.is_control())
            .take(SUBJECT_MAX)
            .collect()
    }

    /// Whether this is the certificate with this serial number (the content of its INTEGER) of this issuer (a name in DER).
    pub fn is_named(&self, issuer: &[u8], serial: &[u8]) -> bool {
        self.issuer == issuer && self.serial == serial
    }

    /// Whether its key made this signature, with one of the algorithms that count.
    pub fn made(&self, algorithm: ObjectIdentifier, message: &[u8], signature: &[u8]) -> bool {
        let parameters: &RsaParameters = match algorithm {
            RSA_SHA256 => &RSA_PKCS1_2048_8192_SHA256,
            RSA_SHA384 => &RSA_PKCS1_2048_8192_SHA384,
            RSA_SHA512 => &RSA_PKCS1_2048_8192_SHA512,
            _ => return false,
        };
        self.key.as_ref().is_some_and(|key| {
            let key = UnparsedPublicKey::new(parameters, key);
            key.verify(message, signature).is_ok()
        })
    }

    /// Whether `issuer` may sign certificates and has signed this one.
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        self.issuer == issuer.subject
            && issuer.is_authority
            && issuer.made(self.algorithm, &self.signed, &self.signature)
    }
}

/// What the extensions say about signing certificates.
#[derive(Default)]
struct Grants {
    /// Of the key usage.
    key_cert_sign: Option<bool>,
    /// Of the basic constraints.
    authority: Option<bool>,
}

impl Grants {
    fn read(mut wrapped: Walk<'_>) -> Result<Self, Malformed> {
        let mut grants = Self::default();
        let mut extensions = wrapped.enter(SEQUENCE)?;
        while !extensions.is_over() {
            let mut extension = extensions.enter(SEQUENCE)?;
            let name = extension.oid()?;
            extension.optional(BOOLEAN)?;
            let mut content = Walk::into(extension.take(OCTET_STRING)?)?;
            let twice = if name == KEY_USAGE {
                let bits = bits_of(content.take(BIT_STRING)?.value);
                let sign = bits.first().is_some_and(|byte| byte & KEY_CERT_SIGN != 0);
                grants.key_cert_sign.replace(sign).is_some()
            } else if name == BASIC_CONSTRAINTS {
                let said = content.enter(SEQUENCE)?.optional(BOOLEAN)?;
                let authority = said.is_some_and(|said| said.value != [0]);
                grants.authority.replace(authority).is_some()
            } else {
                false
            };
            if twice {
                return Err(Malformed);
            }
        }
        Ok(grants)
    }

    /// By the rules of OpenSSL (`X509_check_ca`), which EDK2 uses. A certificate of version 1 that names itself as its issuer knows
    /// no extensions and counts as an authority.
    fn make_authority(&self, is_own_root: bool) -> bool {
        match (self.key_cert_sign, self.authority) {
            (Some(false), _) => false,
            (_, Some(authority)) => authority,
            (sign, None) => sign == Some(true) || is_own_root,
        }
    }
}

/// The bytes of a BIT STRING, of which none is left over.
fn bits(value: &[u8]) -> Result<&[u8], Malformed> {
    match value.split_first() {
        Some((0, bits)) => Ok(bits),
        _ => Err(Malformed),
    }
}

/// The bytes of a BIT STRING of any length.
fn bits_of(value: &[u8]) -> &[u8] {
    value.get(1..).unwrap_or_default()
}

/// The parts of a name, as `CN=text`; what the text's bytes are is not looked at.
fn name_parts(name: &[u8]) -> Result<Vec<String>, Malformed> {
    let mut parts = Vec::new();
    let mut sets = Walk::over(name)?.enter(SEQUENCE)?;
    while !sets.is_over() {
        let mut set = sets.enter(SET)?;
        while !set.is_over() {
            let mut attribute = set.enter(SEQUENCE)?;
            let kind = attribute.oid()?;
            let text = String::from_utf8_lossy(attribute.any()?.value);
            let known = ATTRIBUTES.iter().find(|(oid, _)| *oid == kind);
            parts.push(match known {
                Some((_, short)) => format!("{short}={text}"),
                None => format!("{kind}={text}"),
            });
        }
    }
    Ok(parts)
}
