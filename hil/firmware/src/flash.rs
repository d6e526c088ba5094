//! A flash that is stricter than a real one, on memory that outlives the machine: a mock, and the only one of this firmware.
//!
//! QEMU's Cortex-M machines have no flash that can be written. So [`crate::machine::MEDIUM`] holds the content, and this file what
//! a flash adds to it (`docs/decisions/0043-a-mock-flash-stricter-than-flash.md`):
//! - a page is programmed whole, and once after its sector was erased, whatever it holds; breaking that is a [`Violation`], which
//!   is counted and fails the test, where a real part would store something else and say nothing;
//! - an operation that the power was cut in leaves its pages *torn*: each read of them gives other bytes, so nothing that happens to
//!   read well once is ever right;
//! - every operation has a number, and the host may have the power cut before it or in it.
//!
//! # Power loss
//! A page is marked torn before its bytes change and programmed after, so that a machine that is killed at any instruction leaves
//! what a power cut leaves.

use crate::sys;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};

/// What is erased at once.
pub const SECTOR_BYTES: usize = 4096;

/// What is programmed at once.
pub const PAGE_BYTES: usize = 512;

/// Size of the flash.
pub const FLASH_BYTES: usize = 1024 * 1024;

/// Pages of a sector.
pub const SECTOR_PAGES: usize = SECTOR_BYTES / PAGE_BYTES;

/// Where the content begins on the medium.
pub const CONTENT_AT: usize = 0x1_0000;

/// Where the medium has a byte for the state of each page.
const STATES_AT: usize = 0x1000;

/// The host's view of the flash, at the start of the medium: words, little-endian. `hil/src/boards/mcu/medium.rs` is the other side.
mod control {
    pub const MAGIC: usize = 0;
    pub const OPERATIONS: usize = 4;
    pub const CUT_AT: usize = 8;
    pub const CUT_HOW: usize = 12;
    pub const NOISE: usize = 16;
    pub const VIOLATIONS: usize = 20;
    pub const KEY: usize = 64;
}

const MAGIC: u32 = u32::from_le_bytes(*b"TSFL");

/// The code with which the machine goes off when the flash cuts the power.
pub const POWER_CUT: u8 = 9;

/// State of a page. The host makes a new medium of zeros: erased.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    Erased = 0,
    Programmed = 1,
    Torn = 2,
}

/// Where the power is to be cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Nowhere,
    Within,
}

/// A rule of the flash was broken: our own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Violation {
    /// A place beyond the end.
    Outside,
    /// A page that was programmed, or torn, since its sector was erased.
    NotErased,
}

impl Violation {
    /// As an error of core's storage.
    pub fn during(self, operation: StorageOperation, object: StorageObject) -> StorageError {
        let fault = StorageFault::Code(self as i32 + 1);
        StorageError {
            operation,
            object,
            fault,
        }
    }
}

/// The flash.
pub struct Flash(());

impl Flash {
    /// The flash of the board; `None` when the medium was not made for one.
    pub fn find() -> Option<Self> {
        (word(control::MAGIC) == MAGIC).then_some(Self(()))
    }

