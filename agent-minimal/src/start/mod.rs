//! What a program without a C library must bring: the entry point, the memory functions that compilers call, three ways out,
//! and the memory of an install.
//!
//! # Invariants
//! - Nothing here looks at what came from outside, but for the words that the kernel put on the stack.
//! - A panic ends in [`twinseal_minimal::process::panicked`]: one line, then a restart or an exit code, never a hang.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use rustix::io::Errno;
use twinseal_minimal::memory::Memory;
use twinseal_minimal::process::{Process, panicked, run};

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod machine;
#[cfg(target_arch = "arm")]
#[path = "arm.rs"]
mod machine;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod machine;
#[cfg(not(any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64")))]
compile_error!("twinseal-minimal has no entry point for this architecture yet");

/// Words that are handed on to another program. The kernel gives its first process at most 34 (`MAX_INIT_ARGS` of Linux's
/// init/main.c, and the name).
const ARGUMENTS_MAX: usize = 64;

/// `SIGPIPE`.
const BROKEN_PIPE: usize = 13;

extern "C" fn enter(stack: *const usize) -> ! {
    // SAFETY: called only by `_start`, with what the kernel left on the stack, which stays there until the process ends.
    let started = unsafe { Started::new(stack) };
    machine::exit(run(&started))
}

#[panic_handler]
fn on_panic(fault: &PanicInfo<'_>) -> ! {
    machine::exit(panicked(fault))
}

/// The words and the environment of this process, as the kernel left them.
struct Started {
    arguments: &'static [*const c_char],
    environment: *const *const c_char,
}

impl Started {
    /// # Safety
    /// `stack` must be what the kernel left at the start: a number, that many pointers to C strings and a null pointer, then the
    /// environment in the same form.
    unsafe fn new(stack: *const usize) -> Self {
        // SAFETY: the number and the pointers behind it are there, says the caller, and nobody writes them.
        unsafe {
            let arguments = core::slice::from_raw_parts(stack.add(1).cast(), *stack);
            let environment = stack.add(1 + arguments.len() + 1).cast();
            #[cfg(target_arch = "aarch64")]
            machine::keep(environment);
            Self {
                arguments,
                environment,
            }
        }
    }
}

/// The memory of an install. The kernel gives its pages when they are touched, so it costs nothing where nothing is installed.
struct Lent(UnsafeCell<Memory>);

// SAFETY: the one place that looks inside is `Started::memory`, which gives it away once.
unsafe impl Sync for Lent {}

static MEMORY: Lent = Lent(UnsafeCell::new(Memory::new()));
static IS_LENT: AtomicBool = AtomicBool::new(false);

impl Process for Started {
    fn memory(&self) -> &'static mut Memory {
        assert!(
            !IS_LENT.swap(true, Ordering::Relaxed),
            "the memory of an install is lent once"
        );
        // SAFETY: nobody has or will have another reference, as was looked at just now.
        unsafe { &mut *MEMORY.0.get() }
    }

    fn argument(&self, index: usize) -> Option<&CStr> {
        let word = *self.arguments.get(index)?;
        // SAFETY: each pointer is to a C string that stays until the process ends (`Started::new`).
        Some(unsafe { CStr::from_ptr(word) })
    }

    fn ignore_broken_pipes(&self) {
        machine::ignore_signal(BROKEN_PIPE);
    }

    fn execute(&self, program: &CStr) -> Errno {
        let mut words = [core::ptr::null(); ARGUMENTS_MAX + 1];
        if self.arguments.len() > ARGUMENTS_MAX {
            return Errno::TOOBIG;
        }
        for (word, argument) in words.iter_mut().zip(self.arguments) {
            *word = *argument;
        }
        words[0] = program.as_ptr();
        // SAFETY: `program` and the two lists are C strings and lists that end with a null pointer.
        let answer =
            unsafe { machine::execute(program.as_ptr(), words.as_ptr(), self.environment) };
        Errno::from_raw_os_error(i32::try_from(-answer).unwrap_or(i32::MAX))
    }
}

// The memory functions, by their C contracts. The loops are written in instructions, because a compiler makes a call to the very
// function of a loop that does the same.

/// # Safety
/// As C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller gives `bytes` readable bytes at `from` and as many that can be written at `to`.
    unsafe { machine::copy_up(to, from, bytes) };
    to
}

/// # Safety
/// As C's `memmove`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // Upwards nothing is written before it was read, unless `to` lies within the source.
    if to.addr().wrapping_sub(from.addr()) >= bytes {
        // SAFETY: as the caller's.
        return unsafe { memcpy(to, from, bytes) };
    }
    // SAFETY: as the caller's; there is a last byte, because `bytes` is more than the distance.
    unsafe { machine::copy_down(to, from, bytes) };
    to
}

/// # Safety
/// As C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, bytes: usize) -> *mut u8 {
    // SAFETY: the caller gives `bytes` bytes that can be written at `to`.
    unsafe { machine::fill(to, byte as u8, bytes) };
    to
}

/// # Safety
/// As C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, bytes: usize) -> i32 {
    for at in 0..bytes {
        // SAFETY: the caller gives `bytes` readable bytes at both.
        let (one, other) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}

/// # Safety
/// As C's `bcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, bytes: usize) -> i32 {
    // SAFETY: as the caller's.
    unsafe { memcmp(one, other, bytes) }
}

/// # Safety
/// As C's `strlen`.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller gives a C string: every byte up to its NUL can be read. Volatile, or the loop would become a call to
    // this function.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
