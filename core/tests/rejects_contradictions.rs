//! Promise 2: a bundle that was signed but not made by the rules is refused, each fault by its own name.

mod support;

use support::*;
use twinseal_core::error::{
    BundleInvalid, Error, Field, Misuse, PolicyRefused, RecordFault, UkiFault,
};
use twinseal_core::install::{Config, Installer, Need, Workspace};
use twinseal_core::verify::policy::Policy;
use twinseal_core::wire::FORMAT_VERSION;
use twinseal_core::wire::digest::{BlobDigest, DigestAlgorithm};
use twinseal_core::wire::index::{Encoding, Record, Role};

/// Installs on a fresh device; gives the error, and whether the target set had been touched.
fn refused_with(bundle: &[u8], options: &Options) -> (Error, bool) {
    let mut device = Device::new();
    let error = install(bundle, &mut device, options)
        .map(|_| ())
        .unwrap_err();
    let touched = device.prepared > 0;
    assert!(touched || device.changes == 0);
    assert!(
        !touched || !device.bootable,
        "a refused bundle left a bootable set"
    );
    (error, touched)
}

fn refused(bundle: &[u8]) -> (Error, bool) {
    refused_with(bundle, &Options::default())
}

fn invalid(fault: BundleInvalid) -> (Error, bool) {
    (fault.into(), false)
}

fn record(fault: RecordFault) -> (Error, bool) {
    invalid(BundleInvalid::IndexRecord { block: 0, fault })
}

#[test]
fn each_policy_has_its_own_refusal() {
    let bundle = Release::sealed(1).build();
    let policy = |policy| {
        refused_with(
            &bundle,
            &Options {
                policy,
                ..Options::default()
            },
        )
    };
    let refusal = |refusal: PolicyRefused| (Error::from(refusal), false);
    assert_eq!(
        policy(Policy {
            compatible: "other",
            ..POLICY
        }),
        refusal(PolicyRefused::WrongCompatible)
    );
    assert_eq!(
        policy(Policy { floor: 6, ..POLICY }),
        refusal(PolicyRefused::BelowFloor {
            version: 5,
            floor: 6
        })
    );
    assert_eq!(
        policy(Policy {
            now: Some(999),
            highest_time_seen: 0,
            ..POLICY
        }),
        refusal(PolicyRefused::NotYetValid { not_before: 1000 })
    );
    assert_eq!(
        policy(Policy {
            now: Some(2001),
            ..POLICY
        }),
        refusal(PolicyRefused::Expired { not_after: 2000 })
    );
    let stranger = Options {
        keys: vec![2],
        ..Options::default()
    };
    assert_eq!(
        refused_with(&bundle, &stranger),
        refusal(PolicyRefused::UnknownSigner)
    );
    let small = Options {
        request_bytes: 4096,
        ..Options::default()
    };
    let large = Release {
        range_bytes: 8192,
        ..Release::sealed(1)
    }
    .build();
    assert_eq!(
        refused_with(&large, &small),
        refusal(PolicyRefused::BufferTooSmall {
            needed: 8192,
            available: 4096
        })
    );
    let zstd = Release {
        encoding: Encoding::Zstd,
        ..Release::sealed(1)
    }
    .build();
    assert_eq!(refused(&zstd), refusal(PolicyRefused::NoDecoder));
    let two_slots = Release {
        images: vec![("other", vec![1])],
        ..Release::sealed(1)
    }
    .build();
    assert_eq!(
        refused(&two_slots),
        refusal(PolicyRefused::SlotUnknown { payload: 1 })
    );
    let too_large = Release {
        images: vec![("fpga", vec![1; 10_001])],
        ..Release::sealed(1)
    }
    .build();
    assert_eq!(
        refused(&too_large),
        refusal(PolicyRefused::SlotTooSmall {
            needed: 10_001,
            available: 10_000
        })
    );
}

#[test]
fn an_unsigned_bundle_is_refused() {
    let unsigned = Release {
        signers: vec![],
        ..Release::sealed(1)
    }
    .build();
    assert_eq!(
        refused(&unsigned),
        (PolicyRefused::UnknownSigner.into(), false)
    );
    let several = Release {
        signers: vec![3, 1, 2],
        ..Release::sealed(1)
    }
    .build();
    install(&several, &mut Device::new(), &Options::default()).unwrap();
}

#[test]
fn a_manifest_that_seals_another_image_is_refused_before_the_index_is_asked_for() {
    let bundle = Release::sealed(1).build_with(
        |_| {},
        |manifest| manifest.seal = Some(BlobDigest::sha256([9; 32])),
    );
    assert_eq!(refused(&bundle), invalid(BundleInvalid::SealStatement));
}

