//! The format does not drift: a bundle that was stored once is still made, byte for byte, and still installs.
//!
//! To store it anew after a deliberate change of the format: `TWINSEAL_STORE_GOLDEN=1 cargo test -p twinseal-core --test golden`.

mod support;

use support::*;
use twinseal_core::wire::index::Encoding;

fn release() -> Release {
    let erofs = vec![5; 300];
    let uki = uki(&format!("composefs={}", verity(&erofs)), 0);
    let objects = vec![vec![1; 70], (0..=255).collect(), vec![3; 90]];
    let images = vec![("fpga", vec![9; 100])];
    Release {
        encoding: Encoding::Deflate,
        uki: Some(uki),
        erofs,
        objects,
        images,
        range_bytes: 128,
        ..Release::sealed(1)
    }
}

/// What is stored under `name`, which must be what is made.
fn stored(name: &str, made: &[u8]) -> Vec<u8> {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("TWINSEAL_STORE_GOLDEN").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let stored = std::fs::read(path).unwrap();
    assert!(made == stored, "{name}: what this code makes differs");
    stored
}

#[test]
fn the_stored_bundle_is_still_made_and_still_installs() {
    stored("small.pub", &*key(1).pk);
    let bundle = stored("small.tseal", &release().build());
    let mut device = Device::new();
    install(&bundle, &mut device, &Options::default()).unwrap();
    assert_holds(&device, &release());
}

#[test]
fn the_stored_bundle_with_a_base_is_still_made_and_its_route_is_followed() {
    let next = Release::after(&release(), 9);
    let bundle = stored("based.tseal", &next.build());
    let mut device = Device::new();
    install(&release().build(), &mut device, &Options::default()).unwrap();
    let done = install(&bundle, &mut device, &Options::default()).unwrap();
    assert!(done.plan.unwrap().base.is_some());
    assert_holds_only(&device, &next);
}

#[test]
fn the_stored_bundle_with_patches_is_still_made_and_patched() {
    let old = Release {
        images: vec![("fpga", noise(9, 6000))],
        objects: vec![noise(1, 70), noise(2, 900), noise(3, 90)],
        ..release()
    };
    let next = Release::evolved(&old, 9);
    let bundle = stored("patched.tseal", &next.build());
    let mut device = Device::running(&old);
    let done = install(&bundle, &mut device, &Options::default()).unwrap();
    assert!(done.plan.unwrap().patch_blobs >= 3);
    assert_holds(&device, &next);
}
