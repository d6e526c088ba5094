//! The signature message: PKCS#7 `SignedData` over an Authenticode image digest.
//!
//! Forms from RFC 2315 (PKCS#7 1.5, which UEFI names) and Microsoft's "Windows Authenticode Portable Executable
//! Signature Format". The message is reduced to what firmware checks: one SHA-256 digest, one certificate, one signer
//! with two signed attributes (content type and message digest). There is no signing time, so that signing the
//! same image twice gives the same bytes.
//!
//! EDK2 finds the digest algorithm at byte 32 of the message and reads two-byte lengths only, so the encoded message
//! must be 256 to 65535 bytes long; [`encode`] checks it.

use der::asn1::{
    Any, BitString, BmpString, ContextSpecific, ObjectIdentifier, OctetString, SetOfVec,
};
use der::{Decode, Encode, Sequence, TagMode, TagNumber};
use sha2::{Digest, Sha256};
use spki::AlgorithmIdentifierOwned;
use x509_cert::attr::Attribute;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;

use super::keys::Signer;

/// `signedData` of PKCS#7.
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// `contentType` of PKCS#9.
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
/// `messageDigest` of PKCS#9.
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// `rsaEncryption` of PKCS#1.
pub(super) const RSA_ENCRYPTION: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-sha256` of NIST.
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
/// `SPC_INDIRECT_DATA_OBJID` of Authenticode.
const SPC_INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
/// `SPC_PE_IMAGE_DATAOBJ` of Authenticode.
const SPC_PE_IMAGE_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.15");

/// The file name that Authenticode puts into every PE signature, in place of one.
const OBSOLETE_FILE_NAME: &str = "<<<Obsolete>>>";

/// Lengths of a whole message that EDK2 reads: those whose DER length takes two bytes.
const MESSAGE_BYTES: std::ops::RangeInclusive<usize> = 256..=65535;

#[derive(Sequence)]
struct ContentInfo {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    content: Any,
}

#[derive(Sequence)]
struct SignedData {
    version: u8,
    digest_algorithms: SetOfVec<AlgorithmIdentifierOwned>,
    content: ContentInfo,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", constructed = "true")]
    certificates: SetOfVec<Any>,
    signers: SetOfVec<Any>,
}

#[derive(Sequence)]
struct SignerInfo {
    version: u8,
    issuer_and_serial: IssuerAndSerial,
    digest_algorithm: AlgorithmIdentifierOwned,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", constructed = "true")]
    signed_attributes: SetOfVec<Attribute>,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: OctetString,
}

#[derive(Sequence)]
struct IssuerAndSerial {
    issuer: Name,
    serial: SerialNumber,
}

/// `SpcIndirectDataContent`.
#[derive(Sequence)]
struct IndirectData {
    data: PeImageAttribute,
    digest: DigestInfo,
}

/// `SpcAttributeTypeAndOptionalValue`.
#[derive(Sequence)]
struct PeImageAttribute {
    kind: ObjectIdentifier,
    value: PeImageData,
}

/// `SpcPeImageData`: no flags, and a file that is an `SpcLink` by name.
#[derive(Sequence)]
struct PeImageData {
    flags: BitString,
    file: ContextSpecific<ContextSpecific<ContextSpecific<BmpString>>>,
}

#[derive(Sequence)]
struct DigestInfo {
    algorithm: AlgorithmIdentifierOwned,
    digest: OctetString,
}

/// The DER `SET` of signed attributes for an image of this digest: the bytes that the RSA signature covers.
pub(super) fn signed_attributes(image_digest: &[u8; 32]) -> der::Result<Vec<u8>> {
    attributes(&indirect_data(image_digest)?)?.to_der()
}

/// The whole message, around a `signature` over [`signed_attributes`].
pub(super) fn encode(
    image_digest: &[u8; 32],
    signer: &Signer,
    signature: &[u8],
) -> der::Result<Vec<u8>> {
    let content = indirect_data(image_digest)?;
    let info = SignerInfo {
        version: 1,
        issuer_and_serial: IssuerAndSerial {
            issuer: signer.issuer().clone(),
            serial: signer.serial_number().clone(),
        },
        digest_algorithm: algorithm(SHA_256),
        signed_attributes: attributes(&content)?,
        signature_algorithm: algorithm(RSA_ENCRYPTION),
        signature: OctetString::new(signature)?,
    };
    let data = SignedData {
        version: 1,
        digest_algorithms: one(algorithm(SHA_256))?,
        content: ContentInfo {
            content_type: SPC_INDIRECT_DATA,
            content,
        },
        certificates: one(Any::from_der(signer.certificate_der())?)?,
        signers: one(Any::encode_from(&info)?)?,
    };
    let message = ContentInfo {
        content_type: SIGNED_DATA,
        content: Any::encode_from(&data)?,
    }
    .to_der()?;
    if !MESSAGE_BYTES.contains(&message.len()) {
        return Err(der::ErrorKind::Overflow.into());
    }
    Ok(message)
}

fn indirect_data(image_digest: &[u8; 32]) -> der::Result<Any> {
    let name = BmpString::from_utf8(OBSOLETE_FILE_NAME)?;
    // SpcString's choice `unicode`, in SpcLink's choice `file`, in the field `file`.
    let file = tagged(
        0,
        TagMode::Explicit,
        tagged(2, TagMode::Explicit, tagged(0, TagMode::Implicit, name)),
    );
    Any::encode_from(&IndirectData {
        data: PeImageAttribute {
            kind: SPC_PE_IMAGE_DATA,
            value: PeImageData {
                flags: BitString::new(0, Vec::new())?,
                file,
            },
        },
        digest: DigestInfo {
            algorithm: algorithm(SHA_256),
            digest: OctetString::new(image_digest.as_slice())?,
        },
    })
}

/// The signed attributes for `content`, whose digest leaves out its own tag and length.
fn attributes(content: &Any) -> der::Result<SetOfVec<Attribute>> {
    let digest: [u8; 32] = Sha256::digest(content.value()).into();
    let kind = one(Any::encode_from(&SPC_INDIRECT_DATA)?)?;
    let digest = one(Any::encode_from(&OctetString::new(digest.as_slice())?)?)?;
    SetOfVec::from_iter([
        Attribute {
            oid: CONTENT_TYPE,
            values: kind,
        },
        Attribute {
            oid: MESSAGE_DIGEST,
            values: digest,
        },
    ])
}

fn algorithm(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid,
        parameters: Some(Any::null()),
    }
}

fn tagged<T>(number: u32, tag_mode: TagMode, value: T) -> ContextSpecific<T> {
    ContextSpecific {
        tag_number: TagNumber(number),
        tag_mode,
        value,
    }
}

fn one<T: der::DerOrd>(value: T) -> der::Result<SetOfVec<T>> {
    SetOfVec::from_iter([value])
}
