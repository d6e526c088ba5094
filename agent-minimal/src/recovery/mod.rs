//! The recovery: a set of its own making, when none that the device has may start.
//!
//! It runs in the first process, with what stands in the signed UKI: the keys, the device type and the floor
//! ([`Recovery`]), the address of a bundle on the command line. It looks at media first and at the network then, again and again; what it
//! finds goes into the refused set by core's installer, and is tried as every update is. There is no shell, and no port is open.
//!
//! - `rebuild`: from an open bundle to a set on trial; `slots`: partition table and file systems that it needs;
//! - `attendance`: what is said, and the watchdog.
//!
//! # Invariants
//! - Nothing is installed that a trusted key did not sign, that is for another device type, or that is below the floor: that of the
//!   release in the UKI, of the boot record and of the journal, whichever is highest.
//! - The set that was not refused is not written, unless the refused one does not take a release; only where its slots hold nothing that
//!   is known do they get empty file systems.
//! - Every wait has an end, and every refusal is said and followed by another round; after [`ROUNDS_MAX`] the machine starts anew.
//!
//! # Power loss
//! That of an install, except that the set's UKI stays bootable until the new one takes its name: it starts the recovery again, which goes
//! on with what is there. Another UKI there may not be.

mod attendance;
mod rebuild;
mod slots;

use crate::bundle::LocalBundle;
use crate::command_line::CommandLine;
use crate::console::say;
use crate::data::{self, STATE};
use crate::description::{Description, ImagePair, Loader, SetSlots};
use crate::device::Device;
use crate::devices::Devices;
use crate::early;
use crate::error::AgentError;
use crate::files::{self, OwnPath};
use crate::firmware::{self, Chooser};
use crate::gate;
use crate::keys::Keys;
use crate::media::Search;
use crate::memory::Memory;
use crate::net::{Buffers, Patience, Setting, Stack, Storage, Url, Web};
use attendance::Attendance;
use core::time::Duration;
use heapless::Vec;
use rebuild::Rebuild;
use twinseal_core::boot::Set;
use twinseal_core::boot::record::Loaded;
use twinseal_core::boot::select::ATTEMPTS_DEFAULT;
use twinseal_core::error::Error;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_core::wire::PAYLOADS_MAX_COUNT;
use twinseal_core::wire::recovery::{RECOVERY_MAX_BYTES, Recovery};
use twinseal_platform_linux::Verity;
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::loader::uefi::VARIABLES_FOLDER;
use twinseal_platform_linux::partition::BlockDevices;

/// Where the builder puts what the recovery knows of its device.
const FACTS: &str = "/recovery";

/// Where a medium is mounted.
const MEDIUM: &str = "/run/twinseal/medium";

/// Rounds before the machine starts anew: a driver or a disk that hangs may come back with it.
pub const ROUNDS_MAX: usize = 32;

/// Pause after the first round; it doubles with each round …
const PAUSE_FIRST: Duration = Duration::from_secs(2);

/// … to this: a server that is down for a night is not asked more than twice a minute.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// After so many failures of its slots a set is left alone, and the other one is rebuilt.
const FAILURES_MAX: u32 = 6;

/// What a recovery needs to know.
pub struct Order<'o> {
    /// Addresses.
    pub line: &'o CommandLine<'o>,
    /// Where slots are.
    pub devices: &'o Devices<'o>,
    /// The set that was refused, which is rebuilt; when nobody knows it, the one that is not the default.
    pub refused: Option<Set>,
}

/// Where a round looks for a bundle.
#[derive(Clone, Copy)]
enum Way {
    Medium,
    Network,
}

/// Rebuilds a set and has the firmware start it next. Comes back when the machine is to be restarted, in success and without.
pub fn run(order: &Order<'_>, memory: &mut Memory) {
    let Some(facts) = facts() else {
        say(format_args!(
            "There is no recovery in this release: its initramfs names no trusted keys."
        ));
        return;
    };
    let attendance = Attendance::new(order.line.watchdog_seconds > 0);
    early::load_recovery_modules();
    slots::release();
    let mut kept = Kept {
        floor: facts.anti_rollback(),
        record: None,
        cannot_pay: false,
        data_are_read_only: false,
        failures_of_target: 0,
    };
    for round in 0..ROUNDS_MAX {
        attendance.feed();
        match one_round(order, &facts, &mut kept, round, &attendance, memory) {
            Ok(true) => return,
            Ok(false) => {}
            Err(problem) => attendance.say(format_args!("{problem}")),
        }
        let pause = PAUSE_FIRST * (1 << round.min(5));
        attendance.wait(pause.min(PAUSE_MAX));
    }
    attendance.say(format_args!("{ROUNDS_MAX} rounds brought no set"));
}

