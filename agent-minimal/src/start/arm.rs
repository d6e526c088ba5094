//! The instructions of a 32-bit ARM processor with Thumb-2 (ARMv7-A) that the start needs.

use super::enter;
use core::arch::{asm, global_asm};
use core::ffi::c_char;

/// `__NR_execve`, `__NR_exit_group` and `__NR_rt_sigaction` of `arch/arm/tools/syscall.tbl`.
const EXECUTE: usize = 11;
const EXIT_GROUP: usize = 248;
const SET_ACTION: usize = 174;

// The kernel enters with the stack pointer, which is at a multiple of 8, at the number of arguments. The ABI (AAPCS32) wants the
// outermost frame marked with a zero.
global_asm!(
    ".thumb",
    ".globl _start",
    ".thumb_func",
    ".type _start, %function",
    "_start:",
    "mov r7, #0",
    "mov r11, #0",
    "mov lr, #0",
    "mov r0, sp",
    "bl {enter}",
    "udf #0",
    enter = sym enter
);

/// A system call with up to four arguments. Its number goes into `r7`, which the compiler keeps for itself.
///
/// # Safety
/// As the call's.
unsafe fn call(number: usize, arguments: [usize; 4]) -> isize {
    let answer: isize;
    // SAFETY: the caller's; `r7` is what it was afterwards.
    unsafe {
        asm!(
            "mov {kept}, r7",
            "mov r7, {number}",
            "svc #0",
            "mov r7, {kept}",
            kept = out(reg) _,
            number = in(reg) number,
            inlateout("r0") arguments[0] => answer,
            in("r1") arguments[1],
            in("r2") arguments[2],
            in("r3") arguments[3],
            options(nostack)
        );
    }
    answer
}

/// Becomes another program; comes back only with the negated error number.
///
/// # Safety
/// As `execve(2)`: a C string, and two lists of C strings that end with a null pointer.
pub unsafe fn execute(
    program: *const c_char,
    words: *const *const c_char,
    environment: *const *const c_char,
) -> isize {
    // SAFETY: the kernel reads what the caller gives, and either never comes back or has changed nothing.
    unsafe {
        call(
            EXECUTE,
            [program as usize, words as usize, environment as usize, 0],
        )
    }
}

/// `struct sigaction` of the kernel: `SIG_IGN`, no flags, no restorer, no other signal held back.
const IGNORE: [usize; 5] = [1, 0, 0, 0, 0];

/// Bytes of a set of signals.
const SIGNALS_BYTES: usize = 8;

/// Lets a signal do nothing. One that does not exist changes nothing.
pub fn ignore_signal(signal: usize) {
    // SAFETY: the kernel reads the action, and writes nothing.
    unsafe {
        call(
            SET_ACTION,
            [signal, IGNORE.as_ptr() as usize, 0, SIGNALS_BYTES],
        );
    }
}

pub fn exit(code: u8) -> ! {
    // SAFETY: the call takes a number and does not come back.
    unsafe {
        asm!(
            "mov r7, {number}",
            "svc #0",
            number = in(reg) EXIT_GROUP,
            in("r0") usize::from(code),
            options(noreturn, nostack)
        )
    }
}

// Four bytes at a time as long as there are so many: a processor of ARMv7-A reads and writes single words at any address of
// normal memory, and Linux lets it.

/// # Safety
/// `bytes` readable bytes at `from` and as many that can be written at `to`, which does not lie behind the first of them.
pub unsafe fn copy_up(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: as the caller's.
    unsafe {
        asm!(
            "2: subs {left}, {left}, #4",
            "blo 3f",
            "ldr {word}, [{from}], #4",
            "str {word}, [{to}], #4",
            "b 2b",
            "3: adds {left}, {left}, #4",
            "beq 5f",
            "4: ldrb {word}, [{from}], #1",
            "strb {word}, [{to}], #1",
            "subs {left}, {left}, #1",
            "bne 4b",
            "5:",
            left = inout(reg) bytes => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            word = out(reg) _,
            options(nostack)
        );
    }
}

/// # Safety
/// As [`copy_up`], but `to` may lie anywhere behind `from`; `bytes` is not zero.
pub unsafe fn copy_down(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: as the caller's.
    unsafe {
        asm!(
            "2: subs {left}, {left}, #4",
            "blo 3f",
            "ldr {word}, [{from}, #-4]!",
            "str {word}, [{to}, #-4]!",
            "b 2b",
            "3: adds {left}, {left}, #4",
            "beq 5f",
            "4: ldrb {word}, [{from}, #-1]!",
            "strb {word}, [{to}, #-1]!",
            "subs {left}, {left}, #1",
            "bne 4b",
            "5:",
            left = inout(reg) bytes => _,
            from = inout(reg) from.add(bytes) => _,
            to = inout(reg) to.add(bytes) => _,
            word = out(reg) _,
            options(nostack)
        );
    }
}

/// # Safety
/// `bytes` bytes that can be written at `to`.
pub unsafe fn fill(to: *mut u8, byte: u8, bytes: usize) {
    let word = u32::from_ne_bytes([byte; 4]);
    // SAFETY: as the caller's.
    unsafe {
        asm!(
            "2: subs {left}, {left}, #4",
            "blo 3f",
            "str {word}, [{to}], #4",
            "b 2b",
            "3: adds {left}, {left}, #4",
            "beq 5f",
            "4: strb {word}, [{to}], #1",
            "subs {left}, {left}, #1",
            "bne 4b",
            "5:",
            left = inout(reg) bytes => _,
            to = inout(reg) to => _,
            word = in(reg) word,
            options(nostack)
        );
    }
}
