//! A source that gives its bytes twice is installed from without holding a range; and a decoder that holds no window reads it from what was
//! made. Nothing else comes of it than of a range that is held, and no change in between gets through.

mod support;

use std::collections::BTreeMap;
use support::*;
use twinseal_core::error::{BundleInvalid, Error};
use twinseal_core::install::TWICE_BUFFER_BYTES;
use twinseal_core::source::{Source, SourceError};
use twinseal_core::wire::index::Encoding;

/// Most bytes that are read at once for a request that is read twice.
const PIECE_BYTES: usize = 16 * 1024;

/// A bundle that can be read twice, and what becomes of it in between.
struct Twice {
    bytes: Vec<u8>,
    /// How often the bytes at each offset were read, by where the reading began.
    readings: BTreeMap<u64, u32>,
    longest: usize,
    /// This byte has changed when it is read for the second time.
    changes: Option<u64>,
    /// Readings until the source fails.
    fails_after: Option<u32>,
}

impl Twice {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            readings: BTreeMap::new(),
            longest: 0,
            changes: None,
            fails_after: None,
        }
    }

    fn install(&mut self, device: &mut Device, options: &Options) -> Result<Done, Error> {
        let length = self.bytes.len();
        install_from(self, length, device, options)
    }
}

impl Source for Twice {
    type Error = embedded_io::ErrorKind;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError<Self::Error>> {
        if let Some(left) = &mut self.fails_after {
            *left = left.checked_sub(1).ok_or(ended::<Self::Error>())?;
        }
        let range = offset as usize..offset as usize + buffer.len();
        buffer.copy_from_slice(self.bytes.get(range.clone()).ok_or(ended())?);
        let before = self.readings.entry(offset).or_default();
        *before += 1;
        if let Some(byte) = self
            .changes
            .filter(|byte| range.contains(&(*byte as usize)))
            && *before == 2
        {
            buffer[byte as usize - range.start] ^= 1;
        }
        self.longest = self.longest.max(buffer.len());
        Ok(())
    }

    fn gives_twice(&self) -> bool {
        true
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<Self::Error>> {
        Ok(offset == self.bytes.len() as u64)
    }
}

/// A release of ranges that are longer than the buffer, some of which compress.
fn release(encoding: Encoding) -> Release {
    let mut far = noise(9, 300_000);
    far.extend_from_within(1000..250_000);
    far.extend_from_within(7..200_007);
    let mut release = Release::sealed(1);
    release.objects.push(noise(8, 700_001));
    release.objects.push(far.clone());
    release.objects.push(far.repeat(2));
    release.images[0].1 = noise(7, TWICE_BUFFER_BYTES + 1);
    release.info.push(("licenses.txt", noise(6, 200_000)));
    Release {
        encoding,
        range_bytes: 1 << 20,
        ..release
    }
}

fn options() -> Options {
    Options {
        request_bytes: 1 << 20,
        has_zstd: true,
        ..Options::default()
    }
}

fn device_for(release: &Release) -> Device {
    let mut device = Device::new();
    for (slot, bytes) in &release.images {
        device
            .image_slots
            .insert((*slot).to_owned(), vec![0; bytes.len()]);
    }
    device
}

const ENCODINGS: [Encoding; 3] = [Encoding::Stored, Encoding::Deflate, Encoding::Zstd];

#[test]
fn what_is_read_twice_makes_the_same_as_what_is_held() {
    for encoding in ENCODINGS {
        let release = release(encoding);
        let bundle = release.build();
        for audit in [true, false] {
            let options = Options { audit, ..options() };
            let (mut held, mut twice) = (device_for(&release), device_for(&release));
            let done_held = install(&bundle, &mut held, &options).unwrap();
            let mut source = Twice::new(bundle.clone());
            let done_twice = source.install(&mut twice, &options).unwrap();
            assert_holds_only(&twice, &release);
            assert_eq!(held.target, twice.target);
            assert_eq!(held.image_slots, twice.image_slots);
            assert_eq!(
                done_held.tally.source_bytes(),
                done_twice.tally.source_bytes()
            );
            assert!(source.longest <= TWICE_BUFFER_BYTES, "{}", source.longest);
            let again = source.readings.values().filter(|count| **count > 1).count();
            assert!(
                again * PIECE_BYTES > 1_000_000,
                "{again} pieces were read twice"
            );
            let recalls = encoding == Encoding::Zstd;
            assert_eq!(
                recalls,
                done_twice.recalled > 500_000,
                "{}",
                done_twice.recalled
            );
        }
    }
}

#[test]
fn a_source_that_changes_between_the_readings_is_found_out_wherever_it_does() {
    for encoding in ENCODINGS {
        let release = release(encoding);
        let bundle = release.build();
        let mut source = Twice::new(bundle.clone());
        source
            .install(&mut device_for(&release), &options())
            .unwrap();
        let again = source.readings.into_iter().filter(|(_, count)| *count > 1);
        let mut found = 0;
        for (number, (offset, _)) in again.enumerate() {
            // The last piece of a range is not as long as the others.
            let byte = offset + [0, 15, 16_383][number % 3];
            let mut source = Twice::new(bundle.clone());
            source.changes = Some(byte);
            let mut device = device_for(&release);
            match source.install(&mut device, &options()) {
                Err(Error::BundleInvalid(BundleInvalid::RangeDamaged { .. })) => found += 1,
                Ok(_) => {
                    assert!(number % 3 == 2, "byte {byte} was not looked at");
                    assert_holds_only(&device, &release);
                    continue;
                }
                other => panic!("{other:?}"),
            }
            assert!(!device.bootable || device.prepared == 0);
        }
        assert!(found > 60, "{found}");
    }
}

#[test]
fn a_source_that_ends_in_any_reading_ends_the_install_and_nothing_is_bootable() {
    let release = release(Encoding::Zstd);
    let bundle = release.build();
    let mut readings = 0;
    loop {
        let mut source = Twice::new(bundle.clone());
        source.fails_after = Some(readings);
        let mut device = device_for(&release);
        match source.install(&mut device, &options()) {
            Ok(_) => break assert_holds_only(&device, &release),
            Err(Error::BundleInvalid(BundleInvalid::Truncated { .. })) => {}
            other => panic!("{other:?}"),
        }
        assert!(!device.bootable || device.prepared == 0);
        readings += 7;
    }
    assert!(readings > 150, "{readings}");
}

#[test]
fn instructions_of_a_patch_are_read_twice_and_recalled_from_the_scratch_area() {
    for encoding in [Encoding::Stored, Encoding::Zstd] {
        let base = release(encoding);
        let mut new = Release::evolved(&base, 3);
        new.encoding = encoding;
        // What the base does not have stands in the instructions: far longer than the buffer, and the same twice.
        let added = noise(5, 300_000);
        let object = &mut new.objects[0];
        object.extend_from_slice(&added);
        object.extend_from_slice(&added);
        let mut device = device_for(&base);
        let running = Device::running(&base);
        device.running = running.running;
        device.known_bases = running.known_bases;
        let mut source = Twice::new(new.build());
        let options = Options {
            audit: false,
            ..options()
        };
        let done = source.install(&mut device, &options).unwrap();
        assert_holds(&device, &new);
        assert!(
            done.tally.patched_blobs > 0 || encoding == Encoding::Stored,
            "{:?}",
            done.tally
        );
        let recalls = encoding == Encoding::Zstd;
        assert_eq!(recalls, done.recalled > 250_000, "{}", done.recalled);
    }
}
