//! The boot stage: chooses a set, spends an attempt of a trial, proves the image once more where it will run, and jumps.
//!
//! # Invariants
//! - What is jumped to was hashed where it lies, after it had been copied there.
//! - An attempt is spent, durably, before the jump; the watchdog is armed before it too.
//!
//! # Power loss
//! Only the boot record is written, and only during a trial or at its end: the old record or the new one is there.
#![no_std]
#![no_main]

use core::panic::PanicInfo;
use cortex_m_rt::entry;
use twinseal_core::boot::Set;
use twinseal_core::boot::record;
use twinseal_core::boot::select::select;
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::wire::FRONT_MAX_BYTES;
use twinseal_mcu::flash::Flash;
use twinseal_mcu::handoff::{self, Handoff};
use twinseal_mcu::held::{self, Held};
use twinseal_mcu::record::Copies;
use twinseal_mcu::{slots, sys, watchdog};

/// The machine goes off with it when there is nothing to boot.
const NOTHING_TO_BOOT: u8 = 3;

#[entry]
fn main() -> ! {
    static mut FRONT: held::FrontBuffer = [0; FRONT_MAX_BYTES];
    watchdog::arm();
    match start(FRONT) {
        Ok(()) => sys::jump_to_application(),
        Err(why) => {
            sys::say(why);
            sys::power_off(NOTHING_TO_BOOT)
        }
    }
}

/// Chooses, stores what must be stored, and puts the application to its place.
fn start(buffer: &mut held::FrontBuffer) -> Result<(), &'static str> {
    let mut flash =
        Flash::find().ok_or("boot stage: there is no flash; make its medium first\n")?;
    let held = held::look_at_both(&flash, buffer);
    let loaded = record::load(&mut Copies(&mut flash))
        .map_err(|_| "boot stage: neither copy of the boot record can be read\n")?;
    // Without a journal the floor of a lost record is what the sets say.
    let selection = select(&loaded, held::facts(&held), 0);
    let set = selection
        .boot()
        .ok_or("boot stage: neither set may be booted; the factory must install a release\n")?;
    if let Some(next) = selection.record() {
        record::store(&mut Copies(&mut flash), next)
            .map_err(|_| "boot stage: the boot record cannot be written\n")?;
    }
    let chosen = set
        .of(held)
        .ok_or("boot stage: the chosen set is not complete\n")?;
    load(&flash, set, &chosen)?;
    handoff::give(Handoff {
        set,
        reason: selection.reason(),
    });
    Ok(())
}

/// Copies the image to where it runs, and hashes it there.
fn load(flash: &Flash, set: Set, held: &Held) -> Result<(), &'static str> {
    const CHANGED: &str = "boot stage: the image changed between two reads\n";
    let memory = sys::application_memory();
    let size = usize::try_from(held.image.size).map_err(|_| CHANGED)?;
    let image = memory.get_mut(..size).ok_or(CHANGED)?;
    flash
        .read(slots::slot_at(set), image)
        .map_err(|_| CHANGED)?;
    let mut digest = VerityDigest::new();
    digest.update(image);
    if digest.finish() == held.image.digest {
        Ok(())
    } else {
        Err(CHANGED)
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    sys::say("boot stage: it panicked, and starts again\n");
    cortex_m::peripheral::SCB::sys_reset()
}
