//! Asks and tells the firmware's boot manager, on a machine that has one:
//! `uefi_loader BOOT_A BOOT_B [default a|b] [next a|b|none]`, with the device nodes of the two boot slots.
//!
//! Prints what was written and what the boot manager has then.

use std::process::ExitCode;
use twinseal_core::boot::Set;
use twinseal_core::error::StorageError;
use twinseal_platform_linux::loader::uefi::VARIABLES_FOLDER;
use twinseal_platform_linux::loader::{BootLoader, BootPartition, UefiLoader};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [a, b, orders @ ..] = words.as_slice() else {
        eprintln!("usage: uefi_loader BOOT_A BOOT_B [default a|b] [next a|b|none]");
        return ExitCode::from(2);
    };
    match run(a, b, orders) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(a: &str, b: &str, orders: &[String]) -> Result<(), StorageError> {
    let boot = [BootPartition::of_device(a)?, BootPartition::of_device(b)?];
    let mut loader = UefiLoader::open(VARIABLES_FOLDER, boot)?;
    for order in orders.chunks(2) {
        let [what, word] = order else { continue };
        let set = match word.as_str() {
            "a" => Some(Set::A),
            "b" => Some(Set::B),
            _ => None,
        };
        let wrote = match (what.as_str(), set) {
            ("default", Some(set)) => loader.set_default(set)?,
            ("next", set) => loader.set_next(set)?,
            _ => continue,
        };
        println!(
            "{what} {word}: {}",
            if wrote { "written" } else { "was so" }
        );
    }
    println!(
        "default {:?}, next {:?}",
        loader.default_set()?,
        loader.next_set()?
    );
    Ok(())
}
