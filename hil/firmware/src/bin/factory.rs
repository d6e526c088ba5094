//! The factory: installs what the server has into set a of a new flash, and writes the first boot record.
//!
//! Started by the machine itself instead of the boot stage, as a debug probe would start it on a bench.
#![no_std]
#![no_main]

use core::panic::PanicInfo;
use cortex_m_rt::entry;
use twinseal_core::boot::Set;
use twinseal_core::boot::record::{self, BootRecord};
use twinseal_mcu::flash::Flash;
use twinseal_mcu::network::{self, Network};
use twinseal_mcu::record::Copies;
use twinseal_mcu::update::{self, Order};
use twinseal_mcu::{log, stack, sys};

const DONE: u8 = 0;
const FAILED: u8 = 4;

#[entry]
fn main() -> ! {
    static mut UPDATE: update::Memory = update::Memory::new();
    static mut NETWORK: network::Memory = network::Memory::new();
    stack::paint();
    log::start();
    match provision(UPDATE, NETWORK) {
        Ok(()) => sys::power_off(DONE),
        Err(why) => {
            defmt::error!("factory: {=str}", why);
            sys::power_off(FAILED)
        }
    }
}

fn provision(
    memory: &mut update::Memory,
    network: &'static mut network::Memory,
) -> Result<(), &'static str> {
    let mut flash = Flash::find().ok_or("there is no flash")?;
    let inflate = update::inflate().ok_or("started twice")?;
    let mut network =
        Network::start(network, flash.operations()).map_err(|_| "there is no network")?;
    network.configure().map_err(|_| "there is no address")?;
    let order = Order {
        target: Set::A,
        running: None,
        floor: 0,
        unwanted: [Some([0; 32]); 2],
    };
    let installed =
        update::install(&mut flash, &mut network, memory, inflate, &order).map_err(|error| {
            match error {
                twinseal_core::source::RunError::Core(error) => defmt::error!("factory: {}", error),
                twinseal_core::source::RunError::Source(error) => {
                    defmt::error!("factory: {}", error)
                }
                twinseal_core::source::RunError::Declined => {}
            }
            "the release could not be installed"
        })?;
    let release = installed.manifest();
    let first = BootRecord::provisioned(
        Set::A,
        release.value().anti_rollback,
        *release.manifest_sha256(),
    );
    record::store(&mut Copies(&mut flash), &first)
        .map_err(|_| "the boot record could not be written")?;
    defmt::info!(
        "factory: release {=str} in set a, {=u32} flash operations, {=usize} bytes of stack at most",
        release.value().version.as_str(),
        flash.operations(),
        stack::peak_bytes()
    );
    Ok(())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    log::panicked(info);
    sys::power_off(FAILED)
}
