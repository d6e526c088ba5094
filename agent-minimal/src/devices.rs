//! Which set this is, and where its slots are.
//!
//! The UKI's stub leaves the GUID of the partition that it was loaded from: its label says the set, and its disk has the slots and
//! the data. Without one, the set is that whose root slot holds the sealed image, and every disk is looked at.
//!
//! # Invariants
//! - Where the stub says what it was loaded from, no partition of another disk is mounted, whatever its label; but for a recovery that the
//!   command line asks for, which may come from a stick.

use crate::clock::{Moment, sleep};
use crate::description::ImagePair;
use crate::files::{self, OwnPath};
use crate::refusal::Refusal;
use core::time::Duration;
use heapless::{String, Vec};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use twinseal_core::boot::Set;
use twinseal_core::wire::PAYLOADS_MAX_COUNT;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::text::Name;
use twinseal_platform_linux::calls::{mount, unmount};
use twinseal_platform_linux::efivars::{LOADER_VENDOR, Variables};
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::loader::uefi::VARIABLES_FOLDER;
use twinseal_platform_linux::partition::{
    BlockDevices, DeviceName, Label, Partition, guid_of_text,
};

/// How long all partitions may take to appear after their drivers were loaded.
const APPEAR_MAX: Duration = Duration::from_secs(15);

/// How long one may take that is asked for later: behind a partition table that was just written, say.
const APPEAR_LATER: Duration = Duration::from_secs(1);

/// Pause between two looks. The kernel tells nobody without a daemon's socket; disks that are there at once cost no pause.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Where the stub leaves the partition of its UKI. systemd's stub 257 writes both; behind a boot loader that starts UKIs of several
/// partitions the second is that of the boot loader, so the first counts when it is there (systemd-stub(7)).
const STARTED_FROM: [&str; 2] = ["StubDevicePartUUID", "LoaderDevicePartUUID"];

/// Letters of a GUID in text.
const GUID_LETTERS: usize = 36;

/// Attributes and a GUID in UTF-16, with a NUL, and room to see that there is more.
const VARIABLE_BYTES: usize = 4 + 2 * (GUID_LETTERS + 1) + 2;

/// Path of a device node.
pub type Node = String<160>;

/// The disk's partitions, as far as the firmware says which disk it is.
pub struct Devices<'p> {
    devices: BlockDevices<'p>,
    started: Option<Partition>,
    /// When they were first looked for.
    since: Moment,
}

impl Devices<'static> {
    /// This machine's. Looks for the partition that the UKI came from, and waits for it when the stub left its GUID.
    pub fn find() -> Self {
        let (devices, since) = (BlockDevices::SYSTEM, Moment::now());
        let by_guid = |guid| wait(since, || devices.by_guid(&guid).unwrap_or(None));
        let started = started_guid().and_then(by_guid);
        Self {
            devices,
            started,
            since,
        }
    }
}

