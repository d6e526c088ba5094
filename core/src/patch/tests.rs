//! Tests of the decoder: a tiny encoder, random bases, and every stream that must be refused.

use super::*;
use std::vec::Vec;

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % below.max(1)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll(256) as u8).collect()
    }
}

fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A batch of one step.
fn step(seek: i64, added: &[u8], copied: &[u8]) -> Vec<u8> {
    batch(&[(seek, added.to_vec(), copied.to_vec())])
}

fn batch(steps: &[(i64, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut stream = number(steps.len() as u64);
    for (seek, added, copied) in steps {
        stream.extend(number(((seek << 1) ^ (seek >> 63)) as u64));
        stream.extend(number(added.len() as u64));
        stream.extend(number(copied.len() as u64));
    }
    stream.extend(steps.iter().flat_map(|(_, added, _)| added));
    stream.extend(steps.iter().flat_map(|(_, _, copied)| copied));
    stream
}

/// A random slice with the stream that makes it from `base`.
fn random_patch(dice: &mut Dice, base: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut slice, mut steps, mut position) = (Vec::new(), Vec::new(), 0);
    for _ in 0..=dice.roll(12) {
        let to = dice.roll(base.len() + 1);
        let adds = dice.roll((base.len() - to).min(400) + 1);
        let copies = dice.roll(40) + usize::from(adds == 0);
        let (added, copied) = (dice.bytes(adds), dice.bytes(copies));
        let from_base = base[to..to + adds].iter().zip(&added);
        slice.extend(from_base.map(|(base, added)| base.wrapping_add(*added)));
        slice.extend_from_slice(&copied);
        steps.push((to as i64 - position as i64, added, copied));
        position = to + adds;
    }
    let (mut stream, mut rest) = (Vec::new(), &steps[..]);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(1 + dice.roll(rest.len().min(8)));
        stream.extend(batch(now));
        rest = later;
    }
    (slice, stream)
}

/// Decodes in pieces of random lengths.
fn in_pieces(dice: &mut Dice, base: &[u8], stream: &[u8], slice_bytes: usize) -> Vec<u8> {
    let mut decoder = PatchDecoder::new(base.len() as u64, slice_bytes as u32);
    let (mut made, mut taken) = (Vec::new(), 0);
    while !decoder.is_over() {
        let input = &stream[taken..(taken + dice.roll(50)).min(stream.len())];
        let mut output = std::vec![0; dice.roll(50)];
        let read_base = |offset: u64, buffer: &mut [u8]| -> Result<(), ()> {
            buffer.copy_from_slice(&base[offset as usize..offset as usize + buffer.len()]);
            Ok(())
        };
        let progress = decoder.decode(input, &mut output, read_base).unwrap();
        taken += progress.taken;
        made.extend_from_slice(&output[..progress.made]);
    }
    assert_eq!(taken, stream.len());
    made
}

#[test]
fn makes_what_the_encoder_meant_in_one_piece_and_in_many() {
    let mut dice = Dice(0x7eed_5eed);
    for _ in 0..500 {
        let length = dice.roll(2000);
        let base = dice.bytes(length);
        let (slice, stream) = random_patch(&mut dice, &base);
        let mut made = std::vec![0; slice.len()];
        assert_eq!(apply(&base, &stream, &mut made), Ok(()));
        assert_eq!(made, slice);
        assert_eq!(in_pieces(&mut dice, &base, &stream, slice.len()), slice);
    }
}

#[test]
fn a_stream_that_is_cut_or_goes_on_is_refused_at_every_byte() {
    let mut dice = Dice(3);
    let base = dice.bytes(300);
    let (slice, stream) = random_patch(&mut dice, &base);
    let mut made = std::vec![0; slice.len()];
    for end in 0..stream.len() {
        let cut = apply(&base, &stream[..end], &mut made);
        assert_eq!(cut, Err(PatchFault::TooShort), "cut at byte {end}");
    }
    for more in [0, 1, 0x80] {
        let longer = [stream.as_slice(), &[more]].concat();
        assert_eq!(apply(&base, &longer, &mut made), Err(PatchFault::TooLong));
    }
}

/// Random bytes and changed streams: refused or not, nothing outside is read, and what is made fits.
#[test]
fn changed_streams_never_leave_the_base_or_the_slice() {
    let mut dice = Dice(0xf1a9);
    let (mut refused, mut passed) = (0, 0);
    for _ in 0..5000 {
        let length = dice.roll(500);
        let base = dice.bytes(length);
        let (slice, mut stream) = random_patch(&mut dice, &base);
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(stream.len());
            stream[at] = dice.roll(256) as u8;
        }
        let mut made = std::vec![0; slice.len()];
        match apply(&base, &stream, &mut made) {
            Ok(()) => passed += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        refused > 500 && passed > 500,
        "{refused} refused, {passed} passed"
    );
}

