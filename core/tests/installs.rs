//! What an install must do on good bundles: every source, encoding and way that a blob can come to its place.

mod support;

use support::*;
use twinseal_core::error::{BundleInvalid, Error, PolicyRefused, StorageFault};
use twinseal_core::source::{Seekable, Stream};
use twinseal_core::storage::Space;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Encoding, Record, Role};
use twinseal_core::wire::manifest::PayloadKind;

#[test]
fn a_fresh_device_gets_everything() {
    let release = Release::sealed(1);
    let bundle = release.build();
    let mut device = Device::new();
    let done = install(&bundle, &mut device, &Options::default()).unwrap();
    assert_holds(&device, &release);
    assert_eq!(
        done.tally.source_bytes(),
        done.plan.unwrap().source_bytes(),
        "the plan was to the byte"
    );
    assert_eq!(
        done.tally.source_bytes(),
        bundle.len() as u64,
        "with an audit every byte is read once"
    );
}

#[test]
fn every_encoding_and_range_size_gives_the_same_slot() {
    for encoding in [Encoding::Stored, Encoding::Deflate] {
        for range_bytes in [4096, 5000, 8192] {
            let release = Release {
                encoding,
                range_bytes,
                ..Release::sealed(2)
            };
            let mut device = Device::new();
            install(&release.build(), &mut device, &Options::default()).unwrap();
            assert_holds(&device, &release);
        }
    }
}

#[test]
fn a_pipe_serves_as_well_as_a_file() {
    let release = Release::sealed(3);
    let bundle = release.build();
    for audit in [true, false] {
        let mut device = Device::new();
        device.running.insert(
            verity(&release.objects[1]).as_bytes().to_vec(),
            release.objects[1].clone(),
        );
        let options = Options {
            audit,
            known_length: false,
            ..Options::default()
        };
        let mut stream = Stream::new(bundle_reader(&bundle));
        install_from(&mut stream, bundle.len(), &mut device, &options).unwrap();
        assert_holds(&device, &release);
    }
}

#[test]
fn a_pipe_that_goes_on_is_refused_before_the_set_is_bootable() {
    let mut bundle = Release::sealed(3).build();
    bundle.push(0);
    let mut device = Device::new();
    let options = Options {
        known_length: false,
        ..Options::default()
    };
    let mut stream = Stream::new(bundle_reader(&bundle));
    let refused = install_from(&mut stream, 0, &mut device, &options).unwrap_err();
    assert_eq!(refused, BundleInvalid::TrailingBytes.into());
    assert!(!device.bootable);
}

#[test]
fn what_the_running_set_has_is_copied_and_not_fetched() {
    let (old, new) = (Release::sealed(10), Release::sealed(20));
    let mut device = Device::new();
    for object in &old.objects {
        device
            .running
            .insert(verity(object).as_bytes().to_vec(), object.clone());
    }
    let options = Options {
        audit: false,
        ..Options::default()
    };
    let bundle = new.build();
    let mut source = Seekable(bundle_reader(&bundle));
    let done = install_from(&mut source, bundle.len(), &mut device, &options).unwrap();
    assert_holds(&device, &new);
    let shared = 70 + 9000 + 30_000;
    assert_eq!(done.tally.copied_bytes, shared);
    assert_eq!(done.plan.unwrap().copy_blobs, 3);
    assert_eq!(source.0.taken, done.tally.source_bytes());
    assert!(
        done.tally.source_bytes() <= bundle.len() as u64 - shared,
        "the shared objects were not read"
    );
}

#[test]
fn a_damaged_object_of_the_running_set_is_fetched_instead() {
    let release = Release::sealed(4);
    let mut device = Device::new();
    let mut damaged = release.objects[1].clone();
    damaged[8999] ^= 1;
    device
        .running
        .insert(verity(&release.objects[1]).as_bytes().to_vec(), damaged);
    device.running.insert(
        verity(&release.objects[0]).as_bytes().to_vec(),
        release.objects[0][..60].to_vec(),
    );
    let done = install(&release.build(), &mut device, &Options::default()).unwrap();
    assert_holds(&device, &release);
    assert_eq!(done.tally.damaged_blobs, 2);
}

