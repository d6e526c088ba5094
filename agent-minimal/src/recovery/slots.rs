//! What a set is rebuilt in: its partitions, and file systems in them.
//!
//! # Invariants
//! - A file system is made anew where the kernel does not take the one that is there, or an install failed for it. In the other set, one
//!   is made only where nothing is recognised. The boot slot that the firmware started this recovery from is never made anew.
//! - A partition table is only brought back from a copy of it that counts and names a slot, and only on a disk that shows no partition
//!   and holds no file system.
//!
//! # Power loss
//! That of `twinseal_platform_linux::format` and `partition_table`: who finds none makes it again.

use super::attendance::Attendance;
use crate::description::{Description, SetSlots};
use crate::devices::Devices;
use crate::error::AgentError;
use crate::files::{self, OwnPath};
use crate::firmware::{self, Chooser};
use crate::init::MOUNTS;
use crate::slots::{BOOT_TYPES, ROOT_TYPES};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::rand::{GetRandomFlags, getrandom};
use twinseal_core::boot::Set;
use twinseal_core::error::{Error as CoreError, StorageFault, StorageObject};
use twinseal_platform_linux::Mounted;
use twinseal_platform_linux::calls::unmount;
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::format::{Ext4, Fat, format_boot_slot, format_root_slot};
use twinseal_platform_linux::media::recognise;
use twinseal_platform_linux::partition::{BlockDevices, DeviceName};
use twinseal_platform_linux::partition_table::{Repaired, repair};

/// Where a slot is mounted to see whether the kernel takes it.
const PROBE: &str = "/run/twinseal/probe";

/// What is no fault of a file system: there is no driver for it, or somebody has it.
const STAYS: [StorageFault; 2] = [
    StorageFault::Code(Errno::NODEV.raw_os_error()),
    StorageFault::Code(Errno::BUSY.raw_os_error()),
];

/// Takes away what the refused start had mounted of the sets.
pub fn release() {
    for directory in MOUNTS {
        // What is not mounted needs nothing; what cannot be unmounted shows in the slot.
        let _ = unmount(directory, UnmountFlags::DETACH);
    }
}

/// The slots of both sets. Where one is missing, partition tables are brought back first.
///
/// # Errors
/// [`AgentError::SlotMissing`].
pub fn find(devices: &Devices<'_>, attendance: &Attendance) -> Result<[SetSlots; 2], AgentError> {
    let [Ok(a), Ok(b)] = Set::BOTH.map(|set| slots_of(devices, set, attendance)) else {
        repair_tables(attendance);
        return Ok([
            slots_of(devices, Set::A, attendance)?,
            slots_of(devices, Set::B, attendance)?,
        ]);
    };
    Ok([a, b])
}

fn slots_of(
    devices: &Devices<'_>,
    set: Set,
    attendance: &Attendance,
) -> Result<SetSlots, AgentError> {
    let node = |label: &'static str| {
        attendance.feed();
        let node = devices
            .node(label)
            .ok_or(AgentError::SlotMissing { label })?;
        join(&[&node]).map_err(|_| AgentError::SlotMissing { label })
    };
    Ok(SetSlots {
        boot: node(set.of(["boot-a", "boot-b"]))?,
        root: node(set.of(["root-a", "root-b"]))?,
    })
}

/// Brings back the tables of all disks that show no partition.
fn repair_tables(attendance: &Attendance) {
    let devices = BlockDevices::SYSTEM;
    let mut last: Option<DeviceName> = None;
    while let Ok(Some(name)) = devices.name_after(last.as_deref()) {
        attendance.feed();
        if has_no_partition(&devices, &name) {
            // A device that cannot be read has no table to be brought back.
            match repair(&devices.node_of(&name)) {
                Ok(Repaired::From(_)) => {
                    attendance.say(format_args!("the partition table of {name} is back"));
                }
                Err(StorageFault::Busy) => attendance.say(format_args!(
                    "the partition table of {name} is back, and the kernel takes it at the next start"
                )),
                Ok(Repaired::Nothing | Repaired::Lost) | Err(_) => {}
            }
        }
        last = Some(name);
    }
}

/// Whether it is a disk, and the kernel shows no part of it.
fn has_no_partition(devices: &BlockDevices<'_>, disk: &str) -> bool {
    let is_there = |parts: &[&str]| {
        let path: Result<OwnPath, Errno> = join(parts);
        path.is_ok_and(|path| files::exists(&path).unwrap_or(true))
    };
    if is_there(&["/sys/class/block/", disk, "/partition"]) {
        return false;
    }
    let mut last: Option<DeviceName> = None;
    while let Ok(Some(name)) = devices.name_after(last.as_deref()) {
        if name != disk && is_there(&["/sys/class/block/", disk, "/", &name]) {
            return false;
        }
        last = Some(name);
    }
    true
}

