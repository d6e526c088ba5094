//! UKIs and their signatures as other people's tools see them: `objdump` (binutils), `sbverify` and `sbsign`
//! (sbsigntool), `openssl`. A missing tool is a failure here, not a skip: without them nothing is proved.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use twinseal_bundle::authenticode::{
    self, AuthenticodeError, CertificateError, ImageError, KeyError,
};
use twinseal_bundle::uki::{self, UkiParts};

#[path = "../src/pe/synthetic.rs"]
mod synthetic;

use synthetic::Synthetic;

/// An empty directory of this test's own, inside the build directory.
fn directory(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("secure-boot-{test}"));
    if path.exists() {
        std::fs::remove_dir_all(&path).unwrap();
    }
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Runs a tool in `directory` and returns what it did.
fn run(directory: &Path, tool: &str, arguments: &[&str]) -> Output {
    let command = Command::new(tool)
        .args(arguments)
        .current_dir(directory)
        .output();
    command.unwrap_or_else(|error| {
        panic!("{tool} cannot be run ({error}); install binutils, sbsigntool and openssl")
    })
}

/// Runs a tool that must succeed, and returns its standard output.
fn succeed(directory: &Path, tool: &str, arguments: &[&str]) -> Vec<u8> {
    let output = run(directory, tool, arguments);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{tool} {arguments:?} failed: {message}"
    );
    output.stdout
}

fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) {
    std::fs::write(directory.join(name), content).unwrap();
}

/// A private key and a self-signed certificate for it, both PEM.
struct Pair {
    key: String,
    certificate: String,
}

/// A new pair; `algorithm` is what `openssl req -newkey` takes.
fn new_pair(directory: &Path, name: &str, algorithm: &[&str]) -> Pair {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let subject = format!("/CN=twinseal test {name}");
    let mut arguments = vec![
        "req", "-new", "-x509", "-nodes", "-days", "3650", "-subj", &subject,
    ];
    arguments.extend(["-keyout", &key, "-out", &certificate, "-newkey"]);
    arguments.extend(algorithm);
    succeed(directory, "openssl", &arguments);
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    Pair {
        key: read(&key),
        certificate: read(&certificate),
    }
}

/// The RSA-2048 pair of all tests to which it does not matter.
fn pair() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| new_pair(&directory("shared"), "db", &["rsa:2048"]))
}

/// An unsigned UKI of synthetic parts.
fn example_uki() -> Vec<u8> {
    uki_for(synthetic::AMD64)
}

/// The same for another machine.
fn uki_for(machine: u16) -> Vec<u8> {
    let stub = Synthetic {
        machine,
        ..Synthetic::default()
    }
    .build();
    let linux = Synthetic {
        machine,
        sections: vec![(".text", vec![0x90; 9001])],
        ..Synthetic::default()
    }
    .build();
    let parts = UkiParts {
        stub: &stub,
        linux: &linux,
        initrd: Some(&[7; 3001]),
        cmdline: "composefs=0123456789abcdef quiet",
        os_release: b"ID=appliance\nVERSION_ID=3\n",
        uname: Some("6.12.1"),
        sbat: None,
        device_tree: None,
    };
    uki::assemble(&parts).unwrap()
}

/// Whether `sbverify` accepts `image` under `certificate`.
fn sbverify(directory: &Path, image: &[u8], certificate: &str) -> bool {
    write(directory, "image.efi", image);
    write(directory, "certificate.pem", certificate);
    let output = run(
        directory,
        "sbverify",
        &["--cert", "certificate.pem", "image.efi"],
    );
    let said = String::from_utf8_lossy(&output.stdout).contains("Signature verification OK");
    assert_eq!(
        output.status.success(),
        said,
        "sbverify's status and words disagree"
    );
    said
}

