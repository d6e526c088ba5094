//! The application: says what was booted, decides a trial, asks the server for an update, installs it, and restarts to try it.
//!
//! With nothing left to do it switches the machine off, as a device that sleeps until it asks again.
//!
//! # Power loss
//! [`twinseal_mcu::slots`] and core's boot record say what a cut leaves; the next start goes on from there.
#![no_std]
#![no_main]

use core::panic::PanicInfo;
use cortex_m_rt::entry;
use twinseal_core::boot::record::{self, BootRecord, Loaded};
use twinseal_core::boot::select::ATTEMPTS_DEFAULT;
use twinseal_core::boot::{Set, trial};
use twinseal_core::error::{Error, StorageError};
use twinseal_core::source::RunError;
use twinseal_mcu::flash::Flash;
use twinseal_mcu::handoff::{self, Handoff};
use twinseal_mcu::held::{self, Held};
use twinseal_mcu::http::FetchError;
use twinseal_mcu::network::{self, Network};
use twinseal_mcu::record::Copies;
use twinseal_mcu::release::{self, Behaviour};
use twinseal_mcu::update::{self, Order};
use twinseal_mcu::{log, stack, sys};

/// The machine goes off with these.
const DONE: u8 = 0;
const BROKEN: u8 = 4;

/// What comes next.
enum Next {
    Restart,
    Off,
}

/// Why the device cannot go on.
#[derive(Clone, Copy, defmt::Format)]
enum Broken {
    NotBooted,
    NoFlash,
    NoRecord,
    StartedTwice,
    Storage(StorageError),
    Refused(Error),
}

impl From<StorageError> for Broken {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

#[entry]
fn main() -> ! {
    static mut UPDATE: update::Memory = update::Memory::new();
    static mut NETWORK: network::Memory = network::Memory::new();
    stack::paint();
    log::start();
    match life(UPDATE, NETWORK) {
        Ok(Next::Restart) => cortex_m::peripheral::SCB::sys_reset(),
        Ok(Next::Off) => sys::power_off(DONE),
        Err(broken) => {
            defmt::error!("broken: {}", broken);
            sys::power_off(BROKEN)
        }
    }
}

fn life(
    memory: &'static mut update::Memory,
    network: &'static mut network::Memory,
) -> Result<Next, Broken> {
    let booted = handoff::take().ok_or(Broken::NotBooted)?;
    let own = release::own();
    defmt::info!(
        "boot: set {=str}, {}, release {=str}",
        name(booted.set),
        booted.reason,
        own.name()
    );
    match own.behaviour() {
        Behaviour::Hangs => hang(),
        Behaviour::Panics => panic!("this release panics"),
        Behaviour::Works | Behaviour::IsSick => {}
    }
    let flash = Flash::find().ok_or(Broken::NoFlash)?;
    let mut device = Device::look(flash, booted, &mut memory.held)?;
    let mut network = Network::start(network, device.flash.operations());
    let address = network
        .as_mut()
        .map_err(|error| *error)
        .and_then(Network::configure);
    match address {
        Ok(address) => defmt::info!("network: {}", address.octets()),
        Err(error) => defmt::warn!("network: {}", error),
    }
    if !device.decide_trial(own.behaviour() != Behaviour::IsSick && address.is_ok())? {
        return Ok(Next::Restart);
    }
    let next = match (&mut network, address) {
        (Ok(network), Ok(_)) => device.update(network, memory)?,
        _ => Next::Off,
    };
    device.tell();
    Ok(next)
}

/// Never goes on, and feeds no watchdog.
fn hang() -> ! {
    defmt::warn!("this release hangs");
    loop {
        cortex_m::asm::nop();
    }
}

/// The device, as this start finds it.
struct Device {
    flash: Flash,
    running: Set,
    record: BootRecord,
    held: [Option<Held>; 2],
}

impl Device {
    fn look(
        mut flash: Flash,
        booted: Handoff,
        buffer: &mut held::FrontBuffer,
    ) -> Result<Self, Broken> {
        let Loaded::Record(record) = record::load(&mut Copies(&mut flash))? else {
            return Err(Broken::NoRecord);
        };
        let held = held::look_at_both(&flash, buffer);
        Ok(Self {
            flash,
            running: booted.set,
            record,
            held,
        })
    }

