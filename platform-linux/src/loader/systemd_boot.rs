//! systemd-boot (257 or newer): one entry for each set, `LoaderEntryDefault` for the default set, `LoaderEntryOneShot` for a trial.
//!
//! Formats: the Boot Loader Specification (entries of type 2) and the Boot Loader Interface, both of the UAPI group. systemd-boot
//! stands in the boot slot of set A, twice, and reads the entries of both boot slots. It removes `LoaderEntryOneShot` before it
//! starts what that names. Its `loader.conf` has `default twinse-*`: when the variables are lost, only a set that has been the
//! default boots by itself.
//!
//! When the firmware refuses a UKI, systemd-boot ends, and the firmware goes on with its next boot entry. So the boot order is:
//!
//! | entry | boots | for what |
//! |---|---|---|
//! | `twinseal loader` | `EFI/systemd/systemd-bootx64.efi` | every boot |
//! | `twinseal loader again` | `EFI/BOOT/BOOTX64.EFI`, another copy of it | a trial that the firmware refused: nothing is told any more, the default set boots |
//! | `twinseal direct a` or `b` | the UKI of the default set itself | systemd-boot is damaged |
//! | the other one | the UKI of the other set, if that has been the default | the UKI of the default set is damaged |
//!
//! # Invariants
//! - A UKI is called `TWINSE-A.EFI` or `TWINSE-B.EFI` only when its set was told as the default since it was installed. One that is
//!   called `TWINTRYA.EFI` or `TWINTRYB.EFI` boots only when it was asked for, or when there is no other.
//! - No file has a counter in its name, so systemd-boot renames nothing: a firmware's FAT driver appends directory entries without
//!   end, and a name that moves from one sector to another can be cut into two names for one file, or none.
//! - `LoaderBootCountPath` is not read. It outlives the refusal of a UKI until the power goes: the default set, started after a
//!   refused trial, still finds the path of the trial's UKI there, and who blesses that path makes a refused UKI the default.
//!   `LoaderEntrySelected` is no better: it names the entry that systemd-boot tried last, and the firmware may have gone on by itself.
//!   What runs is said by `StubDevicePartUUID`, and whether it is good by the boot record.
//! - Only [`BootLoader::set_default`] touches the boot slot of the set that it is called with, and gives its UKI another name there,
//!   no other bytes.
//!
//! # Power loss
//! Each variable is the old one or the new one, and so is the name of a file (`boot_slot.rs`). A trial is armed and called off by one
//! variable. A default is told file first, then variable, then entries: what a cut leaves in between boots the old default set.

use super::BootLoader;
use super::boot_manager::{BootManager, Entry};
use super::uefi::BootPartition;
use crate::boot_slot::BootSlot;
use crate::efivars::{LOADER_VENDOR, Variables};
use crate::fault::During;
use crate::path::{BootLayout, LOADER_FILE, REMOVABLE_MEDIA_FILE, Standing, entry_id};
use heapless::{String, Vec};
use rustix::io::Errno;
use twinseal_core::boot::Set;
use twinseal_core::error::{StorageError, StorageObject, StorageOperation};

const OBJECT: StorageObject = StorageObject::BootLoader;

/// What boots when nothing else was told.
const DEFAULT: &str = "LoaderEntryDefault";

/// What boots next and only once.
const ONE_SHOT: &str = "LoaderEntryOneShot";

/// What systemd-boot says of itself when it runs; gone with the next restart.
const INFO: &str = "LoaderInfo";

/// How [`INFO`] begins, before the version.
const NAME: &str = "systemd-boot ";

const DIRECT: [&str; 2] = ["twinseal direct a", "twinseal direct b"];

/// More than the name of an entry of ours takes, in bytes: 13 units with the NUL. What is longer is not ours.
const TEXT_MAX_BYTES: usize = 64;

/// Path of a folder where a boot slot is mounted.
type Folder = String<255>;

/// systemd-boot, and the firmware's boot manager that starts it.
pub struct SystemdBootLoader {
    manager: BootManager,
    boot: [BootPartition; 2],
    folders: [Folder; 2],
}