#[test]
fn objdump_lists_every_section() {
    let directory = directory("objdump");
    write(&directory, "uki.efi", example_uki());
    let listing = String::from_utf8(succeed(&directory, "objdump", &["-h", "uki.efi"])).unwrap();
    let rows: Vec<Vec<&str>> = listing
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let sections: Vec<(&str, &str)> = rows
        .iter()
        .filter(|row| row.len() == 7 && row[1].starts_with('.'))
        .map(|row| (row[1], row[2]))
        .collect();
    let names: Vec<&str> = sections.iter().map(|section| section.0).collect();
    assert_eq!(
        names,
        [
            ".text", ".sbat", ".reloc", ".osrel", ".cmdline", ".uname", ".linux", ".initrd"
        ]
    );
    assert_eq!(sections[7].1, format!("{:08x}", 3001));
}

#[test]
fn sbverify_accepts_keys_of_2048_to_4096_bits() {
    let directory = directory("sizes");
    for size in ["2048", "3072", "4096"] {
        let pair = new_pair(&directory, size, &[&format!("rsa:{size}")]);
        let signed = authenticode::sign(&example_uki(), &pair.key, &pair.certificate).unwrap();
        assert!(
            sbverify(&directory, &signed, &pair.certificate),
            "RSA-{size}"
        );
    }
}

/// The form of a PE file for 32-bit processors has its signature elsewhere.
#[test]
fn sbverify_accepts_a_uki_for_32_bit_arm_and_sbsign_hashes_it_alike() {
    let directory = directory("narrow");
    let (uki, pair) = (uki_for(synthetic::ARM32), pair());
    let signed = authenticode::sign(&uki, &pair.key, &pair.certificate).unwrap();
    assert!(sbverify(&directory, &signed, &pair.certificate));
    assert_eq!(authenticode::strip_signatures(&signed).unwrap(), uki);
    for (name, content) in [
        ("uki.efi", uki.as_slice()),
        ("db.key", pair.key.as_bytes()),
        ("db.crt", pair.certificate.as_bytes()),
    ] {
        write(&directory, name, content);
    }
    succeed(
        &directory,
        "sbsign",
        &[
            "--key",
            "db.key",
            "--cert",
            "db.crt",
            "--output",
            "theirs.efi",
            "uki.efi",
        ],
    );
    let theirs = std::fs::read(directory.join("theirs.efi")).unwrap();
    assert_eq!(authenticode::strip_signatures(&theirs).unwrap(), uki);
    assert_eq!(
        authenticode::image_digest(&theirs).unwrap(),
        authenticode::image_digest(&signed).unwrap()
    );
    let mut changed = signed;
    changed[uki.len() - 1] ^= 1;
    assert!(!sbverify(&directory, &changed, &pair.certificate));
}

#[test]
fn signing_twice_gives_the_same_bytes() {
    let sign = || authenticode::sign(&example_uki(), &pair().key, &pair().certificate).unwrap();
    let first = sign();
    assert_eq!(first, sign());
    let stripped = authenticode::strip_signatures(&first).unwrap();
    assert_eq!(stripped, example_uki());
    assert_eq!(
        authenticode::sign(&stripped, &pair().key, &pair().certificate).unwrap(),
        first
    );
}

#[test]
fn both_forms_of_the_key_sign_alike() {
    let directory = directory("pkcs1");
    write(&directory, "key.pem", &pair().key);
    let pkcs1 = succeed(
        &directory,
        "openssl",
        &["rsa", "-traditional", "-in", "key.pem"],
    );
    let pkcs1 = String::from_utf8(pkcs1).unwrap();
    assert!(
        pkcs1.starts_with("-----BEGIN RSA PRIVATE KEY-----")
            && pair().key.starts_with("-----BEGIN PRIVATE KEY-----")
    );
    let sign = |key: &str| authenticode::sign(&example_uki(), key, &pair().certificate).unwrap();
    assert_eq!(sign(&pkcs1), sign(&pair().key));
}

