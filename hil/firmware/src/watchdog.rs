//! The watchdog: the boot stage arms it before it jumps, and only a program that goes on feeds it.
//!
//! # Invariants
//! - Its registers are locked between the calls here, so that a program gone astray does not disarm it by chance.

use crate::machine::{CLOCK_HZ, WATCHDOG};
use crate::sys::write_register;

/// Registers of the CMSDK APB watchdog (Arm's Cortex-M System Design Kit manual, section 4.5).
mod register {
    pub const LOAD: usize = 0x0;
    pub const CONTROL: usize = 0x8;
    pub const CLEAR: usize = 0xc;
    pub const LOCK: usize = 0xc00;
}

const UNLOCK: u32 = 0x1acc_e551;
const COUNT_AND_RESET: u32 = 0b11;

/// Seconds until it barks; after as many again it resets the machine. Longer than anything here takes without feeding it: a
/// signature is checked in a tenth of a second.
const SECONDS: u32 = 2;

/// Arms it.
pub fn arm() {
    unlocked(|| {
        write_register(WATCHDOG, register::LOAD, SECONDS * CLOCK_HZ);
        write_register(WATCHDOG, register::CONTROL, COUNT_AND_RESET);
    });
}

/// Says that the program goes on.
pub fn feed() {
    unlocked(|| write_register(WATCHDOG, register::CLEAR, 1));
}

fn unlocked(work: impl FnOnce()) {
    write_register(WATCHDOG, register::LOCK, UNLOCK);
    work();
    write_register(WATCHDOG, register::LOCK, 0);
}
