//! systemd-boot on a device: the agent's commands and the real loader, on plain folders that stand for efivarfs and the boot slots.
//!
//! What systemd-boot and the initramfs do is a few lines here (`Machine::boot`); the virtual board shows it with the real ones.

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use support::bundle::{Release, key};
use support::{Board, install_of};
use twinseal::cli::{InitArguments, SelectArguments, SetName};
use twinseal::device::Device;
use twinseal::error::AgentError;
use twinseal::held::Held;
use twinseal::loader::{Follower, LoaderSlot, MountingLoader, Told};
use twinseal::report::Outlet;
use twinseal::slots::Places;
use twinseal::verdict::{self, Patience};
use twinseal::{init, select, update};
use twinseal_core::boot::Set;
use twinseal_platform_linux::loader::{BootPartition, SystemdBootLoader};

const SLOTS: &str = "[boot]\nloader = \"systemd-boot\"\nvariables = \"efivars\"\n\
                     [sets.a]\nboot = \"boot-a\"\nroot = \"root-a\"\n[sets.b]\nboot = \"boot-b\"\nroot = \"root-b\"\n\
                     [slots.fpga]\na = \"fpga-a\"\nb = \"fpga-b\"\n";

const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// One machine at a time: a program that another test starts would hold this process's lock of the boot record until it runs.
static ALONE: Mutex<()> = Mutex::new(());

struct Machine(
    Board,
    #[expect(dead_code, reason = "held")] MutexGuard<'static, ()>,
);

impl Machine {
    /// Release 1 in set a, booted.
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let board = Board::at(tempfile::tempdir().unwrap(), "absent", SLOTS);
        fs::create_dir(board.path("efivars")).unwrap();
        let machine = Self(board, alone);
        let arguments = InitArguments {
            source: machine.bundle(1),
            set: SetName::A,
            both: false,
        };
        init::init(&machine.device(), &arguments, &mut sink()).unwrap();
        machine.boot(Set::A);
        machine
    }

    fn bundle(&self, number: u64) -> PathBuf {
        let bytes = Release::sealed(number).bundle(&[&key(1)]);
        self.0.bundle(&bytes).into()
    }

    fn device(&self) -> Device {
        let mut device = Device::open(Some(&self.0.path("device.toml"))).unwrap();
        let variables = self.0.text("efivars");
        let slots = ["boot-a", "boot-b"].map(|name| LoaderSlot::at(&self.0.text(name), "/no", &[]));
        device.loader = Follower::with(Box::new(move || {
            let [a, b] = &slots;
            let folders = [a.folder(), b.folder()];
            let boot = [1, 2].map(|number| BootPartition {
                number,
                start_blocks: 2048,
                size_blocks: 2048,
                guid: [number as u8; 16],
            });
            let loader = SystemdBootLoader::open(&variables, boot, folders)?;
            Ok(Box::new(MountingLoader::new(loader, slots.clone())))
        }));
        device.restart = || Ok(());
        device
    }

    fn install(&self, number: u64) -> Result<(), AgentError> {
        let arguments = install_of(self.bundle(number));
        update::install_bundle(&self.device(), &arguments, &mut sink())
    }

    /// systemd-boot forgets what it was told for one boot and starts a set; the initramfs takes the mark of the attempt that was
    /// spent; the agent selects.
    fn boot(&self, set: Set) {
        let _ = fs::remove_file(self.variable("LoaderEntryOneShot"));
        let _ = fs::remove_file(self.0.path("state/boot-attempt"));
        let _ = fs::remove_file(self.0.path("running-set.selected"));
        fs::write(self.0.path("running-set"), format!("{set}\n")).unwrap();
        let arguments = SelectArguments { restart: true };
        select::select_set(&self.device(), arguments, &mut sink()).unwrap();
    }

    fn variable(&self, name: &str) -> PathBuf {
        self.0.path(&format!("efivars/{name}-{VENDOR}"))
    }

    fn told(&self) -> Told {
        self.device().loader.told().unwrap().unwrap()
    }

    /// The names in the folder of entries of a set's boot slot.
    fn entries(&self, set: Set) -> Vec<String> {
        let folder = self.0.path(&format!("boot-{set}/EFI/Linux"));
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn good(&self) {
        verdict::mark_good(&self.device(), &mut sink(), Patience::None).unwrap();
    }
}

