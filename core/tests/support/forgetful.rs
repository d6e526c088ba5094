//! A codec with a long memory whose decoder has none: it stands for a decoder of zstd that reads its window from the history.
//!
//! A step is 0, a length of two bytes and so many bytes; or 1, a length of two bytes and a distance of four: bytes that were made before;
//! or 2, the end.

use std::collections::HashMap;
use twinseal_core::decode::{DecodeFailed, History, RangeDecoder};

const HEAD_BYTES: usize = 3;
const END: u8 = 2;
const COPY_BYTES: usize = HEAD_BYTES + 4;
const KEY_BYTES: usize = 32;
const STEP_MAX_BYTES: usize = 60_000;

pub fn encode(raw: &[u8]) -> Vec<u8> {
    let (mut stored, mut literals) = (Vec::new(), Vec::new());
    let mut seen = HashMap::new();
    let mut at = 0;
    let flush = |literals: &mut Vec<u8>, stored: &mut Vec<u8>| {
        for piece in literals.chunks(STEP_MAX_BYTES) {
            stored.push(0);
            stored.extend((piece.len() as u16).to_le_bytes());
            stored.extend_from_slice(piece);
        }
        literals.clear();
    };
    while at < raw.len() {
        let key = raw.get(at..at + KEY_BYTES);
        let from = key.and_then(|key| seen.insert(key, at));
        let same = |from: usize| {
            let pairs = raw[at..].iter().zip(&raw[from..]).take(STEP_MAX_BYTES);
            pairs.take_while(|(one, other)| one == other).count()
        };
        if let Some(from) = from {
            flush(&mut literals, &mut stored);
            stored.push(1);
            stored.extend((same(from) as u16).to_le_bytes());
            stored.extend(((at - from) as u32).to_le_bytes());
            at += same(from);
        } else {
            literals.push(raw[at]);
            at += 1;
        }
    }
    flush(&mut literals, &mut stored);
    stored.push(END);
    stored
}

/// The decoder. It lets go of everything at once.
#[derive(Default)]
pub struct Forgetful {
    made: u64,
    /// What is left of a step, and the distance if it is a copy.
    left: usize,
    distance: Option<u64>,
    /// Bytes that were read in the history.
    pub recalled: usize,
    has_ended: bool,
}

impl RangeDecoder for Forgetful {
    fn start(&mut self, _window_log: u8) {
        (self.made, self.left, self.has_ended) = (0, 0, false);
    }

    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed> {
        let (mut taken, mut made) = (0, 0);
        while made < output.len() {
            if self.left == 0 {
                if input.get(taken) == Some(&END) {
                    self.has_ended = true;
                    taken += 1;
                    break;
                }
                let Some([kind, low, high]) = input.get(taken..taken + HEAD_BYTES) else {
                    break;
                };
                let copy = input.get(taken + HEAD_BYTES..taken + COPY_BYTES);
                self.left = u16::from_le_bytes([*low, *high]).into();
                self.distance = match kind {
                    0 => None,
                    _ => {
                        let distance = copy.and_then(|copy| copy.try_into().ok());
                        Some(u32::from_le_bytes(distance.ok_or(DecodeFailed)?).into())
                    }
                };
                taken += if *kind == 0 { HEAD_BYTES } else { COPY_BYTES };
            }
            let mut count = self.left.min(output.len() - made);
            if let Some(distance) = self.distance {
                let from = (self.made + made as u64)
                    .checked_sub(distance)
                    .ok_or(DecodeFailed)?;
                count = count.min(self.made.saturating_sub(from) as usize);
                if count == 0 {
                    break;
                }
                history.recall(from, &mut output[made..made + count])?;
                self.recalled += count;
            } else {
                count = count.min(input.len() - taken);
                if count == 0 {
                    break;
                }
                output[made..made + count].copy_from_slice(&input[taken..taken + count]);
                taken += count;
            }
            made += count;
            self.left -= count;
        }
        history.keep(self.made, &output[..made])?;
        self.made += made as u64;
        Ok((taken, made))
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }
}
