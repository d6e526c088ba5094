//! Operations as the instructions of one range (`docs/format.md`, section 8).

use super::matches::Operation;
use twinseal_core::patch::{BATCH_MAX_BYTES, BATCH_MAX_STEPS};

/// Writes the instructions of a slice: `operations` make `new`, and `base` is the part of the base blob from `base_offset` on.
pub fn instructions(
    operations: &[Operation],
    base: &[u8],
    base_offset: u64,
    new: &[u8],
) -> Vec<u8> {
    let mut steps = Vec::new();
    let mut left = new;
    let mut operations = operations.iter().copied().peekable();
    while let Some(operation) = operations.next() {
        let mut step = Step::default();
        match operation {
            Operation::Copy { bytes } => step.copied = take(&mut left, bytes),
            Operation::Add { base: from, bytes } => {
                let start = (from - base_offset) as usize;
                step.from = Some(from);
                step.old = base.get(start..).unwrap_or_default();
                step.added = take(&mut left, bytes);
                if let Some(&Operation::Copy { bytes }) = operations.peek() {
                    operations.next();
                    step.copied = take(&mut left, bytes);
                }
            }
        }
        steps.push(step);
    }
    let mut stream = Vec::with_capacity(new.len() + 16);
    let (mut position, mut rest) = (0, steps.as_slice());
    while !rest.is_empty() {
        let (batch, more) = rest.split_at(batch_length(rest));
        emit(batch, &mut position, &mut stream);
        rest = more;
    }
    stream
}

/// One step: `added` less `old`, which stands in the base at `from`, then `copied`.
#[derive(Clone, Copy, Default)]
struct Step<'b> {
    from: Option<u64>,
    old: &'b [u8],
    added: &'b [u8],
    copied: &'b [u8],
}

fn take<'b>(left: &mut &'b [u8], bytes: u64) -> &'b [u8] {
    let (taken, rest) = left.split_at((bytes as usize).min(left.len()));
    *left = rest;
    taken
}

/// How many of the next steps make a batch: as many as may.
fn batch_length(steps: &[Step<'_>]) -> usize {
    let mut bytes = 0;
    let fits = steps.iter().take(BATCH_MAX_STEPS).take_while(|step| {
        bytes += step.added.len() + step.copied.len();
        bytes <= BATCH_MAX_BYTES
    });
    fits.count().max(1)
}

/// Writes a batch; `position` is the one in the base.
fn emit(batch: &[Step<'_>], position: &mut u64, stream: &mut Vec<u8>) {
    number(stream, batch.len() as u64);
    for step in batch {
        let from = step.from.unwrap_or(*position);
        number(stream, zigzag(from.wrapping_sub(*position).cast_signed()));
        number(stream, step.added.len() as u64);
        number(stream, step.copied.len() as u64);
        *position = from + step.added.len() as u64;
    }
    for step in batch {
        let pairs = step.added.iter().zip(step.old);
        stream.extend(pairs.map(|(new, old)| new.wrapping_sub(*old)));
    }
    for step in batch {
        stream.extend_from_slice(step.copied);
    }
}

/// Small distances in both directions become small numbers.
const fn zigzag(distance: i64) -> u64 {
    ((distance << 1) ^ (distance >> 63)).cast_unsigned()
}

/// Seven bits a byte, lowest first; the top bit says that more follow.
fn number(stream: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        stream.push(value as u8 | 0x80);
        value >>= 7;
    }
    stream.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinseal_core::patch::apply;

    #[test]
    fn core_makes_the_slice_of_it() {
        let base: Vec<u8> = (0..=255).collect();
        let new = [
            b"ab".as_slice(),
            &[101, 103, 102],
            b"literal",
            &[0, 1, 2],
            b"z",
        ]
        .concat();
        let operations = [
            Operation::Copy { bytes: 2 },
            Operation::Add {
                base: 100,
                bytes: 3,
            },
            Operation::Copy { bytes: 7 },
            Operation::Add { base: 0, bytes: 3 },
            Operation::Copy { bytes: 1 },
        ];
        let stream = instructions(&operations, &base, 0, &new);
        let mut made = vec![0; new.len()];
        apply(&base, &stream, &mut made).unwrap();
        assert_eq!(made, new);
        // The same in a window of the base.
        let window = instructions(&operations[1..2], &base[90..], 90, &new[2..5]);
        let mut made = [0; 3];
        apply(&base, &window, &mut made).unwrap();
        assert_eq!(made, new[2..5]);
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        for (value, expected) in [
            (0, vec![0]),
            (127, vec![127]),
            (128, vec![128, 1]),
            (300, vec![172, 2]),
        ] {
            let mut stream = Vec::new();
            number(&mut stream, value);
            assert_eq!(stream, expected);
        }
        assert_eq!([0, -1, 1, -2, i64::MIN].map(zigzag), [0, 1, 2, 3, u64::MAX]);
    }
}
