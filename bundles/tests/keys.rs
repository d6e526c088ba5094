//! Promise: keys and signatures are exchanged with openssl, in both directions, and signing changes nothing else.

mod support;
#[path = "../src/pe/synthetic.rs"]
mod synthetic;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::{Workshop, tool, try_tool, words};
use twinseal_bundle::error::Error;
use twinseal_bundle::keys::{KeyError, PublicKey, SigningKey, generate_into, key_id_text};
use twinseal_bundle::read::Bundle;
use twinseal_bundle::sign::{attach_signature, sign_bundle, signed_bytes};
use twinseal_bundle::verify::{Device, verify};
use twinseal_core::error::PolicyRefused;

/// Runs openssl with words and paths: `@` in the text stands for the next path.
fn openssl(text: &str, paths: &[&Path]) -> String {
    let mut paths = paths.iter();
    let arguments: Vec<&Path> = words(text)
        .into_iter()
        .map(|word| {
            if word == Path::new("@") {
                paths.next().unwrap()
            } else {
                word
            }
        })
        .collect();
    tool("openssl", &arguments)
}

fn trusts(key: &Path) -> Device {
    Device {
        keys: vec![PublicKey::read(key).unwrap()],
        ..Device::default()
    }
}

#[test]
fn openssl_reads_our_keys_and_we_read_its() {
    let workshop = Workshop::new();
    let ours = openssl("pkey -in @ -pubout", &[&workshop.key.private]);
    assert_eq!(ours, fs::read_to_string(&workshop.key.public).unwrap());
    let text = openssl("pkey -pubin -in @ -noout -text", &[&workshop.key.public]);
    assert!(text.contains("ED25519"), "{text}");

    let (private, public) = (workshop.at("theirs.key"), workshop.at("theirs.pub"));
    openssl("genpkey -algorithm ed25519 -out @", &[&private]);
    openssl("pkey -in @ -pubout -out @", &[&private, &public]);
    let key = SigningKey::read(&private).unwrap();
    assert_eq!(key.public(), PublicKey::read(&public).unwrap());
    assert_eq!(key.to_pem(), fs::read_to_string(&private).unwrap());
}

#[test]
fn private_keys_are_private_and_never_overwritten() {
    let workshop = Workshop::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&workshop.key.private), 0o600);
    let before = fs::read(&workshop.key.private).unwrap();
    assert!(generate_into(&workshop.at("keys"), "release").is_err());
    assert_eq!(fs::read(&workshop.key.private).unwrap(), before);
    // A public key in the way leaves no private key without one.
    workshop.put("keys/other.pub", b"");
    assert!(generate_into(&workshop.at("keys"), "other").is_err());
    assert!(!workshop.at("keys/other.key").exists());
    for name in ["", "../up", "a/b", "A"] {
        assert!(
            matches!(
                generate_into(&workshop.at("keys"), name),
                Err(Error::Key(KeyError::Name(_)))
            ),
            "{name}"
        );
    }
}

#[test]
fn what_is_no_key_is_refused_by_name() {
    let workshop = Workshop::new();
    openssl(
        "genpkey -algorithm ed25519 -aes-256-cbc -pass pass:x -out @",
        &[&workshop.at("encrypted.key")],
    );
    openssl(
        "genpkey -algorithm x25519 -out @",
        &[&workshop.at("x25519.key")],
    );
    let private = |name: &str| match SigningKey::read(&workshop.at(name)) {
        Err(Error::Key(error)) => error,
        other => panic!("{name}: {other:?}"),
    };
    assert!(matches!(private("encrypted.key"), KeyError::Encrypted(_)));
    assert!(matches!(private("x25519.key"), KeyError::NotPrivate(_)));
    assert!(matches!(
        private("keys/release.pub"),
        KeyError::NotPrivate(_)
    ));
    assert!(matches!(private("vmlinuz"), KeyError::NotPrivate(_)));
    assert!(matches!(
        PublicKey::read(&workshop.key.private),
        Err(Error::Key(KeyError::NotPublic(_)))
    ));
    // The neutral point, for which anybody can sign.
    let weak = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n";
    workshop.put("weak.pub", weak.as_bytes());
    assert!(matches!(
        PublicKey::read(&workshop.at("weak.pub")),
        Err(Error::Key(KeyError::Weak(_)))
    ));
}