#[test]
fn a_power_cut_at_every_change_ends_in_the_same_set() {
    let release = Release {
        encoding: Encoding::Deflate,
        ..Release::sealed(5)
    };
    let bundle = release.build();
    let mut whole = Device::new();
    let undisturbed = install(&bundle, &mut whole, &Options::default())
        .unwrap()
        .tally;
    let mut cuts = 0;
    for cut in 0..whole.changes {
        let mut device = Device::new();
        device.cut_at = Some(cut);
        assert!(matches!(
            install(&bundle, &mut device, &Options::default()),
            Err(Error::Storage(_))
        ));
        assert!(
            !device.bootable || device.prepared == 0,
            "cut {cut} left a bootable set half-written"
        );
        device.cut_at = None;
        let done = install(&bundle, &mut device, &Options::default()).unwrap();
        assert_holds(&device, &release);
        let again = done.tally.data_bytes + done.tally.index_bytes;
        assert!(again <= undisturbed.data_bytes + undisturbed.index_bytes);
        cuts += 1;
    }
    println!("{cuts} power cuts");
    assert!(cuts > 40, "only {cuts} cuts were made");
}

#[test]
fn what_is_there_is_not_read_again() {
    let release = Release::sealed(6);
    let bundle = release.build();
    let mut device = Device::new();
    install(&bundle, &mut device, &Options::default()).unwrap();
    let writes = device.writes;
    let mut source = Seekable(bundle_reader(&bundle));
    // An audit reads it all the same, unless an install of this release was interrupted.
    let options = Options {
        interrupted: Some(sha256(manifest_entry(&bundle))),
        ..Options::default()
    };
    let done = install_from(&mut source, bundle.len(), &mut device, &options).unwrap();
    assert_eq!(
        (
            done.tally.data_bytes,
            done.tally.index_bytes,
            done.tally.audit_bytes
        ),
        (0, 0, 0)
    );
    assert_eq!(device.writes, writes, "what is equal is not written again");
    assert_eq!(source.0.taken, done.tally.framing_bytes);
    assert_holds(&device, &release);
}

#[test]
fn data_in_several_parts_is_read_across_their_headers() {
    let release = Release {
        part_bytes: 20_000,
        ..Release::sealed(7)
    };
    let bundle = release.build();
    assert!(bundle.windows(6).any(|window| window == b"data.2"));
    let mut device = Device::new();
    install(&bundle, &mut device, &Options::default()).unwrap();
    assert_holds(&device, &release);
}

#[test]
fn alternatives_of_unknown_methods_are_passed_over() {
    let release = Release {
        alternatives: true,
        ..Release::sealed(8)
    };
    for audit in [true, false] {
        let mut device = Device::new();
        install(
            &release.build(),
            &mut device,
            &Options {
                audit,
                ..Options::default()
            },
        )
        .unwrap();
        assert_holds(&device, &release);
    }
}

#[test]
fn what_this_version_does_not_use_is_audited_and_counted() {
    let release = Release {
        alternatives: true,
        base: Some(Box::new(Release::sealed(7))),
        ..Release::sealed(8)
    };
    let bundle = release.build();
    let done = install(&bundle, &mut Device::new(), &Options::default()).unwrap();
    let planned = done.plan.unwrap().source_bytes();
    assert_eq!(
        (done.tally.source_bytes(), planned),
        (bundle.len() as u64, bundle.len() as u64)
    );
    for budget in [planned - 1, 2000, 0] {
        let mut device = Device::new();
        let options = Options {
            budget: Some(budget),
            ..Options::default()
        };
        let refused = install(&bundle, &mut device, &options).unwrap_err();
        assert!(matches!(
            refused,
            Error::PolicyRefused(PolicyRefused::BudgetExceeded { .. })
        ));
        assert_eq!(device.prepared, 0);
    }
    let index = bundle
        .chunks(512)
        .position(|block| block.starts_with(b"index\0"))
        .unwrap()
        * 512
        + 512;
    let data = bundle
        .chunks(512)
        .position(|block| block.starts_with(b"data\0"))
        .unwrap()
        * 512;
    let mut bad = bundle.clone();
    bad[data - 4000] ^= 1;
    assert!(
        data - 4000 > index + 4096,
        "the last block is that of the second route"
    );
    let mut device = Device::new();
    let refused = install(&bad, &mut device, &Options::default()).unwrap_err();
    assert_eq!(refused, BundleInvalid::IndexBlock { block: 0 }.into());
    assert_eq!(device.prepared, 0);
}