#[test]
fn sbverify_refuses_any_changed_section() {
    let directory = directory("tampered");
    let signed = authenticode::sign(&example_uki(), &pair().key, &pair().certificate).unwrap();
    assert!(sbverify(&directory, &signed, &pair().certificate));
    let mut tampered = 0;
    for name in [
        ".text", ".sbat", ".osrel", ".cmdline", ".uname", ".linux", ".initrd",
    ] {
        let content = uki::section(&signed, name).unwrap().unwrap();
        let offset = content.as_ptr() as usize - signed.as_ptr() as usize;
        for at in [offset, offset + content.len() - 1] {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert!(
                !sbverify(&directory, &changed, &pair().certificate),
                "{name} at {at:#x}"
            );
            tampered += 1;
        }
    }
    assert_eq!(tampered, 14);
    assert!(
        !sbverify(&directory, &example_uki(), &pair().certificate),
        "unsigned"
    );
    let stranger = new_pair(&directory, "stranger", &["rsa:2048"]);
    assert!(
        !sbverify(&directory, &signed, &stranger.certificate),
        "another certificate"
    );
}

#[test]
fn sbsign_signs_the_same_digest() {
    let directory = directory("sbsign");
    let unsigned = example_uki();
    write(&directory, "uki.efi", &unsigned);
    write(&directory, "key.pem", &pair().key);
    write(&directory, "certificate.pem", &pair().certificate);
    let arguments = [
        "--key",
        "key.pem",
        "--cert",
        "certificate.pem",
        "--output",
        "signed.efi",
        "uki.efi",
    ];
    succeed(&directory, "sbsign", &arguments);
    let theirs = std::fs::read(directory.join("signed.efi")).unwrap();
    let digest = authenticode::image_digest(&unsigned).unwrap();
    assert_eq!(authenticode::image_digest(&theirs), Ok(digest));
    assert!(
        theirs.windows(32).any(|bytes| bytes == digest),
        "sbsign put the digest into its signature"
    );
    assert!(authenticode::is_signed(&theirs).unwrap());
    assert_eq!(authenticode::strip_signatures(&theirs).unwrap(), unsigned);
}

#[test]
fn a_key_outside_the_process_can_sign() {
    let directory = directory("detached");
    let (unsigned, certificate) = (example_uki(), &pair().certificate);
    let bytes = authenticode::to_be_signed(&unsigned, certificate).unwrap();
    write(&directory, "to-be-signed", &bytes);
    write(&directory, "key.pem", &pair().key);
    let raw = succeed(
        &directory,
        "openssl",
        &["dgst", "-sha256", "-sign", "key.pem", "to-be-signed"],
    );
    let signed = authenticode::attach(&unsigned, certificate, &raw).unwrap();
    assert!(sbverify(&directory, &signed, certificate));
    assert_eq!(
        signed,
        authenticode::sign(&unsigned, &pair().key, certificate).unwrap()
    );

    let mut other = unsigned.clone();
    *other.last_mut().unwrap() ^= 1;
    let invalid = Err(AuthenticodeError::SignatureInvalid);
    assert_eq!(
        authenticode::attach(&other, certificate, &raw),
        invalid,
        "a signature of another image"
    );
    let stranger = new_pair(&directory, "stranger", &["rsa:2048"]);
    assert_eq!(
        authenticode::attach(&unsigned, &stranger.certificate, &raw),
        invalid,
        "another certificate"
    );
}

#[test]
fn a_signed_image_is_not_signed_again_silently() {
    let sign = |image: &[u8]| authenticode::sign(image, &pair().key, &pair().certificate);
    let signed = sign(&example_uki()).unwrap();
    assert_eq!(sign(&signed), Err(ImageError::AlreadySigned.into()));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let stranger = new_pair(&directory("mismatch"), "stranger", &["rsa:2048"]);
    let error = authenticode::sign(&example_uki(), &stranger.key, &pair().certificate).unwrap_err();
    assert_eq!(error, KeyError::NotOfCertificate.into());
    assert!(
        error
            .to_string()
            .starts_with("the private key does not belong to the certificate"),
        "{error}"
    );
}