impl SystemdBootLoader {
    /// Opens the folder of efivarfs ([`VARIABLES_FOLDER`](super::uefi::VARIABLES_FOLDER)); `boot` is the boot slot of each set, A and
    /// B, and `folders` is where these are mounted. A boot slot is opened for the name of its UKI, and written only by
    /// `set_default` of a set that was not the default before: mounted for reading it gives `EROFS` then, and the call may be
    /// repeated after it was mounted for writing.
    ///
    /// # Errors
    /// When the folder of efivarfs cannot be opened; `EINVAL` when both sets would boot from one partition or one folder,
    /// `ENAMETOOLONG` when a folder's path has more than 255 bytes.
    pub fn open(
        variables: &str,
        boot: [BootPartition; 2],
        folders: [&str; 2],
    ) -> Result<Self, StorageError> {
        let ([a, b], [folder_a, folder_b]) = (&boot, folders);
        if a.guid == b.guid || folder_a == folder_b {
            return Err(Errno::INVAL).during(StorageOperation::Open, OBJECT);
        }
        let folder = |path| {
            Folder::try_from(path)
                .map_err(|_| Errno::NAMETOOLONG)
                .during(StorageOperation::Open, StorageObject::BootSlot)
        };
        Ok(Self {
            manager: BootManager::new(Variables::open(variables)?),
            boot,
            folders: [folder(folder_a)?, folder(folder_b)?],
        })
    }

    /// Tells systemd-boot a set for the next boot alone that has been the default; no slot is opened. For an
    /// initramfs that refuses its own set and asks for the other, committed one. Gives whether it wrote.
    ///
    /// # Errors
    /// When the variables cannot be read or written.
    pub fn ask_once(variables: &Variables, set: Set) -> Result<bool, StorageError> {
        tell(variables, ONE_SHOT, set, Standing::Committed)
    }

    /// The same for a set that was just installed, and not told as the default since.
    ///
    /// # Errors
    /// When the variables cannot be read or written.
    pub fn try_once(variables: &Variables, set: Set) -> Result<bool, StorageError> {
        tell(variables, ONE_SHOT, set, Standing::Installed)
    }

    /// Whether systemd-boot ran in this boot: it works then, and does what [`ask_once`](Self::ask_once) tells it. It need not have
    /// started what runs now: it may have tried another UKI that the firmware refused, and the firmware went on by itself.
    ///
    /// # Errors
    /// When the variable cannot be read.
    pub fn ran_in_this_boot(variables: &Variables) -> Result<bool, StorageError> {
        let mut buffer = [0; TEXT_MAX_BYTES];
        let value = variables.read_start(INFO, LOADER_VENDOR, &mut buffer)?;
        let is_name = |value: &[u8]| {
            let mut units = units(value);
            NAME.encode_utf16().all(|unit| units.next() == Some(unit))
        };
        Ok(value.is_some_and(|value| is_name(value.bytes)))
    }

    /// The boot entries in their order, with `default` as the default set.
    fn entries(&self, default: Set) -> [Entry; 4] {
        let loader = |description, file| Entry {
            description,
            partition: Set::A.of(self.boot),
            file,
        };
        let direct = |set: Set| Entry {
            description: set.of(DIRECT),
            partition: set.of(self.boot),
            file: BootLayout::EntryFolder(set).file(),
        };
        [
            loader("twinseal loader", LOADER_FILE),
            loader("twinseal loader again", REMOVABLE_MEDIA_FILE),
            direct(default),
            direct(default.other()),
        ]
    }

    /// Makes the entries what they must be and puts them first; gives whether that was written.
    fn ensure_entries(&self, default: Set) -> Result<bool, StorageError> {
        let mut wrote = false;
        let mut numbers = Vec::<u16, 4>::new();
        for entry in self.entries(default) {
            let (number, made) = self.manager.ensure(&entry)?;
            wrote |= made;
            // As many as there are entries: they fit.
            let _ = numbers.push(number);
        }
        Ok(self.manager.put_first(&numbers)? || wrote)
    }