#[test]
fn a_changed_scratch_area_is_noticed_and_asked_for_again() {
    let mut device = Device::new();
    let bundle = Release::sealed(8).build();
    // The first pass leaves the index in the scratch area; a bad bit there is noticed and the block is asked for again.
    let options = Options {
        audit: false,
        ..Options::default()
    };
    install(&bundle, &mut device, &options).unwrap();
    device.scratch[100] ^= 1;
    let done = install(&bundle, &mut device, &options).unwrap();
    assert_eq!(done.tally.index_bytes, 4096);
}

#[test]
fn a_bundle_of_images_alone_needs_no_uki() {
    let release = Release {
        uki: None,
        objects: vec![],
        info: vec![],
        ..Release::sealed(9)
    };
    let mut device = Device::new();
    install(&release.build(), &mut device, &Options::default()).unwrap();
    assert_eq!(device.image_slots["fpga"], release.images[0].1);
}

#[test]
fn a_medium_that_loses_a_bit_is_found_out() {
    for seed in [1, 2] {
        let mut device = Device {
            bad_medium: true,
            ..Device::new()
        };
        let refused = install(
            &Release::sealed(seed).build(),
            &mut device,
            &Options::default(),
        )
        .unwrap_err();
        assert!(
            matches!(refused, Error::Storage(error) if error.fault == StorageFault::ReadBack),
            "{refused:?}"
        );
        assert!(!device.bootable);
    }
}

/// Nobody has compared an image of many ranges as a whole before it is read back. That it is not what its name says may be the medium's
/// fault or the builder's.
#[test]
fn whose_fault_it_is_that_an_image_is_not_what_its_name_says_is_found_out() {
    let release = Release::sealed(1);
    let bundle = release.build();
    let wrong = BlobDigest::sha256([0xff; 32]);
    let contradictory = release.build_with(
        |records| {
            for record in records {
                if let Record::Blob(blob) = record
                    && blob.role == Role::Image
                {
                    assert!(blob.ranges > 1);
                    blob.digest = wrong;
                }
            }
        },
        |manifest| {
            for payload in &mut manifest.payloads {
                if let PayloadKind::Image { .. } = payload.kind {
                    payload.digest = wrong;
                }
            }
        },
    );
    let options = Options::default();
    let mut device = Device::new();
    let refused = install(&contradictory, &mut device, &options).unwrap_err();
    let expected = BundleInvalid::BlobDigest { digest: wrong };
    assert_eq!(refused, Error::from(expected));
    assert!(!device.bootable);
    // All of it is bad, or what the second look reads first.
    for bad_image_reads in [100, 4] {
        let mut device = Device {
            bad_image_reads,
            ..Device::new()
        };
        let refused = install(&bundle, &mut device, &options).unwrap_err();
        assert!(
            matches!(refused, Error::Storage(error) if error.fault == StorageFault::ReadBack),
            "{refused:?}"
        );
        assert!(!device.bootable);
    }
    // It was a fault of the first look alone: looked at once more, all of it is right.
    let mut device = Device {
        bad_image_reads: 1,
        ..Device::new()
    };
    let done = install(&bundle, &mut device, &options).unwrap();
    assert_holds(&device, &release);
    assert_eq!(done.tally.present_bytes, 0, "it was written");
}

#[test]
fn room_and_budget_are_checked_before_anything_changes() {
    let bundle = Release::sealed(1).build();
    let whole = install(&bundle, &mut Device::new(), &Options::default())
        .unwrap()
        .tally
        .source_bytes();

    let mut device = Device {
        space: Space {
            boot_bytes: None,
            root_bytes: Some(1000),
        },
        ..Device::new()
    };
    let refused = install(&bundle, &mut device, &Options::default()).unwrap_err();
    assert!(matches!(
        refused,
        Error::PolicyRefused(PolicyRefused::NoSpace {
            available: 1000,
            ..
        })
    ));
    assert_eq!((device.prepared, device.changes), (0, 0));

    let mut device = Device::new();
    let options = Options {
        budget: Some(whole - 1),
        ..Options::default()
    };
    let refused = install(&bundle, &mut device, &options).unwrap_err();
    assert_eq!(
        refused,
        PolicyRefused::BudgetExceeded {
            needed: whole,
            budget: whole - 1
        }
        .into()
    );
    assert_eq!((device.prepared, device.changes), (0, 0));
    let options = Options {
        budget: Some(whole),
        ..Options::default()
    };
    install(&bundle, &mut Device::new(), &options).unwrap();
}
