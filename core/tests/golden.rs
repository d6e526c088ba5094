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

#[test]
fn the_stored_bundle_is_still_made_and_still_installs() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let made = release().build();
    if std::env::var_os("TWINSEAL_STORE_GOLDEN").is_some() {
        std::fs::write(format!("{folder}/small.tseal"), &made).unwrap();
        std::fs::write(format!("{folder}/small.pub"), *key(1).pk).unwrap();
    }
    let stored = std::fs::read(format!("{folder}/small.tseal")).unwrap();
    assert_eq!(
        std::fs::read(format!("{folder}/small.pub")).unwrap(),
        *key(1).pk
    );
    assert!(
        made == stored,
        "the bundle that this code makes differs from the stored one"
    );
    let mut device = Device::new();
    install(&stored, &mut device, &Options::default()).unwrap();
    assert_holds(&device, &release());
}
