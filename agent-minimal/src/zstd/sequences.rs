//! The sequences of a block: literals to copy, and where a match repeats what came before (RFC 8878, section 3.1.1.3.2).

use super::bits::Backward;
use super::entropy::{Shares, Table};
use super::frame::{Frame, number};
use super::literals::Literals;
use super::window::Window;
use twinseal_core::decode::{DecodeFailed, History};

/// Bits behind each code of a length of literals; the values of a code follow those of the one before.
const LITERALS_BITS: [u8; 36] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11,
    12, 13, 14, 15, 16,
];

/// Bits behind each code of a length of a match.
const MATCH_BITS: [u8; 53] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];

/// Codes of distances.
const DISTANCES: usize = 32;

/// The lengths of the shortest match, and of no literals.
const MATCH_MIN: u32 = 3;
const LITERALS_MIN: u32 = 0;

const LITERALS_VALUES: [u32; 36] = values(LITERALS_MIN, &LITERALS_BITS);
const MATCH_VALUES: [u32; 53] = values(MATCH_MIN, &MATCH_BITS);

/// The tables of a block that describes none (RFC 8878, section 3.1.1.3.2.2).
const LITERALS_SHARES: Shares<'static> = Shares {
    log: 6,
    of: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1,
        1, 1, -1, -1, -1, -1,
    ],
};
const MATCH_SHARES: Shares<'static> = Shares {
    log: 6,
    of: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
};
const DISTANCE_SHARES: Shares<'static> = Shares {
    log: 5,
    of: &[
        1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
    ],
};

/// Distances that a frame begins with.
const DISTANCES_BEFORE: [u64; 3] = [1, 4, 8];

/// The tables and distances that a block leaves for the next.
pub(super) struct Sequences {
    literals: Table<512>,
    matches: Table<512>,
    distances: Table<256>,
    /// Whether there are tables from a block before.
    has_tables: bool,
    /// Distances of the last matches, the latest first.
    last: [u64; 3],
}

impl Sequences {
    pub const fn new() -> Self {
        Self {
            literals: Table::new(),
            matches: Table::new(),
            distances: Table::new(),
            has_tables: false,
            last: [0; 3],
        }
    }

    /// A frame begins.
    pub const fn begin(&mut self) {
        self.has_tables = false;
        self.last = DISTANCES_BEFORE;
    }

    /// Follows the sequences of a block.
    pub fn follow(
        &mut self,
        input: &[u8],
        literals: &mut Literals<'_>,
        window: &mut Window,
        frame: &Frame,
        history: &mut dyn History,
    ) -> Result<(), DecodeFailed> {
        let (count, head) = read_count(input)?;
        let mut rest = input.get(head..).ok_or(DecodeFailed)?;
        if count == 0 {
            if !rest.is_empty() {
                return Err(DecodeFailed);
            }
            return literals.append_rest(window, history);
        }
        rest = self.read_tables(rest)?;
        let mut bits = Backward::new(rest)?;
        let mut state = [
            self.literals.first(&mut bits),
            self.distances.first(&mut bits),
            self.matches.first(&mut bits),
        ];
        let mut room = frame.block_max_bytes();
        for left in (0..count).rev() {
            let [of_literals, of_distance, of_match] = state;
            let code = self.distances.symbol(of_distance);
            let value = (1 << code) + u64::from(bits.read(code.into()));
            let length = read_value(
                &MATCH_VALUES,
                &MATCH_BITS,
                self.matches.symbol(of_match),
                &mut bits,
            )?;
            let code = self.literals.symbol(of_literals);
            let before = read_value(&LITERALS_VALUES, &LITERALS_BITS, code, &mut bits)?;
            let distance = self.distance(value, before == 0)?;
            room = room.checked_sub(before + length).ok_or(DecodeFailed)?;
            literals.append(before, window, history)?;
            if distance > frame.window_bytes {
                return Err(DecodeFailed);
            }
            window.append_earlier(distance, length, history)?;
            if left > 0 {
                let literals = self.literals.next(of_literals, &mut bits);
                let matches = self.matches.next(of_match, &mut bits);
                state = [
                    literals,
                    self.distances.next(of_distance, &mut bits),
                    matches,
                ];
            }
            if bits.is_overdrawn() {
                return Err(DecodeFailed);
            }
        }
        if !bits.is_at_end() || literals.left() > room {
            return Err(DecodeFailed);
        }
        literals.append_rest(window, history)
    }

