//! One signature of a PE file: a PKCS#7 message (RFC 2315) as "Windows Authenticode Portable Executable Signature Format" has it.
//!
//! ```text
//! ContentInfo { signedData, [0] SignedData { version, digest algorithms,
//!   content { SPC_INDIRECT_DATA, [0] { about the file, DigestInfo: SHA-256 of the file } },
//!   [0] certificates, one SignerInfo { version, issuer and serial number, SHA-256, [0] signed attributes, RSA, signature } } }
//! ```
//!
//! The message is walked by hand, with `der` for each element, because messages in use are no strict DER: certificates come in
//! any order.
//!
//! # Invariants
//! - A [`Message`] exists only when its parts fit each other: the signed attributes name the digest of the content. Whether
//!   the signature is right needs the signer's certificate and is asked of [`Message::is_signed_by`].

use super::certificate::{Certificate, RSA, RSA_SHA256, name};
use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader};
use sha2::{Digest, Sha256};
use x509_cert::name::Name;

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

// Identifier octets (ITU-T X.690, section 8.1.2).
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;

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

impl From<der::Error> for MessageFault {
    fn from(_: der::Error) -> Self {
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
    issuer: Name,
    serial: &'m [u8],
    attributes: Element<'m>,
    signature: &'m [u8],
}

/// One element of ASN.1.
#[derive(Clone, Copy)]
struct Element<'m> {
    /// With identifier and length.
    whole: &'m [u8],
    value: &'m [u8],
}

impl Message {
    /// Reads a message; filling may follow it.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageFault> {
        let mut outer = SliceReader::new(bytes)?;
        let mut info = inside(take(&mut outer, SEQUENCE)?)?;
        expect_oid(&mut info, SIGNED_DATA)?;
        let mut wrapped = inside(take(&mut info, CONTEXT_0)?)?;
        let mut data = inside(take(&mut wrapped, SEQUENCE)?)?;
        take(&mut data, INTEGER)?;
        let mut digests = inside(take(&mut data, SET)?)?;
        if algorithm(take(&mut digests, SEQUENCE)?)? != SHA256 {
            return Err(MessageFault::Algorithm);
        }
        let mut typed = inside(take(&mut data, SEQUENCE)?)?;
        expect_oid(&mut typed, INDIRECT_DATA)?;
        let content = take(&mut inside(take(&mut typed, CONTEXT_0)?)?, SEQUENCE)?;
        let certificates = match optional(&mut data, CONTEXT_0)? {
            Some(element) => read_certificates(element)?,
            None => Vec::new(),
        };
        optional(&mut data, CONTEXT_1)?;
        let mut signers = inside(take(&mut data, SET)?)?;
        let signer_info = SignerInfo::read(take(&mut signers, SEQUENCE)?)?;
        if !signers.is_finished() {
            return Err(MessageFault::Number);
        }
        signer_info.check_attributes(content)?;
        let signer = certificates
            .iter()
            .position(|certificate| certificate.is_named(&signer_info.issuer, signer_info.serial))
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
    fn read(element: Element<'m>) -> Result<Self, MessageFault> {
        let mut fields = inside(element)?;
        take(&mut fields, INTEGER)?;
        let mut issuer_and_serial = inside(take(&mut fields, SEQUENCE)?)?;
        let issuer = name(take(&mut issuer_and_serial, SEQUENCE)?.whole);
        let serial = take(&mut issuer_and_serial, INTEGER)?.value;
        let digest = algorithm(take(&mut fields, SEQUENCE)?)?;
        let attributes = take(&mut fields, CONTEXT_0)?;
        let encryption = algorithm(take(&mut fields, SEQUENCE)?)?;
        if digest != SHA256 || (encryption != RSA && encryption != RSA_SHA256) {
            return Err(MessageFault::Algorithm);
        }
        Ok(Self {
            issuer: issuer.ok_or(MessageFault::Form)?,
            serial,
            attributes,
            signature: take(&mut fields, OCTET_STRING)?.value,
        })
    }

    /// The attributes must say what the content is and which digest its value has (RFC 2315, section 9.3).
    fn check_attributes(&self, content: Element<'_>) -> Result<(), MessageFault> {
        let digest = Sha256::digest(content.value);
        let (mut types, mut digests) = (0, 0);
        let mut attributes = inside(self.attributes)?;
        while !attributes.is_finished() {
            let mut attribute = inside(take(&mut attributes, SEQUENCE)?)?;
            let kind = oid(take(&mut attribute, OID)?)?;
            let mut values = inside(take(&mut attribute, SET)?)?;
            let right = if kind == CONTENT_TYPE {
                types += 1;
                oid(take(&mut values, OID)?)? == INDIRECT_DATA
            } else if kind == MESSAGE_DIGEST {
                digests += 1;
                take(&mut values, OCTET_STRING)?.value == digest.as_slice()
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
    let mut fields = inside(content)?;
    take(&mut fields, SEQUENCE)?;
    let mut digest_info = inside(take(&mut fields, SEQUENCE)?)?;
    if algorithm(take(&mut digest_info, SEQUENCE)?)? != SHA256 {
        return Err(MessageFault::Algorithm);
    }
    let digest = take(&mut digest_info, OCTET_STRING)?.value;
    digest.try_into().map_err(|_| MessageFault::Form)
}

fn read_certificates(element: Element<'_>) -> Result<Vec<Certificate>, MessageFault> {
    let mut certificates = Vec::new();
    let mut fields = inside(element)?;
    let mut seen = 0;
    while !fields.is_finished() {
        seen += 1;
        if seen > CERTIFICATES_MAX {
            return Err(MessageFault::Number);
        }
        // One that cannot be read helps no chain.
        certificates.extend(Certificate::parse(fields.tlv_bytes()?));
    }
    Ok(certificates)
}

fn inside(element: Element<'_>) -> Result<SliceReader<'_>, MessageFault> {
    Ok(SliceReader::new(element.value)?)
}

/// The next element, which must have this identifier.
fn take<'m>(reader: &mut SliceReader<'m>, identifier: u8) -> Result<Element<'m>, MessageFault> {
    optional(reader, identifier)?.ok_or(MessageFault::Form)
}

/// The next element if it has this identifier.
fn optional<'m>(
    reader: &mut SliceReader<'m>,
    identifier: u8,
) -> Result<Option<Element<'m>>, MessageFault> {
    if reader.peek_byte() != Some(identifier) {
        return Ok(None);
    }
    let whole = reader.tlv_bytes()?;
    let value = AnyRef::from_der(whole)?.value();
    Ok(Some(Element { whole, value }))
}

fn oid(element: Element<'_>) -> Result<ObjectIdentifier, MessageFault> {
    ObjectIdentifier::from_bytes(element.value).map_err(|_| MessageFault::Form)
}

fn expect_oid(
    reader: &mut SliceReader<'_>,
    expected: ObjectIdentifier,
) -> Result<(), MessageFault> {
    if oid(take(reader, OID)?)? == expected {
        Ok(())
    } else {
        Err(MessageFault::Form)
    }
}

/// The name of an algorithm; its parameters are those of RSA and SHA-256: none, said by NULL or by nothing.
fn algorithm(element: Element<'_>) -> Result<ObjectIdentifier, MessageFault> {
    let mut fields = inside(element)?;
    let name = oid(take(&mut fields, OID)?)?;
    let nothing = optional(&mut fields, NULL)?.is_none_or(|null| null.value.is_empty());
    if nothing && fields.is_finished() {
        Ok(name)
    } else {
        Err(MessageFault::Algorithm)
    }
}
