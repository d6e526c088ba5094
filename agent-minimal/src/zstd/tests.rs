//! The decoder against zstd's own encoder and decoder.

use super::*;
use std::sync::Mutex;
use std::vec::Vec;
use std::{format, fs, println};
use twinseal_core::decode::{INPUT_BYTES, NoHistory};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, compress_bound};

/// One, because it is too large for the stack of a test.
static DECODER: Mutex<Zstd> = Mutex::new(Zstd::new());

/// How a frame is made.
#[derive(Clone, Copy, Debug)]
struct Manner {
    level: i32,
    window_log: u32,
    has_size: bool,
    has_checksum: bool,
    /// Bytes that are given to the encoder at once; each piece ends a block.
    piece: usize,
}

const PLAIN: Manner = Manner {
    level: 3,
    window_log: 20,
    has_size: true,
    has_checksum: false,
    piece: usize::MAX,
};

fn encode(raw: &[u8], manner: Manner) -> Vec<u8> {
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(manner.level),
        CParameter::WindowLog(manner.window_log),
        CParameter::ContentSizeFlag(manner.has_size),
        CParameter::ChecksumFlag(manner.has_checksum),
    ] {
        context.set_parameter(parameter).unwrap();
    }
    if manner.has_size {
        context
            .set_pledged_src_size(Some(raw.len() as u64))
            .unwrap();
    }
    let pieces = raw.len() / manner.piece + 2;
    let mut stored = Vec::with_capacity(compress_bound(raw.len()) + 16 * pieces);
    let mut to = OutBuffer::around(&mut stored);
    for piece in raw.chunks(manner.piece.min(raw.len().max(1))) {
        let mut from = InBuffer::around(piece);
        context.compress_stream(&mut to, &mut from).unwrap();
        assert_eq!(from.pos(), piece.len());
        if manner.piece < raw.len() {
            while context.flush_stream(&mut to).unwrap() > 0 {}
        }
    }
    while context.end_stream(&mut to).unwrap() > 0 {}
    stored
}

/// What was made: by calls that have ended, and what the decoder let go of.
#[derive(Default)]
struct Made {
    bytes: Vec<u8>,
    kept: Vec<u8>,
    recalled: usize,
}

