//! What the firmware would refuse is refused before it costs a transfer, and the verdict is that of other people's tools.
//!
//! Keys are made by `openssl`, signatures and signature lists by `sbsign` and `sbsiglist`, and `sbverify` gives its verdict beside
//! ours (sbsigntool). A missing tool is a failure here, not a skip: without them nothing is proved.

mod lab;
#[path = "../support/mod.rs"]
mod support;
#[path = "../../../bundles/src/pe/synthetic.rs"]
mod synthetic;

use lab::{DATABASE, Lab, read};
use std::fs;
use std::path::{Path, PathBuf};
use support::bundle::{Release, key};
use support::{Board, install_of};
use synthetic::Synthetic;
use twinseal::cli::InstallArguments;
use twinseal::device::Device;
use twinseal::error::AgentError;
use twinseal::loader::Follower;
use twinseal::report::Outlet;
use twinseal::secure_boot::{self, Finding, Refusal};
use twinseal::{exit, update};
use twinseal_core::boot::Set;
use twinseal_core::error::StorageError;
use twinseal_platform_linux::loader::BootLoader;

fn uki(release: &Release) -> Vec<u8> {
    let cmdline = format!("quiet composefs={}", release.seal());
    Synthetic {
        sections: vec![
            (".text", b"no code".repeat(300)),
            (".cmdline", cmdline.into_bytes()),
            (".linux", support::bundle::content(5, 40_000)),
        ],
        ..Synthetic::default()
    }
    .build()
}

fn only(verdict: Result<(), Refusal>) -> Finding {
    let mut findings = verdict.unwrap_err().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings.remove(0)
}

fn subject(name: &str) -> String {
    format!("CN={name},O=Acme")
}

#[test]
fn the_verdict_is_that_of_sbverify() {
    let lab = Lab::new();
    lab.pair("good", None, true).pair("stranger", None, true);
    let plain = uki(&Release::sealed(2));
    let good = lab.sign(&plain, "good", &[]);
    assert_eq!(lab.agreed(&good, &["good"]), Ok(()));
    assert_eq!(lab.agreed(&good, &["stranger", "good"]), Ok(()));
    assert_eq!(only(lab.agreed(&plain, &["good"])), Finding::Unsigned);
    let refusal = lab.agreed(&good, &["stranger"]).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Secure Boot is on, and this machine's firmware would not start the UKI: it is signed by \"CN=good,O=Acme\", whom the \
         firmware does not trust. The firmware trusts (db): \"CN=stranger,O=Acme\"."
    );
    let mut altered = good.clone();
    let at = altered.windows(10).position(|part| part == b"composefs=");
    altered[at.unwrap() - 1] ^= 1;
    let signer = subject("good");
    assert_eq!(
        only(lab.agreed(&altered, &["good"])),
        Finding::Altered {
            signer: signer.clone()
        }
    );
    // The last byte of the message is the last one of the signature; filling may follow.
    let last = good.iter().rposition(|byte| *byte != 0).unwrap();
    let mut forged = good.clone();
    forged[last - 9] ^= 1;
    assert_eq!(
        only(lab.agreed(&forged, &["good"])),
        Finding::Forged { signer }
    );
}

#[test]
fn one_good_signature_of_several_is_enough() {
    let lab = Lab::new();
    for name in ["good", "other", "stranger"] {
        lab.pair(name, None, true);
    }
    let plain = uki(&Release::sealed(2));
    let good_last = lab.sign(&lab.sign(&plain, "other", &[]), "good", &[]);
    let good_first = lab.sign(&lab.sign(&plain, "good", &[]), "other", &[]);
    for image in [&good_last, &good_first] {
        assert_eq!(read(image).signatures.len(), 2);
        assert_eq!(lab.agreed(image, &["good"]), Ok(()));
        assert_eq!(lab.agreed(image, &["other"]), Ok(()));
        let refusal = lab.agreed(image, &["stranger"]).unwrap_err();
        assert_eq!(refusal.findings.len(), 2);
    }
}

#[test]
fn a_chain_leads_to_the_firmware_through_the_message() {
    let lab = Lab::new();
    lab.pair("root", None, true)
        .pair("middle", Some("root"), true)
        .pair("leaf", Some("middle"), false)
        .pair("below", Some("leaf"), false);
    let plain = uki(&Release::sealed(2));
    let whole = lab.sign(&plain, "leaf", &["middle"]);
    let short = lab.sign(&plain, "leaf", &[]);
    for name in ["root", "middle", "leaf"] {
        assert_eq!(lab.agreed(&whole, &[name]), Ok(()), "{name}");
    }
    assert_eq!(lab.agreed(&short, &["middle"]), Ok(()));
    let stranger = |name| Finding::Stranger {
        signer: subject(name),
    };
    assert_eq!(only(lab.agreed(&short, &["root"])), stranger("leaf"));
    // Who may not sign certificates leads nowhere.
    let below = lab.sign(&plain, "below", &["leaf", "middle"]);
    assert_eq!(only(lab.agreed(&below, &["root"])), stranger("below"));
}

