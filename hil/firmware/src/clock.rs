//! Milliseconds since the program began, from a timer that counts down.

use crate::machine::{CLOCK_HZ, TIMER};
use crate::sys::{read_register, write_register};

/// Registers of the CMSDK APB timer (Arm's Cortex-M System Design Kit manual, section 4.3).
mod register {
    pub const CONTROL: usize = 0x0;
    pub const VALUE: usize = 0x4;
    pub const RELOAD: usize = 0x8;
}

const ENABLE: u32 = 1;

/// The clock. It must be asked at least once in 171 seconds: then the timer has come round.
pub struct Clock {
    last: u32,
    ticks: u64,
}

impl Clock {
    /// Starts the timer.
    pub fn start() -> Self {
        write_register(TIMER, register::CONTROL, 0);
        write_register(TIMER, register::RELOAD, u32::MAX);
        write_register(TIMER, register::VALUE, u32::MAX);
        write_register(TIMER, register::CONTROL, ENABLE);
        Self {
            last: u32::MAX,
            ticks: 0,
        }
    }

    /// Milliseconds since the start.
    pub fn now_ms(&mut self) -> u64 {
        let value = read_register(TIMER, register::VALUE);
        self.ticks += u64::from(self.last.wrapping_sub(value));
        self.last = value;
        self.ticks / u64::from(CLOCK_HZ / 1000)
    }
}
