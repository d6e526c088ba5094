//! One signature of a PE file: a PKCS#7 message (RFC 2315) as "Windows Authenticode Portable Executable Signature Format" has it.
//!
//! ```text
//! ContentInfo { signedData, [0] SignedData { version, digest algorithms,
//!   content { SPC_INDIRECT_DATA, [0] { about the file, DigestInfo: SHA-256 of the file } },
//!   [0] certificates, one SignerInfo { version, issuer and serial number, SHA-256, [0] signed attributes, RSA, signature } } }
//! ```
//!
//! The message is walked element by element, because messages in use are no strict DER: certificates come in
//! any order.
//!
//! # Invariants
//! - A [`Message`] exists only when its parts fit each other: the signed attributes name the digest of the content. Whether
//!   the signature is right needs the signer's certificate and is asked of [`Message::is_signed_by`].

use super::asn1::{CONTEXT_0, Element, INTEGER, Malformed, OCTET_STRING, SEQUENCE, SET, Walk};
use super::certificate::{Certificate, RSA, RSA_SHA256};
use der::asn1::ObjectIdentifier;
use sha2::{Digest, Sha256};

/// `signedData` (RFC 2315, section 14).
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// `SPC_INDIRECT_DATA_OBJID`.
const INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
/// `contentType` (RFC 2985, section 5.3.1).
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
/// `messageDigest` (RFC 2985, section 5.3.2).
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// `id-sha256` (RFC 5754, section 2.2).
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// Most certificates in a message; chains in use have up to three. Bounds the signatures that are checked.
const CERTIFICATES_MAX: usize = 16;

/// Why a message cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageFault {
    /// It is not a PKCS#7 message of the form that Authenticode has.
    #[error("it is no Authenticode message")]
    Form,
    /// It is signed with something else than RSA and SHA-256.
    #[error("it is not made with RSA (PKCS#1 v1.5) and SHA-256, and nothing else is known here")]
    Algorithm,
    /// It has too many certificates, or another number of signers than one.
    #[error("it has more certificates or signers than one signature needs")]
    Number,
    /// The certificate of its signer is missing or cannot be read.
    #[error("the certificate of its signer is not in it")]
    NoSigner,
    /// The signed attributes do not name the content.
    #[error("its signed attributes are not those of its content")]
    Attributes,
}

impl From<Malformed> for MessageFault {
    fn from(_: Malformed) -> Self {
        Self::Form
    }
}

/// A message whose parts fit each other.
#[derive(Debug)]
pub(super) struct Message {
    /// SHA-256 of the file, as it was when it was signed.
    pub file_digest: [u8; 32],
    /// The certificates in it that can be read; the signer's is among them.
    pub certificates: Vec<Certificate>,
    /// Position of the signer's certificate.
    signer: usize,
    /// What was signed.
    attributes: Vec<u8>,
    signature: Vec<u8>,
}

/// What a signer says.
struct SignerInfo<'m> {
    issuer: &'m [u8],
    serial: &'m [u8],
    attributes: Element<'m>,
    signature: &'m [u8],
}

impl Message {
    /// Reads a message; filling may follow it.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageFault> {
        let mut info = Walk::over(bytes)?.enter(SEQUENCE)?;
        expect(info.oid()?, SIGNED_DATA)?;
        let mut data = info.enter(CONTEXT_0)?.enter(SEQUENCE)?;
        data.take(INTEGER)?;
        if data.enter(SET)?.algorithm()? != SHA256 {
            return Err(MessageFault::Algorithm);
        }
        let mut typed = data.enter(SEQUENCE)?;
        expect(typed.oid()?, INDIRECT_DATA)?;
        let content = typed.enter(CONTEXT_0)?.take(SEQUENCE)?;
        let certificates = match data.optional(CONTEXT_0)? {
            Some(element) => read_certificates(element)?,
            None => Vec::new(),
        };
        data.optional(CONTEXT_0 + 1)?;
        let mut signers = data.enter(SET)?;
        let signer_info = SignerInfo::read(signers.enter(SEQUENCE)?)?;
        if !signers.is_over() {
            return Err(MessageFault::Number);
        }
        signer_info.check_attributes(content)?;
        let signer = certificates
            .iter()
            .position(|certificate| certificate.is_named(signer_info.issuer, signer_info.serial))
            .ok_or(MessageFault::NoSigner)?;
        Ok(Self {
            file_digest: read_content(content)?,
            certificates,
            signer,
            attributes: signer_info.attributes_as_signed(),
            signature: signer_info.signature.to_vec(),
        })
    }

    /// The signer's certificate; there is one in every message that could be read.
    pub fn signer(&self) -> Option<&Certificate> {
        self.certificates.get(self.signer)
    }

    /// Whether the key of this certificate made the signature.
    pub fn is_signed_by(&self, signer: &Certificate) -> bool {
        signer.made(RSA_SHA256, &self.attributes, &self.signature)
    }
}