impl History for Made {
    fn keep(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DecodeFailed> {
        assert_eq!(offset, self.kept.len() as u64, "a byte was left out");
        self.kept.extend_from_slice(bytes);
        Ok(())
    }

    fn recall(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DecodeFailed> {
        let range = offset as usize..offset as usize + buffer.len();
        assert!(range.end <= self.bytes.len(), "nobody has this yet");
        buffer.copy_from_slice(&self.kept[range.clone()]);
        assert!(buffer == &self.bytes[range], "not what was made");
        self.recalled += buffer.len();
        Ok(())
    }
}

/// Decodes as core does, with room for `room` bytes at a time, until the range is made or the input used up.
fn decode(stored: &[u8], window_log: u8, room: usize) -> Result<Vec<u8>, DecodeFailed> {
    decode_with_history(stored, window_log, room).map(|made| made.bytes)
}

fn decode_with_history(
    mut stored: &[u8],
    window_log: u8,
    room: usize,
) -> Result<Made, DecodeFailed> {
    let mut decoder = DECODER
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    decoder.start(window_log);
    let (mut made, mut piece) = (Made::default(), std::vec![0; room]);
    loop {
        let input = &stored[..stored.len().min(INPUT_BYTES)];
        let (taken, now) = decoder.decode(input, &mut piece, &mut made)?;
        stored = &stored[taken..];
        made.bytes.extend_from_slice(&piece[..now]);
        if decoder.has_ended() {
            return stored.is_empty().then_some(made).ok_or(DecodeFailed);
        }
        if (taken, now) == (0, 0) {
            return Err(DecodeFailed);
        }
    }
}

/// The same by zstd itself, with the same limit.
fn decode_by_zstd(stored: &[u8]) -> Option<Vec<u8>> {
    let mut context = DCtx::create();
    context.set_parameter(DParameter::WindowLogMax(20)).unwrap();
    let mut from = InBuffer::around(stored);
    let (mut made, mut piece) = (Vec::new(), std::vec![0; 4096]);
    loop {
        let mut to = OutBuffer::around(&mut piece[..]);
        let left = context.decompress_stream(&mut to, &mut from).ok()?;
        let now = to.pos();
        made.extend_from_slice(&piece[..now]);
        if from.pos() == stored.len() && now < piece.len() {
            return (left == 0).then_some(made);
        }
    }
}

/// Numbers that look random, from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Contents of many kinds: of this program, of its sources, made to have long matches, few symbols, or nothing to compress.
fn contents() -> Vec<Vec<u8>> {
    let mut random = Random(0x5eed);
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let sources: Vec<u8> = [
        "src/start/mod.rs",
        "src/net/http.rs",
        "src/description/fields.rs",
        "Cargo.toml",
    ]
    .iter()
    .flat_map(|file| fs::read(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap())
    .collect();
    let noise: Vec<u8> = (0..300_000).map(|_| random.next() as u8).collect();
    let few: Vec<u8> = (0..200_000)
        .map(|_| b"aaaabbc\n"[random.below(8)])
        .collect();
    let mut patched = noise.clone();
    patched.extend_from_slice(&noise[1000..250_000]);
    patched.extend(std::iter::repeat_n(7, 140_000));
    let middle = program.len() / 2;
    std::vec![
        Vec::new(),
        b"x".to_vec(),
        sources,
        program[..1 << 20].to_vec(),
        program[middle..middle + 600_000].to_vec(),
        noise,
        few,
        patched,
        std::vec![0; 1 << 20],
    ]
}

#[test]
fn what_zstd_makes_is_decoded_at_every_level() {
    let mut frames = 0;
    for raw in contents() {
        for level in 1..=22 {
            let even = level % 2 == 0;
            let manner = Manner {
                level,
                has_size: even,
                has_checksum: level % 3 == 0,
                window_log: if even { 20 } else { 17 },
                ..PLAIN
            };
            let stored = encode(&raw, manner);
            let made = decode(&stored, 20, 1 << 16).unwrap();
            assert!(made == raw, "{manner:?}, {} bytes", raw.len());
            frames += 1;
        }
    }
    println!("{frames} frames");
}

#[test]
fn pieces_of_any_size_are_decoded() {
    let mut random = Random(0x0b5e);
    for raw in contents() {
        for _ in 0..6 {
            let manner = Manner {
                level: 1 + random.below(19) as i32,
                window_log: 10 + random.below(11) as u32,
                has_size: random.below(2) == 0,
                has_checksum: random.below(2) == 0,
                piece: [usize::MAX, 1 + random.below(50_000), 100_000][random.below(3)],
            };
            let stored = encode(&raw, manner);
            let made = decode(&stored, 20, 1 + random.below(5000)).unwrap();
            assert!(made == raw, "{manner:?}, {} bytes", raw.len());
        }
    }
}

#[test]
fn more_than_the_window_is_decoded_and_given_out_as_it_comes() {
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let raw = &program[..program.len().min(5 << 20)];
    for window_log in [10, 14, 20] {
        let manner = Manner {
            window_log,
            has_size: false,
            ..PLAIN
        };
        let stored = encode(raw, manner);
        assert!(decode(&stored, 20, 70_000).unwrap() == raw);
    }
}

#[test]
fn a_window_beyond_the_manifests_is_refused() {
    let raw = &contents()[3];
    let manner = Manner {
        has_size: false,
        ..PLAIN
    };
    let stored = encode(
        raw,
        Manner {
            window_log: 18,
            ..manner
        },
    );
    assert!(decode(&stored, 18, 4096).unwrap() == *raw);
    assert_eq!(decode(&stored, 17, 4096), Err(DecodeFailed));
    let stored = encode(
        raw,
        Manner {
            window_log: 21,
            ..manner
        },
    );
    assert_eq!(
        decode(&stored, 255, 4096),
        Err(DecodeFailed),
        "beyond the format's limit"
    );
    // One segment: the window is the content.
    assert_eq!(decode(&encode(raw, PLAIN), 19, 4096), Err(DecodeFailed));
}

#[test]
fn what_is_older_than_a_block_is_read_from_the_history() {
    // Noise that comes again from far away, and noise between, so that there are whole blocks as they are.
    let noise = &contents()[5];
    let raw = [&noise[..], &noise[..], &noise[100_000..], &noise[7..]].concat();
    let raw = &raw[..1 << 20];
    let far = decode_with_history(&encode(raw, PLAIN), 20, 1 << 16).unwrap();
    assert!(far.bytes == raw && far.recalled > 500_000);
    assert!(raw.starts_with(&far.kept) && far.kept.len() > 900_000);
    let near = Manner {
        window_log: 17,
        has_size: false,
        ..PLAIN
    };
    let near = decode_with_history(&encode(raw, near), 20, 1 << 16).unwrap();
    assert!(near.bytes == raw && near.recalled == 0);
}

#[test]
fn a_history_that_fails_ends_the_range() {
    let noise = &contents()[5];
    let raw = [&noise[..], &noise[..]].concat();
    let stored = encode(&raw, PLAIN);
    let mut decoder = DECODER
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    decoder.start(20);
    let (mut input, mut made, mut piece) = (&stored[..], 0, std::vec![0; 1 << 16]);
    let ended = loop {
        match decoder.decode(input, &mut piece, &mut NoHistory) {
            Ok((taken, now)) => {
                input = &input[taken..];
                made += now;
            }
            Err(failed) => break failed,
        }
    };
    assert_eq!(ended, DecodeFailed);
    assert!(made >= noise.len() / 2, "{made}");
}

#[test]
fn a_range_is_one_frame_and_nothing_else() {
    let skippable = [
        &0x184D_2A53_u32.to_le_bytes()[..],
        &5_u32.to_le_bytes(),
        b"hello",
    ]
    .concat();
    let (one, two) = (encode(b"one", PLAIN), encode(b"two", PLAIN));
    assert_eq!(decode(&one, 20, 100).unwrap(), b"one");
    for stored in [
        &[&one[..], &two].concat()[..],
        &[&one[..], &[0]].concat(),
        &[&skippable[..], &one].concat(),
        &skippable,
        &[0; 16],
        &[],
    ] {
        assert_eq!(decode(stored, 20, 100), Err(DecodeFailed), "{stored:?}");
    }
}

#[test]
fn what_makes_nothing_does_not_shorten_the_block_behind_it() {
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x50];
    // A last block of 128 KiB, stored as it is, behind blocks without a byte: more than a piece of input.
    let whole = [&[1, 0, 0x10][..], &[7; 128 * 1024]].concat();
    let stored = [&header[..], &[0; 3].repeat(19), &whole].concat();
    assert!(stored.len() > INPUT_BYTES);
    assert_eq!(decode(&stored, 20, 4096).unwrap(), [7; 128 * 1024]);
}

#[test]
fn what_the_library_calls_too_short_is_refused() {
    // Weights of a code without the bits of its first two states; four streams for four literals.
    for stored in [
        &b"\x28\xb5\x2f\xfd\x00\x50\x55\x00\x00\x12\x80\x01\x04\x10\xf8\x01\x01\x03\x00"[..],
        b"\x28\xb5\x2f\xfd\x00\x50\x85\x00\x00\x46\x00\x00\x38\x11\x10\x11\x01\x00\x01\x00\x01\x00\x03\x03\x03\x03\x00",
    ] {
        assert_eq!(decode_by_zstd(stored), None);
        assert_eq!(decode(stored, 20, 4096), Err(DecodeFailed));
    }
}

#[test]
fn a_frame_that_ends_early_is_refused_wherever_it_ends() {
    let raw = &contents()[2][..20_000];
    let stored = encode(
        raw,
        Manner {
            has_checksum: true,
            piece: 5000,
            ..PLAIN
        },
    );
    for end in 1..stored.len() {
        assert_eq!(decode(&stored[..end], 20, 4096), Err(DecodeFailed), "{end}");
    }
    assert!(decode(&stored, 20, 4096).unwrap() == raw);
}

/// Bytes that nobody encoded so: whatever is done to them, the decoder ends; where zstd itself takes them too, both make the same; and
/// where one of the two is stricter, the other makes something else than was meant, which its digest shows.
#[test]
fn what_was_changed_is_refused_or_decoded_as_zstd_does() {
    let mut random = Random(0xf1a9);
    let (mut both, mut neither, mut differing) = (0, 0, 0);
    for raw in contents().iter().filter(|raw| raw.len() > 100) {
        let raw = &raw[..raw.len().min(30_000)];
        for level in [1, 6, 19] {
            let good = encode(
                raw,
                Manner {
                    level,
                    has_size: level == 6,
                    ..PLAIN
                },
            );
            for _ in 0..400 {
                let mut stored = good.clone();
                for _ in 0..1 + random.below(3) {
                    let at = random.below(stored.len());
                    stored[at] ^= 1 << random.below(8);
                }
                let ours = decode(&stored, 20, 1 << 16).ok();
                let theirs = decode_by_zstd(&stored);
                match (&ours, &theirs) {
                    (Some(ours), Some(theirs)) => {
                        assert!(ours == theirs);
                        both += 1;
                    }
                    (None, None) => neither += 1,
                    (one, other) => {
                        assert!(one.as_deref() != Some(raw) && other.as_deref() != Some(raw));
                        differing += 1;
                    }
                }
            }
        }
    }
    println!("both take {both}, neither {neither}, one of them, and wrongly, {differing}");
    assert!(both > 500 && neither > 500);
}