    /// The public key that the factory burnt in: of a real part, one-time programmable.
    pub fn key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        sys::copy_from_medium(control::KEY, &mut key);
        key
    }

    /// Operations since the medium was made.
    pub fn operations(&self) -> u32 {
        word(control::OPERATIONS)
    }

    /// Reads. Torn pages give other bytes each time.
    ///
    /// # Errors
    /// When it goes beyond the end.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), Violation> {
        if offset
            .checked_add(into.len())
            .is_none_or(|end| end > FLASH_BYTES)
        {
            return Err(violated(Violation::Outside));
        }
        let mut at = offset;
        let mut rest = into;
        while !rest.is_empty() {
            let left = PAGE_BYTES - at % PAGE_BYTES;
            let (now, later) = rest.split_at_mut(left.min(rest.len()));
            match state(at / PAGE_BYTES) {
                Page::Erased => now.fill(0xff),
                Page::Programmed => sys::copy_from_medium(CONTENT_AT + at, now),
                Page::Torn => {
                    sys::copy_from_medium(CONTENT_AT + at, now);
                    now.iter_mut().for_each(|byte| *byte ^= unstable());
                }
            }
            at += now.len();
            rest = later;
        }
        Ok(())
    }

    /// Erases a sector.
    ///
    /// # Errors
    /// When there is no such sector.
    pub fn erase(&mut self, sector: usize) -> Result<(), Violation> {
        if sector >= FLASH_BYTES / SECTOR_BYTES {
            return Err(violated(Violation::Outside));
        }
        let cut = begin_operation();
        let pages = sector * SECTOR_PAGES..(sector + 1) * SECTOR_PAGES;
        pages.clone().for_each(|page| set_state(page, Page::Torn));
        end_if(cut);
        pages.for_each(|page| set_state(page, Page::Erased));
        Ok(())
    }

    /// Programs a page.
    ///
    /// # Errors
    /// When there is no such page, or it is not erased.
    pub fn program(&mut self, page: usize, bytes: &[u8; PAGE_BYTES]) -> Result<(), Violation> {
        if page >= FLASH_BYTES / PAGE_BYTES {
            return Err(violated(Violation::Outside));
        }
        if state(page) != Page::Erased {
            return Err(violated(Violation::NotErased));
        }
        let cut = begin_operation();
        set_state(page, Page::Torn);
        let torn_at = match cut {
            Cut::Nowhere => PAGE_BYTES,
            Cut::Within => noise() as usize % PAGE_BYTES,
        };
        for (number, byte) in bytes.iter().take(torn_at).enumerate() {
            sys::write_medium(CONTENT_AT + page * PAGE_BYTES + number, *byte);
        }
        end_if(cut);
        set_state(page, Page::Programmed);
        Ok(())
    }
}

/// Counts an operation, and cuts the power before it where the host wants that.
fn begin_operation() -> Cut {
    let number = word(control::OPERATIONS) + 1;
    let wanted = word(control::CUT_AT) == number;
    if wanted && word(control::CUT_HOW) == 0 {
        cut_power();
    }
    set_word(control::OPERATIONS, number);
    if wanted { Cut::Within } else { Cut::Nowhere }
}

fn end_if(cut: Cut) {
    if cut == Cut::Within {
        cut_power();
    }
}

fn cut_power() -> ! {
    set_word(control::CUT_AT, 0);
    sys::power_off(POWER_CUT)
}

fn violated(violation: Violation) -> Violation {
    set_word(control::VIOLATIONS, word(control::VIOLATIONS) + 1);
    violation
}

fn state(page: usize) -> Page {
    match sys::read_medium(STATES_AT + page) {
        0 => Page::Erased,
        1 => Page::Programmed,
        _ => Page::Torn,
    }
}

fn set_state(page: usize, state: Page) {
    sys::write_medium(STATES_AT + page, state as u8);
}

fn word(at: usize) -> u32 {
    let mut bytes = [0; 4];
    sys::copy_from_medium(at, &mut bytes);
    u32::from_le_bytes(bytes)
}

fn set_word(at: usize, word: u32) {
    for (number, byte) in word.to_le_bytes().into_iter().enumerate() {
        sys::write_medium(at + number, byte);
    }
}

/// Marsaglia's xorshift with 32 bits; its state is on the medium, so that no start begins anew.
fn noise() -> u32 {
    let mut noise = word(control::NOISE).max(1);
    noise ^= noise << 13;
    noise ^= noise >> 17;
    noise ^= noise << 5;
    set_word(control::NOISE, noise);
    noise
}

