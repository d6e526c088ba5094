//! Why an image could not be hashed or signed, sorted by whose fault it is.

use crate::pe::PeError;

/// Why an image could not be hashed or signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticodeError {
    /// The image cannot be signed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The private key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signature that was handed to [`super::attach`] is not one of this image by this certificate's key.
    #[error(
        "the signature is not RSA PKCS#1 v1.5 with SHA-256, by this certificate's key, over what to_be_signed returns for this image; sign exactly those bytes"
    )]
    SignatureInvalid,
    /// The signature structures could not be encoded; a limit of the encoding was exceeded.
    #[error("the signature cannot be encoded ({reason}); use a smaller certificate")]
    Encoding {
        /// The encoder's words.
        reason: String,
    },
}

/// Why an image cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Not a PE file.
    #[error("the image cannot be signed: {0}")]
    Pe(PeError),
    /// It has a signature, and a second one is never added silently.
    #[error(
        "the image is already signed; to sign it anew, remove its signatures first (strip_signatures)"
    )]
    AlreadySigned,
    /// The certificate table is not the end of the file, or begins inside a section.
    #[error(
        "the image's certificate table is not at the end of its file, where firmware looks for it; take the image from its maker again"
    )]
    CertificateTableMisplaced,
    /// Headers and sections overlap or leave gaps, and verifiers do not agree how to hash that.
    #[error(
        "the image's section {name} does not begin where the headers or the section before it end, and firmware and tools hash such a file differently; link it without gaps"
    )]
    SectionsNotContiguous {
        /// Name of the first section that is off.
        name: String,
    },
    /// With its signature, the file would pass the 32 bits of the format.
    #[error(
        "the signed image would have more than 4 GiB, which a PE file cannot state; make its content smaller"
    )]
    TooLarge,
}

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No PEM block, or more than one.
    #[error(
        "the certificate file has {count} PEM blocks CERTIFICATE, and exactly 1 is needed; give the signer's certificate alone"
    )]
    Count {
        /// Blocks that were found.
        count: usize,
    },
    /// The block is no X.509 certificate.
    #[error("the certificate is not a valid X.509 certificate ({reason}); make it anew")]
    Malformed {
        /// The decoder's words.
        reason: String,
    },
    /// A certificate of an EC, Ed25519 or other key.
    #[error(
        "the certificate's key has algorithm {algorithm}, and UEFI Secure Boot needs RSA (1.2.840.113549.1.1.1); make an RSA key and certificate"
    )]
    NotRsa {
        /// Object identifier of the algorithm.
        algorithm: String,
    },
    /// A key that firmware does not accept or that is too weak.
    #[error(
        "the certificate's RSA key has {bits} bits, and UEFI firmware takes 2048 to 4096; make a key of 2048, 3072 or 4096 bits"
    )]
    KeySize {
        /// Bits of the modulus.
        bits: usize,
    },
}

/// Why a private key cannot be used. No variant holds any part of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM block with a private key, or more than one.
    #[error(
        "the key file has {count} PEM blocks with a private key, and exactly 1 is needed; give a PKCS#8 or PKCS#1 key in PEM form"
    )]
    Count {
        /// Blocks that were found.
        count: usize,
    },
    /// Protected by a passphrase.
    #[error(
        "the private key is encrypted; decrypt it into memory first (openssl pkey), or sign outside with to_be_signed and attach"
    )]
    Encrypted,
    /// A key of another algorithm.
    #[error(
        "the private key has algorithm {algorithm}, and UEFI Secure Boot needs RSA (1.2.840.113549.1.1.1); make an RSA key and certificate"
    )]
    NotRsa {
        /// Object identifier or PEM name of the algorithm.
        algorithm: String,
    },
    /// Not a well-formed PEM block or PKCS#8 structure.
    #[error("the private key is not valid PEM, PKCS#8 or PKCS#1; write it anew with openssl pkey")]
    Malformed,
    /// The numbers in the key are not an RSA key of 2048 to 4096 bits.
    #[error(
        "the private key is not a usable RSA key ({reason}); make a new key of 2048, 3072 or 4096 bits and its certificate"
    )]
    Rejected {
        /// The reason, as the cryptographic library names it.
        reason: String,
    },
    /// Key and certificate are not a pair.
    #[error(
        "the private key does not belong to the certificate; give the key that the certificate was made for"
    )]
    NotOfCertificate,
}
