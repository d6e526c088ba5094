use super::*;
use crate::wire::BLOB_MAX_BYTES;
use std::vec::Vec;

fn examples() -> [Record; 5] {
    let digest = BlobDigest::sha256([0x5a; 32]);
    let blob = Blob {
        role: Role::Object,
        payload: 1,
        digest,
        size: 70_000,
        ranges: 2,
        stored_bytes: 300,
        alternatives: 1,
    };
    let range = Range {
        encoding: Encoding::Zstd,
        raw_offset: 0,
        raw_bytes: 65_536,
        stored_offset: 1 << 33,
        stored_bytes: 123,
        stored_sha256: [1; 32],
        raw_sha256: [2; 32],
    };
    let other = Alternative {
        method: 200,
        base_role: Role::Composefs,
        base_digest: digest,
        base_size: 1 << 40,
        ranges: 1,
        stored_bytes: 5,
    };
    let all = Range {
        stored_offset: 7,
        raw_sha256: [0; 32],
        ..range
    };
    [
        Record::Blob(blob),
        Record::Range(range),
        Record::Alternative(other),
        Record::Range(all),
        Record::Removed(Removed { digest, size: 77 }),
    ]
}

/// The bytes of a record at the start of a block.
fn emitted(record: Record) -> Vec<u8> {
    let mut block = [0; BLOCK_BYTES];
    let mut cursor = Cursor::new();
    assert!(cursor.emit(&record, &mut block));
    block[BLOCK_HEADER_BYTES..cursor.position()].to_vec()
}

/// What a block with one record of these bytes says.
fn parsed(bytes: &[u8]) -> Result<Record, RecordFault> {
    let mut block = [0; BLOCK_BYTES];
    block[BLOCK_HEADER_BYTES..][..bytes.len()].copy_from_slice(bytes);
    Block::new(&block).record(&mut Cursor::new())
}

#[test]
fn reads_what_it_writes() {
    for record in examples() {
        assert_eq!(parsed(&emitted(record)), Ok(record));
    }
    let (block, count) = emit_block(&examples(), &[7; 32]);
    let block = Block::new(&block);
    assert_eq!((count, block.next(), block.records()), (5, [7; 32], Ok(5)));
    let mut cursor = Cursor::new();
    for record in examples() {
        assert_eq!(block.record(&mut cursor), Ok(record));
    }
}

#[test]
fn a_record_is_as_long_as_it_must_be() {
    let lengths = examples().map(|record| emitted(record).len());
    // Head, payload, ranges, size, stored bytes, alternatives, digest.
    assert_eq!(lengths[0], 1 + 1 + 1 + 3 + 2 + 1 + 32);
    // Head, raw bytes, raw offset, stored bytes, stored offset, two digests.
    assert_eq!(lengths[1], 1 + 3 + 1 + 1 + 5 + 64);
    assert_eq!(lengths[3], 1 + 3 + 1 + 1 + 1 + 32);
    assert_eq!(lengths[4], 1 + 1 + 32);
    // In a row, a place costs a byte.
    let Record::Range(range) = examples()[3] else {
        panic!("a range");
    };
    let next = Record::Range(Range {
        raw_offset: range.raw_offset + u64::from(range.raw_bytes),
        stored_offset: range.stored_offset + u64::from(range.stored_bytes),
        ..range
    });
    let mut block = [0; BLOCK_BYTES];
    let mut cursor = Cursor::new();
    cursor.emit(&examples()[3], &mut block);
    let before = cursor.position();
    cursor.emit(&next, &mut block);
    assert_eq!(cursor.position() - before, 1 + 3 + 1 + 1 + 1 + 32);
}

#[test]
fn the_longest_record_fits() {
    let digest = BlobDigest::new(crate::wire::digest::DigestAlgorithm::Sha512, &[9; 64]);
    let blob = Blob {
        role: Role::Object,
        payload: 255,
        digest: digest.unwrap(),
        size: BLOB_MAX_BYTES,
        ranges: u32::MAX,
        stored_bytes: u64::MAX,
        alternatives: u16::MAX,
    };
    let range = Range {
        encoding: Encoding::Stored,
        raw_offset: BLOB_MAX_BYTES,
        raw_bytes: crate::wire::RANGE_RAW_MAX_BYTES,
        stored_offset: BLOB_MAX_BYTES,
        stored_bytes: crate::wire::RANGE_MAX_BYTES,
        stored_sha256: [1; 32],
        raw_sha256: [2; 32],
    };
    for record in [Record::Blob(blob), Record::Range(range)] {
        let bytes = emitted(record);
        assert!(bytes.len() < RECORD_MAX_BYTES, "{}", bytes.len());
        assert_eq!(parsed(&bytes), Ok(record));
    }
}

