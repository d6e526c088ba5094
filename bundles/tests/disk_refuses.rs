//! Promise: a bundle with a fault makes no disk and leaves nothing behind; what cannot fit is refused with what would.

#[path = "support/factory.rs"]
mod factory;
mod support;
#[path = "../src/pe/synthetic.rs"]
mod synthetic;

use std::fs;
use std::path::Path;

use factory::Factory;
use support::Workshop;
use twinseal_bundle::disk::{ByteSize, DiskError, DiskOptions, Made, Wanted, make};
use twinseal_bundle::error::Error;

const MIB: u64 = 1 << 20;

#[test]
fn a_bundle_with_a_fault_makes_no_disk_and_leaves_nothing() {
    let factory = Factory::new();
    let good = fs::read(&factory.bundle).unwrap();
    fs::create_dir(factory.workshop.at("empty")).unwrap();
    let out = factory.workshop.at("empty/disk.img");
    let refused = |bytes: &[u8], options: &DiskOptions| {
        let bundle = factory.workshop.put("bad.tseal", bytes);
        let error = make(&bundle, &out, options).unwrap_err();
        let left = fs::read_dir(factory.workshop.at("empty")).unwrap().count();
        assert_eq!(left, 0, "nothing is left behind");
        error
    };
    let trusting = factory.options();
    let mut changes = 0;
    for position in (0..good.len()).step_by(good.len() / 40) {
        let mut bad = good.clone();
        bad[position] ^= 1;
        let error = refused(&bad, &trusting);
        assert!(
            matches!(error, Error::Bundle(_)),
            "byte {position}: {error}"
        );
        changes += 1;
    }
    assert!(changes >= 40);
    // The last range belongs to the composefs image: seen without keys too, by its digest alone.
    let mut bad = good.clone();
    let end = bad.len() - 4096;
    bad[end] ^= 1;
    assert!(matches!(
        refused(&bad, &DiskOptions::default()),
        Error::Bundle(_)
    ));
    let stranger = twinseal_bundle::keys::SigningKey::generate().public();
    let error = refused(
        &good,
        &DiskOptions {
            keys: vec![stranger],
            ..DiskOptions::default()
        },
    );
    assert_eq!(twinseal_bundle::exit::exit_code_of(&error), 30, "{error}");
}

#[test]
fn sizes_that_do_not_do_are_refused_with_the_size_that_does() {
    let factory = Factory::new();
    let out = factory.workshop.at("disk.img");
    let refused = |wanted: Wanted| {
        let options = DiskOptions {
            wanted,
            ..factory.options()
        };
        make(&factory.bundle, &out, &options).unwrap_err()
    };
    let small = Some(ByteSize(MIB));
    for (wanted, flag) in [
        (
            Wanted {
                disk: small,
                ..Wanted::default()
            },
            "size",
        ),
        (
            Wanted {
                boot: small,
                ..Wanted::default()
            },
            "boot-bytes",
        ),
        (
            Wanted {
                root: small,
                ..Wanted::default()
            },
            "root-bytes",
        ),
    ] {
        let error = refused(wanted);
        let Error::Disk(DiskError::TooSmall { needed, .. }) = &error else {
            panic!("{error}")
        };
        let advice = format!("Give `--{flag} {}M` or more", needed / MIB);
        assert!(error.to_string().contains(&advice), "{error}");
    }
    // The least that is named is enough.
    let (mut wanted, mut error) = (
        Wanted {
            boot: small,
            root: small,
            ..Wanted::default()
        },
        None,
    );
    for _ in 0..3 {
        match refused_or_made(&factory, &out, wanted) {
            Ok(made) => {
                assert!(made.bytes < 500 * MIB);
                return;
            }
            Err(Error::Disk(DiskError::TooSmall { flag, needed, .. })) => match flag {
                "boot-bytes" => wanted.boot = Some(ByteSize(needed)),
                _ => wanted.root = Some(ByteSize(needed)),
            },
            Err(other) => error = Some(other),
        }
    }
    panic!("{error:?}");
}

fn refused_or_made(factory: &Factory, out: &Path, wanted: Wanted) -> Result<Made, Error> {
    let options = DiskOptions {
        wanted,
        ..factory.options()
    };
    make(&factory.bundle, out, &options)
}

#[test]
fn a_bundle_of_images_makes_no_disk() {
    let factory = Factory::new();
    let recipe = "compatible = 'test-device'\nversion = '1'\nanti-rollback = 1\nsign = ['keys/release.key']\n\
        image = [{ slot = 'fpga', file = 'fpga.bin' }]\n";
    let bundle = factory.workshop.build(recipe, "images.tseal").unwrap();
    let error = make(
        &bundle,
        &factory.workshop.at("disk.img"),
        &factory.options(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("no UKI"), "{error}");
    for (slot, problem) in [("root", "already"), (&"x".repeat(40), "36 letters")] {
        let recipe = Workshop::system_recipe().to_owned()
            + &format!("image = [{{ slot = '{slot}', file = 'fpga.bin' }}]\n");
        let bundle = factory.workshop.build(&recipe, "slots.tseal").unwrap();
        let error = make(
            &bundle,
            &factory.workshop.at("disk.img"),
            &factory.options(),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn what_is_no_systemd_boot_for_this_disk_is_refused() {
    let factory = Factory::new();
    let refused = |program: &Path| {
        let options = DiskOptions {
            systemd_boot: Some(program.to_owned()),
            ..factory.options()
        };
        let out = factory.workshop.at("disk.img");
        let error = make(&factory.bundle, &out, &options).unwrap_err();
        assert!(!out.exists());
        error.to_string()
    };
    let said = refused(&factory.workshop.at("absent.efi"));
    assert!(said.contains("absent.efi"), "{said}");
    for bytes in [&b"MZ"[..], &synthetic::Synthetic::default().build()] {
        let said = refused(&factory.workshop.put("other.efi", bytes));
        assert!(said.contains("is not systemd-boot"), "{said}");
    }
    for version in ["256.9", "252", "unknown"] {
        let said = refused(&factory.systemd_boot(synthetic::AMD64, version));
        assert!(said.contains("257 or newer"), "{said}");
        assert!(said.contains(version), "{said}");
    }
    let said = refused(&factory.systemd_boot(synthetic::ARM64, "258~rc1"));
    assert!(said.contains("0xaa64") && said.contains("0x8664"), "{said}");
    // A file that is too large for one is not read.
    let large = vec![0; 40 << 20];
    let mut program = synthetic::Synthetic::default();
    program.sections.push((
        ".sdmagic",
        b"#### LoaderInfo: systemd-boot 257 ####".to_vec(),
    ));
    program.sections.push((".rest", large));
    let said = refused(&factory.workshop.put("large.efi", &program.build()));
    assert!(said.contains("large.efi"), "{said}");
}
