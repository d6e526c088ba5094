//! Logs: `defmt` frames on the serial line. `twinseal-hil decode` turns them into text again with the program's ELF file.
//!
//! # Invariants
//! - A frame goes out whole: logging happens in one thread, and no interrupt logs.

use crate::machine::UART;
use crate::sys::{read_register, write_register};
use core::cell::RefCell;
use core::panic::PanicInfo;
use critical_section::Mutex;

/// Registers of the CMSDK APB UART (Arm's Cortex-M System Design Kit manual, section 4.2).
mod register {
    pub const DATA: usize = 0x0;
    pub const STATE: usize = 0x4;
    pub const CONTROL: usize = 0x8;
    pub const DIVIDER: usize = 0x10;
}

const TRANSMIT: u32 = 1;
const TRANSMIT_FULL: u32 = 1;

/// The smallest divider: the fastest line.
const FASTEST: u32 = 16;

static ENCODER: Mutex<RefCell<defmt::Encoder>> = Mutex::new(RefCell::new(defmt::Encoder::new()));

/// Switches the serial line on.
pub fn start() {
    write_register(UART, register::DIVIDER, FASTEST);
    write_register(UART, register::CONTROL, TRANSMIT);
}

fn send(bytes: &[u8]) {
    for byte in bytes {
        while read_register(UART, register::STATE) & TRANSMIT_FULL != 0 {}
        write_register(UART, register::DATA, u32::from(*byte));
    }
}

fn with_encoder(work: impl FnOnce(&mut defmt::Encoder)) {
    critical_section::with(|section| work(&mut ENCODER.borrow_ref_mut(section)));
}

/// Tells of a panic.
pub fn panicked(info: &PanicInfo<'_>) {
    let (file, line) = info
        .location()
        .map_or(("?", 0), |place| (place.file(), place.line()));
    defmt::error!(
        "panic: {=str}, line {=u32}: {}",
        file,
        line,
        defmt::Display2Format(&info.message())
    );
}

#[defmt::global_logger]
struct Line;

// SAFETY: one thread logs, and no interrupt does, so frames never mix; the encoder is behind a critical section.
unsafe impl defmt::Logger for Line {
    fn acquire() {
        with_encoder(|encoder| encoder.start_frame(send));
    }

    unsafe fn flush() {}

    unsafe fn release() {
        with_encoder(|encoder| encoder.end_frame(send));
    }

    unsafe fn write(bytes: &[u8]) {
        with_encoder(|encoder| encoder.write(bytes, send));
    }
}
