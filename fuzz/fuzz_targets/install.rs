//! A whole install of bundles that are signed by a trusted key but not made by the rules: the fuzzer gets past the signature,
//! as a maker with a broken builder would. Nothing may panic, and a refused bundle never leaves a bootable set.
#![no_main]

#[path = "../../core/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use support::{Device, Options, Release, install};
use twinseal_core::wire::index::{BLOCK_BYTES, Block, Cursor, Encoding, Record, emit_block};
use twinseal_core::wire::manifest::Manifest;

/// An edit: where, and what to set there.
type Edit = (u16, u8, u8);

fuzz_target!(|input: (bool, Vec<Edit>, Vec<(u16, u8)>, Vec<(u32, u8)>)| {
    let (deflate, record_edits, manifest_edits, byte_edits) = input;
    let encoding = if deflate {
        Encoding::Deflate
    } else {
        Encoding::Stored
    };
    // Small, so that the fuzzer makes many runs; still with every role and a blob of several ranges.
    let erofs = vec![5; 300];
    let uki = support::uki(&format!("composefs={}", support::verity(&erofs)), 0);
    let objects = vec![vec![1; 70], vec![2; 150], vec![3; 90]];
    let release = Release {
        encoding,
        uki: Some(uki),
        erofs,
        objects,
        range_bytes: 64,
        ..Release::sealed(1)
    };
    let release = Release {
        images: vec![("fpga", vec![9; 100])],
        ..release
    };
    let edit_records = |records: &mut Vec<Record>| {
        let edits = record_edits.iter().take(8);
        edits.for_each(|edit| edit_record(records, *edit));
    };
    let edit_bundle = |mut bundle: Vec<u8>| {
        for (position, value) in byte_edits.iter().take(4) {
            let length = bundle.len();
            bundle[*position as usize % length] = *value;
        }
        bundle
    };
    let manifest = |manifest: &mut Manifest| edit_manifest(manifest, &manifest_edits);
    if byte_edits.len() % 2 == 0 {
        let bundle = edit_bundle(release.build_with(edit_records, manifest));
        return run(&bundle, Device::new());
    }
    // The edits go to the route that a device follows which holds the base.
    let next = Release::after(&release, 7);
    let bundle = edit_bundle(next.build_routes_with(|_| {}, edit_records, manifest));
    let held = HOLDING[usize::from(deflate)].get_or_init(|| holding(&release));
    run(&bundle, held.clone());
});

/// Devices that hold the base, stored as it is and as DEFLATE.
static HOLDING: [OnceLock<Device>; 2] = [OnceLock::new(), OnceLock::new()];

fn holding(base: &Release) -> Device {
    let mut device = Device::new();
    install(&base.build(), &mut device, &Options::default()).expect("the base is sound");
    device.prepared = 0;
    device
}

fn run(bundle: &[u8], mut device: Device) {
    match install(bundle, &mut device, &Options::default()) {
        Ok(_) => assert!(device.bootable),
        Err(_) => assert!(!device.bootable || device.prepared == 0),
    }
}

/// Changes a byte of a record, when the result is still a record. What stands before it in its blob goes with it: a record is
/// written by what differs from those.
fn edit_record(records: &mut Vec<Record>, (number, position, value): Edit) {
    let number = usize::from(number) % records.len();
    let is_blob = |record: &Record| matches!(record, Record::Blob(_));
    let start = records[..=number].iter().rposition(is_blob);
    let together = &records[start.unwrap_or(number)..=number];
    let (before, (mut block, count)) = (
        end_of(&together[..together.len() - 1]),
        emit_block(together, &[0; 32]),
    );
    let end = end_of(together);
    if count < together.len() || end <= before {
        return;
    }
    block[before + usize::from(position) % (end - before)] = value;
    match (last_of(&block, count), value % 16) {
        (Some(record), _) => records[number] = record,
        (None, 0) if records.len() > 1 => drop(records.remove(number)),
        (None, 1) => records.insert(number, records[number]),
        (None, 2) => records.swap(0, number),
        (None, _) => {}
    }
}

/// Where these records end in a block of their own.
fn end_of(records: &[Record]) -> usize {
    let (block, count) = emit_block(records, &[0; 32]);
    let mut cursor = Cursor::new();
    for _ in 0..count {
        let _ = Block::new(&block).record(&mut cursor);
    }
    cursor.position()
}

/// The last of the first `count` records of a block, when all of them are records.
fn last_of(block: &[u8; BLOCK_BYTES], count: usize) -> Option<Record> {
    let mut cursor = Cursor::new();
    let mut last = None;
    for _ in 0..count {
        last = Some(Block::new(block).record(&mut cursor).ok()?);
    }
    last
}

/// Changes bytes of the manifest's encoding, when the result still decodes; rules between fields may be broken.
fn edit_manifest(manifest: &mut Manifest, edits: &[(u16, u8)]) {
    let mut buffer = [0; 8192];
    let Ok(length) = manifest.emit(&mut buffer).map(<[u8]>::len) else {
        return;
    };
    for (position, value) in edits.iter().take(8) {
        buffer[usize::from(*position) % length] = *value;
    }
    if let Ok(changed) = Manifest::parse(&buffer[..length]) {
        *manifest = changed;
    }
}
