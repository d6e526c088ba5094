//! The device description: one TOML file that says what this device is and where its slots are.
//!
//! ```toml
//! compatible = "acme-gateway"            # required: device type, must equal the bundle's
//! state = "/var/lib/twinseal"            # journal, scratch, lock; front matter of sets without a root slot
//! trusted-keys = ["keys/release.pub"]    # PEM, Ed25519; without it every *.pub of /usr/lib/twinseal/keys
//! verity = "required"                    # or "absent": the file system cannot seal files, and `status` says "not sealed"
//! trial-attempts = 3                     # boots that a trial has, 1 to 255
//! clock = "trusted"                      # or "none": then only the highest time ever seen counts
//! running = "/run/twinseal/running-set"  # file that says a or b
//! image-only = false                     # true: no boot and root slots, only [slots]
//!
//! health = "/usr/lib/twinseal/health.d"  # folder of the checks that a trial must pass
//!
//! [boot]
//! loader = "record"                      # the boot record alone; or "uefi", "systemd-boot": these choose, and are told
//! record = "boot-record"                 # file or block device; without it <state>/boot-record
//! variables = "/sys/firmware/efi/efivars" # with another loader: where the firmware's variables are
//!
//! [sets.a]                               # the defaults: partitions by label
//! boot = "/dev/disk/by-partlabel/boot-a"
//! root = "/dev/disk/by-partlabel/root-a"
//!
//! [budget]                               # most bytes over the network in a calendar period
//! bytes = 50000000
//! period = "month"                       # or "week", from Monday on, or "day"; in UTC
//!
//! [network]                              # how web servers are reached
//! trust = "updates.pem"                  # trust anchors in PEM; without it those of the system
//! certificate = "device.pem"             # what the device shows to a server that asks who it is
//! key = "device.key"
//! proxy = "http://proxy.example:3128"    # without it what the environment says
//! no-proxy = ["depot.example"]
//! max-rate = 8000                        # most bytes a second
//! window = "22:00-05:00"                 # hours in which bundles are fetched, in UTC
//!
//! [slots.fpga]                           # raw slots, as many as there are
//! a = "/dev/disk/by-partlabel/fpga-a"
//! b = "/dev/disk/by-partlabel/fpga-b"
//! ```
//!
//! Relative paths are relative to the folder of the file.
//!
//! # Invariants
//! - A key that is not known is an error that names key and line: a typing mistake never falls back to a default.
//! - No two places of the two sets are the same path.

mod budget;
mod loader;
mod network;
mod window;

pub use budget::{Budget, Period};
pub use loader::Loader;
pub use network::{Identity, Network, Rate};
pub use window::Window;

use crate::error::{AgentError, DescriptionProblem};
use loader::Boot;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use twinseal_core::boot::Set;
use twinseal_core::boot::select::ATTEMPTS_DEFAULT;
use twinseal_core::wire::text::Name;

/// Where the description is looked for when nobody says otherwise, in this order: what was made for this device, then what is
/// part of the sealed system.
pub const DEFAULT_FILES: [&str; 2] = ["/etc/twinseal/device.toml", "/usr/lib/twinseal/device.toml"];

/// Where the health checks are when the description names no folder. Part of the sealed system.
const HEALTH_FOLDER: &str = "/usr/lib/twinseal/health.d";

/// Where Linux shows the firmware's variables (Documentation/filesystems/efivarfs.rst).
pub const EFI_VARIABLES: &str = "/sys/firmware/efi/efivars";

/// Where keys are when the description names none. Part of the sealed system, so that only an update changes them.
pub const KEYS_FOLDER: &str = "/usr/lib/twinseal/keys";