impl Devices<'_> {
    /// Those of all disks, unless the firmware started a set's own boot slot: for a recovery that was started from a stick.
    #[must_use]
    pub fn anywhere(mut self) -> Self {
        if self.started_set().is_none() {
            self.started = None;
        }
        self
    }

    /// The set whose boot slot the firmware started; `None` when it does not say.
    pub fn started_set(&self) -> Option<Set> {
        set_of_boot_label(&self.started.as_ref()?.label)
    }

    /// Path of the device node of the partition with a label, waited for; `None` when it does not appear.
    pub fn node(&self, label: &str) -> Option<Node> {
        wait(self.since, || self.node_now(label))
    }

    /// Only the disk that this system came from has its slots and its data; another one may have the same labels. Nobody says
    /// which disk it is: then a label counts that one partition of all has.
    fn node_now(&self, label: &str) -> Option<Node> {
        let disk = self.started.as_ref().map(|started| started.disk.as_str());
        let found = self.devices.by_label_on(disk, label).unwrap_or(None)?;
        Some(self.devices.node(&found))
    }

    /// Slots for raw images: every two partitions that are called `NAME-a` and `NAME-b`, as `twinseal-bundle disk` calls them. Only a
    /// bundle that names one writes to it.
    pub fn image_slots(&self) -> Vec<ImagePair, PAYLOADS_MAX_COUNT> {
        let (mut pairs, mut last) = (Vec::new(), None::<DeviceName>);
        while let Ok(Some(name)) = self.devices.name_after(last.as_deref()) {
            if let Ok(Some(partition)) = self.devices.named(&name) {
                // What does not fit into the list is no slot, and a bundle for it is refused.
                let _ = self.pair_of(&partition).map(|pair| pairs.push(pair));
            }
            last = Some(name);
        }
        pairs
    }

    fn pair_of(&self, first: &Partition) -> Option<ImagePair> {
        let name = first.label.strip_suffix("-a")?;
        if ["boot", "root"].contains(&name) {
            return None;
        }
        let second: Label = join(&[name, "-b"]).ok()?;
        let [a, b] = [self.node_now(&first.label)?, self.node_now(&second)?];
        // Another disk may have the same labels.
        if a != self.devices.node(first) {
            return None;
        }
        let own = |node: &Node| join(&[node]).ok();
        Some(ImagePair {
            name: Name::new(name)?,
            of: [own(&a)?, own(&b)?],
        })
    }

    /// The set whose root slot holds the image; `preferred` when both do.
    ///
    /// # Errors
    /// [`Refusal::NoSet`] when neither does.
    pub fn set_with_image(
        &self,
        seal: &BlobDigest,
        preferred: Set,
        probe: &str,
    ) -> Result<Set, Refusal> {
        let holds = |set: &Set| {
            let mounted = self.mount_root_slot(*set, probe).is_ok();
            let image = join(&[probe, "/composefs/images/", &seal.to_hex()]);
            let is_there = |path: OwnPath| matches!(files::about(path.as_str()), Ok(Some(_)));
            let found = mounted && image.is_ok_and(is_there);
            if mounted {
                let _ = unmount(probe, UnmountFlags::DETACH);
            }
            found
        };
        [preferred, preferred.other()]
            .into_iter()
            .find(holds)
            .ok_or(Refusal::NoSet { seal: *seal })
    }

    /// Mounts the root slot of a set, read-only, on `directory`, which is made.
    ///
    /// # Errors
    /// [`Refusal`] when it is not there or cannot be mounted.
    pub fn mount_root_slot(&self, set: Set, directory: &str) -> Result<(), Refusal> {
        let node = self.node(set.of(["root-a", "root-b"]));
        let node = node.ok_or(Refusal::SlotMissing { set })?;
        let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOATIME;
        mount_ext4(&node, directory, flags).map_err(|errno| Refusal::SlotMount { set, errno })
    }
}

/// Mounts an ext4 file system on a directory, which is made.
///
/// # Errors
/// What the kernel says.
pub fn mount_ext4(node: &str, directory: &str, flags: MountFlags) -> Result<(), Errno> {
    // What cannot be made shows in the mount.
    let _ = files::make_directories(directory);
    mount(node, directory, "ext4", flags, None)
}

/// The GUID of the partition that the UKI was loaded from, as its stub left it.
fn started_guid() -> Option<[u8; 16]> {
    let variables = Variables::open(VARIABLES_FOLDER).ok()?;
    STARTED_FROM.iter().find_map(|name| {
        let mut buffer = [0; VARIABLE_BYTES];
        let read = variables.read(name, LOADER_VENDOR, &mut buffer);
        guid_of_variable(read.unwrap_or(None)?)
    })
}

/// Text in UTF-16LE, with or without a NUL.
fn guid_of_variable(value: &[u8]) -> Option<[u8; 16]> {
    let units = value
        .chunks_exact(2)
        .map(|two| two.first_chunk().map_or(0, |two| u16::from_le_bytes(*two)));
    let mut text = Vec::<u8, GUID_LETTERS>::new();
    for unit in units.take_while(|unit| *unit != 0) {
        text.push(u8::try_from(unit).ok()?).ok()?;
    }
    guid_of_text(&text)
}

fn set_of_boot_label(label: &str) -> Option<Set> {
    Set::BOTH
        .into_iter()
        .find(|set| label == set.of(["boot-a", "boot-b"]))
}