#[test]
fn wire_numbers_stay() {
    assert_eq!(
        [
            Role::Uki as u8,
            Role::Image as u8,
            Role::Object as u8,
            Role::Composefs as u8
        ],
        [1, 2, 3, 4]
    );
    assert_eq!(
        [
            Encoding::Stored as u8,
            Encoding::Deflate as u8,
            Encoding::Zstd as u8
        ],
        [0, 1, 2]
    );
    // Kind, role or encoding, algorithm or digests.
    let heads = examples().map(|record| emitted(record)[0]);
    let head = |kind: u8, role: u8, high: u8| kind | role << 3 | high << 6;
    assert_eq!(
        heads,
        [
            head(1, 3, 1),
            head(3, 2, 1),
            head(2, 4, 1),
            head(3, 2, 0),
            head(4, 0, 1)
        ]
    );
}

#[test]
fn reserved_values_are_refused() {
    let [blob, range, other, _, removed] = examples().map(emitted);
    let fault = |bytes: &[u8], position: usize, value: u8| {
        let mut bytes = bytes.to_vec();
        bytes[position] = value;
        parsed(&bytes).unwrap_err()
    };
    let head = |kind: u8, role: u8, high: u8| kind | role << 3 | high << 6;
    for kind in [0, 5, 7] {
        assert_eq!(fault(&blob, 0, head(kind, 3, 1)), RecordFault::Kind);
    }
    assert_eq!(fault(&blob, 0, head(1, 5, 1)), RecordFault::Role);
    assert_eq!(fault(&blob, 0, head(1, 3, 3)), RecordFault::Digest);
    assert_eq!(
        fault(&blob, 2, 0),
        RecordFault::Size,
        "bytes without ranges"
    );
    assert_eq!(fault(&range, 0, head(3, 3, 1)), RecordFault::Encoding);
    assert_eq!(fault(&range, 0, head(3, 2, 3)), RecordFault::Reserved);
    assert_eq!(fault(&range, 5, 0), RecordFault::Size, "no stored bytes");
    assert_eq!(fault(&other, 0, head(2, 0, 1)), RecordFault::Role);
    assert_eq!(fault(&other, 0, head(2, 4, 0)), RecordFault::Digest);
    assert_eq!(fault(&removed, 0, head(4, 1, 1)), RecordFault::Reserved);
    assert_eq!(fault(&removed, 0, head(4, 0, 0)), RecordFault::Digest);
    let with_size = |size: &[u8]| {
        let bytes = [&removed[..1], size, &removed[2..]].concat();
        parsed(&bytes)
    };
    assert!(with_size(&[0xff, 0x7f]).is_ok());
    let longer = with_size(&[0xcd, 0x80, 0]);
    assert_eq!(longer, Err(RecordFault::Reserved), "not its shortest form");
    let huge = with_size(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    assert_eq!(huge, Err(RecordFault::Size), "over the limit");
    let over = with_size(&[0xff; 10]);
    assert_eq!(over, Err(RecordFault::Size), "over 64 bits");
    let without_digest = [&range[..range.len() - 32], &[0; 32]].concat();
    assert_eq!(
        parsed(&without_digest),
        Err(RecordFault::Reserved),
        "a second digest of zeros"
    );
}

#[test]
fn what_is_stored_as_it_is_has_one_size_and_one_digest() {
    let Record::Range(range) = examples()[1] else {
        panic!("a range");
    };
    let stored = Range {
        encoding: Encoding::Stored,
        stored_bytes: range.raw_bytes,
        raw_sha256: range.stored_sha256,
        ..range
    };
    let all = Range {
        raw_sha256: [0; 32],
        ..stored
    };
    assert!(range.can_store_whole() && stored.can_store_whole() && all.can_store_whole());
    let two_sizes = Range {
        stored_bytes: 123,
        ..stored
    };
    let two_digests = Range {
        raw_sha256: [3; 32],
        ..stored
    };
    assert!(!two_sizes.can_store_whole() && !two_digests.can_store_whole());
    assert!(all.gives_all(65_536) && !all.gives_all(65_537));
}

#[test]
fn a_block_says_what_it_holds() {
    let many = [examples()[4]; 200];
    let (mut bytes, count) = emit_block(&many, &[7; 32]);
    assert_eq!(count, (BLOCK_BYTES - BLOCK_HEADER_BYTES) / 34);
    assert_eq!(Block::new(&bytes).records(), Ok(count));
    bytes[4095] = 1;
    assert_eq!(Block::new(&bytes).records(), Err(RecordFault::Block));
    bytes[4095] = 0;
    bytes[32] += 1;
    assert_eq!(Block::new(&bytes).records(), Err(RecordFault::Kind));
    bytes[32] -= 2;
    assert_eq!(Block::new(&bytes).records(), Err(RecordFault::Block));
    let (empty, _) = emit_block(&[], &[0; 32]);
    assert_eq!(Block::new(&empty).records(), Err(RecordFault::Block));
}