fn fault(stream: &[u8]) -> PatchFault {
    apply(&[1; 100], stream, &mut [0; 10]).unwrap_err()
}

#[test]
fn steps_that_make_nothing_are_refused() {
    assert_eq!(fault(&step(5, &[], &[])), PatchFault::EmptyStep);
    let after_a_good_one = [step(0, &[1; 5], &[]), step(0, &[], &[])].concat();
    assert_eq!(fault(&after_a_good_one), PatchFault::EmptyStep);
}

#[test]
fn batches_keep_to_what_a_device_keeps() {
    assert_eq!(fault(&[0]), PatchFault::Batch, "no step");
    let (base, copies) = ([1; 100], |bytes| (0, Vec::new(), std::vec![7; bytes]));
    let made = |steps: &[_]| {
        let bytes = steps
            .iter()
            .map(|(_, _, copied): &(_, _, Vec<u8>)| copied.len());
        let mut slice = std::vec![0; bytes.sum()];
        apply(&base, &batch(steps), &mut slice)
    };
    let most: Vec<_> = (0..BATCH_MAX_STEPS).map(|_| copies(64)).collect();
    assert_eq!(made(&most), Ok(()));
    let more = [&most[..], &[copies(1)]].concat();
    assert_eq!(made(&more), Err(PatchFault::Batch), "a step too many");
    let longer = [copies(BATCH_MAX_BYTES), copies(1)];
    assert_eq!(made(&longer), Err(PatchFault::Batch), "a byte too many");
    assert_eq!(made(&[copies(BATCH_MAX_BYTES + 1)]), Ok(()), "alone");
}

#[test]
fn numbers_have_one_form() {
    assert_eq!(
        fault(&[1, 0x80, 0x00]),
        PatchFault::Number,
        "zero in two bytes"
    );
    assert_eq!(fault(&[1, 0x82, 0x80, 0x00]), PatchFault::Number);
    let ten = [[1].as_slice(), &[0xff; 9]].concat();
    let beyond_64_bits = [ten.as_slice(), &[0x02]].concat();
    assert_eq!(fault(&beyond_64_bits), PatchFault::Number);
    let eleven = [ten.as_slice(), &[0x81, 0x01]].concat();
    assert_eq!(fault(&eleven), PatchFault::Number);
    let largest = [ten.as_slice(), &[0x01]].concat();
    assert_eq!(
        fault(&largest),
        PatchFault::Seek,
        "well formed, and far away"
    );
}

#[test]
fn the_position_stays_within_the_base() {
    let slice = |stream: &[u8]| apply(&[1; 100], stream, &mut [0; 1]);
    assert_eq!(slice(&step(99, &[1], &[])), Ok(()));
    assert_eq!(slice(&step(100, &[], &[1])), Ok(()), "the end is a place");
    assert_eq!(slice(&step(100, &[1], &[])), Err(PatchFault::BeyondBase));
    assert_eq!(slice(&step(101, &[], &[1])), Err(PatchFault::Seek));
    assert_eq!(slice(&step(-1, &[], &[1])), Err(PatchFault::Seek));
    assert_eq!(slice(&step(i64::MIN, &[], &[1])), Err(PatchFault::Seek));
    assert_eq!(slice(&step(i64::MAX, &[], &[1])), Err(PatchFault::Seek));
    let back = [step(60, &[1; 5], &[]), step(-65, &[1; 5], &[])].concat();
    assert_eq!(apply(&[1; 100], &back, &mut [0; 10]), Ok(()));
    let too_far_back = [step(60, &[1; 5], &[]), step(-66, &[1; 5], &[])].concat();
    assert_eq!(fault(&too_far_back), PatchFault::Seek);
}

#[test]
fn runs_beyond_the_slice_are_refused_before_a_byte_is_made() {
    assert_eq!(fault(&step(0, &[1; 11], &[])), PatchFault::TooLong);
    assert_eq!(fault(&step(0, &[1; 5], &[1; 6])), PatchFault::TooLong);
    let most = [&[1, 0][..], &number(u64::MAX)].concat();
    assert_eq!(fault(&most), PatchFault::TooLong);
    let wraps = [&[1, 0][..], &number(1 << 32)].concat();
    assert_eq!(fault(&wraps), PatchFault::TooLong);
}

#[test]
fn why_the_base_cannot_be_read_is_passed_on() {
    let mut decoder = PatchDecoder::new(10, 1);
    let read = decoder.decode(&step(3, &[1], &[]), &mut [0; 1], |offset, _| Err(offset));
    assert_eq!(read, Err(PatchError::Base(3)));
}
