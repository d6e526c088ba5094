//! What stands for [`crate::sys`] on the host, where tests run: no registers, and a medium in memory for each thread.
//!
//! # Power loss
//! The power goes off as a panic with [`PowerOff`], which a test catches; the medium outlives it.

use crate::machine;
use std::cell::RefCell;
use std::panic::resume_unwind;

thread_local! {
    static MEDIUM: RefCell<Vec<u8>> = RefCell::new(vec![0; machine::MEDIUM_BYTES]);
}

/// The code with which the machine went off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerOff(pub u8);

/// There are no registers: all read zero.
pub fn read_register(_: usize, _: usize) -> u32 {
    0
}

/// There are no registers.
pub fn write_register(_: usize, _: usize, _: u32) {}

/// The bytes of the medium.
pub fn medium() -> Vec<u8> {
    MEDIUM.with_borrow(Clone::clone)
}

/// Puts another medium in its place.
pub fn set_medium(bytes: Vec<u8>) {
    MEDIUM.set(bytes);
}

/// Reads a byte of the medium; beyond its end there are zeros.
pub fn read_medium(offset: usize) -> u8 {
    MEDIUM.with_borrow(|medium| medium.get(offset).copied().unwrap_or_default())
}

/// Writes a byte of the medium; beyond its end nothing.
pub fn write_medium(offset: usize, byte: u8) {
    MEDIUM.with_borrow_mut(|medium| {
        if let Some(place) = medium.get_mut(offset) {
            *place = byte;
        }
    });
}

/// Copies bytes of the medium; what lies beyond its end is left as it is.
pub fn copy_from_medium(offset: usize, into: &mut [u8]) {
    MEDIUM.with_borrow(|medium| {
        if let Some(bytes) = medium.get(offset..).and_then(|rest| rest.get(..into.len())) {
            into.copy_from_slice(bytes);
        }
    });
}

/// Switches the machine off.
pub fn power_off(code: u8) -> ! {
    resume_unwind(Box::new(PowerOff(code)))
}