/// Gives every slot a file system that lacks one. `started`: the set whose UKI the firmware started.
///
/// # Errors
/// What the slot says that gets none.
pub fn prepare(
    description: &Description,
    target: Set,
    started: Option<Set>,
    attendance: &Attendance,
) -> Result<(), AgentError> {
    let Some([a, b]) = &description.sets else {
        return Ok(());
    };
    for set in Set::BOTH {
        for slot in Slot::of(set, set.of([a, b])) {
            attendance.feed();
            let is_usable = match set == target {
                true => slot.can_be_mounted(),
                false => !matches!(recognise(slot.device), Ok(None)),
            };
            if !is_usable && !slot.is_needed(started, attendance) {
                slot.format(attendance)?;
            }
        }
    }
    Ok(())
}

/// Gives the slot of a set a new file system that an install failed for. The other slot stays as it is: the boot slot holds the UKI that
/// starts this recovery.
///
/// # Errors
/// What the slot says that gets none.
pub fn renew(
    description: &Description,
    set: Set,
    object: StorageObject,
    started: Option<Set>,
    attendance: &Attendance,
) -> Result<(), AgentError> {
    let Some([a, b]) = &description.sets else {
        return Ok(());
    };
    let slots = Slot::of(set, set.of([a, b]));
    let mut blamed = slots
        .into_iter()
        .filter(|slot| slot.object == object && !slot.is_needed(started, attendance));
    blamed.try_for_each(|slot| slot.format(attendance))
}

/// The slot that an install failed for, if a new file system may cure that.
pub fn to_blame(error: &AgentError) -> Option<StorageObject> {
    let AgentError::Core(CoreError::Storage(error)) = error else {
        return None;
    };
    match error.object {
        _ if error.fault == StorageFault::Busy || STAYS.contains(&error.fault) => None,
        StorageObject::BootSlot | StorageObject::Uki => Some(StorageObject::BootSlot),
        StorageObject::RootSlot | StorageObject::Object | StorageObject::ComposefsImage => {
            Some(StorageObject::RootSlot)
        }
        // It has no file system, and counts as a failure of the set all the same.
        StorageObject::ImageSlot => Some(StorageObject::ImageSlot),
        _ => None,
    }
}

/// A boot or root slot.
struct Slot<'s> {
    device: &'s OwnPath,
    object: StorageObject,
    label: &'static str,
    set: Set,
}

impl<'s> Slot<'s> {
    fn of(set: Set, slots: &'s SetSlots) -> [Self; 2] {
        [
            Self {
                device: &slots.boot,
                object: StorageObject::BootSlot,
                label: set.of(["boot-a", "boot-b"]),
                set,
            },
            Self {
                device: &slots.root,
                object: StorageObject::RootSlot,
                label: set.of(["root-a", "root-b"]),
                set,
            },
        ]
    }

    /// Whether the firmware started this very recovery from it, or by the boot loader in it: then it is left, whatever it says.
    /// Without it, perhaps nothing starts.
    fn is_needed(&self, started: Option<Set>, attendance: &Attendance) -> bool {
        // A stick may have a boot loader of its own.
        let has_loader = || {
            let is_disk = self.set == Set::A && started.is_some();
            is_disk && firmware::chooser() == Chooser::SystemdBoot
        };
        let is_needed =
            self.object == StorageObject::BootSlot && (started == Some(self.set) || has_loader());
        if is_needed {
            attendance.say(format_args!(
                "{} is left as it is, for this recovery was started from it",
                self.label
            ));
        }
        is_needed
    }

    /// Whether the kernel takes its file system. One that it has no driver for, or that is in use, is not there to be made anew.
    fn can_be_mounted(&self) -> bool {
        let _ = files::make_directories(PROBE);
        let types = match self.object {
            StorageObject::BootSlot => BOOT_TYPES,
            _ => ROOT_TYPES,
        };
        let mounted = Mounted::mount(self.device, PROBE, types, false, self.object);
        match mounted {
            Ok(mounted) => mounted.unmount().is_ok(),
            Err(error) => {
                STAYS.contains(&error.fault) && !matches!(recognise(self.device), Ok(None))
            }
        }
    }

    fn format(&self, attendance: &Attendance) -> Result<(), AgentError> {
        attendance.say(format_args!("{} gets a new file system", self.label));
        let random = random();
        let made = match self.object {
            StorageObject::BootSlot => format_boot_slot(
                self.device,
                &Fat {
                    label: self.label,
                    number: u32::from_le_bytes(*random.first_chunk().unwrap_or(&[0; 4])),
                },
            ),
            _ => format_root_slot(
                self.device,
                &Ext4 {
                    label: self.label,
                    uuid: random,
                    inodes: None,
                },
            ),
        };
        Ok(made?)
    }
}

/// Sixteen bytes that tell one file system from another: nobody needs to be unable to guess them.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // A kernel that gives none leaves zeros, by which nobody looks for a slot.
    let _ = getrandom(&mut bytes, GetRandomFlags::INSECURE);
    bytes
}