#[test]
fn a_uki_that_seals_another_image_is_refused_before_any_object_is_fetched() {
    let other = BlobDigest::sha256([9; 32]);
    let release = Release {
        uki: Some(uki(&format!("composefs={other}"), 100)),
        ..Release::sealed(1)
    };
    let bundle = release.build();
    let mut device = Device::new();
    let error = install(&bundle, &mut device, &Options::default()).unwrap_err();
    assert_eq!(error, BundleInvalid::SealUki { sealed: other }.into());
    assert!(device.target.is_empty() && device.staged_uki.is_none() && !device.bootable);
    assert!(device.partial.is_empty(), "nor is the UKI left behind");
}

#[test]
fn a_uki_that_seals_nothing_or_is_none_is_refused() {
    let fault = |uki: Vec<u8>| {
        refused(
            &Release {
                uki: Some(uki),
                ..Release::sealed(1)
            }
            .build(),
        )
        .0
    };
    let uki_fault = |fault| Error::from(BundleInvalid::Uki { fault });
    assert_eq!(fault(uki("quiet", 0)), uki_fault(UkiFault::Seal));
    assert_eq!(fault(noise(3, 3000)), uki_fault(UkiFault::NotPe));
    assert_eq!(fault(vec![1; 10]), uki_fault(UkiFault::NotPe));
}

#[test]
fn the_formats_that_have_only_a_place_are_named() {
    let release = Release::sealed(1);
    let next = FORMAT_VERSION + 1;
    let bundle = release.build_with(|_| {}, |manifest| manifest.format = next);
    assert_eq!(
        refused(&bundle),
        invalid(BundleInvalid::FormatUnsupported { found: next })
    );
    let sha512 = BlobDigest::new(DigestAlgorithm::Sha512, &[7; 64]).unwrap();
    let bundle = release.build_with(
        |_| {},
        |manifest| {
            manifest.payloads[2].digest = sha512;
            manifest.seal = Some(sha512);
        },
    );
    assert_eq!(
        refused(&bundle),
        invalid(BundleInvalid::AlgorithmUnsupported)
    );
    let bundle = release.build_with(|_| {}, |manifest| manifest.data_parts[0] = 0);
    assert_eq!(
        refused(&bundle),
        invalid(BundleInvalid::Field {
            field: Field::DataParts
        })
    );
}

/// Positions of the records of a kind.
fn positions(records: &[Record], wanted: fn(&Record) -> bool) -> Vec<usize> {
    (0..records.len())
        .filter(|position| wanted(&records[*position]))
        .collect()
}

fn is_object(record: &Record) -> bool {
    matches!(record, Record::Blob(blob) if blob.role == Role::Object)
}

fn is_range(record: &Record) -> bool {
    matches!(record, Record::Range(_))
}

/// A small release with an index of one block.
fn small() -> Release {
    let objects = vec![noise(1, 5000), noise(2, 100), noise(3, 200)];
    Release {
        objects,
        images: vec![],
        uki: None,
        ..Release::sealed(1)
    }
    .with_uki()
}

trait WithUki {
    fn with_uki(self) -> Self;
}

impl WithUki for Release {
    fn with_uki(mut self) -> Self {
        self.uki = Some(uki(&format!("composefs={}", verity(&self.erofs)), 0));
        self
    }
}

#[test]
fn an_index_that_breaks_its_grammar_is_refused_before_anything_is_written() {
    let fault = |change: &dyn Fn(&mut Vec<Record>)| refused(&small().build_with(change, |_| {}));
    let change_range = |change: fn(&mut twinseal_core::wire::index::Range)| {
        fault(&move |records| {
            let first = positions(records, is_range)[0];
            if let Record::Range(range) = &mut records[first] {
                change(range);
            }
        })
    };
    assert_eq!(
        change_range(|range| range.raw_offset = 1),
        record(RecordFault::Tiling)
    );
    assert_eq!(
        change_range(|range| range.stored_offset = 1),
        record(RecordFault::Tiling)
    );
    assert_eq!(
        fault(&|records| records.swap(0, 1)),
        record(RecordFault::Order)
    );
    assert_eq!(
        fault(&|records| {
            let last = records.len() - 1;
            records.remove(last);
        }),
        record(RecordFault::Order)
    );
    assert_eq!(
        fault(&|records| {
            let object = positions(records, is_object)[0];
            records[object..].rotate_left(1);
        }),
        record(RecordFault::Order)
    );
    assert_eq!(
        fault(&|records| {
            if let Record::Blob(blob) = &mut records[0] {
                blob.payload = 7;
            }
        }),
        record(RecordFault::Payload)
    );
    assert_eq!(
        fault(&|records| {
            if let Record::Blob(blob) = &mut records[0] {
                blob.digest = BlobDigest::sha256([1; 32]);
            }
        }),
        record(RecordFault::Payload)
    );
    assert_eq!(
        fault(&|records| {
            if let Record::Blob(blob) = &mut records[0] {
                blob.stored_bytes += 1;
            }
        }),
        record(RecordFault::Tiling)
    );
}

