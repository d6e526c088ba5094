//! Signing without a private key: digests, layout, the message, and every certificate and key that is refused. Real
//! keys and other people's verifiers are in `tests/secure_boot.rs`.

use super::*;
use crate::pe::PeError;
use crate::pe::synthetic::{Synthetic, set};

/// One DER element of several parts: by hand, so that certificates of keys that nobody has can be made.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut element = vec![tag];
    if value.len() < 0x80 {
        element.push(value.len() as u8);
    } else {
        let length = value.len().to_be_bytes();
        let minimal: Vec<u8> = length.into_iter().skip_while(|&byte| byte == 0).collect();
        element.push(0x80 | minimal.len() as u8);
        element.extend_from_slice(&minimal);
    }
    element.extend_from_slice(&value);
    element
}

fn pem(label: &str, der: &[u8]) -> String {
    der::pem::encode_string(label, der::pem::LineEnding::LF, der).unwrap()
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

fn algorithm(oid: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x06, &[oid]), &tlv(0x05, &[])])
}

/// `RSAPublicKey` of a modulus nobody knows the factors of; it has `bytes * 8` bits.
fn public_key(bytes: usize) -> Vec<u8> {
    let mut modulus = vec![0xc5; bytes + 1];
    modulus[0] = 0;
    tlv(0x30, &[&tlv(0x02, &[&modulus]), &tlv(0x02, &[&[1, 0, 1]])])
}

/// An X.509 version 1 certificate of `key` whose own signature is nonsense, which nothing here looks at.
fn certificate(oid: &[u8], key: &[u8], common_name: &str) -> String {
    let name = tlv(
        0x30,
        &[
            &tlv(0x06, &[&[0x55, 0x04, 0x03]]),
            &tlv(0x0c, &[common_name.as_bytes()]),
        ],
    );
    let name = tlv(0x30, &[&tlv(0x31, &[&name])]);
    let date = tlv(0x17, &[b"260101000000Z"]);
    let key = tlv(0x30, &[&algorithm(oid), &tlv(0x03, &[&[0], key])]);
    let signature_algorithm = algorithm(RSA);
    let validity = tlv(0x30, &[&date, &date]);
    let body = tlv(
        0x30,
        &[
            &tlv(0x02, &[&[7]]),
            &signature_algorithm,
            &name,
            &validity,
            &name,
            &key,
        ],
    );
    pem(
        "CERTIFICATE",
        &tlv(
            0x30,
            &[&body, &signature_algorithm, &tlv(0x03, &[&[0; 257]])],
        ),
    )
}

fn rsa_certificate() -> String {
    certificate(RSA, &public_key(256), "test")
}

fn image() -> Vec<u8> {
    Synthetic::default().build()
}

#[test]
fn what_is_to_be_signed_depends_on_the_image_alone() {
    let first = to_be_signed(&image(), &rsa_certificate()).unwrap();
    assert_eq!(
        first,
        to_be_signed(&image(), &certificate(RSA, &public_key(384), "other")).unwrap()
    );
    // A SET of two attributes, none of which is the signing time 1.2.840.113549.1.9.5.
    assert_eq!(first[0], 0x31);
    assert!(!first.windows(3).any(|bytes| bytes == [0x01, 0x09, 0x05]));
    let mut other = image();
    set(&mut other, 0x600, b"!");
    assert_ne!(first, to_be_signed(&other, &rsa_certificate()).unwrap());
}

#[test]
fn signatures_by_no_key_are_refused() {
    for signature in [
        vec![],
        vec![0; 256],
        vec![1; 256],
        vec![0xff; 256],
        vec![1; 384],
    ] {
        assert_eq!(
            attach(&image(), &rsa_certificate(), &signature),
            Err(AuthenticodeError::SignatureInvalid)
        );
    }
}

