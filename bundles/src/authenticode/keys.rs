//! The signer: certificate and private key out of their PEM files.
//!
//! # Invariants
//!
//! - A [`Signer`] holds an RSA key of 2048 to 4096 bits, and its certificate byte for byte as it was given.
//! - No error carries any part of a private key, and decoded key bytes are overwritten when they are dropped.

use der::asn1::UintRef;
use der::{Decode, Document, SecretDocument, Sequence};
use pkcs8::PrivateKeyInfoRef;
use ring::rand::SystemRandom;
use ring::signature::{
    KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use x509_cert::Certificate;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;

use super::message::RSA_ENCRYPTION;
use super::{CertificateError, KeyError};

/// Sizes of an RSA modulus, in bits, that EDK2, shim and the signing library all take.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// `RSAPublicKey` of PKCS#1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// A certificate with an RSA key that firmware takes.
#[derive(Debug)]
pub(super) struct Signer {
    der: Document,
    certificate: Certificate,
    /// `RSAPublicKey`, DER.
    public_key: Vec<u8>,
}

impl Signer {
    /// Reads the only certificate of a PEM file.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let malformed = |error: der::Error| CertificateError::Malformed {
            reason: error.to_string(),
        };
        let blocks: Vec<_> = pem_blocks(pem)
            .filter(|block| block.label == "CERTIFICATE")
            .collect();
        let [block] = blocks.as_slice() else {
            return Err(CertificateError::Count {
                count: blocks.len(),
            });
        };
        let (_, der) = Document::from_pem(block.text).map_err(malformed)?;
        let certificate = Certificate::from_der(der.as_bytes()).map_err(malformed)?;
        let key = certificate.tbs_certificate().subject_public_key_info();
        if key.algorithm.oid != RSA_ENCRYPTION {
            return Err(CertificateError::NotRsa {
                algorithm: key.algorithm.oid.to_string(),
            });
        }
        let public_key = key.subject_public_key.raw_bytes().to_vec();
        let modulus = RsaPublicKey::from_der(&public_key)
            .map_err(malformed)?
            .modulus;
        let bits = modulus_bits(modulus.as_bytes());
        if !MODULUS_BITS.contains(&bits) {
            return Err(CertificateError::KeySize { bits });
        }
        Ok(Self {
            der,
            certificate,
            public_key,
        })
    }

    /// The certificate as it was given.
    pub fn certificate_der(&self) -> &[u8] {
        self.der.as_bytes()
    }

    /// Who issued the certificate.
    pub fn issuer(&self) -> &Name {
        self.certificate.tbs_certificate().issuer()
    }

    /// The issuer's number for the certificate.
    pub fn serial_number(&self) -> &SerialNumber {
        self.certificate.tbs_certificate().serial_number()
    }

    /// Whether `signature` is one over `message`, RSA PKCS#1 v1.5 with SHA-256, by this certificate's key.
    pub fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(message, signature)
            .is_ok()
    }

    /// Signs `message` with the key in `key_pem`, which must be the certificate's.
    pub fn sign(&self, key_pem: &str, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let key = private_key(key_pem)?;
        if key.public_key().as_ref() != self.public_key.as_slice() {
            return Err(KeyError::NotOfCertificate);
        }
        let mut signature = vec![0; key.public().modulus_len()];
        // The random numbers blind the arithmetic; the signature does not depend on them.
        key.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            message,
            &mut signature,
        )
        .map_err(|_| KeyError::Rejected {
            reason: "its numbers do not fit each other".to_owned(),
        })?;
        Ok(signature)
    }
}

/// Reads the only private key of a PEM file.
fn private_key(pem: &str) -> Result<RsaKeyPair, KeyError> {
    let blocks: Vec<_> = pem_blocks(pem)
        .filter(|block| block.label.ends_with("PRIVATE KEY"))
        .collect();
    let [block] = blocks.as_slice() else {
        return Err(KeyError::Count {
            count: blocks.len(),
        });
    };
    let rejected = |error: ring::error::KeyRejected| KeyError::Rejected {
        reason: error.to_string(),
    };
    let decode = || SecretDocument::from_pem(block.text).map_err(|_| KeyError::Malformed);
    match block.label {
        // The second is the form of openssl 1.0 and earlier, PKCS#1 with a header that names the cipher.
        "ENCRYPTED PRIVATE KEY" => Err(KeyError::Encrypted),
        "RSA PRIVATE KEY" if block.text.contains("Proc-Type: 4,ENCRYPTED") => {
            Err(KeyError::Encrypted)
        }
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(decode()?.1.as_bytes()).map_err(rejected),
        "PRIVATE KEY" => {
            let (_, secret) = decode()?;
            let info =
                PrivateKeyInfoRef::try_from(secret.as_bytes()).map_err(|_| KeyError::Malformed)?;
            if info.algorithm.oid != RSA_ENCRYPTION {
                return Err(KeyError::NotRsa {
                    algorithm: info.algorithm.oid.to_string(),
                });
            }
            RsaKeyPair::from_pkcs8(secret.as_bytes()).map_err(rejected)
        }
        other => Err(KeyError::NotRsa {
            algorithm: other.to_owned(),
        }),
    }
}

/// Bits of an unsigned big-endian number without leading zero bytes.
fn modulus_bits(bytes: &[u8]) -> usize {
    bytes
        .first()
        .map_or(0, |first| bytes.len() * 8 - first.leading_zeros() as usize)
}

/// One block of a PEM file, from its `-----BEGIN` to the end of its `-----END` line.
struct PemBlock<'a> {
    label: &'a str,
    text: &'a str,
}

/// All blocks of a PEM file that have a beginning and an end; text between them is passed over.
fn pem_blocks(pem: &str) -> impl Iterator<Item = PemBlock<'_>> {
    const BEGIN: &str = "-----BEGIN ";
    pem.match_indices(BEGIN).filter_map(|(start, _)| {
        let text = pem.get(start..)?;
        let (label, _) = text.strip_prefix(BEGIN)?.split_once("-----")?;
        let end_line = format!("-----END {label}-----");
        let end = text.find(&end_line)? + end_line.len();
        Some(PemBlock {
            label,
            text: text.get(..end)?,
        })
    })
}