#[test]
fn hashes_count_on_both_sides_and_revoked_is_revoked() {
    let lab = Lab::new();
    lab.pair("root", None, true)
        .pair("leaf", Some("root"), false)
        .pair("good", None, true);
    let plain = uki(&Release::sealed(2));
    let leaf = lab.sign(&plain, "leaf", &["root"]);
    let both = lab.sign(&leaf, "good", &[]);
    let digest = read(&plain).digest;
    lab.database("db", &[], &[digest]);
    assert_eq!(lab.verdict(&plain), Ok(()));
    assert_eq!(lab.verdict(&leaf), Ok(()));
    let other = uki(&Release::sealed(3));
    let refusal = lab.verdict(&other).unwrap_err();
    assert!(
        refusal.to_string().contains("trusts no certificate"),
        "{refusal}"
    );

    lab.database("db", &["root", "good"], &[]);
    assert_eq!(lab.verdict(&both), Ok(()));
    lab.database("dbx", &[], &[digest]);
    for image in [&plain, &leaf, &both] {
        assert_eq!(only(lab.verdict(image)), Finding::RevokedImage);
    }
    let revoked = |name: &str| Finding::Revoked {
        signer: subject("leaf"),
        revoked: subject(name),
    };
    for name in ["leaf", "root"] {
        lab.database("dbx", &[name], &[]);
        assert_eq!(only(lab.verdict(&leaf)), revoked(name));
        assert_eq!(only(lab.verdict(&both)), revoked(name));
        // The same by the hash of the certificate.
        let hash = lab.signed_part_sha256(name);
        let list = hashed_certificate(&hash);
        lab.variable(&format!("dbx-{DATABASE}"), &list);
        assert_eq!(only(lab.verdict(&leaf)), revoked(name));
    }
    lab.database("dbx", &["good"], &[]);
    assert_eq!(lab.verdict(&leaf), Ok(()));
}

/// `EFI_CERT_X509_SHA256`, which sbsiglist does not make.
fn hashed_certificate(hash: &[u8; 32]) -> Vec<u8> {
    let mut list = vec![
        0x92, 0xa4, 0xd2, 0x3b, 0xc0, 0x96, 0x79, 0x40, 0xb4, 0x20, 0xfc, 0xf9, 0x8e, 0xf1, 0x03,
        0xed,
    ];
    for size in [28 + 64_u32, 0, 64] {
        list.extend(size.to_le_bytes());
    }
    list.extend([0; 16]);
    list.extend(hash);
    list.extend([0; 16]);
    list
}

#[test]
fn no_changed_byte_of_a_signature_panics_or_counts_where_it_does_not_for_sbverify() {
    let lab = Lab::new();
    lab.pair("good", None, true)
        .pair("middle", Some("good"), true)
        .pair("leaf", Some("middle"), false);
    let plain = uki(&Release::sealed(2));
    lab.database("db", &["good"], &[]);
    let trust = secure_boot::trusted(&lab.description(), Some("/")).unwrap();
    let trust = trust.unwrap();
    // Nothing depends on the revision of an entry of the table, bytes 4 and 5, for EDK2; for sbverify it does.
    let revision = plain.len() + 4..plain.len() + 6;
    for signed in [
        lab.sign(&plain, "good", &[]),
        lab.sign(&plain, "leaf", &["middle"]),
    ] {
        assert_eq!(trust.judge(&read(&signed)), Ok(()));
        let mut refused = 0;
        let mut accepted = Vec::new();
        for offset in (plain.len()..signed.len()).filter(|offset| !revision.contains(offset)) {
            for change in [0x01, 0x80] {
                let mut changed = signed.clone();
                changed[offset] ^= change;
                match trust.judge(&read(&changed)) {
                    Ok(()) => accepted.push((offset - plain.len(), changed)),
                    Err(_) => refused += 1,
                }
            }
        }
        println!("{refused} refused, {} accepted", accepted.len());
        assert!(refused > 2000);
        let alone = accepted
            .iter()
            .filter(|(_, image)| !lab.sbverify(image, "good"));
        let alone: Vec<usize> = alone.map(|(offset, _)| *offset).collect();
        assert_eq!(alone, Vec::<usize>::new(), "bytes of the table");
    }
}

/// The firmware's boot order; nothing here depends on it.
struct Order;

impl BootLoader for Order {
    fn default_set(&mut self) -> Result<Option<Set>, StorageError> {
        Ok(Some(Set::A))
    }

    fn next_set(&mut self) -> Result<Option<Set>, StorageError> {
        Ok(None)
    }

    fn set_default(&mut self, _: Set) -> Result<bool, StorageError> {
        Ok(false)
    }

    fn set_next(&mut self, _: Option<Set>) -> Result<bool, StorageError> {
        Ok(false)
    }
}

/// A device with release 1, on a machine whose firmware trusts `good`.
struct Machine {
    lab: Lab,
    board: Board,
}