/// What a device is and where its slots are.
#[derive(Clone, Debug)]
pub struct Description {
    /// Device type.
    pub compatible: Name,
    /// Folder of the agent's state.
    pub state: PathBuf,
    /// Key files; `None` for the default folder.
    pub trusted_keys: Option<Vec<PathBuf>>,
    /// Whether files are sealed with fs-verity.
    pub verity: Sealing,
    /// Boots that a trial has.
    pub trial_attempts: u8,
    /// Whether the device's clock counts.
    pub clock: Clock,
    /// File that says which set is running.
    pub running: PathBuf,
    /// Folder of the health checks.
    pub health: PathBuf,
    /// Most bytes over the network.
    pub budget: Option<Budget>,
    /// How web servers are reached.
    pub network: Network,
    /// Who chooses the set at boot.
    pub loader: Loader,
    /// File or block device of the boot record.
    pub record: PathBuf,
    /// Boot and root slots; `None` for a device that has only image slots.
    pub sets: Option<Pair<SetSlots>>,
    /// Image slots by name.
    pub slots: BTreeMap<String, Pair<PathBuf>>,
}

/// Something that each set has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair<T> {
    /// That of set A.
    pub a: T,
    /// That of set B.
    pub b: T,
}

impl<T> Pair<T> {
    /// That of a set.
    pub const fn of(&self, set: Set) -> &T {
        match set {
            Set::A => &self.a,
            Set::B => &self.b,
        }
    }
}

/// Boot and root slot of a set: folders, or block devices that are mounted for the time of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSlots {
    /// FAT with the UKI.
    pub boot: PathBuf,
    /// File system with the composefs repository.
    pub root: PathBuf,
}

/// Whether the root slots' file systems seal files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sealing {
    /// Every object must be sealed with fs-verity.
    #[default]
    Required,
    /// The file system cannot; nothing is sealed.
    Absent,
}

/// Whether the device's clock counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// It is right, or at least never set by a stranger.
    #[default]
    Trusted,
    /// There is none that can be trusted.
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    compatible: String,
    #[serde(default = "default_state")]
    state: PathBuf,
    trusted_keys: Option<Vec<PathBuf>>,
    #[serde(default)]
    verity: Sealing,
    #[serde(default = "default_attempts")]
    trial_attempts: i64,
    #[serde(default)]
    clock: Clock,
    #[serde(default = "default_running")]
    running: PathBuf,
    #[serde(default = "default_health")]
    health: PathBuf,
    #[serde(default)]
    image_only: bool,
    #[serde(default)]
    boot: Boot,
    budget: Option<Budget>,
    #[serde(default)]
    network: network::Table,
    sets: Option<Sets>,
    #[serde(default)]
    slots: BTreeMap<String, SlotPair>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Sets {
    #[serde(default)]
    a: PartialSlots,
    #[serde(default)]
    b: PartialSlots,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct PartialSlots {
    boot: Option<PathBuf>,
    root: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlotPair {
    a: PathBuf,
    b: PathBuf,
}

fn default_state() -> PathBuf {
    PathBuf::from("/var/lib/twinseal")
}

fn default_running() -> PathBuf {
    PathBuf::from("/run/twinseal/running-set")
}

fn default_health() -> PathBuf {
    PathBuf::from(HEALTH_FOLDER)
}

const fn default_attempts() -> i64 {
    ATTEMPTS_DEFAULT as i64
}

/// The file of the description: the one that was named, or the first of [`DEFAULT_FILES`] that is there.
pub fn file(named: Option<&Path>) -> PathBuf {
    let [first, _] = DEFAULT_FILES;
    let found = || DEFAULT_FILES.iter().find(|file| Path::new(file).exists());
    named.map_or_else(
        || PathBuf::from(found().copied().unwrap_or(first)),
        Path::to_path_buf,
    )
}

impl Description {
    /// Reads a description.
    ///
    /// # Errors
    /// [`AgentError::Description`] names the file, and the line and key where there is one.
    pub fn read(file: &Path) -> Result<Self, AgentError> {
        let wrong = |problem: DescriptionProblem| AgentError::description(file, problem);
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.into()))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder).map_err(wrong)
    }

    /// Reads a description from its text; relative paths are relative to `folder`.
    ///
    /// # Errors
    /// [`DescriptionProblem`] says what is wrong.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, DescriptionProblem> {
        let file: File = toml::from_str(text).map_err(Box::new)?;
        let state = folder.join(&file.state);
        let description = Self {
            compatible: name("compatible", &file.compatible)?,
            health: folder.join(file.health),
            budget: file.budget,
            network: file.network.network(folder)?,
            loader: file.boot.loader(file.image_only, folder)?,
            record: file
                .boot
                .record
                .map_or_else(|| state.join("boot-record"), |path| folder.join(path)),
            state,
            trusted_keys: file
                .trusted_keys
                .map(|keys| keys.iter().map(|key| folder.join(key)).collect()),
            verity: file.verity,
            trial_attempts: attempts(file.trial_attempts)?,
            clock: file.clock,
            running: folder.join(file.running),
            sets: sets(file.image_only, file.sets, folder)?,
            slots: slots(file.slots, folder)?,
        };
        description.check_places()?;
        Ok(description)
    }

    /// The places of a set, for the check that none is shared.
    fn places(&self, set: Set) -> impl Iterator<Item = &PathBuf> {
        let pair = self.sets.as_ref().map(|sets| sets.of(set));
        let set_slots = pair
            .into_iter()
            .flat_map(|slots| [&slots.boot, &slots.root]);
        set_slots.chain(self.slots.values().map(move |slot| slot.of(set)))
    }

    fn check_places(&self) -> Result<(), DescriptionProblem> {
        if self.sets.is_none() && self.slots.is_empty() {
            return Err(DescriptionProblem::ImageOnlyWithoutSlots);
        }
        match self
            .places(Set::A)
            .find(|place| self.places(Set::B).any(|other| other == *place))
        {
            Some(path) => Err(DescriptionProblem::Shared { path: path.clone() }),
            None => Ok(()),
        }
    }
}