#[test]
fn certificates_that_firmware_does_not_take_are_refused() {
    let error = |pem: &str| match to_be_signed(&image(), pem) {
        Err(AuthenticodeError::Certificate(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(error(""), CertificateError::Count { count: 0 });
    assert_eq!(
        error("-----BEGIN CERTIFICATE-----\n"),
        CertificateError::Count { count: 0 }
    );
    assert_eq!(
        error(&rsa_certificate().repeat(2)),
        CertificateError::Count { count: 2 }
    );
    assert!(matches!(
        error(&pem("CERTIFICATE", &[0x30, 0])),
        CertificateError::Malformed { .. }
    ));
    assert!(matches!(
        error(&rsa_certificate().replace('M', "*")),
        CertificateError::Malformed { .. }
    ));
    assert!(matches!(
        error(&certificate(RSA, b"no key", "test")),
        CertificateError::Malformed { .. }
    ));
    let ec = certificate(EC, &[4; 65], "test");
    assert_eq!(
        error(&ec),
        CertificateError::NotRsa {
            algorithm: "1.2.840.10045.2.1".to_owned()
        }
    );
    for bytes in [128, 255, 513] {
        assert_eq!(
            error(&certificate(RSA, &public_key(bytes), "test")),
            CertificateError::KeySize { bits: bytes * 8 }
        );
    }
    let explained = format!("Certificate:\n    Data: explained\n{}", rsa_certificate());
    assert!(
        to_be_signed(&image(), &explained).is_ok(),
        "text before the block is passed over"
    );
}

#[test]
fn keys_that_cannot_sign_are_refused() {
    let error = |pem: &str| match sign(&image(), pem, &rsa_certificate()) {
        Err(AuthenticodeError::Key(error)) => error,
        other => panic!("{other:?}"),
    };
    let garbage = pem("PRIVATE KEY", &[0x30, 0]);
    assert_eq!(error(""), KeyError::Count { count: 0 });
    assert_eq!(error(&rsa_certificate()), KeyError::Count { count: 0 });
    assert_eq!(error(&garbage.repeat(2)), KeyError::Count { count: 2 });
    assert_eq!(error(&garbage), KeyError::Malformed);
    assert_eq!(error(&garbage.replace('M', "*")), KeyError::Malformed);
    assert_eq!(
        error(&pem("ENCRYPTED PRIVATE KEY", &[0x30, 0])),
        KeyError::Encrypted
    );
    assert!(matches!(
        error(&pem("RSA PRIVATE KEY", &[0x30, 0])),
        KeyError::Rejected { .. }
    ));
    assert_eq!(
        error(&pem("EC PRIVATE KEY", &[0x30, 0])),
        KeyError::NotRsa {
            algorithm: "EC PRIVATE KEY".to_owned()
        }
    );
    let ec = tlv(
        0x30,
        &[&tlv(0x02, &[&[0]]), &algorithm(EC), &tlv(0x04, &[&[0]])],
    );
    assert_eq!(
        error(&pem("PRIVATE KEY", &ec)),
        KeyError::NotRsa {
            algorithm: "1.2.840.10045.2.1".to_owned()
        }
    );
}

#[test]
fn signed_images_are_refused_until_stripped() {
    let unsigned = image();
    let signed = Signable::parse(&unsigned)
        .unwrap()
        .with_signature(&[0x30, 0])
        .unwrap();
    assert_eq!(
        (is_signed(&unsigned), is_signed(&signed)),
        (Ok(false), Ok(true))
    );
    let error = AuthenticodeError::Image(ImageError::AlreadySigned);
    assert_eq!(
        to_be_signed(&signed, &rsa_certificate()),
        Err(error.clone())
    );
    assert_eq!(attach(&signed, &rsa_certificate(), &[]), Err(error.clone()));
    assert_eq!(sign(&signed, "", &rsa_certificate()), Err(error));
    assert_eq!(strip_signatures(&signed).unwrap(), unsigned);
    assert_eq!(strip_signatures(&unsigned).unwrap(), unsigned);
}

#[test]
fn files_that_are_no_images_are_refused() {
    let error = AuthenticodeError::Image(ImageError::Pe(PeError::NotPe));
    assert_eq!(image_digest(b"no image"), Err(error.clone()));
    assert_eq!(sign(b"no image", "", ""), Err(error));
}

#[test]
fn a_message_that_edk2_could_not_read_is_refused() {
    let signer = |name_bytes| {
        Signer::from_pem(&certificate(RSA, &public_key(256), &"n".repeat(name_bytes))).unwrap()
    };
    assert!(message::encode(&[0; 32], &signer(10_000), &[1; 256]).is_ok());
    let error = message::encode(&[0; 32], &signer(70_000), &[1; 256])
        .map_err(encoding)
        .unwrap_err();
    assert!(matches!(error, AuthenticodeError::Encoding { .. }));
}

#[test]
fn the_message_has_its_digest_algorithm_where_edk2_looks() {
    let signer = Signer::from_pem(&rsa_certificate()).unwrap();
    let digest = [0xa5; 32];
    let encoded = message::encode(&digest, &signer, &[1; 256]).unwrap();
    let sha_256 = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
    assert_eq!(encoded[32..41], sha_256);
    let found = |part: &[u8]| {
        encoded
            .windows(part.len())
            .filter(|bytes| *bytes == part)
            .count()
    };
    assert_eq!(found(&digest), 1);
    assert_eq!(
        found(signer.certificate_der()),
        1,
        "the certificate is embedded byte for byte"
    );
    let attributes = message::signed_attributes(&digest).unwrap();
    assert_eq!(
        found(&attributes[1..]),
        1,
        "the attributes are the signed ones, but for their tag"
    );
}

#[test]
fn no_damaged_header_panics() {
    let unsigned = image();
    let signed = Signable::parse(&unsigned)
        .unwrap()
        .with_signature(&[1; 300])
        .unwrap();
    let mut refused = 0;
    for offset in 0..0x1c0 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            for mut damaged in [unsigned.clone(), signed.clone()] {
                damaged[offset] = value;
                match Signable::parse(&damaged) {
                    Ok(image) => assert!(
                        image.with_signature(&[2; 300]).is_ok()
                            && image.without_signature().is_ok()
                    ),
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(refused > 100, "{refused} damaged images were refused");
}