fn facts() -> Option<Recovery> {
    // One byte more: a file that is longer is not this one.
    let mut buffer = [0; RECOVERY_MAX_BYTES + 1];
    Recovery::parse(files::read(FACTS, &mut buffer).ok()?)
}

/// What is known from one round to the next.
struct Kept {
    /// The floor of the release.
    floor: u64,
    /// The boot record of data that can be read and take no writes.
    record: Option<Loaded>,
    /// Whether a start asks that record, for it seems to take writes, and none can be paid for.
    cannot_pay: bool,
    /// Memory stands for data that can be read and take no writes.
    data_are_read_only: bool,
    /// How often the slots of the target failed.
    failures_of_target: u32,
}

impl Kept {
    /// Memory stands for data that take no writes; what their boot record says counts all the same.
    fn look_at_data(&mut self, attendance: &Attendance) {
        if self.data_are_read_only {
            return;
        }
        let loaded = gate::look_at_record(STATE);
        let is_asked = gate::read_record(STATE).is_ok();
        if data::stand_in_for_read_only() {
            attendance.say(format_args!(
                "the data partition takes no writes, so memory stands for it"
            ));
            self.data_are_read_only = true;
            self.cannot_pay = is_asked;
            self.record = loaded;
        }
    }

    /// The set to rebuild.
    fn target(&self, refused: Option<Set>) -> Set {
        let loaded = self.record.or_else(|| gate::look_at_record(STATE));
        let target = refused.unwrap_or_else(|| gate::default_set(loaded.as_ref()).other());
        let is_other = match loaded {
            // No start of a trial can be paid for, so one would end here again and again.
            Some(Loaded::Record(record)) if self.cannot_pay => {
                record.trial().is_some_and(|trial| trial.set == target)
            }
            _ => false,
        };
        // Neither set may start: where the one does not take a release, perhaps the other does.
        match is_other || refused.is_some() && self.failures_of_target >= FAILURES_MAX {
            true => target.other(),
            false => target,
        }
    }
}

/// Looks at media, then at the network; gives whether a set is rebuilt. Says what fails, but for the slots, without which neither is of
/// use.
fn one_round(
    order: &Order<'_>,
    facts: &Recovery,
    kept: &mut Kept,
    round: usize,
    attendance: &Attendance,
    memory: &mut Memory,
) -> Result<bool, AgentError> {
    let sets = slots::find(order.devices, attendance)?;
    if !kept.data_are_read_only && data::mount_data_late(order.devices) {
        attendance.say(format_args!("the data partition is back"));
    }
    kept.look_at_data(attendance);
    let target = kept.target(order.refused);
    let device = device(facts, sets, order.devices.image_slots());
    let mut rebuild = Rebuild::new(&device, target, kept, attendance)?;
    attendance.say(format_args!(
        "set {target} is rebuilt; only releases for {} with anti-rollback {} or above count",
        facts.compatible(),
        rebuild.policy().floor
    ));
    let started = order.devices.started_set();
    slots::prepare(&device.description, target, started, attendance)?;
    let mut has_failed = false;
    for way in [Way::Medium, Way::Network] {
        let ended = match way {
            Way::Medium => from_medium(&mut rebuild, attendance, memory),
            Way::Network => from_network(order.line, &mut rebuild, round, attendance, memory),
        };
        match ended {
            Ok(true) => {
                if !firmware::try_next(order.devices, target) {
                    attendance.say(format_args!("the firmware chooses what starts next"));
                }
                return Ok(true);
            }
            Ok(false) => {}
            Err(error) => {
                // A bundle that is refused is none; where the device failed, another one does not help.
                has_failed |= matches!(error, AgentError::Core(Error::Storage(_)));
                attendance.say(format_args!("{error}"));
                if let Some(slot) = slots::to_blame(&error) {
                    kept.failures_of_target += 1;
                    slots::renew(&device.description, target, slot, started, attendance)?;
                    // The same bundle may go in now, and the network may be long in coming to nothing; it has its turn after the next.
                    if kept.failures_of_target % 2 == 1 {
                        return Ok(false);
                    }
                }
            }
        }
    }
    match has_failed {
        true => Ok(false),
        false => Err(AgentError::NoMedium),
    }
}