fn name(key: &'static str, value: &str) -> Result<Name, DescriptionProblem> {
    Name::new(value).ok_or_else(|| DescriptionProblem::Name {
        key,
        value: value.to_owned(),
    })
}

fn attempts(number: i64) -> Result<u8, DescriptionProblem> {
    u8::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or(DescriptionProblem::Attempts)
}

fn sets(
    image_only: bool,
    named: Option<Sets>,
    folder: &Path,
) -> Result<Option<Pair<SetSlots>>, DescriptionProblem> {
    match (image_only, named) {
        (true, Some(_)) => Err(DescriptionProblem::ImageOnlyWithSets),
        (true, None) => Ok(None),
        (false, named) => {
            let Sets { a, b } = named.unwrap_or_default();
            Ok(Some(Pair {
                a: set_slots(a, Set::A, folder),
                b: set_slots(b, Set::B, folder),
            }))
        }
    }
}

fn set_slots(named: PartialSlots, set: Set, folder: &Path) -> SetSlots {
    let or_label = |path: Option<PathBuf>, slot: &str| match path {
        Some(path) => folder.join(path),
        None => PathBuf::from(format!("/dev/disk/by-partlabel/{slot}-{set}")),
    };
    SetSlots {
        boot: or_label(named.boot, "boot"),
        root: or_label(named.root, "root"),
    }
}