#[test]
fn keys_and_certificates_of_other_kinds_are_refused() {
    let directory = directory("kinds");
    let refuse = |key: &str, certificate: &str| {
        authenticode::sign(&example_uki(), key, certificate).unwrap_err()
    };
    let ec = new_pair(
        &directory,
        "ec",
        &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    );
    let algorithm = "1.2.840.10045.2.1".to_owned();
    let certificate_error = CertificateError::NotRsa {
        algorithm: algorithm.clone(),
    };
    assert_eq!(refuse(&ec.key, &ec.certificate), certificate_error.into());
    assert_eq!(
        refuse(&ec.key, &pair().certificate),
        KeyError::NotRsa { algorithm }.into()
    );

    let short = new_pair(&directory, "short", &["rsa:1024"]);
    assert_eq!(
        refuse(&short.key, &short.certificate),
        CertificateError::KeySize { bits: 1024 }.into()
    );
    let rejected = refuse(&short.key, &pair().certificate);
    assert!(
        matches!(rejected, AuthenticodeError::Key(KeyError::Rejected { .. })),
        "{rejected}"
    );

    let two = format!("{}{}", pair().certificate, short.certificate);
    assert_eq!(
        refuse(&pair().key, &two),
        CertificateError::Count { count: 2 }.into()
    );
}

#[test]
fn encrypted_keys_are_refused() {
    let directory = directory("encrypted");
    write(&directory, "key.pem", &pair().key);
    let password = ["-aes256", "-passout", "pass:secret", "-in", "key.pem"];
    for form in [vec!["pkey"], vec!["rsa", "-traditional"]] {
        let arguments = [form, password.to_vec()].concat();
        let key = String::from_utf8(succeed(&directory, "openssl", &arguments)).unwrap();
        let error = authenticode::sign(&example_uki(), &key, &pair().certificate).unwrap_err();
        assert_eq!(error, KeyError::Encrypted.into());
    }
}

#[test]
fn damaged_keys_are_refused() {
    let directory = directory("damaged");
    write(&directory, "key.pem", &pair().key);
    let form = ["rsa", "-traditional", "-in", "key.pem", "-outform", "DER"];
    let mut der = succeed(&directory, "openssl", &form);
    // The last number of a PKCS#1 key is q^-1 mod p.
    *der.last_mut().unwrap() ^= 2;
    write(&directory, "damaged.der", &der);
    let pem = succeed(&directory, "openssl", &["base64", "-in", "damaged.der"]);
    let pem = String::from_utf8(pem).unwrap();
    let key = format!("-----BEGIN RSA PRIVATE KEY-----\n{pem}-----END RSA PRIVATE KEY-----\n");
    let error = authenticode::sign(&example_uki(), &key, &pair().certificate).unwrap_err();
    assert!(
        matches!(error, AuthenticodeError::Key(KeyError::Rejected { .. })),
        "{error}"
    );
}

#[test]
fn a_certificate_explained_in_text_is_accepted() {
    let directory = directory("explained");
    write(&directory, "certificate.pem", &pair().certificate);
    let explained = succeed(
        &directory,
        "openssl",
        &["x509", "-text", "-in", "certificate.pem"],
    );
    let explained = String::from_utf8(explained).unwrap();
    assert!(explained.starts_with("Certificate:"));
    let signed = authenticode::sign(&example_uki(), &pair().key, &explained).unwrap();
    assert_eq!(
        signed,
        authenticode::sign(&example_uki(), &pair().key, &pair().certificate).unwrap()
    );
}

#[test]
fn a_certificate_too_large_for_firmware_is_refused() {
    let directory = directory("large");
    let comment = format!("nsComment={}", "c".repeat(70_000));
    let pair = new_pair(&directory, "large", &["rsa:2048", "-addext", &comment]);
    let error = authenticode::sign(&example_uki(), &pair.key, &pair.certificate).unwrap_err();
    assert!(
        matches!(error, AuthenticodeError::Encoding { .. }),
        "{error}"
    );
}
