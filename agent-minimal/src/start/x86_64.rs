//! The instructions of an x86-64 processor that the start needs.

use super::enter;
use core::arch::{asm, global_asm};
use core::ffi::c_char;

/// `__NR_execve` and `__NR_exit_group` of `asm/unistd_64.h`.
const EXECUTE: usize = 59;
const EXIT_GROUP: usize = 231;
const SET_ACTION: usize = 13;

// The kernel enters with the stack pointer at the number of arguments (System V ABI, AMD64 supplement, section 3.4.1). The ABI
// wants the outermost frame marked with a zero, and the stack at a multiple of 16 before a call.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {enter}",
    "ud2",
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
            "syscall",
            inlateout("rax") EXECUTE => answer,
            in("rdi") program,
            in("rsi") words,
            in("rdx") environment,
            lateout("rcx") _,
            lateout("r11") _,
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
            "syscall",
            inlateout("rax") SET_ACTION => _,
            in("rdi") signal,
            in("rsi") IGNORE.as_ptr(),
            in("rdx") 0,
            in("r10") SIGNALS_BYTES,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
}

pub fn exit(code: u8) -> ! {
    // SAFETY: the call takes a number and does not come back.
    unsafe {
        asm!(
            "syscall",
            in("rax") EXIT_GROUP,
            in("rdi") usize::from(code),
            options(noreturn, nostack)
        )
    }
}

// The direction flag is clear by the ABI, and is left so.

/// # Safety
/// `bytes` readable bytes at `from` and as many that can be written at `to`, which does not lie behind the first of them.
pub unsafe fn copy_up(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: as the caller's.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") bytes => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// As [`copy_up`], but `to` may lie anywhere behind `from`; `bytes` is not zero.
pub unsafe fn copy_down(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: as the caller's.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "cld",
            inout("rcx") bytes => _,
            inout("rdi") to.add(bytes - 1) => _,
            inout("rsi") from.add(bytes - 1) => _,
            options(nostack)
        );
    }
}

/// # Safety
/// `bytes` bytes that can be written at `to`.
pub unsafe fn fill(to: *mut u8, byte: u8, bytes: usize) {
    // SAFETY: as the caller's.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") bytes => _,
            inout("rdi") to => _,
            in("al") byte,
            options(nostack, preserves_flags)
        );
    }
}