fn sink() -> Outlet {
    Outlet::new(Box::new(std::io::sink()), true)
}

const fn told(default: Set, next: Option<Set>) -> Told {
    Told {
        default: Some(default),
        next,
    }
}

#[test]
fn a_uki_gets_the_name_that_boots_by_itself_at_the_commit() {
    let machine = Machine::new();
    assert_eq!(machine.entries(Set::A), ["TWINSE-A.EFI"]);
    assert_eq!(machine.told(), told(Set::A, None));
    machine.install(2).unwrap();
    assert_eq!(machine.entries(Set::B), ["TWINTRYB.EFI"]);
    assert_eq!(machine.told(), told(Set::A, Some(Set::B)));
    machine.boot(Set::B);
    assert_eq!(machine.entries(Set::B), ["TWINTRYB.EFI"]);
    assert_eq!(machine.told(), told(Set::A, None));
    machine.good();
    assert_eq!(machine.entries(Set::B), ["TWINSE-B.EFI"]);
    assert_eq!(machine.told(), told(Set::B, None));
    // What an install removes before it writes is the target's entry, and nothing of the running set.
    machine.install(3).unwrap();
    assert_eq!(machine.entries(Set::A), ["TWINTRYA.EFI"]);
    assert_eq!(machine.entries(Set::B), ["TWINSE-B.EFI"]);
}

#[test]
fn a_set_is_looked_for_among_the_entries() {
    let machine = Machine::new();
    machine.install(2).unwrap();
    let device = machine.device();
    let places = Places::new(&device);
    let bootable = |set| Held::look(&device, &places, set).bootable;
    assert!(bootable(Set::A) && bootable(Set::B));
    // A recovery that was cut off leaves the UKI where it stands.
    let incomplete = machine.0.path("root-b/twinseal/incomplete");
    fs::write(&incomplete, "").unwrap();
    assert!(bootable(Set::A) && !bootable(Set::B));
    fs::remove_file(&incomplete).unwrap();
    assert!(bootable(Set::B));
    for (from, to) in [
        ("boot-b/EFI/Linux", "boot-b/EFI/BOOT"),
        (
            "boot-b/EFI/BOOT/TWINTRYB.EFI",
            "boot-b/EFI/BOOT/BOOTX64.EFI",
        ),
    ] {
        fs::rename(machine.0.path(from), machine.0.path(to)).unwrap();
    }
    assert!(
        !bootable(Set::B),
        "the firmware's own path is not looked at"
    );
    let damaged = machine.0.path("boot-a/EFI/Linux/TWINSE-A.EFI");
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[0] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let run = machine.0.run(&["--json", "check", "--set", "a"]);
    assert_eq!(run.code, 81, "{}{}", run.out, run.err);
}

#[test]
fn a_counted_path_that_outlived_a_refused_uki_makes_nothing_the_default() {
    let machine = Machine::new();
    machine.install(2).unwrap();
    // The firmware refused set b and went on to set a; what systemd-boot counted and chose is still there.
    for (name, text) in [
        ("LoaderBootCountPath", "\\EFI\\Linux\\TWINTRYB.EFI\0"),
        ("LoaderEntrySelected", "twintryb.efi\0"),
    ] {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        let value: Vec<u8> = [6, 0, 0, 0].into_iter().chain(units).collect();
        fs::write(machine.variable(name), value).unwrap();
    }
    machine.boot(Set::A);
    machine.good();
    assert_eq!(machine.entries(Set::B), ["TWINTRYB.EFI"]);
    assert_eq!(machine.told().default, Some(Set::A));
    let device = machine.device();
    let record = device.load_record().unwrap();
    let record = twinseal::device::need_record(&record).unwrap();
    assert_eq!(record.default_set(), Set::A);
}
