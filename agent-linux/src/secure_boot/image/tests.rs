use super::*;
use twinseal_core::error::{StorageFault, StorageObject, StorageOperation};

const OPTIONAL: usize = 0x58;
const ENTRY: usize = OPTIONAL + 144;
const SECTIONS: usize = OPTIONAL + 240;
const HEADERS: usize = 0x400;

fn put(file: &mut [u8], offset: usize, value: u32) {
    file[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

/// Headers, two sections side by side, and five bytes behind them.
fn unsigned() -> Vec<u8> {
    let mut file: Vec<u8> = (0..HEADERS + 0x605).map(|at| at as u8).collect();
    file[..HEADERS].fill(0);
    file[..2].copy_from_slice(b"MZ");
    put(&mut file, 0x3c, 0x40);
    file[0x40..0x44].copy_from_slice(b"PE\0\0");
    file[0x46] = 2;
    file[0x54] = 240;
    file[OPTIONAL..OPTIONAL + 2].copy_from_slice(&PE32_PLUS.0.to_le_bytes());
    put(&mut file, OPTIONAL + 60, HEADERS as u32);
    put(&mut file, OPTIONAL + 108, 16);
    for (number, bytes, start) in [(0, 0x200, HEADERS + 0x400), (1, 0x400, HEADERS)] {
        put(&mut file, SECTIONS + number * 40 + 16, bytes);
        put(&mut file, SECTIONS + number * 40 + 20, start as u32);
    }
    file
}

/// The same in the form for 32-bit processors: the optional header has 16 bytes less before its directories.
fn unsigned_narrow() -> Vec<u8> {
    let mut file = unsigned();
    file.copy_within(OPTIONAL + 108..HEADERS, OPTIONAL + 92);
    file[0x54] = 224;
    file[OPTIONAL..OPTIONAL + 2].copy_from_slice(&PE32.0.to_le_bytes());
    file
}

fn with_table(table: &[u8]) -> Vec<u8> {
    let mut file = unsigned();
    let start = file.len() as u32;
    put(&mut file, ENTRY, start);
    put(&mut file, ENTRY + 4, table.len() as u32);
    file.extend_from_slice(table);
    file
}

fn entry(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut made = (8 + content.len() as u32).to_le_bytes().to_vec();
    made.extend_from_slice(&[0, 2]);
    made.extend_from_slice(&kind.to_le_bytes());
    made.extend_from_slice(content);
    made.resize(made.len().next_multiple_of(8), 0);
    made
}

fn read(file: &[u8]) -> Result<Image, ImageStop> {
    Image::read(file.len() as u64, |offset, buffer| {
        let offset = offset as usize;
        buffer.copy_from_slice(&file[offset..offset + buffer.len()]);
        Ok(())
    })
}

#[test]
fn a_signature_changes_nothing_of_the_digest_and_everything_else_does() {
    let plain = unsigned();
    let image = read(&plain).unwrap();
    assert!(image.signatures.is_empty() && image.table_is_whole);
    let signed = with_table(&entry(PKCS_SIGNED_DATA, b"signature"));
    assert_eq!(read(&signed).unwrap().digest, image.digest);
    let mut covered = 0;
    // A table of another size takes bytes away from what is hashed.
    for offset in (0..plain.len()).filter(|offset| !(ENTRY + 4..ENTRY + 8).contains(offset)) {
        let mut changed = plain.clone();
        changed[offset] ^= 1;
        // What places the parts may not be readable any more; then there is nothing to compare.
        if let Ok(other) = read(&changed) {
            let left_out = (OPTIONAL + 64..OPTIONAL + 68).contains(&offset)
                || (ENTRY..ENTRY + 4).contains(&offset);
            assert_eq!(other.digest == image.digest, left_out, "byte {offset}");
            covered += 1;
        }
    }
    assert!(covered > plain.len() - 40, "{covered} bytes were tried");
}

#[test]
fn a_uki_of_a_32_bit_processor_is_read_as_well() {
    let plain = unsigned_narrow();
    let entry_place = OPTIONAL + 128;
    let covered: Vec<u8> = [
        &plain[..OPTIONAL + 64],
        &plain[OPTIONAL + 68..entry_place],
        &plain[entry_place + 8..],
    ]
    .concat();
    assert_eq!(
        read(&plain).unwrap().digest,
        <[u8; 32]>::from(Sha256::digest(covered))
    );
    let mut signed = plain.clone();
    let table = entry(PKCS_SIGNED_DATA, b"signature");
    put(&mut signed, entry_place, plain.len() as u32);
    put(&mut signed, entry_place + 4, table.len() as u32);
    signed.extend_from_slice(&table);
    let image = read(&signed).unwrap();
    assert_eq!(image.digest, read(&plain).unwrap().digest);
    assert_eq!(image.signatures, [b"signature".to_vec()]);
    // The same bytes under the other magic number are another file, with its entry elsewhere.
    signed[OPTIONAL..OPTIONAL + 2].copy_from_slice(&PE32_PLUS.0.to_le_bytes());
    assert!(read(&signed).map_or(true, |image| image.signatures.is_empty()));
}

#[test]
fn every_pkcs_entry_is_taken_and_others_are_passed_over() {
    let table = [
        entry(PKCS_SIGNED_DATA, b"one"),
        entry(0x0ef1, b"another type"),
        entry(PKCS_SIGNED_DATA, b"two is longer"),
    ];
    let image = read(&with_table(&table.concat())).unwrap();
    assert_eq!(
        image.signatures,
        [b"one".to_vec(), b"two is longer".to_vec()]
    );
    assert!(image.table_is_whole);
}

#[test]
fn a_damaged_table_is_noticed() {
    let good = entry(PKCS_SIGNED_DATA, b"one");
    for length in [0, 7, 8, 17, u32::MAX] {
        let mut table = good.clone();
        put(&mut table, 0, length);
        let image = read(&with_table(&table)).unwrap();
        assert!(!image.table_is_whole, "{length}");
    }
    let image = read(&with_table(&[good, vec![0; 4]].concat())).unwrap();
    assert!(!image.table_is_whole);
}

#[test]
fn what_the_firmware_would_not_load_is_named() {
    let fault = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = with_table(&entry(PKCS_SIGNED_DATA, b"one"));
        change(&mut file);
        match read(&file) {
            Err(ImageStop::Fault(fault)) => Some(fault),
            _ => None,
        }
    };
    for offset in [0, 0x40, OPTIONAL, OPTIONAL + 108] {
        let found = fault(&|file| file[offset] = 1);
        assert_eq!(found, Some(ImageFault::NotPe), "{offset}");
    }
    for offset in [
        0x3c,
        ENTRY,
        ENTRY + 4,
        SECTIONS + 16,
        SECTIONS + 20,
        OPTIONAL + 60,
    ] {
        let found = fault(&|file| put(file, offset, u32::MAX));
        assert_eq!(found, Some(ImageFault::Outside), "{offset}");
    }
    assert_eq!(
        fault(&|file| put(file, OPTIONAL + 60, 0)),
        Some(ImageFault::Outside)
    );
    assert_eq!(fault(&|file| file[0x47] = 2), Some(ImageFault::TooLarge));
    let large = |file: &mut Vec<u8>| {
        file.resize(file.len() + TABLE_MAX_BYTES as usize, 0);
        put(file, ENTRY + 4, TABLE_MAX_BYTES as u32 + 8);
    };
    assert_eq!(fault(&large), Some(ImageFault::TooLarge));
}

#[test]
fn no_cut_file_panics() {
    let file = with_table(&entry(PKCS_SIGNED_DATA, b"one"));
    for end in 0..file.len() {
        assert!(read(&file[..end]).is_err(), "{end} bytes");
    }
}

#[test]
fn a_failure_of_the_storage_stays_one() {
    let broken = StorageError {
        operation: StorageOperation::Read,
        object: StorageObject::Uki,
        fault: StorageFault::Code(5),
    };
    let stopped = Image::read(4096, |_, _| Err(broken));
    assert_eq!(stopped, Err(ImageStop::Storage(broken)));
}
