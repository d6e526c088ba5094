//! Promises 2 and 6: a bundle that was changed anywhere is refused, and nothing of it becomes bootable.

mod support;

use support::*;
use twinseal_core::error::{BundleInvalid, Error, Part};
use twinseal_core::source::Stream;
use twinseal_core::wire::index::Encoding;

/// Installs a bad bundle on a fresh device; gives the error and whether the target set had been touched.
fn refused(bundle: &[u8], options: &Options) -> (Error, bool) {
    let mut device = Device::new();
    let error = match install(bundle, &mut device, options) {
        Err(error) => error,
        Ok(_) => panic!("a changed bundle was installed"),
    };
    let touched = device.prepared > 0;
    assert!(
        touched || device.changes == 0,
        "a slot was written before the bundle was verified"
    );
    assert!(
        !touched || !device.bootable,
        "a refused bundle left a bootable set"
    );
    (error, touched)
}

fn data_start(bundle: &[u8]) -> usize {
    let header = b"data\0\0";
    bundle
        .chunks(512)
        .position(|block| block.starts_with(header))
        .unwrap()
        * 512
}

#[test]
fn every_flipped_byte_is_refused_and_the_front_before_anything_is_written() {
    // Small, so that every byte can be tried; still with every kind of entry, and blobs of several ranges.
    let erofs = noise(1, 600);
    let objects = vec![noise(2, 70), noise(3, 900), vec![7; 3000]];
    let uki = Some(uki(&format!("composefs={}", verity(&erofs)), 0));
    let images = vec![("fpga", noise(4, 1000))];
    let small = Release {
        uki,
        erofs,
        objects,
        images,
        range_bytes: 512,
        ..Release::sealed(1)
    };
    let bundle = Release {
        encoding: Encoding::Deflate,
        ..small
    }
    .build();
    let data = data_start(&bundle) + 512;
    let end = bundle.len() - 1024;
    let mut flips = 0;
    for position in 0..bundle.len() {
        for bit in [0x01, 0x80] {
            let mut bad = bundle.clone();
            bad[position] ^= bit;
            let (error, touched) = refused(&bad, &Options::default());
            assert!(
                matches!(error, Error::BundleInvalid(_) | Error::PolicyRefused(_)),
                "byte {position}: {error:?}"
            );
            assert!(
                !touched || position >= data - 512,
                "byte {position} was found only after a slot was written: {error:?}"
            );
            if (data..end).contains(&position) {
                let named = matches!(
                    error,
                    Error::BundleInvalid(
                        BundleInvalid::RangeDamaged { .. }
                            | BundleInvalid::Padding { part: Part::End }
                    )
                );
                assert!(named, "byte {position} of the data: {error:?}");
            }
            flips += 1;
        }
    }
    println!("{flips} flips refused");
    assert!(flips > 20_000);
}

#[test]
fn the_error_names_the_part() {
    let bundle = Release::sealed(1).build();
    let part_at = |position: usize| {
        let mut bad = bundle.clone();
        bad[position] ^= 1;
        refused(&bad, &Options::default()).0
    };
    let blocks = |name: &[u8]| {
        bundle
            .chunks(512)
            .position(|block| block.starts_with(name))
            .unwrap()
            * 512
    };
    let header = |part| Error::from(BundleInvalid::HeaderMalformed { part });
    assert_eq!(part_at(150), header(Part::ManifestHeader));
    assert!(matches!(
        part_at(600),
        Error::BundleInvalid(BundleInvalid::SignatureWrong { .. })
    ));
    assert_eq!(
        part_at(blocks(b"signatures") + 150),
        header(Part::SignaturesHeader)
    );
    assert_eq!(
        part_at(blocks(b"signatures") + 600),
        BundleInvalid::Damaged {
            part: Part::Signatures
        }
        .into()
    );
    assert_eq!(part_at(blocks(b"info/") + 150), header(Part::InfoHeader));
    assert_eq!(
        part_at(blocks(b"info/") + 512),
        BundleInvalid::Damaged { part: Part::Info }.into()
    );
    assert_eq!(
        part_at(blocks(b"info/") + 600),
        BundleInvalid::Padding {
            part: Part::IndexHeader
        }
        .into()
    );
    assert_eq!(part_at(blocks(b"index") + 150), header(Part::IndexHeader));
    assert_eq!(
        part_at(blocks(b"index") + 600),
        BundleInvalid::IndexBlock { block: 0 }.into()
    );
    assert_eq!(part_at(blocks(b"data") + 150), header(Part::DataHeader));
    assert_eq!(
        part_at(blocks(b"data") + 512),
        BundleInvalid::RangeDamaged { stored_offset: 0 }.into()
    );
    assert_eq!(part_at(bundle.len() - 1), header(Part::End));
}