impl<'m> SignerInfo<'m> {
    fn read(mut fields: Walk<'m>) -> Result<Self, MessageFault> {
        fields.take(INTEGER)?;
        let mut issuer_and_serial = fields.enter(SEQUENCE)?;
        let issuer = issuer_and_serial.take(SEQUENCE)?.whole;
        let serial = issuer_and_serial.take(INTEGER)?.value;
        let digest = fields.algorithm()?;
        let attributes = fields.take(CONTEXT_0)?;
        let encryption = fields.algorithm()?;
        if digest != SHA256 || (encryption != RSA && encryption != RSA_SHA256) {
            return Err(MessageFault::Algorithm);
        }
        Ok(Self {
            issuer,
            serial,
            attributes,
            signature: fields.take(OCTET_STRING)?.value,
        })
    }

    /// The attributes must say what the content is and which digest its value has (RFC 2315, section 9.3).
    fn check_attributes(&self, content: Element<'_>) -> Result<(), MessageFault> {
        let digest = Sha256::digest(content.value);
        let (mut types, mut digests) = (0, 0);
        let mut attributes = Walk::into(self.attributes)?;
        while !attributes.is_over() {
            let mut attribute = attributes.enter(SEQUENCE)?;
            let kind = attribute.oid()?;
            let mut values = attribute.enter(SET)?;
            let right = if kind == CONTENT_TYPE {
                types += 1;
                values.oid()? == INDIRECT_DATA
            } else if kind == MESSAGE_DIGEST {
                digests += 1;
                values.take(OCTET_STRING)?.value == digest.as_slice()
            } else {
                true
            };
            if !right {
                return Err(MessageFault::Attributes);
            }
        }
        if (types, digests) == (1, 1) {
            Ok(())
        } else {
            Err(MessageFault::Attributes)
        }
    }

    /// They are signed as a SET, not as the tagged field that they are in the message.
    fn attributes_as_signed(&self) -> Vec<u8> {
        let mut bytes = self.attributes.whole.to_vec();
        if let Some(first) = bytes.first_mut() {
            *first = SET;
        }
        bytes
    }
}

/// `SpcIndirectDataContent`: what is said about the file is not looked at, only the file's digest.
fn read_content(content: Element<'_>) -> Result<[u8; 32], MessageFault> {
    let mut fields = Walk::into(content)?;
    fields.take(SEQUENCE)?;
    let mut digest_info = fields.enter(SEQUENCE)?;
    if digest_info.algorithm()? != SHA256 {
        return Err(MessageFault::Algorithm);
    }
    let digest = digest_info.take(OCTET_STRING)?.value;
    digest.try_into().map_err(|_| MessageFault::Form)
}

fn read_certificates(element: Element<'_>) -> Result<Vec<Certificate>, MessageFault> {
    let mut certificates = Vec::new();
    let mut fields = Walk::into(element)?;
    let mut seen = 0;
    while !fields.is_over() {
        seen += 1;
        if seen > CERTIFICATES_MAX {
            return Err(MessageFault::Number);
        }
        // One that cannot be read helps no chain.
        certificates.extend(Certificate::parse(fields.any()?.whole));
    }
    Ok(certificates)
}

fn expect(found: ObjectIdentifier, expected: ObjectIdentifier) -> Result<(), MessageFault> {
    if found == expected {
        Ok(())
    } else {
        Err(MessageFault::Form)
    }
}
