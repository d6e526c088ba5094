//! Every parser of core on arbitrary bytes: none may panic, and what parses must emit the same bytes again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twinseal_core::error::Part;
use twinseal_core::journal::{Chain, Tail};
use twinseal_core::patch::{PatchDecoder, PatchError, PatchFault, apply};
use twinseal_core::verify::seal::{seal_of_command_line, sealed_digest};
use twinseal_core::wire::index::{BLOCK_BYTES, BLOCK_HEADER_BYTES, Block, Cursor, emit_block};
use twinseal_core::wire::manifest::Manifest;
use twinseal_core::wire::{MANIFEST_MAX_BYTES, SIGNATURES_MAX_BYTES, signatures, tar};

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    match kind % 8 {
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
            // A record alone: what stands behind it is another matter.
            let block = block_of(bytes);
            let mut cursor = Cursor::new();
            if let Ok(record) = Block::new(&block).record(&mut cursor) {
                let (again, count) = emit_block(&[record], &[0; 32]);
                let place = BLOCK_HEADER_BYTES..cursor.position();
                assert_eq!((count, &again[place.clone()]), (1, &block[place]));
            }
        }
        3 => {
            let mut block = [0; BLOCK_BYTES];
            block
                .iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
            let view = Block::new(&block);
            if let Ok(count) = view.records() {
                let mut cursor = Cursor::new();
                let records: Vec<_> = (0..count)
                    .map(|_| view.record(&mut cursor).unwrap())
                    .collect();
                assert_eq!(emit_block(&records, &view.next()), (block, count));
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
        6 => patch(bytes),
        _ => {
            let (mut chain, mut position) = (Chain::default(), 0);
            while let Tail::Entry(_, size) = chain.read(&bytes[position..], true) {
                position += size;
            }
        }
    }
});

/// A block whose records are these bytes, as far as there is room.
fn block_of(bytes: &[u8]) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let records = block.iter_mut().skip(BLOCK_HEADER_BYTES);
    records.zip(bytes).for_each(|(to, from)| *to = *from);
    block
}

/// Instructions against a base: in one piece and in small ones they make the same, or are refused for the same reason.
fn patch(bytes: &[u8]) {
    let Some(([base_bytes, slice_bytes, pieces], rest)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let (base, instructions) = rest.split_at(usize::from(*base_bytes).min(rest.len()));
    let (mut whole, mut made) = (vec![0; usize::from(*slice_bytes)], Vec::new());
    let ended = apply(base, instructions, &mut whole);
    let mut decoder = PatchDecoder::new(base.len() as u64, u32::from(*slice_bytes));
    let (input_bytes, output_bytes) = (usize::from(pieces & 15) + 1, usize::from(pieces >> 4) + 1);
    let mut left = instructions;
    let in_pieces = loop {
        let mut output = vec![0; output_bytes];
        let read_base = |offset: u64, buffer: &mut [u8]| -> Result<(), ()> {
            let start = offset as usize;
            buffer.copy_from_slice(&base[start..start + buffer.len()]);
            Ok(())
        };
        let input = &left[..input_bytes.min(left.len())];
        match decoder.decode(input, &mut output, read_base) {
            Ok(progress) => {
                made.extend_from_slice(&output[..progress.made]);
                left = &left[progress.taken..];
                if decoder.is_over() && left.is_empty() {
                    break Ok(());
                } else if decoder.is_over() {
                    break Err(PatchFault::TooLong);
                } else if progress.taken == 0 && progress.made == 0 {
                    break Err(PatchFault::TooShort);
                }
            }
            Err(PatchError::Instructions(fault)) => break Err(fault),
            Err(PatchError::Base(())) => unreachable!("the base can be read"),
        }
    };
    assert_eq!(in_pieces, ended);
    assert_eq!(made, whole[..made.len()]);
}