    /// The three tables, each in its mode; gives what follows.
    fn read_tables<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], DecodeFailed> {
        let (modes, mut rest) = input.split_first().ok_or(DecodeFailed)?;
        if modes & 3 != 0 {
            return Err(DecodeFailed);
        }
        let before = self.has_tables;
        let symbols = LITERALS_BITS.len();
        set(
            &mut self.literals,
            modes >> 6,
            symbols,
            &LITERALS_SHARES,
            before,
            &mut rest,
        )?;
        set(
            &mut self.distances,
            modes >> 4 & 3,
            DISTANCES,
            &DISTANCE_SHARES,
            before,
            &mut rest,
        )?;
        let symbols = MATCH_BITS.len();
        set(
            &mut self.matches,
            modes >> 2 & 3,
            symbols,
            &MATCH_SHARES,
            before,
            &mut rest,
        )?;
        self.has_tables = true;
        Ok(rest)
    }

    /// The distance of a match, which may be one of the last three.
    fn distance(&mut self, value: u64, without_literals: bool) -> Result<u64, DecodeFailed> {
        let [first, second, third] = self.last;
        if value > 3 {
            self.last = [value - 3, first, second];
            return Ok(value - 3);
        }
        let distance = match value + u64::from(without_literals) {
            1 => return Ok(first),
            2 => {
                self.last = [second, first, third];
                return Ok(second);
            }
            3 => third,
            _ => first - 1,
        };
        if distance == 0 {
            return Err(DecodeFailed);
        }
        self.last = [distance, first, second];
        Ok(distance)
    }
}

/// Number of sequences, and the bytes that say it.
fn read_count(input: &[u8]) -> Result<(usize, usize), DecodeFailed> {
    Ok(match *input.first().ok_or(DecodeFailed)? {
        255 => (number(input, 1, 2)? as usize + 0x7f00, 3),
        first @ 128.. => {
            let low = number(input, 1, 1)? as usize;
            (usize::from(first - 128) << 8 | low, 2)
        }
        first => (first.into(), 1),
    })
}

/// Makes a table as its mode says.
fn set<const N: usize>(
    table: &mut Table<N>,
    mode: u8,
    symbols: usize,
    shares: &Shares<'_>,
    has_table: bool,
    rest: &mut &[u8],
) -> Result<(), DecodeFailed> {
    let taken = match mode {
        0 => {
            table.make(shares)?;
            0
        }
        1 => {
            let symbol = *rest.first().ok_or(DecodeFailed)?;
            if usize::from(symbol) >= symbols {
                return Err(DecodeFailed);
            }
            table.make_single(symbol);
            1
        }
        2 => table.read(rest, symbols)?,
        _ if has_table => 0,
        _ => return Err(DecodeFailed),
    };
    *rest = rest.get(taken..).ok_or(DecodeFailed)?;
    Ok(())
}

/// The value of a code with the bits behind it.
fn read_value(
    values: &[u32],
    bits_of: &[u8],
    code: u8,
    bits: &mut Backward<'_>,
) -> Result<usize, DecodeFailed> {
    let at = usize::from(code);
    let (Some(value), Some(count)) = (values.get(at), bits_of.get(at)) else {
        return Err(DecodeFailed);
    };
    Ok((value + bits.read((*count).into())) as usize)
}

/// First value of each code: what the one before it begins with, and as many as its bits count.
#[allow(
    clippy::indexing_slicing,
    reason = "the compiler computes it, and would refuse what is out of bounds"
)]
pub(crate) const fn values<const N: usize>(first: u32, bits: &[u8; N]) -> [u32; N] {
    let mut values = [first; N];
    let mut code = 1;
    while code < N {
        values[code] = values[code - 1] + (1 << bits[code - 1]);
        code += 1;
    }
    values
}
