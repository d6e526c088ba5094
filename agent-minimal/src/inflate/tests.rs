//! The decoder against another one, and against streams that nobody made.

use super::*;
use miniz_oxide::deflate::compress_to_vec;
use std::boxed::Box;
use std::vec::Vec;
use std::{fs, println};
use twinseal_core::decode::NoHistory;

/// Decodes as core does: `room` bytes at a time, and no more than `most` of the input.
fn decode(stored: &[u8], room: usize, most: usize) -> Result<Vec<u8>, DecodeFailed> {
    decode_by(&mut *Box::new(Inflate::new()), stored, room, most)
}

/// The same by the decoder of the full agent.
fn decode_by_another(stored: &[u8]) -> Result<Vec<u8>, DecodeFailed> {
    let mut decoder = Box::new(twinseal_core::decode::Inflate::new());
    decode_by(&mut *decoder, stored, 1 << 16, usize::MAX)
}

fn decode_by(
    decoder: &mut dyn RangeDecoder,
    mut stored: &[u8],
    room: usize,
    most: usize,
) -> Result<Vec<u8>, DecodeFailed> {
    decoder.start(0);
    let (mut made, mut piece) = (Vec::new(), std::vec![0; room]);
    loop {
        let input = &stored[..stored.len().min(most)];
        let (taken, now) = decoder.decode(input, &mut piece, &mut NoHistory)?;
        stored = &stored[taken..];
        made.extend_from_slice(&piece[..now]);
        if decoder.has_ended() {
            return stored.is_empty().then_some(made).ok_or(DecodeFailed);
        }
        if (taken, now) == (0, 0) {
            return Err(DecodeFailed);
        }
    }
}

/// Numbers that look random, from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Contents that make blocks of every kind, and matches as far as they may reach.
fn contents() -> Vec<Vec<u8>> {
    let mut random = Random(0x5eed);
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let noise: Vec<u8> = (0..100_000).map(|_| random.below(256) as u8).collect();
    let few: Vec<u8> = (0..100_000)
        .map(|_| b"aaaabbc\n"[random.below(8)])
        .collect();
    let far = [&noise[..WINDOW_BYTES], &noise[..WINDOW_BYTES], &noise[..]].concat();
    std::vec![
        Vec::new(),
        b"x".to_vec(),
        b"twinseal twinseal twinseal".to_vec(),
        program[..600_000].to_vec(),
        noise,
        few,
        far,
        std::vec![0; 300_000],
    ]
}

#[test]
fn what_another_one_makes_is_decoded_at_every_level_and_in_pieces_of_any_size() {
    for raw in contents() {
        for level in 0..=10 {
            let stored = compress_to_vec(&raw, level);
            for (room, most) in [(1 << 16, usize::MAX), (4096, 1 << 17), (777, 600)] {
                let made = decode(&stored, room, most);
                assert!(
                    made.as_ref() == Ok(&raw),
                    "{} bytes, level {level}",
                    raw.len()
                );
            }
        }
    }
}

#[test]
fn a_stream_that_ends_early_is_refused_wherever_it_ends() {
    for level in [0, 1, 9] {
        let raw = &contents()[3][..5_000];
        let stored = compress_to_vec(raw, level);
        for end in 0..stored.len() {
            assert_eq!(
                decode(&stored[..end], 4096, usize::MAX),
                Err(DecodeFailed),
                "{end}"
            );
        }
        assert!(decode(&stored, 4096, usize::MAX).unwrap() == raw);
        let behind = [&stored[..], b"and more"].concat();
        assert_eq!(decode(&behind, 4096, usize::MAX), Err(DecodeFailed));
    }
}

#[test]
fn a_decoder_starts_anew_after_a_range_that_failed() {
    let stored = compress_to_vec(&contents()[5], 6);
    let mut decoder = Box::new(Inflate::new());
    let mut output = std::vec![0; 200_000];
    for _ in 0..2 {
        decoder.start(0);
        let half = decoder.decode(
            &stored[..stored.len() / 2],
            &mut output[..9],
            &mut NoHistory,
        );
        assert_eq!(half.unwrap().1, 9);
        decoder.start(0);
        let bad = decoder.decode(&[0xff; 64], &mut output, &mut NoHistory);
        assert_eq!(bad, Err(DecodeFailed));
        decoder.start(0);
        let (_, made) = decoder
            .decode(&stored, &mut output, &mut NoHistory)
            .unwrap();
        assert!(output[..made] == contents()[5]);
    }
}

/// Whatever is done to a stream, the decoder ends, and it takes what the other one takes, and nothing else.
#[test]
fn what_was_changed_is_refused_or_decoded_as_another_one_does() {
    let mut random = Random(0xf1a9);
    let (mut both, mut neither) = (0, 0);
    for raw in contents().iter().filter(|raw| raw.len() > 20) {
        let raw = &raw[..raw.len().min(5_000)];
        for level in [0, 1, 6, 9] {
            let good = compress_to_vec(raw, level);
            for _ in 0..500 {
                let mut stored = good.clone();
                for _ in 0..1 + random.below(3) {
                    let at = random.below(stored.len().min(200));
                    stored[at] ^= 1 << random.below(8);
                }
                let ours = decode(&stored, 1 << 16, usize::MAX).ok();
                let theirs = decode_by_another(&stored).ok();
                assert!(
                    ours == theirs,
                    "{level}, ours {:?}, theirs {:?}: {stored:02x?}",
                    ours.as_ref().map(Vec::len),
                    theirs.as_ref().map(Vec::len)
                );
                if ours.is_some() {
                    both += 1;
                } else {
                    neither += 1;
                }
            }
        }
    }
    println!("both take {both}, neither {neither}");
    assert!(both > 500 && neither > 500);
}

#[test]
fn descriptions_at_the_limits_are_taken_and_those_beyond_refused() {
    // A fixed block with a distance before the first byte, and with the two symbols that stand for nothing.
    for wrong in [
        &[0b0000_0011, 0b0000_0010, 0][..],
        &[0b0001_1011, 0b1100_0011, 0],
        &[0b0000_0111],
        &[1, 5, 0, 0, 0],
        // A code for lengths of one symbol leaves room.
        &[0x05, 0x00, 0x80, 0x00, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(
            decode(wrong, 64, usize::MAX),
            Err(DecodeFailed),
            "{wrong:02x?}"
        );
        assert!(decode_by_another(wrong).is_err(), "{wrong:02x?}");
    }
    let empty = [0b0000_0011, 0];
    assert_eq!(decode(&empty, 64, usize::MAX), Ok(Vec::new()));
}
