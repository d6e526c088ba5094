//! Sleep until a frame comes, or a tick of the clock, whichever is first: the processor waits without power.
//!
//! Interrupts wake it and are never taken: the processor's mask stays closed, so there is no handler, and one thread as before
//! (Armv7-M manual, B1.5.19: "wait for interrupt" ends with one that the mask holds back).
//!
//! # Invariants
//! - What came before the sleep ends it at once, so nothing is slept through.

use crate::machine::{CLOCK_HZ, ETHERNET_INTERRUPT};
use crate::sys;

/// Longest sleep, in ms: how exactly waits of the network end.
const TICK_MS: u32 = 2;

/// Prepares it. Interrupts are closed from then on.
pub fn start() {
    sys::close_interrupts();
    sys::start_ticks(CLOCK_HZ / 1000 * TICK_MS);
    sys::let_wake(ETHERNET_INTERRUPT);
}

/// Sleeps. `noted` tells the controller that its frames are seen to, before the processor forgets that it was woken.
pub fn sleep(noted: impl FnOnce()) {
    sys::wait_for_interrupt();
    noted();
    sys::forget_wakes(ETHERNET_INTERRUPT);
}