fn slots(
    named: BTreeMap<String, SlotPair>,
    folder: &Path,
) -> Result<BTreeMap<String, Pair<PathBuf>>, DescriptionProblem> {
    let pairs = named.into_iter().map(|(text, pair)| {
        name("slots", &text)?;
        Ok((
            text,
            Pair {
                a: folder.join(pair.a),
                b: folder.join(pair.b),
            },
        ))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Description, String> {
        Description::parse(text, Path::new("/etc/twinseal")).map_err(|problem| problem.to_string())
    }

    #[test]
    fn one_line_is_enough() {
        let device = parse("compatible = \"acme-gateway\"").unwrap();
        assert_eq!(device.compatible.as_str(), "acme-gateway");
        assert_eq!(device.record, Path::new("/var/lib/twinseal/boot-record"));
        assert_eq!(
            (device.verity, device.clock, device.trial_attempts),
            (Sealing::Required, Clock::Trusted, 3)
        );
        let sets = device.sets.unwrap();
        assert_eq!(sets.a.boot, Path::new("/dev/disk/by-partlabel/boot-a"));
        assert_eq!(sets.b.root, Path::new("/dev/disk/by-partlabel/root-b"));
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let text = "compatible = \"x\"\nstate = \"state\"\ntrusted-keys = [\"k.pub\"]\nrunning = \"/run/set\"\n\
                    [boot]\nrecord = \"record\"\n[sets.a]\nboot = \"boot-a\"\n[slots.fpga]\na = \"fpga-a\"\nb = \"/dev/fpga-b\"\n";
        let device = parse(text).unwrap();
        let at = |name: &str| Path::new("/etc/twinseal").join(name);
        assert_eq!(
            (&device.state, &device.record, device.running.as_path()),
            (&at("state"), &at("record"), Path::new("/run/set"))
        );
        assert_eq!(device.trusted_keys, Some(vec![at("k.pub")]));
        assert_eq!(
            device.sets.unwrap().a,
            SetSlots {
                boot: at("boot-a"),
                root: "/dev/disk/by-partlabel/root-a".into()
            }
        );
        assert_eq!(
            device.slots["fpga"],
            Pair {
                a: at("fpga-a"),
                b: "/dev/fpga-b".into()
            }
        );
    }

    #[test]
    fn a_file_that_is_named_is_taken_whether_it_is_there_or_not() {
        assert_eq!(file(Some(Path::new("/no/such"))), Path::new("/no/such"));
        let found = file(None);
        assert!(DEFAULT_FILES.iter().any(|file| found == Path::new(file)));
    }

    #[test]
    fn a_typing_mistake_is_named_with_its_line() {
        let wrong = |line: &str| parse(&format!("compatible = \"x\"\n{line}\n")).unwrap_err();
        for line in [
            "trusted-key = []",
            "Verity = \"absent\"",
            "[boots]",
            "[sets.c]",
            "[boot]\nlader = \"record\"",
        ] {
            let text = wrong(line);
            let key = line
                .rsplit(['\n', '['])
                .next()
                .unwrap()
                .split([' ', ']', '.'])
                .next()
                .unwrap();
            assert!(
                text.contains("unknown field") && text.contains("line "),
                "{line}: {text}"
            );
            assert!(text.contains(key), "{line}: {text}");
        }
        for line in [
            "verity = \"off\"",
            "clock = true",
            "[boot]\nloader = \"grub\"",
        ] {
            assert!(wrong(line).contains("line "), "{line}");
        }
        assert!(parse("").unwrap_err().contains("compatible"));
    }

    #[test]
    fn values_that_cannot_be_right_are_refused() {
        let wrong = |line: &str| parse(&format!("compatible = \"x\"\n{line}\n")).unwrap_err();
        assert!(
            parse("compatible = \"Not A Name\"")
                .unwrap_err()
                .contains("compatible = \"Not A Name\" is not a name")
        );
        for number in ["0", "256", "-1"] {
            assert!(
                wrong(&format!("trial-attempts = {number}")).contains("1 to 255"),
                "{number}"
            );
        }
        assert!(
            wrong("[sets.a]\nroot = \"r\"\n[sets.b]\nroot = \"r\"")
                .contains("share /etc/twinseal/r")
        );
        assert!(wrong("[slots.fpga]\na = \"f\"\nb = \"f\"").contains("share /etc/twinseal/f"));
        assert!(wrong("[slots.FPGA]\na = \"f\"\nb = \"g\"").contains("is not a name"));
        assert!(wrong("image-only = true").contains("at least one pair"));
        assert!(
            wrong("image-only = true\n[sets.a]\nboot = \"b\"").contains("Take one of them out")
        );
        assert!(
            parse("compatible = \"x\"\nimage-only = true\n[slots.app]\na = \"f\"\nb = \"g\"")
                .unwrap()
                .sets
                .is_none()
        );
    }
}