/// Installs the newest bundle of all media; `false` when there is none.
fn from_medium(
    rebuild: &mut Rebuild<'_>,
    attendance: &Attendance,
    memory: &mut Memory,
) -> Result<bool, AgentError> {
    attendance.looks_at_media();
    // What cannot be made shows in the mount.
    let _ = files::make_directories(MEDIUM);
    let search = Search {
        keys: &rebuild.device().keys,
        policy: rebuild.policy(),
        folder: MEDIUM,
        say: &|line| attendance.say(line),
        alive: &|| attendance.feed(),
    };
    let Some(choice) = search.newest(&BlockDevices::SYSTEM)? else {
        return Ok(false);
    };
    let (name, medium) = (&choice.name, &choice.medium.name);
    attendance.say(format_args!("the newest bundle is {name} on {medium}"));
    let mounted = choice.medium.mount(MEDIUM)?;
    let path: OwnPath = join(&[mounted.directory(), "/", name]).unwrap_or_default();
    let opened = LocalBundle::open(&path);
    let mut bundle = opened.map_err(|problem| AgentError::source(&path, problem))?;
    rebuild.install(name, &mut bundle, memory)?;
    Ok(true)
}

/// Installs the bundle at the address on the command line; `false` when there is no address.
fn from_network(
    line: &CommandLine<'_>,
    rebuild: &mut Rebuild<'_>,
    round: usize,
    attendance: &Attendance,
    memory: &mut Memory,
) -> Result<bool, AgentError> {
    let Some(address) = line.recover_url else {
        return Ok(false);
    };
    let (Some(url), Some(setting)) = (Url::parse(address), Setting::parse(line.recover_address))
    else {
        attendance.say(format_args!(
            "the command line's address of a bundle, or of this device, is none; see docs/recovery.md"
        ));
        return Ok(false);
    };
    let mut buffers = Buffers::new();
    let mut storage = Storage::default();
    let patience = Patience::default();
    let source = |problem| AgentError::source(address, problem);
    let stack = Stack::open(
        &mut buffers,
        &mut storage,
        setting,
        round,
        patience,
        attendance,
    );
    let mut stack = stack.map_err(source)?;
    attendance.say(format_args!("fetching {url}"));
    let mut web = Web::open(&mut stack, &url).map_err(source)?;
    rebuild.install(address, &mut web, memory)?;
    Ok(true)
}

/// The device as far as it can be known without its sealed system: its slots by their labels, its state on the data partition.
fn device(
    facts: &Recovery,
    sets: [SetSlots; 2],
    images: Vec<ImagePair, PAYLOADS_MAX_COUNT>,
) -> Device {
    let own = |text: &str| join(&[text]).unwrap_or_default();
    let mut keys = Keys::new();
    for key in facts.keys() {
        // As many fit as there can be.
        let _ = keys.push(TrustedKey::ed25519(*key));
    }
    let description = Description {
        compatible: facts.compatible().clone(),
        state: own(STATE),
        record: join(&[STATE, "/boot-record"]).unwrap_or_default(),
        trusted_keys: None,
        verity: Verity::Required,
        trial_attempts: ATTEMPTS_DEFAULT,
        // Nobody has set the clock yet. What has expired stays expired by the highest time that was seen.
        trusts_clock: false,
        running: own("/run/twinseal/running-set"),
        loader: match firmware::chooser() {
            Chooser::Nobody => Loader::Record,
            Chooser::BootManager => Loader::Uefi,
            Chooser::SystemdBoot => Loader::SystemdBoot,
        },
        variables: own(VARIABLES_FOLDER),
        sets: Some(sets),
        images,
        limits_network: false,
    };
    Device { description, keys }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::tests::record_with_trial_of_b;
    use twinseal_core::boot::record::BootRecord;

    fn kept(record: Option<Loaded>, failures_of_target: u32) -> Kept {
        Kept {
            floor: 0,
            data_are_read_only: record.is_some(),
            cannot_pay: false,
            record,
            failures_of_target,
        }
    }

    #[test]
    fn what_was_refused_is_rebuilt_until_it_failed_too_often() {
        for failures in 0..=FAILURES_MAX {
            let expected = if failures < FAILURES_MAX {
                Set::B
            } else {
                Set::A
            };
            assert_eq!(kept(None, failures).target(Some(Set::B)), expected);
        }
        assert_eq!(kept(None, 0).target(None), Set::B, "nothing is known");
    }

    #[test]
    fn data_without_writes_still_say_which_set_is_the_default() {
        let record = Loaded::Record(record_with_trial_of_b());
        let mut kept = kept(Some(record), 0);
        for refused in [None, Some(Set::B)] {
            assert_eq!(kept.target(refused), Set::B, "on trial, and starts unpaid");
        }
        kept.cannot_pay = true;
        for refused in [None, Some(Set::A), Some(Set::B)] {
            assert_eq!(kept.target(refused), Set::A, "b is on trial for ever");
        }
        let settled = kept_settled();
        assert_eq!(settled.target(None), Set::A);
        assert_eq!(settled.target(Some(Set::B)), Set::B);
    }

    /// Set b is the default, and nothing is on trial.
    fn kept_settled() -> Kept {
        let record = BootRecord::provisioned(Set::B, 3, [1; 32]);
        kept(Some(Loaded::Record(record)), 0)
    }
}