#[test]
fn objects_ascend_and_none_is_missing() {
    let doubled = Release {
        objects: vec![noise(1, 100), noise(1, 100)],
        ..small()
    };
    assert_eq!(refused(&doubled.build()), record(RecordFault::Order));
    let miscounted = small().build_with(
        |_| {},
        |manifest| {
            if let twinseal_core::wire::manifest::PayloadKind::Composefs { objects, .. } =
                &mut manifest.payloads[1].kind
            {
                *objects += 1;
            }
        },
    );
    assert_eq!(refused(&miscounted), record(RecordFault::Payload));
}

#[test]
fn the_chain_must_end_with_the_route() {
    let one_block_more = small().build_with(|_| {}, |manifest| manifest.routes[0].blocks += 1);
    assert!(!refused(&one_block_more).1);
    let long = Release {
        range_bytes: 500,
        ..small()
    };
    let one_block_less = long.build_with(|_| {}, |manifest| manifest.routes[0].blocks -= 1);
    assert!(!refused(&one_block_less).1);
}

#[test]
fn ranges_that_do_not_give_what_the_index_says_are_refused() {
    let release = Release {
        encoding: Encoding::Deflate,
        objects: vec![vec![7; 30_000]],
        ..small()
    };
    let wrong_raw = release.build_with(
        |records| {
            for record in records {
                if let Record::Range(range) = record
                    && range.encoding == Encoding::Deflate
                    && range.has_raw_sha256()
                {
                    range.raw_sha256 = [1; 32];
                }
            }
        },
        |_| {},
    );
    assert!(matches!(
        refused(&wrong_raw).0,
        Error::BundleInvalid(BundleInvalid::RangeDecodes { .. })
    ));
    let not_deflate = small().build_with(
        |records| {
            let last = positions(records, is_range).pop().unwrap();
            if let Record::Range(range) = &mut records[last] {
                range.encoding = Encoding::Deflate;
            }
        },
        |_| {},
    );
    assert!(matches!(
        refused(&not_deflate).0,
        Error::BundleInvalid(BundleInvalid::RangeDecodes { .. })
    ));
}

#[test]
fn a_blob_with_another_digest_than_its_name_is_refused_even_when_every_range_is_right() {
    let wrong = small().build_with(
        |records| {
            let object = positions(records, is_object).pop().unwrap();
            if let Record::Blob(blob) = &mut records[object] {
                blob.digest = BlobDigest::sha256([0xff; 32]);
            }
        },
        |_| {},
    );
    let (error, _) = refused(&wrong);
    assert_eq!(
        error,
        BundleInvalid::BlobDigest {
            digest: BlobDigest::sha256([0xff; 32])
        }
        .into()
    );
}

#[test]
fn misuse_is_told_from_a_bad_bundle() {
    let keys = [trusted(1)];
    let config = Config {
        keys: &keys,
        policy: POLICY,
        request_max_bytes: 4096,
        source_bytes: None,
        audit: true,
        read_back: true,
        budget: None,
        can_go_back: true,
    };
    let (mut front, mut output) = (vec![0; 100], vec![0; 4096]);
    let mut inflate = Box::new(twinseal_core::decode::Inflate::new());
    let mut device = Device::new();
    let workspace = Workspace {
        front: &mut front,
        output: &mut output,
        inflate: &mut *inflate,
        zstd: None,
    };
    let mut installer = Installer::new(config, workspace).unwrap();
    assert_eq!(
        installer.accept(&mut device),
        Err(Misuse::NotAccepted.into())
    );
    assert_eq!(
        installer.feed(&[0; 3], &mut device),
        Err(Misuse::UnexpectedFeed.into())
    );
    assert!(matches!(installer.need(), Ok(Need::Bytes(_))));
    let refused = installer.feed(&[0; 512], &mut device).unwrap_err();
    assert_eq!(
        refused,
        PolicyRefused::BufferTooSmall {
            needed: 512,
            available: 100
        }
        .into()
    );
    assert_eq!(installer.need(), Err(Misuse::InstallerFailed.into()));
    assert!(installer.into_installed().is_err());

    let workspace = Workspace {
        front: &mut front,
        output: &mut output[..100],
        inflate: &mut *inflate,
        zstd: None,
    };
    assert_eq!(
        Installer::new(config, workspace).err(),
        Some(Misuse::WorkspaceTooSmall.into())
    );
}