    fn store(&mut self, next: &BootRecord) -> Result<(), StorageError> {
        self.record = record::store(&mut Copies(&mut self.flash), next)?;
        Ok(())
    }

    /// Commits or ends a trial that runs; gives whether this set goes on.
    fn decide_trial(&mut self, is_healthy: bool) -> Result<bool, Broken> {
        if trial::running_trial(&self.record, self.running).is_err() {
            return Ok(true);
        }
        let facts = held::facts(&self.held);
        if !is_healthy {
            defmt::warn!(
                "trial: the health check failed, set {=str} is left",
                name(self.running)
            );
            let next = trial::mark_bad(&self.record, self.running, facts)?;
            self.store(&next)?;
            return Ok(false);
        }
        if let Some(next) = trial::commit(&self.record, self.running, facts) {
            self.store(&next)?;
        }
        defmt::info!("trial: committed set {=str}", name(self.running));
        Ok(true)
    }

    /// Installs what the server has, if it is anything new.
    fn update(
        &mut self,
        network: &mut Network,
        memory: &mut update::Memory,
    ) -> Result<Next, Broken> {
        let target = self.running.other();
        if let Some(next) = trial::clear_for_install(&self.record, self.running)? {
            self.store(&next)?;
        }
        let manifest = |set: Set| set.of(self.held).map(|held| held.manifest);
        let failed = manifest(target).filter(|_| self.record.is_bad(target));
        let order = Order {
            target,
            running: self.running.of(self.held).map(|held| held.image),
            floor: self.record.floor(),
            unwanted: [manifest(self.running), failed],
        };
        let inflate = update::inflate().ok_or(Broken::StartedTwice)?;
        match update::install(&mut self.flash, network, memory, inflate, &order) {
            Ok(installed) => {
                let tally = installed.tally();
                defmt::info!(
                    "update: installed release {=str} into set {=str}: {=u64} bytes fetched, {=u64} written, {=u64} found there",
                    installed.manifest().value().version.as_str(),
                    name(target),
                    tally.source_bytes(),
                    tally.written_bytes,
                    tally.present_bytes
                );
                let next = trial::arm(&self.record, &installed, target, ATTEMPTS_DEFAULT);
                self.store(&next)?;
                Ok(Next::Restart)
            }
            Err(RunError::Declined) => {
                defmt::info!("update: nothing new");
                Ok(Next::Off)
            }
            Err(RunError::Source(FetchError::Status(404))) => {
                defmt::info!("update: the server has none");
                Ok(Next::Off)
            }
            Err(RunError::Source(error)) => {
                defmt::warn!("update: the source failed: {}", error);
                Ok(Next::Off)
            }
            Err(RunError::Core(error)) => {
                defmt::warn!("update: refused: {}", error);
                Ok(Next::Off)
            }
        }
    }

    /// Says how everything stands.
    fn tell(&self) {
        defmt::info!(
            "state: running {=str}, default {=str}, trial {=str}, floor {=u64}, bad {=str}",
            name(self.running),
            name(self.record.default_set()),
            self.record.trial().map_or("none", |trial| name(trial.set)),
            self.record.floor(),
            bad(&self.record)
        );
        defmt::info!(
            "memory: {=usize} bytes of static RAM, {=usize} bytes of stack at most; {=u32} flash operations so far",
            stack::static_bytes(),
            stack::peak_bytes(),
            self.flash.operations()
        );
    }
}

const fn name(set: Set) -> &'static str {
    match set {
        Set::A => "a",
        Set::B => "b",
    }
}

fn bad(record: &BootRecord) -> &'static str {
    match Set::BOTH.map(|set| record.is_bad(set)) {
        [false, false] => "none",
        [true, false] => "a",
        [false, true] => "b",
        [true, true] => "a b",
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    log::panicked(info);
    cortex_m::peripheral::SCB::sys_reset()
}