#[test]
fn every_truncation_is_refused_from_a_file_and_from_a_pipe() {
    let bundle = Release::sealed(2).build();
    for end in (0..bundle.len())
        .step_by(37)
        .chain((0..bundle.len()).step_by(512))
    {
        let (error, touched) = refused(&bundle[..end], &Options::default());
        let expected = matches!(
            error,
            Error::BundleInvalid(BundleInvalid::Truncated { .. } | BundleInvalid::Length { .. })
        );
        assert!(expected && !touched, "{end} bytes: {error:?}");

        let mut device = Device::new();
        let options = Options {
            known_length: false,
            ..Options::default()
        };
        let error = install_from(
            &mut Stream::new(bundle_reader(&bundle[..end])),
            end,
            &mut device,
            &options,
        )
        .unwrap_err();
        assert!(
            matches!(error, Error::BundleInvalid(BundleInvalid::Truncated { .. })),
            "{end} bytes: {error:?}"
        );
        assert!(device.prepared == 0 || !device.bootable);
    }
}

#[test]
fn appended_bytes_are_refused() {
    let bundle = Release::sealed(3).build();
    for extra in [1, 512, 1024, 10_240] {
        let long = [bundle.clone(), vec![0; extra]].concat();
        let (error, touched) = refused(&long, &Options::default());
        let (expected, found) = (bundle.len() as u64, long.len() as u64);
        assert_eq!(error, BundleInvalid::Length { expected, found }.into());
        assert!(!touched);
    }
}

/// The entries of a bundle, each with its header and padding, and the end blocks.
fn entries(bundle: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    let mut position = 0;
    while bundle[position] != 0 {
        let size = u64::from_str_radix(
            core::str::from_utf8(&bundle[position + 124..position + 135]).unwrap(),
            8,
        )
        .unwrap();
        let end = position + 512 + (size as usize).next_multiple_of(512);
        entries.push(bundle[position..end].to_vec());
        position = end;
    }
    entries.push(bundle[position..].to_vec());
    entries
}

#[test]
fn reordered_doubled_and_missing_entries_are_refused_and_named() {
    let bundle = Release::sealed(4).build();
    let entries = entries(&bundle);
    let count = entries.len() - 1;
    let mut tried = 0;
    let mut check = |bad: Vec<Vec<u8>>| {
        let (error, touched) = refused(&bad.concat(), &Options::default());
        let named = matches!(
            error,
            Error::BundleInvalid(
                BundleInvalid::UnexpectedEntry { .. }
                    | BundleInvalid::Length { .. }
                    | BundleInvalid::HeaderMalformed { .. }
                    | BundleInvalid::Padding { .. }
            )
        );
        assert!(named && !touched, "{error:?}");
        tried += 1;
    };
    for entry in 0..count {
        let mut missing = entries.clone();
        missing.remove(entry);
        check(missing);
        let mut doubled = entries.clone();
        doubled.insert(entry, entries[entry].clone());
        check(doubled);
        for other in entry + 1..count {
            let mut swapped = entries.clone();
            swapped.swap(entry, other);
            check(swapped);
        }
    }
    assert!(tried > 15, "{tried}");
}

#[test]
fn a_length_that_still_fits_does_not_hide_a_swap() {
    // Two info entries of one size: the bundle keeps its length when they are swapped or doubled.
    let info = vec![("a", b"1".to_vec()), ("b", b"2".to_vec())];
    let entries = entries(
        &Release {
            info,
            ..Release::sealed(4)
        }
        .build(),
    );
    let mut swapped = entries.clone();
    swapped.swap(2, 3);
    let unexpected = Error::from(BundleInvalid::UnexpectedEntry {
        part: Part::InfoHeader,
    });
    assert_eq!(
        refused(&swapped.concat(), &Options::default()),
        (unexpected, false)
    );
    let mut doubled = entries.clone();
    doubled[3] = entries[2].clone();
    assert_eq!(
        refused(&doubled.concat(), &Options::default()),
        (unexpected, false)
    );
}

#[test]
fn a_changed_range_that_nobody_needs_is_still_found_by_an_audit() {
    let release = Release::sealed(5);
    let bundle = release.build();
    let object = &release.objects[1];
    let start = bundle
        .windows(object.len())
        .position(|window| window == object)
        .unwrap();
    let mut bad = bundle.clone();
    bad[start + 10] ^= 1;
    let mut device = Device::new();
    device
        .running
        .insert(verity(object).as_bytes().to_vec(), object.clone());
    let found = install(&bad, &mut device.clone(), &Options::default()).unwrap_err();
    assert!(matches!(
        found,
        Error::BundleInvalid(BundleInvalid::RangeDamaged { .. })
    ));
    // Without an audit it is never read, so it cannot do harm either.
    install(
        &bad,
        &mut device,
        &Options {
            audit: false,
            ..Options::default()
        },
    )
    .unwrap();
    assert_holds(&device, &release);
}
