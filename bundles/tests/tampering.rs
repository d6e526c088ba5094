//! Promise: flip any byte of a bundle, or cut it anywhere, and it is refused with the name of the part.

use std::ops::Range;

use twinseal_bundle::error::Error;
use twinseal_bundle::exit::error_name;
use twinseal_bundle::vectors::{device, good_bundle};
use twinseal_bundle::verify::{verify, verify_stream};
use twinseal_core::wire::layout::Layout;
use twinseal_core::wire::manifest::Manifest;
use twinseal_core::wire::tar::{BLOCK_BYTES, check_header, padding_bytes};

/// A run of bytes, and the errors that name it.
struct Region {
    bytes: Range<usize>,
    errors: Vec<String>,
}

fn region(start: u64, length: u64, errors: &[String]) -> Region {
    Region {
        bytes: start as usize..(start + length) as usize,
        errors: errors.to_vec(),
    }
}

/// Every byte of the bundle, with the errors that a change there may give.
fn regions(bundle: &[u8]) -> Vec<Region> {
    use twinseal_core::error::Part;
    let size = |offset: usize, name: &str| {
        check_header(&bundle[offset..offset + BLOCK_BYTES], name, Part::Manifest).unwrap()
    };
    let manifest_bytes = size(0, "manifest");
    let after = BLOCK_BYTES as u64 + manifest_bytes + padding_bytes(manifest_bytes);
    let signatures_bytes = size(after as usize, "signatures");
    let manifest =
        Manifest::parse(&bundle[BLOCK_BYTES..BLOCK_BYTES + manifest_bytes as usize]).unwrap();
    let layout = Layout::new(&manifest, manifest_bytes, signatures_bytes);
    assert_eq!(layout.bundle_bytes(), bundle.len() as u64);
    let mut regions = Vec::new();
    for number in 0..=layout.entries() {
        let seam = layout.seam(number);
        let part = format!("{:?}", seam.part);
        let before = number
            .checked_sub(1)
            .map_or(0, |entry| padding_bytes(layout.content(entry).size));
        regions.push(region(
            seam.offset,
            before,
            &[format!("BundleInvalid.Padding.{part}")],
        ));
        let header = ["HeaderMalformed", "UnexpectedEntry"]
            .map(|fault| format!("BundleInvalid.{fault}.{part}"));
        regions.push(region(
            seam.offset + before,
            seam.expected().len() as u64 - before,
            &header,
        ));
        if number == layout.entries() {
            break;
        }
        let errors = match layout.name(number).as_str() {
            "manifest" => vec!["SignatureWrong".to_owned()],
            "signatures" => vec!["Damaged.Signatures".to_owned()],
            "index" => vec!["IndexBlock".to_owned()],
            "data" => vec!["RangeDamaged".to_owned()],
            _ => vec!["Damaged.Info".to_owned()],
        };
        let errors: Vec<_> = errors
            .iter()
            .map(|error| format!("BundleInvalid.{error}"))
            .collect();
        let content = layout.content(number);
        regions.push(region(content.offset, content.size, &errors));
    }
    regions
}

fn name_of(result: Result<impl Sized, Error>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(Error::Bundle(error)) => error_name(&error),
        Err(other) => panic!("{other}"),
    }
}

/// A generator of bits to flip, from a printed seed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("TWINSEAL_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(20_261_123);
        println!("TWINSEAL_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn every_byte_counts() {
    let good = good_bundle().unwrap();
    verify_stream(good.as_slice(), &device()).unwrap();
    let mut random = Random::new();
    let mut flips = 0;
    for region in regions(&good) {
        for position in region.bytes.clone() {
            let mut bad = good.clone();
            bad[position] ^= 1 << random.below(8);
            let found = name_of(verify_stream(bad.as_slice(), &device()));
            assert!(
                region.errors.contains(&found),
                "byte {position}: {found} instead of {:?}",
                region.errors
            );
            flips += 1;
        }
    }
    assert_eq!(flips, good.len(), "every byte once");
    println!("{flips} flips");
}

#[test]
fn every_cut_is_noticed_and_named() {
    let good = good_bundle().unwrap();
    let mut random = Random::new();
    let blocks = (0..good.len()).step_by(BLOCK_BYTES);
    let around = blocks.flat_map(|block| [block.saturating_sub(1), block, block + 1]);
    let odd: Vec<usize> = (0..100)
        .map(|_| random.below(good.len() as u64) as usize)
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.tseal");
    let mut cuts = 0;
    for end in around.chain(odd) {
        let found = name_of(verify_stream(&good[..end], &device()));
        assert!(
            found.starts_with("BundleInvalid.Truncated."),
            "{end} bytes as a stream: {found}"
        );
        std::fs::write(&path, &good[..end]).unwrap();
        let found = name_of(verify(&path, &device()));
        let named =
            found == "BundleInvalid.Length" || found.starts_with("BundleInvalid.Truncated.");
        assert!(named, "{end} bytes as a file: {found}");
        cuts += 1;
    }
    println!("{cuts} cuts");
}

#[test]
fn nothing_may_follow() {
    let good = good_bundle().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.tseal");
    for more in [vec![0], vec![0; BLOCK_BYTES], b"x".to_vec(), good.clone()] {
        let long = [good.as_slice(), &more].concat();
        assert_eq!(
            name_of(verify_stream(long.as_slice(), &device())),
            "BundleInvalid.TrailingBytes"
        );
        std::fs::write(&path, &long).unwrap();
        assert_eq!(name_of(verify(&path, &device())), "BundleInvalid.Length");
    }
}
