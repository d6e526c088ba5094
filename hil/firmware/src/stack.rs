//! How deep the stack was: painted at the start, looked at later.

use crate::sys;

const PAINT: u32 = 0x5ea1_5ea1;

/// Paints the stack.
pub fn paint() {
    sys::paint_stack(PAINT);
}

/// Most bytes of stack in use since it was painted.
pub fn peak_bytes() -> usize {
    sys::stack_bounds().1 - sys::lowest_unpainted(PAINT)
}

/// Bytes of RAM that hold the program's own data for good.
pub fn static_bytes() -> usize {
    sys::stack_bounds().0 - RAM_START
}

/// As in `layout/*/memory.x`.
const RAM_START: usize = 0x2000_0000;