    /// Whether the firmware starts systemd-boot, and again when a UKI was refused.
    fn is_started_first(&self) -> Result<bool, StorageError> {
        let order = self.manager.order()?;
        let loaders = self.entries(Set::A);
        for (entry, number) in loaders.iter().take(2).zip(0..) {
            let found = self.manager.find(entry)?;
            let first = order.get::<usize>(number).map(|number| (*number, true));
            if found.is_none() || found != first {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn slot(&self, set: Set) -> Result<BootSlot, StorageError> {
        let [a, b] = &self.folders;
        BootSlot::open(set.of([a, b]), BootLayout::EntryFolder(set))
    }
}

impl BootLoader for SystemdBootLoader {
    fn default_set(&mut self) -> Result<Option<Set>, StorageError> {
        let told = told(&self.manager.variables, DEFAULT)?;
        // A set that is booted for ever under the name of a trial was not told by us.
        let told = told.filter(|(_, standing)| *standing == Standing::Committed);
        Ok(match told {
            Some((set, _)) if self.is_started_first()? => Some(set),
            _ => None,
        })
    }

    fn next_set(&mut self) -> Result<Option<Set>, StorageError> {
        Ok(told(&self.manager.variables, ONE_SHOT)?.map(|(set, _)| set))
    }

    fn set_default(&mut self, set: Set) -> Result<bool, StorageError> {
        let slot = self.slot(set)?;
        let renamed = slot.standing()? == Some(Standing::Installed);
        if renamed {
            slot.commit()?;
        }
        let told = tell(&self.manager.variables, DEFAULT, set, Standing::Committed)?;
        Ok(self.ensure_entries(set)? || told || renamed)
    }

    fn set_next(&mut self, set: Option<Set>) -> Result<bool, StorageError> {
        let variables = &self.manager.variables;
        if let Some(set) = set {
            // Of a set without a UKI the name does not matter: systemd-boot goes on to the default set.
            let standing = self.slot(set)?.standing()?.unwrap_or(Standing::Installed);
            return tell(variables, ONE_SHOT, set, standing);
        }
        // What another program told for the next boot is not ours to take back.
        match told(variables, ONE_SHOT)? {
            Some(_) => variables.remove(ONE_SHOT, LOADER_VENDOR),
            None => Ok(false),
        }
    }
}

/// The set whose entry a variable names, and by which of its names.
fn told(variables: &Variables, name: &str) -> Result<Option<(Set, Standing)>, StorageError> {
    let mut buffer = [0; TEXT_MAX_BYTES];
    let value = variables.read_start(name, LOADER_VENDOR, &mut buffer)?;
    let Some(value) = value.filter(|value| value.whole) else {
        return Ok(None);
    };
    let names = |(set, standing): &(Set, Standing)| {
        let id = entry_id(*set, *standing).encode_utf16();
        // systemd-boot compares without case.
        id.eq(units(value.bytes)
            .take_while(|unit| *unit != 0)
            .map(in_small_letters))
    };
    let both = [Standing::Installed, Standing::Committed];
    let all = both.map(|standing| Set::BOTH.map(|set| (set, standing)));
    Ok(all.into_iter().flatten().find(names))
}

/// Writes the name of a set's entry into a variable, when it does not stand there; gives whether it was written.
fn tell(
    variables: &Variables,
    name: &str,
    set: Set,
    standing: Standing,
) -> Result<bool, StorageError> {
    if told(variables, name)? == Some((set, standing)) {
        return Ok(false);
    }
    let mut value = Vec::<u8, TEXT_MAX_BYTES>::new();
    for unit in entry_id(set, standing).encode_utf16().chain([0]) {
        value
            .extend_from_slice(&unit.to_le_bytes())
            .map_err(|_| Errno::FBIG)
            .during(StorageOperation::Write, OBJECT)?;
    }
    variables.write(name, LOADER_VENDOR, &value)?;
    Ok(true)
}

/// The UTF-16 units of a value.
fn units(value: &[u8]) -> impl Iterator<Item = u16> {
    value
        .chunks_exact(2)
        .map(|two| two.first_chunk().map_or(0, |two| u16::from_le_bytes(*two)))
}

fn in_small_letters(unit: u16) -> u16 {
    u8::try_from(unit).map_or(unit, |letter| u16::from(letter.to_ascii_lowercase()))
}