/// What a byte of a torn page reads wrong: one bit, in one of four.
fn unstable() -> u8 {
    let noise = noise();
    if noise & 0x300 == 0 {
        1 << (noise & 7)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{PowerOff, set_medium};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn new() -> Flash {
        set_medium(vec![0; crate::machine::MEDIUM_BYTES]);
        assert!(
            Flash::find().is_none(),
            "a medium that was not made for it is none"
        );
        set_word(control::MAGIC, MAGIC);
        Flash::find().unwrap()
    }

    fn page(flash: &Flash, page: usize) -> [u8; PAGE_BYTES] {
        let mut bytes = [0; PAGE_BYTES];
        flash.read(page * PAGE_BYTES, &mut bytes).unwrap();
        bytes
    }

    /// Has the power cut in or before the next operation.
    fn cut(flash: &mut Flash, within: u32, work: impl FnOnce(&mut Flash)) {
        set_word(control::CUT_AT, flash.operations() + 1);
        set_word(control::CUT_HOW, within);
        let off = catch_unwind(AssertUnwindSafe(|| work(flash))).unwrap_err();
        assert_eq!(*off.downcast::<PowerOff>().unwrap(), PowerOff(POWER_CUT));
    }

    #[test]
    fn a_page_is_programmed_once_after_its_sector_was_erased() {
        let mut flash = new();
        assert_eq!(page(&flash, 9), [0xff; PAGE_BYTES]);
        flash.program(9, &[5; PAGE_BYTES]).unwrap();
        assert_eq!(
            flash.program(9, &[5; PAGE_BYTES]),
            Err(Violation::NotErased)
        );
        assert_eq!(page(&flash, 9), [5; PAGE_BYTES]);
        flash.erase(1).unwrap();
        assert_eq!(page(&flash, 9), [0xff; PAGE_BYTES]);
        flash.program(9, &[6; PAGE_BYTES]).unwrap();
        assert_eq!((flash.operations(), word(control::VIOLATIONS)), (3, 1));
    }

    #[test]
    fn what_lies_beyond_the_end_is_refused_and_counted() {
        let mut flash = new();
        let outside = Err(Violation::Outside);
        assert_eq!(flash.read(FLASH_BYTES - 1, &mut [0; 2]), outside);
        assert_eq!(flash.read(usize::MAX, &mut [0; 2]), outside);
        assert_eq!(flash.erase(FLASH_BYTES / SECTOR_BYTES), outside);
        assert_eq!(
            flash.program(FLASH_BYTES / PAGE_BYTES, &[0; PAGE_BYTES]),
            outside
        );
        assert_eq!((flash.operations(), word(control::VIOLATIONS)), (0, 4));
    }

    #[test]
    fn a_cut_before_an_operation_leaves_everything_as_it_was() {
        let mut flash = new();
        flash.program(8, &[1; PAGE_BYTES]).unwrap();
        cut(&mut flash, 0, |flash| flash.erase(1).unwrap());
        assert_eq!(page(&flash, 8), [1; PAGE_BYTES]);
        assert_eq!(flash.operations(), 1);
    }

    #[test]
    fn a_torn_page_reads_otherwise_each_time_until_its_sector_is_erased() {
        let mut flash = new();
        flash.program(8, &[1; PAGE_BYTES]).unwrap();
        cut(&mut flash, 1, |flash| flash.erase(1).unwrap());
        for torn in 8..16 {
            assert_ne!(page(&flash, torn), page(&flash, torn), "page {torn}");
        }
        assert_eq!(
            flash.program(8, &[2; PAGE_BYTES]),
            Err(Violation::NotErased)
        );
        flash.erase(1).unwrap();
        cut(&mut flash, 1, |flash| {
            flash.program(8, &[2; PAGE_BYTES]).unwrap()
        });
        assert_ne!(page(&flash, 8), page(&flash, 8));
        assert_eq!(
            page(&flash, 9),
            [0xff; PAGE_BYTES],
            "its neighbour is whole"
        );
        flash.erase(1).unwrap();
        flash.program(8, &[3; PAGE_BYTES]).unwrap();
        assert_eq!(page(&flash, 8), [3; PAGE_BYTES]);
    }
}
