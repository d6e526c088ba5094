//! The decoders of the minimal agent on arbitrary bytes, and on streams that were made and then changed: none may panic or go on for
//! ever, and what they make does not depend on the pieces in which it is asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use twinseal_core::decode::{DecodeFailed, History, INPUT_BYTES, RangeDecoder};
use twinseal_core::wire::ZSTD_WINDOW_LOG_MAX;
use twinseal_minimal::inflate::Inflate;
use twinseal_minimal::zstd::Zstd;

/// Most bytes of a range.
const RANGE_BYTES: usize = 1 << 20;

thread_local! {
    static ZSTD: RefCell<Box<Zstd>> = RefCell::new(Box::new(Zstd::new()));
    static INFLATE: RefCell<Box<Inflate>> = RefCell::new(Box::new(Inflate::new()));
}

fuzz_target!(|input: (u8, u8, u16, u8, &[u8])| {
    let (kind, level, at, flip, bytes) = input;
    // Long enough to reach behind a block, now and then.
    let raw = bytes.repeat(1 + usize::from(level >> 4) * usize::from(kind & 4));
    let raw = &raw[..raw.len().min(RANGE_BYTES)];
    let changed = |mut stored: Vec<u8>| {
        let place = usize::from(at) % stored.len().max(1);
        stored
            .iter_mut()
            .skip(place)
            .take(1)
            .for_each(|byte| *byte ^= flip);
        stored
    };
    match kind % 4 {
        0 => {
            by_zstd(bytes);
        }
        1 => {
            let stored = zstd::bulk::compress(raw, i32::from(level % 20)).unwrap();
            let ours = by_zstd(&changed(stored.clone()));
            if flip == 0 {
                assert!(ours.as_deref() == Some(raw));
            } else if let (Some(ours), Ok(theirs)) =
                (ours, zstd::bulk::decompress(&changed(stored), RANGE_BYTES))
            {
                assert!(ours == theirs);
            }
        }
        2 => check_inflate(bytes),
        _ => {
            let stored = miniz_oxide::deflate::compress_to_vec(raw, level % 11);
            if flip == 0 {
                assert!(by_inflate(&stored).as_deref() == Some(raw));
            }
            check_inflate(&changed(stored));
        }
    }
});

/// The same verdict and the same bytes as those of another decoder.
fn check_inflate(stored: &[u8]) {
    let mut other = Box::new(twinseal_core::decode::Inflate::new());
    assert!(by_inflate(stored) == decode(&mut *other, stored, 1 << 16));
}

fn by_zstd(stored: &[u8]) -> Option<Vec<u8>> {
    ZSTD.with_borrow_mut(|zstd| in_pieces(&mut **zstd, stored))
}

fn by_inflate(stored: &[u8]) -> Option<Vec<u8>> {
    INFLATE.with_borrow_mut(|inflate| in_pieces(&mut **inflate, stored))
}

/// Decodes twice, with much room and with little; `None` when it fails or makes too much.
fn in_pieces(decoder: &mut dyn RangeDecoder, stored: &[u8]) -> Option<Vec<u8>> {
    let [much, little] = [1 << 16, 4096].map(|room| decode(decoder, stored, room));
    assert!(much == little);
    much
}

fn decode(decoder: &mut dyn RangeDecoder, mut stored: &[u8], room: usize) -> Option<Vec<u8>> {
    decoder.start(ZSTD_WINDOW_LOG_MAX);
    let (mut made, mut piece) = (Made::default(), vec![0; room]);
    while made.bytes.len() <= RANGE_BYTES {
        let input = &stored[..stored.len().min(INPUT_BYTES)];
        let (taken, now) = decoder.decode(input, &mut piece, &mut made).ok()?;
        stored = &stored[taken..];
        made.bytes.extend_from_slice(&piece[..now]);
        if decoder.has_ended() {
            return stored.is_empty().then_some(made.bytes);
        }
        if (taken, now) == (0, 0) {
            return None;
        }
    }
    None
}

/// What was made by calls that have ended, and what the decoder let go of.
#[derive(Default)]
struct Made {
    bytes: Vec<u8>,
    kept: u64,
}

impl History for Made {
    fn keep(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DecodeFailed> {
        assert_eq!(offset, self.kept, "a byte was left out");
        self.kept += bytes.len() as u64;
        Ok(())
    }

    fn recall(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DecodeFailed> {
        assert!(
            offset + buffer.len() as u64 <= self.kept,
            "nobody has this yet"
        );
        let from = self
            .bytes
            .get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(from.expect("a call that has ended made it"));
        Ok(())
    }
}
