//! Operations as the instructions of one range (`docs/format.md`, section 8).

use super::matches::Operation;

/// Writes the instructions of a slice: `operations` make `new`, and `base` is the part of the base blob from `base_offset` on.
pub fn instructions(
    operations: &[Operation],
    base: &[u8],
    base_offset: u64,
    new: &[u8],
) -> Vec<u8> {
    let mut stream = Vec::with_capacity(new.len() + 16);
    let (mut position, mut left) = (0_u64, new);
    let mut operations = operations.iter().copied().peekable();
    while let Some(operation) = operations.next() {
        let mut copied = 0;
        match operation {
            Operation::Copy { bytes } => {
                number(&mut stream, 0);
                number(&mut stream, 0);
                copied = bytes;
            }
            Operation::Add { base: from, bytes } => {
                number(
                    &mut stream,
                    zigzag(from.wrapping_sub(position).cast_signed()),
                );
                number(&mut stream, bytes);
                position = from + bytes;
                let start = (from - base_offset) as usize;
                let (added, rest) = left.split_at((bytes as usize).min(left.len()));
                let old = base.get(start..).unwrap_or_default();
                stream.extend(
                    added
                        .iter()
                        .zip(old)
                        .map(|(new, old)| new.wrapping_sub(*old)),
                );
                left = rest;
                if let Some(&Operation::Copy { bytes }) = operations.peek() {
                    operations.next();
                    copied = bytes;
                }
            }
        }
        number(&mut stream, copied);
        let (literal, rest) = left.split_at((copied as usize).min(left.len()));
        stream.extend_from_slice(literal);
        left = rest;
    }
    stream
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