impl Machine {
    fn new() -> Self {
        let lab = Lab::new();
        lab.pair("good", None, true).pair("stranger", None, true);
        lab.database("db", &["good"], &[]);
        let board = Board::sealed().booted(&Release::sealed(1).bundle(&[&key(1)]));
        let file = board.path("device.toml");
        let text = fs::read_to_string(&file).unwrap();
        let variables = lab.at("efivars");
        let boot = format!("[boot]\nloader = \"uefi\"\nvariables = {variables:?}\n");
        fs::write(&file, format!("{text}{boot}")).unwrap();
        Self { lab, board }
    }

    fn install(&self, uki: Vec<u8>, no_firmware_check: bool) -> Result<(), AgentError> {
        let release = Release {
            uki: Some(uki),
            ..Release::sealed(2)
        };
        let source = self.board.bundle(&release.bundle(&[&key(1)]));
        let arguments = InstallArguments {
            no_firmware_check,
            ..install_of(source)
        };
        let mut device = Device::open(Some(&self.board.path("device.toml"))).unwrap();
        device.loader = Follower::with(Box::new(|| Ok(Box::new(Order))));
        update::install_bundle(
            &device,
            &arguments,
            &mut Outlet::new(Box::new(std::io::sink()), true),
        )
    }

    /// The last entry of the journal of this kind.
    fn journal(&self, kind: &str) -> Option<serde_json::Value> {
        let mut entries = self.board.history().into_iter().rev();
        entries.find(|entry| entry["kind"] == kind)
    }

    fn record(&self) -> Vec<u8> {
        fs::read(self.board.path("state/boot-record")).unwrap()
    }

    fn assert_nothing_came(&self) {
        assert_eq!(files(&self.board.path("boot-b")), Vec::<PathBuf>::new());
        let objects = self.board.path("root-b/composefs/objects");
        assert_eq!(files(&objects), Vec::<PathBuf>::new());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn what_the_firmware_would_start_is_installed() {
    let machine = Machine::new();
    let uki = uki(&Release::sealed(2));
    machine
        .install(machine.lab.sign(&uki, "good", &[]), false)
        .unwrap();
    assert!(machine.board.path("boot-b/EFI/BOOT/BOOTX64.EFI").exists());
    assert_eq!(machine.journal("firmware-not-asked"), None);
}

#[test]
fn what_it_would_refuse_ends_before_the_first_object() {
    let machine = Machine::new();
    let plain = uki(&Release::sealed(2));
    let stranger = machine.lab.sign(&plain, "stranger", &[]);
    let record = machine.record();
    for (uki, says) in [
        (plain.clone(), "it is not signed"),
        (stranger.clone(), "signed by \"CN=stranger,O=Acme\""),
    ] {
        let bytes = uki.len() as u64;
        let error = machine.install(uki, false).unwrap_err();
        assert_eq!(error.code(), exit::SECURE_BOOT, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains("CN=good,O=Acme"), "{error}");
        assert!(error.help().unwrap().contains("--no-firmware-check"));
        machine.assert_nothing_came();
        assert_eq!(machine.record(), record, "the boot record changed");
        let failed = machine.journal("install-failed").unwrap();
        assert_eq!(failed["exit_code"], 41);
        assert_eq!(failed["name"], "secure-boot");
        assert_eq!(failed["target_touched"], true);
        let source_bytes = failed["source_bytes"].as_u64().unwrap();
        assert!(source_bytes < bytes + 16 * 1024, "{source_bytes} bytes");
    }
    machine.install(stranger, true).unwrap();
    assert!(machine.board.path("boot-b/EFI/BOOT/BOOTX64.EFI").exists());
    let entry = machine.journal("firmware-not-asked").unwrap();
    assert_eq!(entry["set"], "b");
    assert!(
        entry["text"]
            .as_str()
            .unwrap()
            .contains("--no-firmware-check")
    );
}

#[test]
fn a_firmware_that_does_not_check_is_not_asked() {
    let machine = Machine::new();
    machine.lab.secure_boot(0);
    machine.install(uki(&Release::sealed(2)), true).unwrap();
    assert_eq!(machine.journal("firmware-not-asked"), None);
    machine.install(uki(&Release::sealed(2)), false).unwrap();
}

#[test]
fn a_database_that_cannot_be_read_refuses_before_anything_is_written() {
    let machine = Machine::new();
    let plain = uki(&Release::sealed(2));
    let good = machine.lab.sign(&plain, "good", &[]);
    let record = machine.record();
    machine.lab.variable(&format!("db-{DATABASE}"), &[1; 40]);
    let error = machine.install(good.clone(), false).unwrap_err();
    assert_eq!(error.code(), exit::SECURE_BOOT);
    assert!(
        error.to_string().contains("signature list at its byte 0"),
        "{error}"
    );
    assert!(error.help().unwrap().contains("--no-firmware-check"));
    let failed = machine.journal("install-failed").unwrap();
    assert_eq!(failed["target_touched"], false);
    assert_eq!(machine.record(), record);
    machine.install(good, true).unwrap();
}
