//! Where things are on the board: QEMU's `mps2-an386`, a Cortex-M4 (Arm's application note 386; QEMU's `hw/arm/mps2.c`).

/// Clock of the processor and of all timers here, in Hz.
pub const CLOCK_HZ: u32 = 25_000_000;

/// A timer that counts down (CMSDK APB timer 0).
pub const TIMER: usize = 0x4000_0000;

/// The first serial line (CMSDK APB UART 0).
pub const UART: usize = 0x4000_4000;

/// The watchdog (CMSDK APB watchdog).
pub const WATCHDOG: usize = 0x4000_8000;

/// The network controller (LAN9118).
pub const ETHERNET: usize = 0x4020_0000;

/// Its interrupt.
pub const ETHERNET_INTERRUPT: u32 = 13;

/// Where an application runs: the boot stage copies it there. As in `layout/app/memory.x`.
pub const APPLICATION: usize = 0x0010_0000;

/// Most bytes of an application.
pub const APPLICATION_MAX_BYTES: usize = 384 * 1024;

/// The memory that outlives a reset and, as a file of the host, QEMU itself. [`crate::flash`] says what is in it.
pub const MEDIUM: usize = 0x2100_0000;

/// Bytes of it that are used.
pub const MEDIUM_BYTES: usize = crate::flash::CONTENT_AT + crate::flash::FLASH_BYTES;
