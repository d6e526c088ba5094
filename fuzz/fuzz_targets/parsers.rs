//! Every parser of core on arbitrary bytes: none may panic, and what parses must emit the same bytes again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twinseal_core::error::Part;
use twinseal_core::journal::{Chain, Tail};
use twinseal_core::verify::seal::{seal_of_command_line, sealed_digest};
use twinseal_core::wire::index::{BLOCK_BYTES, Block, RECORD_BYTES, Record};
use twinseal_core::wire::manifest::Manifest;
use twinseal_core::wire::{MANIFEST_MAX_BYTES, SIGNATURES_MAX_BYTES, signatures, tar};

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    match kind % 7 {
        0 => {
            if let Ok(manifest) = Manifest::parse(bytes) {
                let mut again = [0; MANIFEST_MAX_BYTES];
                assert_eq!(manifest.emit(&mut again), Ok(bytes));
            }
        }
        1 => {
            if let Ok(list) = signatures::parse(bytes) {
                let mut again = [0; SIGNATURES_MAX_BYTES];
                assert!(signatures::emit(&list, &mut again).is_ok());
            }
        }
        2 => {
            if let Some(record) = bytes.first_chunk::<RECORD_BYTES>()
                && let Ok(parsed) = Record::parse(record)
            {
                assert_eq!(&parsed.emit(), record);
            }
        }
        3 => {
            let mut block = [0; BLOCK_BYTES];
            block
                .iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
            if let Ok(count) = Block::new(&block).records() {
                for number in 0..count {
                    let _ = Block::new(&block).record(number);
                }
            }
        }
        4 => {
            if let Ok(size) = tar::check_header(bytes, "manifest", Part::ManifestHeader) {
                assert_eq!(tar::emit_header("manifest", size).as_slice(), bytes);
            }
        }
        5 => {
            let _ = seal_of_command_line(bytes);
            let _ = sealed_digest(bytes.len() as u64, |offset, buffer| {
                let start = offset as usize;
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
                Ok(())
            });
        }
        _ => {
            let (mut chain, mut position) = (Chain::default(), 0);
            while let Tail::Entry(_, size) = chain.read(&bytes[position..], true) {
                position += size;
            }
        }
    }
});
