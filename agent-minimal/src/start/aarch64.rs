//! The instructions of a 64-bit ARM processor that the start needs, and what programs ask there about their processor.

use super::enter;
use core::arch::{asm, global_asm};
use core::ffi::{c_char, c_ulong};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// `__NR_execve` and `__NR_exit_group` of `asm-generic/unistd.h`.
const EXECUTE: usize = 221;
const EXIT_GROUP: usize = 94;
const SET_ACTION: usize = 134;

/// `AT_NULL` of `linux/auxvec.h`: the end of the vector.
const LAST: c_ulong = 0;

// The kernel enters with the stack pointer, which is at a multiple of 16, at the number of arguments. The ABI (AAPCS64) wants
// the outermost frame marked with a zero.
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {enter}",
    "brk #1",
    enter = sym enter
);

/// Becomes another program; comes back only with the negated error number.
///
/// # Safety
/// As `execve(2)`: a C string, and two lists of C strings that end with a null pointer.
pub unsafe fn execute(
    program: *const c_char,
    words: *const *const c_char,
    environment: *const *const c_char,
) -> isize {
    let answer: isize;
    // SAFETY: the kernel reads what the caller gives, and either never comes back or has changed nothing.
    unsafe {
        asm!(
            "svc #0",
            in("x8") EXECUTE,
            inlateout("x0") program => answer,
            in("x1") words,
            in("x2") environment,
            options(nostack)
        );
    }
    answer
}

/// `struct sigaction` of the kernel: `SIG_IGN`, no flags, no restorer, no other signal held back.
const IGNORE: [usize; 4] = [1, 0, 0, 0];

/// Bytes of a set of signals.
const SIGNALS_BYTES: usize = 8;

/// Lets a signal do nothing. One that does not exist changes nothing.
pub fn ignore_signal(signal: usize) {
    // SAFETY: the kernel reads the action, and writes nothing.
    unsafe {
        asm!(
            "svc #0",
            in("x8") SET_ACTION,
            inlateout("x0") signal => _,
            in("x1") IGNORE.as_ptr(),
            in("x2") 0,
            in("x3") SIGNALS_BYTES,
            options(nostack)
        );
    }
}

pub fn exit(code: u8) -> ! {
    // SAFETY: the call takes a number and does not come back.
    unsafe {
        asm!(
            "svc #0",
            in("x8") EXIT_GROUP,
            in("x0") usize::from(code),
            options(noreturn, nostack)
        )
    }
}

// Eight bytes at a time as long as there are so many: a processor with an MMU reads and writes them at any address of normal
// memory, and what a program of Linux has is normal memory.

/// # Safety
/// `bytes` readable bytes at `from` and as many that can be written at `to`, which does not lie behind the first of them.
pub unsafe fn copy_up(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: as the caller's.
    unsafe {
        asm!(
            "2: subs {left}, {left}, #8",
            "b.lo 3f",
            "ldr {word}, [{from}], #8",
            "str {word}, [{to}], #8",
            "b 2b",
            "3: adds {left}, {left}, #8",
            "b.eq 5f",
            "4: ldrb {word:w}, [{from}], #1",
            "strb {word:w}, [{to}], #1",
            "subs {left}, {left}, #1",
            "b.ne 4b",
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
            "2: subs {left}, {left}, #8",
            "b.lo 3f",
            "ldr {word}, [{from}, #-8]!",
            "str {word}, [{to}, #-8]!",
            "b 2b",
            "3: adds {left}, {left}, #8",
            "b.eq 5f",
            "4: ldrb {word:w}, [{from}, #-1]!",
            "strb {word:w}, [{to}, #-1]!",
            "subs {left}, {left}, #1",
            "b.ne 4b",
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
    let word = u64::from_ne_bytes([byte; 8]);
    // SAFETY: as the caller's.
    unsafe {
        asm!(
            "2: subs {left}, {left}, #8",
            "b.lo 3f",
            "str {word}, [{to}], #8",
            "b 2b",
            "3: adds {left}, {left}, #8",
            "b.eq 5f",
            "4: strb {word:w}, [{to}], #1",
            "subs {left}, {left}, #1",
            "b.ne 4b",
            "5:",
            left = inout(reg) bytes => _,
            to = inout(reg) to => _,
            word = in(reg) word,
            options(nostack)
        );
    }
}

/// Pairs of a key and a value that the kernel left behind the environment; null until the program has started.
static ABOUT_THE_MACHINE: AtomicPtr<c_ulong> = AtomicPtr::new(ptr::null_mut());

/// Keeps the place of what the kernel says about the machine.
///
/// # Safety
/// `environment` must be what the kernel left: pointers up to a null pointer, then the auxiliary vector up to its end.
pub unsafe fn keep(environment: *const *const c_char) {
    let mut word = environment;
    // SAFETY: there is a null pointer, and the vector begins behind it.
    unsafe {
        while !word.read().is_null() {
            word = word.add(1);
        }
        ABOUT_THE_MACHINE.store(word.add(1).cast_mut().cast(), Ordering::Relaxed);
    }
}

/// As the C library's: libraries ask it which instructions the processor has.
#[unsafe(no_mangle)]
extern "C" fn getauxval(key: c_ulong) -> c_ulong {
    let mut pair: *const c_ulong = ABOUT_THE_MACHINE.load(Ordering::Relaxed);
    if pair.is_null() {
        return 0;
    }
    // SAFETY: the vector lies where `keep` found it until the process ends, and its last key is `LAST`.
    unsafe {
        while pair.read() != LAST {
            if pair.read() == key {
                return pair.add(1).read();
            }
            pair = pair.add(2);
        }
    }
    0
}
