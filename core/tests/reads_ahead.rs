//! Promise 6 on a machine with several cores: bytes that were hashed elsewhere are compared like all others before they are
//! written, and what is announced is asked for.

mod support;

use support::*;
use twinseal_core::error::{BundleInvalid, Error, StorageFault};
use twinseal_core::install::{Purpose, Request};
use twinseal_core::source::{Source, SourceError};
use twinseal_core::verify::hashed::{Hashed, HashedBytes};

const RANGE_BYTES: usize = 1024 * 1024;

/// A source that hashes everything ahead, and notes what it was asked for.
struct HashesAhead<'b> {
    bundle: &'b [u8],
    current: Option<Hashed<&'b [u8]>>,
    requests: Vec<Request>,
}

impl Source for HashesAhead<'_> {
    type Error = embedded_io::ErrorKind;

    fn read_at(&mut self, _: u64, _: &mut [u8]) -> Result<(), SourceError<Self::Error>> {
        panic!("everything is hashed ahead")
    }
    fn read_hashed(
        &mut self,
        request: &Request,
    ) -> Result<Option<HashedBytes<'_>>, SourceError<Self::Error>> {
        self.requests.push(*request);
        let start = request.offset as usize;
        let bytes = self.bundle.get(start..start + request.bytes as usize);
        let hashed = Hashed::new(bytes.ok_or(SourceError::Ended)?, request.ahead.trees);
        Ok(Some(self.current.insert(hashed).view()))
    }
    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<Self::Error>> {
        Ok(offset == self.bundle.len() as u64)
    }
}

/// A release with an object of several ranges and trees, the last of each not whole.
fn large() -> Release {
    Release {
        objects: vec![noise(7, 3 * RANGE_BYTES + 9000), noise(8, 3000)],
        range_bytes: RANGE_BYTES,
        ..Release::sealed(1)
    }
}

fn options(read_back: bool) -> Options {
    Options {
        read_back,
        request_bytes: RANGE_BYTES,
        ..Options::default()
    }
}

fn install_ahead(
    bundle: &[u8],
    device: &mut Device,
    read_back: bool,
) -> (Result<Done, Error>, Vec<Request>) {
    let mut source = HashesAhead {
        bundle,
        current: None,
        requests: Vec::new(),
    };
    let done = install_from(&mut source, bundle.len(), device, &options(read_back));
    (done, source.requests)
}

#[test]
fn what_is_hashed_ahead_arrives_and_what_is_announced_is_asked_for() {
    let release = large();
    let bundle = release.build();
    for read_back in [true, false] {
        let mut device = Device::new();
        device.hashes_itself = true;
        let (done, requests) = install_ahead(&bundle, &mut device, read_back);
        assert_eq!(done.unwrap().tally.source_bytes(), bundle.len() as u64);
        assert_holds(&device, &release);
        let announced = requests.iter().filter(|request| request.ahead.bytes > 0);
        let mut count = 0;
        for request in announced {
            count += 1;
            let mut next = request.offset + u64::from(request.bytes);
            let end = next + request.ahead.bytes;
            assert_eq!(request.purpose, Purpose::Data);
            while next < end {
                let follows = requests.iter().find(|other| other.offset == next);
                next += u64::from(follows.expect("what was announced").bytes);
            }
            assert_eq!(next, end);
        }
        assert!(count >= 3, "{count} requests said what comes next");
    }
}

#[test]
fn a_range_that_was_hashed_ahead_and_is_damaged_is_not_written() {
    let release = large();
    let bundle = release.build();
    let object = &release.objects[0];
    let start = bundle
        .windows(64)
        .position(|window| window == &object[..64])
        .expect("the object is stored as it is");
    for range in 0..4 {
        let mut damaged = bundle.clone();
        damaged[start + range * RANGE_BYTES + 77] ^= 1;
        let mut device = Device::new();
        let (done, _) = install_ahead(&damaged, &mut device, false);
        let error = done.unwrap_err();
        assert!(
            matches!(
                error,
                Error::BundleInvalid(BundleInvalid::RangeDamaged { .. })
            ),
            "{error}"
        );
        let written = device
            .partial
            .get(verity(object).as_bytes())
            .map_or(0, Vec::len);
        assert_eq!(written, range * RANGE_BYTES, "only the ranges before it");
        assert!(!device.bootable);
    }
}

#[test]
fn a_bad_medium_is_found_when_the_storage_hashes_too() {
    let mut device = Device::new();
    device.hashes_itself = true;
    device.bad_trees = true;
    let (done, _) = install_ahead(&large().build(), &mut device, true);
    match done.unwrap_err() {
        Error::Storage(error) => assert_eq!(error.fault, StorageFault::ReadBack),
        other => panic!("{other}"),
    }
    assert!(!device.bootable);
}