/// Looks again and again until there is something, or the time is over: that of all, which began at `since`, or a little of its own.
fn wait<T>(since: Moment, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = since.after(APPEAR_MAX);
    let end = end.max(Moment::now().after(APPEAR_LATER));
    loop {
        match look() {
            Some(found) => return Some(found),
            None if Moment::now() > end => return None,
            None => sleep(LOOK_AGAIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::{format, vec};
    use tempfile::TempDir;

    #[test]
    fn the_stubs_word_is_read() {
        let text = "12345678-9ABC-def0-1122-334455667788";
        let bytes = |text: &str| -> vec::Vec<u8> {
            text.encode_utf16().flat_map(u16::to_le_bytes).collect()
        };
        let guid = guid_of_text(text.as_bytes());
        assert!(guid.is_some());
        assert_eq!(guid_of_variable(&bytes(text)), guid);
        assert_eq!(guid_of_variable(&bytes(&format!("{text}\0"))), guid);
        for wrong in [
            "",
            "\0",
            "12345678",
            "not a GUID of a partition at all.....",
        ] {
            assert_eq!(guid_of_variable(&bytes(wrong)), None, "{wrong}");
        }
        assert_eq!(guid_of_variable(&[0xd8; 72]), None);
    }

    /// What the kernel shows of two disks with a partition `data` each, and a boot slot on the first.
    fn two_disks() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let block = folder.path().join("class/block");
        fs::create_dir_all(&block).unwrap();
        let guid = "PARTUUID=12345678-9abc-def0-1122-334455667788\n";
        for (disk, name, number, label, more) in [
            ("vda", "vda1", 1, "boot-b", guid),
            ("vda", "vda2", 2, "data", ""),
            ("vda", "vda3", 3, "fpga-a", ""),
            ("vda", "vda4", 4, "fpga-b", ""),
            ("vda", "vda5", 5, "root-a", ""),
            ("vda", "vda6", 6, "root-b", ""),
            ("vda", "vda7", 7, "half-a", ""),
            ("vda", "vda8", 8, "Not a name-a", ""),
            ("vda", "vda9", 9, "Not a name-b", ""),
            ("sda", "sda1", 1, "data", ""),
            ("sda", "sda2", 2, "fpga-a", ""),
            ("sda", "sda3", 3, "half-b", ""),
        ] {
            let path = folder.path().join(disk).join(name);
            fs::create_dir_all(&path).unwrap();
            fs::create_dir_all(folder.path().join(disk).join("queue")).unwrap();
            let has = |file: &str, text: &str| fs::write(path.join(file), text).unwrap();
            has("partition", &format!("{number}\n"));
            has("start", "2048\n");
            has("size", "2048\n");
            has("../queue/logical_block_size", "512\n");
            has("../uevent", &format!("DEVNAME={disk}\n"));
            has(
                "uevent",
                &format!("DEVNAME={name}\nPARTNAME={label}\n{more}"),
            );
            std::os::unix::fs::symlink(&path, block.join(name)).unwrap();
        }
        folder
    }

    #[test]
    fn the_disk_that_the_system_came_from_has_its_data() {
        let folder = two_disks();
        let devices = BlockDevices::below(folder.path().to_str().unwrap(), "/dev");
        let guid = guid_of_text(b"12345678-9abc-def0-1122-334455667788").unwrap();
        let started = devices.by_guid(&guid).unwrap();
        assert!(started.is_some());
        let since = Moment::now();
        let known = Devices {
            devices,
            started,
            since,
        };
        assert_eq!(known.started_set(), Some(Set::B));
        assert_eq!(known.node_now("data").as_deref(), Some("/dev/vda2"));
        let pairs = known.image_slots();
        let pairs: vec::Vec<_> = pairs
            .iter()
            .map(|pair| (pair.name.as_str(), pair.of.each_ref().map(|of| of.as_str())))
            .collect();
        assert_eq!(pairs, [("fpga", ["/dev/vda3", "/dev/vda4"])]);
        let known = known.anywhere();
        assert_eq!(known.node_now("data").as_deref(), Some("/dev/vda2"));
        let started = None;
        let unknown = Devices {
            devices,
            started,
            since,
        };
        assert_eq!(unknown.started_set(), None);
        assert_eq!(
            unknown.node_now("data"),
            None,
            "which of the two nobody says"
        );
        assert_eq!(unknown.node_now("boot-b").as_deref(), Some("/dev/vda1"));
        let mut stick = devices.by_label_on(Some("sda"), "data").unwrap();
        let started = stick.take();
        let from_stick = Devices {
            devices,
            started,
            since,
        };
        assert_eq!(from_stick.node_now("boot-b"), None);
        let anywhere = from_stick.anywhere();
        assert_eq!(anywhere.node_now("boot-b").as_deref(), Some("/dev/vda1"));
    }

    #[test]
    fn labels_name_sets() {
        assert_eq!(set_of_boot_label("boot-a"), Some(Set::A));
        assert_eq!(set_of_boot_label("boot-b"), Some(Set::B));
        assert_eq!(set_of_boot_label("root-a"), None);
    }

    #[test]
    fn waiting_ends_when_something_is_there() {
        let mut looks = 0;
        let mut third = || {
            looks += 1;
            (looks % 3 == 0).then_some(looks)
        };
        let now = Moment::now();
        assert_eq!(wait(now, &mut third), Some(3));
        // Whoever asks late is not sent away at once, and does not wait as long as the first.
        let long_ago = Moment::default();
        assert_eq!(wait(long_ago, &mut third), Some(6));
        let before = Moment::now();
        assert_eq!(wait(long_ago, || None::<()>), None);
        assert!((APPEAR_LATER..APPEAR_MAX).contains(&before.elapsed()));
    }
}
