//! All `unsafe` of the firmware: registers, the memory that stands for flash, the stack, the jump, the debugger's calls.
//!
//! # Invariants
//! - Addresses come from [`crate::machine`] and the linker scripts, never from outside.

use crate::machine;
use core::ptr;

/// Semihosting's way to say a character (Arm's semihosting specification, SYS_WRITEC).
const WRITE_CHARACTER: usize = 0x03;

/// Semihosting's extended exit, and its reason "the application ended" (Arm's semihosting specification, SYS_EXIT_EXTENDED).
const EXIT_EXTENDED: usize = 0x20;
const APPLICATION_EXIT: usize = 0x2_0026;

/// Of the system's timer: counts the processor's clock, pends its interrupt, on (Armv7-M manual, B3.3.3).
const TICK_CONTROL: u32 = 0b111;

unsafe extern "C" {
    static mut _handoff: [u32; 8];
    static mut __sheap: u32;
    static _stack_start: u32;
}

/// Reads a register of the board.
pub fn read_register(base: usize, offset: usize) -> u32 {
    // SAFETY: `base` is one of the devices of `machine`, `offset` one of its registers; both are aligned.
    unsafe { ptr::read_volatile((base + offset) as *const u32) }
}

/// Writes a register of the board.
pub fn write_register(base: usize, offset: usize, value: u32) {
    // SAFETY: as in `read_register`.
    unsafe { ptr::write_volatile((base + offset) as *mut u32, value) }
}

/// Reads a byte of the medium; beyond its end there are zeros.
pub fn read_medium(offset: usize) -> u8 {
    if offset >= machine::MEDIUM_BYTES {
        return 0;
    }
    // SAFETY: the offset is within the medium, which is memory that nothing else uses.
    unsafe { ptr::read_volatile((machine::MEDIUM + offset) as *const u8) }
}

/// Writes a byte of the medium; beyond its end nothing.
pub fn write_medium(offset: usize, byte: u8) {
    if offset < machine::MEDIUM_BYTES {
        // SAFETY: as in `read_medium`.
        unsafe { ptr::write_volatile((machine::MEDIUM + offset) as *mut u8, byte) }
    }
}

/// Copies bytes of the medium; what lies beyond its end is left as it is.
pub fn copy_from_medium(offset: usize, into: &mut [u8]) {
    let end = offset.checked_add(into.len());
    if end.is_some_and(|end| end <= machine::MEDIUM_BYTES) {
        // SAFETY: the bytes are within the medium, and `into` is memory of the program, apart from it.
        unsafe {
            ptr::copy_nonoverlapping(
                (machine::MEDIUM + offset) as *const u8,
                into.as_mut_ptr(),
                into.len(),
            );
        }
    }
}

/// Closes the processor's mask: no interrupt is taken any more.
pub fn close_interrupts() {
    cortex_m::interrupt::disable();
}

/// Has the system's timer pend its interrupt each time that so many cycles have passed, at most 2^24.
pub fn start_ticks(cycles: u32) {
    // SAFETY: nothing else uses this timer, and its interrupt is not taken.
    unsafe {
        let timer = &*cortex_m::peripheral::SYST::PTR;
        timer.rvr.write(cycles - 1);
        timer.cvr.write(0);
        timer.csr.write(TICK_CONTROL);
    }
}

/// Lets an interrupt of a device, one of the first 32, wake the processor.
pub fn let_wake(interrupt: u32) {
    // SAFETY: the mask is closed, so that it is never taken.
    unsafe { (*cortex_m::peripheral::NVIC::PTR).iser[0].write(1 << interrupt) }
}

/// Waits until an interrupt pends.
pub fn wait_for_interrupt() {
    cortex_m::asm::dsb();
    cortex_m::asm::wfi();
}

/// Forgets that the timer and this device pend.
pub fn forget_wakes(interrupt: u32) {
    cortex_m::peripheral::SCB::clear_pendst();
    // SAFETY: what pends is forgotten, and whoever calls looks at the device next.
    unsafe { (*cortex_m::peripheral::NVIC::PTR).icpr[0].write(1 << interrupt) }
}

/// The place where applications run, for the boot stage to fill.
pub fn application_memory() -> &'static mut [u8; machine::APPLICATION_MAX_BYTES] {
    // SAFETY: nothing of the boot stage lies there (`layout/boot/memory.x`), and it asks once, before the jump.
    unsafe { &mut *(machine::APPLICATION as *mut [u8; machine::APPLICATION_MAX_BYTES]) }
}

/// Starts the application that was copied to its place.
pub fn jump_to_application() -> ! {
    // SAFETY: the bytes there were measured and begin with a table of vectors; interrupts are not in use.
    unsafe {
        (*cortex_m::peripheral::SCB::PTR)
            .vtor
            .write(machine::APPLICATION as u32);
        cortex_m::asm::bootload(machine::APPLICATION as *const u32)
    }
}

/// The words that outlive the jump.
pub fn handoff_words() -> [u32; 8] {
    // SAFETY: the linker scripts keep this memory free for it; there is one thread and no interrupt that touches it.
    unsafe { ptr::read_volatile(&raw const _handoff) }
}

/// Stores the words that outlive the jump.
pub fn set_handoff_words(words: [u32; 8]) {
    // SAFETY: as in `handoff_words`.
    unsafe { ptr::write_volatile(&raw mut _handoff, words) }
}

/// The memory that the stack may grow into: its end, and its beginning, as addresses.
pub fn stack_bounds() -> (usize, usize) {
    (
        (&raw const __sheap) as usize,
        (&raw const _stack_start) as usize,
    )
}

/// Paints the free part of the stack, word by word.
pub fn paint_stack(paint: u32) {
    let (low, _) = stack_bounds();
    // A margin for the frame of this very function.
    let high = cortex_m::register::msp::read() as usize - 256;
    let mut at = low.next_multiple_of(4);
    while at < high {
        // SAFETY: between the end of the statics and the stack pointer there is nothing.
        unsafe { ptr::write_volatile(at as *mut u32, paint) };
        at += 4;
    }
}

/// The lowest word of the stack that does not have this paint.
pub fn lowest_unpainted(paint: u32) -> usize {
    let (low, high) = stack_bounds();
    let mut at = low.next_multiple_of(4);
    // SAFETY: the memory of the stack may be read.
    while at < high && unsafe { ptr::read_volatile(at as *const u32) } == paint {
        at += 4;
    }
    at
}

/// Switches the machine off with a code that whoever started it sees.
pub fn power_off(code: u8) -> ! {
    let block = [APPLICATION_EXIT, usize::from(code)];
    loop {
        // SAFETY: the block is what this call takes (two words), and lives as long as it.
        unsafe { cortex_m_semihosting::syscall(EXIT_EXTENDED, &block) };
    }
}

/// Says something through the debugger: for programs that have no other line.
pub fn say(text: &str) {
    for byte in text.bytes() {
        // SAFETY: the call takes the address of a byte, which lives as long as it.
        unsafe { cortex_m_semihosting::syscall(WRITE_CHARACTER, &byte) };
    }
}
