//! What a recovery says, the watchdog that it keeps quiet as long as it gets on, and the disks that it has an eye on meanwhile.
//!
//! # Invariants
//! - The watchdog is fed at most once a second, and only from where something has happened or a wait with an end goes on: a program
//!   or a driver that hangs is reset.
//! - Only disks that came or went since media were looked at last end a wait early, and not in each round: one that comes and goes
//!   leaves the network its turn.

use crate::clock::{Moment, sleep};
use crate::console;
use crate::net;
use core::cell::Cell;
use core::fmt;
use core::time::Duration;
use twinseal_platform_linux::partition::BlockDevices;
use twinseal_platform_linux::watchdog::{Fed, WATCHDOG_DEVICE};

/// Time between two feeds, and longest part of a pause.
const BETWEEN: Duration = Duration::from_secs(1);

/// Of so many rounds in a row that other disks would end, one is not ended by them.
const ROUNDS_CALLED: u32 = 4;

/// Who speaks for the recovery.
pub struct Attendance {
    /// `None` without a watchdog.
    watchdog: Option<Fed>,
    fed: Cell<Moment>,
    /// Which disks there were when media were looked at last, if ever, and when they were counted since.
    disks: Cell<Option<u64>>,
    counted: Cell<Moment>,
    /// Rounds in a row that other disks ended or would have, and whether this one is one of them.
    called: Cell<u32>,
    is_called: Cell<bool>,
}

impl Attendance {
    /// Takes over the watchdog, when it was armed.
    pub fn new(is_armed: bool) -> Self {
        Self {
            watchdog: is_armed.then(|| Fed::open(WATCHDOG_DEVICE).ok()).flatten(),
            fed: Cell::new(Moment::now()),
            disks: Cell::new(None),
            counted: Cell::new(Moment::now()),
            called: Cell::new(0),
            is_called: Cell::new(false),
        }
    }

    /// Writes a line on the console.
    pub fn say(&self, line: fmt::Arguments<'_>) {
        console::say(format_args!("recovery: {line}"));
    }

    /// Feeds the watchdog, when that is due.
    pub fn feed(&self) {
        if self.fed.get().elapsed() < BETWEEN {
            return;
        }
        self.fed.set(Moment::now());
        if let Some(watchdog) = &self.watchdog {
            // One that takes nothing resets the machine, which says more than a line.
            let _ = watchdog.feed();
        }
    }

    /// Media are looked at now: these disks are known.
    pub fn looks_at_media(&self) {
        self.disks.set(disks());
        let called = match self.is_called.take() {
            true => self.called.get().wrapping_add(1),
            false => 0,
        };
        self.called.set(called);
    }

    /// Whether other disks are there than when media were looked at: somebody plugged in a stick, or the kernel took a while to find it.
    pub fn has_other_disks(&self) -> bool {
        let Some(known) = self.disks.get() else {
            return false;
        };
        if self.counted.get().elapsed() < BETWEEN {
            return false;
        }
        self.counted.set(Moment::now());
        let has_others = disks().is_some_and(|disks| disks != known);
        if has_others {
            self.is_called.set(true);
        }
        has_others && self.called.get() % ROUNDS_CALLED != ROUNDS_CALLED - 1
    }

    /// Waits, and no longer than until other disks are there.
    pub fn wait(&self, time: Duration) {
        let start = Moment::now();
        while start.elapsed() < time && !self.has_other_disks() {
            sleep((time - start.elapsed().min(time)).min(BETWEEN));
            self.feed();
        }
    }
}

impl net::Attendant for Attendance {
    fn say(&self, line: fmt::Arguments<'_>) {
        Self::say(self, line);
    }

    fn alive(&self) {
        self.feed();
    }

    fn is_called_away(&self) -> bool {
        self.has_other_disks()
    }
}

/// A number for the disks that there are; `None` when the kernel does not show them.
fn disks() -> Option<u64> {
    BlockDevices::SYSTEM.fingerprint().ok()
}