#[test]
fn a_signature_made_by_openssl_is_attached_when_it_is_right() {
    let workshop = Workshop::new();
    let unsigned = Workshop::system_recipe().replace("sign = ['keys/release.key']\n", "");
    let bundle = workshop.build(&unsigned, "b.tseal").unwrap();
    let refused = verify(&bundle, &workshop.device()).unwrap_err();
    assert!(
        matches!(refused, Error::Bundle(error) if error == PolicyRefused::UnknownSigner.into()),
        "{refused}"
    );

    let (private, public) = (workshop.at("hsm.key"), workshop.at("hsm.pub"));
    openssl("genpkey -algorithm ed25519 -out @", &[&private]);
    openssl("pkey -in @ -pubout -out @", &[&private, &public]);
    let signed = signed_bytes(Bundle::open(&bundle).unwrap().manifest_entry());
    let (tbs, signature) = (workshop.put("b.tbs", &signed), workshop.at("b.sig"));
    openssl(
        "pkeyutl -sign -rawin -inkey @ -in @ -out @",
        &[&private, &tbs, &signature],
    );
    let bytes = fs::read(&signature).unwrap();
    let key = PublicKey::read(&public).unwrap();

    let other = PublicKey::read(&workshop.key.public).unwrap();
    let wrong = attach_signature(&bundle, &bytes, &other).unwrap_err();
    assert!(
        matches!(wrong, Error::Key(KeyError::SignatureWrong(id)) if id == other.id()),
        "{wrong}"
    );
    let short = attach_signature(&bundle, &bytes[..63], &key).unwrap_err();
    assert!(
        matches!(short, Error::Key(KeyError::SignatureLength(63))),
        "{short}"
    );
    assert!(Bundle::open(&bundle).unwrap().signatures().is_empty());

    attach_signature(&bundle, &bytes, &key).unwrap();
    let report = verify(&bundle, &trusts(&public)).unwrap();
    assert_eq!(report.signers, [key.id()]);
}

#[test]
fn openssl_verifies_our_signatures() {
    let workshop = Workshop::new();
    let bundle = Bundle::open(
        &workshop
            .build(Workshop::system_recipe(), "b.tseal")
            .unwrap(),
    )
    .unwrap();
    let tbs = workshop.put("b.tbs", &signed_bytes(bundle.manifest_entry()));
    let signature = workshop.put("b.sig", &bundle.signatures()[0].bytes);
    let verify = |tbs: &Path| {
        let mut arguments = words("pkeyutl -verify -rawin -pubin -inkey");
        arguments.extend([
            &workshop.key.public,
            Path::new("-in"),
            tbs,
            Path::new("-sigfile"),
            &signature,
        ]);
        try_tool("openssl", &arguments).status.success()
    };
    assert!(verify(&tbs));
    let mut changed = fs::read(&tbs).unwrap();
    changed[40] ^= 1;
    assert!(!verify(&workshop.put("changed.tbs", &changed)));
}

#[test]
fn signing_replaces_its_own_signature_and_keeps_all_else() {
    let workshop = Workshop::new();
    let bundle = workshop
        .build(Workshop::system_recipe(), "b.tseal")
        .unwrap();
    let before = fs::read(&bundle).unwrap();
    let second = generate_into(&workshop.at("keys"), "second").unwrap();
    let first_key = SigningKey::read(&workshop.key.private).unwrap();
    let second_key = SigningKey::read(&second.private).unwrap();

    sign_bundle(&bundle, std::slice::from_ref(&first_key)).unwrap();
    assert!(
        fs::read(&bundle).unwrap() == before,
        "the same key again changes nothing"
    );

    sign_bundle(&bundle, std::slice::from_ref(&second_key)).unwrap();
    let open = Bundle::open(&bundle).unwrap();
    let ids: Vec<_> = open
        .signatures()
        .iter()
        .map(|signature| key_id_text(&signature.key))
        .collect();
    assert_eq!(
        ids,
        [key_id_text(&workshop.key.id), key_id_text(&second.id)]
    );
    for public in [&workshop.key.public, &second.public] {
        verify(&bundle, &trusts(public)).unwrap();
    }
    let after = fs::read(&bundle).unwrap();
    // From the header of the index on.
    let rest = open.layout().content(2).offset as usize - 512;
    let tail = &before[before.len() - (after.len() - rest)..];
    assert!(tail == &after[rest..], "index and data stay");
    assert_eq!(
        fs::metadata(&bundle).unwrap().permissions().mode() & 0o777,
        0o666 & !umask()
    );

    for number in 0..6 {
        let files = generate_into(&workshop.at("keys"), &format!("more-{number}")).unwrap();
        sign_bundle(&bundle, &[SigningKey::read(&files.private).unwrap()]).unwrap();
    }
    let ninth = generate_into(&workshop.at("keys"), "ninth").unwrap();
    let full = fs::read(&bundle).unwrap();
    assert!(sign_bundle(&bundle, &[SigningKey::read(&ninth.private).unwrap()]).is_err());
    assert!(
        fs::read(&bundle).unwrap() == full,
        "a signing that fails leaves the old file"
    );
}

/// What the system takes away from the permissions of a new file.
fn umask() -> u32 {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("x"), b"").unwrap();
    0o666
        & !fs::metadata(directory.path().join("x"))
            .unwrap()
            .permissions()
            .mode()
}
