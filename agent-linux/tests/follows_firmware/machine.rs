//! A machine: its agent is the real one, its firmware and its initramfs are models.

use crate::support::bundle::{Release, key};
use crate::support::{Board, install_of};
use std::cell::{Cell, RefCell};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use twinseal::cli::SelectArguments;
use twinseal::device::Device;
use twinseal::error::AgentError;
use twinseal::held::{Held, facts};
use twinseal::loader::{Follower, resting_default};
use twinseal::report::Outlet;
use twinseal::slots::Places;
use twinseal::verdict::{self, Patience};
use twinseal::{select, update};
use twinseal_core::boot::Set;
use twinseal_core::boot::record::{self, BootRecord, Loaded};
use twinseal_core::boot::trial::spend_attempt;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_platform_linux::loader::BootLoader;

const SEALED: &str = "[sets.a]\nboot = \"boot-a\"\nroot = \"root-a\"\n[sets.b]\nboot = \"boot-b\"\nroot = \"root-b\"\n\
                      [slots.fpga]\na = \"fpga-a\"\nb = \"fpga-b\"\n";

/// Enough boots for every trial of three attempts to end, and for the device to come to rest.
pub const BOOTS: usize = 8;

thread_local! {
    static RESTART: Cell<bool> = const { Cell::new(false) };
}

fn restart() -> Result<(), AgentError> {
    RESTART.set(true);
    Ok(())
}

/// How the loader goes wrong at one of its calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wrong {
    /// The call fails and the agent hears of it.
    Fails,
    /// The power is cut before the call does anything.
    CutBefore,
    /// The power is cut after the call did everything.
    CutAfter,
}

/// The firmware's variables, and when they go wrong.
#[derive(Default)]
pub struct Variables {
    pub default: Option<Set>,
    pub next: Option<Set>,
    pub calls: usize,
    pub wrong: Option<(usize, Wrong)>,
}

/// Stands for the firmware: counts the calls, and one of them may go wrong.
pub struct Model(Rc<RefCell<Variables>>);

impl Model {
    pub fn call<T>(&mut self, does: impl FnOnce(&mut Variables) -> T) -> Result<T, StorageError> {
        let mut variables = self.0.borrow_mut();
        let number = variables.calls;
        variables.calls += 1;
        let wrong = variables
            .wrong
            .filter(|(at, _)| *at == number)
            .map(|(_, wrong)| wrong);
        match wrong {
            Some(Wrong::Fails) => {
                return Err(StorageError {
                    operation: StorageOperation::Write,
                    object: StorageObject::BootLoader,
                    fault: StorageFault::Code(28),
                });
            }
            Some(Wrong::CutBefore) => cut(),
            Some(Wrong::CutAfter) | None => {}
        }
        let done = does(&mut variables);
        if wrong == Some(Wrong::CutAfter) {
            cut();
        }
        Ok(done)
    }
}

/// A power cut: nothing of the agent goes on.
fn cut() -> ! {
    std::panic::resume_unwind(Box::new("power cut"))
}

impl BootLoader for Model {
    fn default_set(&mut self) -> Result<Option<Set>, StorageError> {
        self.call(|variables| variables.default)
    }

    fn next_set(&mut self) -> Result<Option<Set>, StorageError> {
        self.call(|variables| variables.next)
    }

    fn set_default(&mut self, set: Set) -> Result<bool, StorageError> {
        self.call(|variables| variables.default.replace(set) != Some(set))
    }

    fn set_next(&mut self, set: Option<Set>) -> Result<bool, StorageError> {
        self.call(|variables| std::mem::replace(&mut variables.next, set) != set)
    }
}

/// A device, its firmware and its initramfs.
pub struct Machine {
    pub board: Board,
    pub variables: Rc<RefCell<Variables>>,
    /// A set that the firmware does not start, whatever it is told.
    pub refuses: Cell<Option<Set>>,
    /// One machine at a time: a process that another thread starts has the device's lock for an instant, between fork and exec.
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    /// Provisioned with release 1 in set a, and booted.
    pub fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let board = Board::at(tempfile::tempdir().unwrap(), "absent", SEALED)
            .booted(&Release::sealed(1).bundle(&[&key(1)]));
        let variables = Rc::new(RefCell::new(Variables {
            default: Some(Set::A),
            ..Variables::default()
        }));
        let machine = Self {
            board,
            variables,
            refuses: Cell::new(None),
            _alone: alone,
        };
        machine.boot();
        machine.select().unwrap();
        machine
    }

    /// The same, with release 2 on trial in set b.
    pub fn trying() -> Self {
        let machine = Self::new();
        machine.install(2).unwrap();
        assert_eq!(machine.boot_until_it_rests(), [Set::B]);
        machine
    }

    pub fn device(&self) -> Device {
        let mut device = Device::open(Some(&self.board.path("device.toml"))).unwrap();
        let variables = self.variables.clone();
        device.loader = Follower::with(Box::new(move || Ok(Box::new(Model(variables.clone())))));
        device.restart = restart;
        device
    }

    pub fn record(&self) -> BootRecord {
        let Loaded::Record(record) = self.device().load_record().unwrap() else {
            panic!("the boot record is lost");
        };
        record
    }

    /// Firmware and initramfs: which set starts, with the trial gate.
    pub fn boot(&self) -> Set {
        for _ in 0..4 {
            let set = self.firmware();
            if self.gate(set) {
                fs::write(self.board.path("running-set"), format!("{set}\n")).unwrap();
                for forgotten in ["running-set.selected", "running-set.stayed"] {
                    let _ = fs::remove_file(self.board.path(forgotten));
                }
                return set;
            }
            // What the initramfs does when it refuses a set that is on trial without an attempt: it restarts.
        }
        panic!("nothing starts");
    }

    pub fn firmware(&self) -> Set {
        let mut variables = self.variables.borrow_mut();
        let default = variables.default.unwrap_or(Set::A);
        let order = [variables.next.take(), Some(default), Some(default.other())];
        let starts = |set: &Set| {
            let uki = self.board.path(&format!("boot-{set}/EFI/BOOT/BOOTX64.EFI"));
            uki.exists() && self.refuses.get() != Some(*set)
        };
        order.into_iter().flatten().find(starts).unwrap()
    }

    pub fn gate(&self, set: Set) -> bool {
        let record = self.record();
        if record.trial().is_none_or(|trial| trial.set != set) {
            return true;
        }
        if fs::remove_file(self.board.path("state/boot-attempt")).is_ok() {
            return true;
        }
        let Some(spent) = spend_attempt(&record) else {
            return false;
        };
        record::store(&mut self.device().record_store().unwrap(), &spent).unwrap();
        true
    }

    /// Runs the select service; gives whether it asked for a restart.
    pub fn select(&self) -> Result<bool, AgentError> {
        RESTART.set(false);
        let arguments = SelectArguments { restart: true };
        select::select_set(&self.device(), arguments, &mut sink())?;
        Ok(RESTART.get())
    }

    /// Boots and selects until the device rests; gives the sets that started.
    pub fn boot_until_it_rests(&self) -> Vec<Set> {
        let mut started = Vec::new();
        loop {
            started.push(self.boot());
            assert!(started.len() <= BOOTS, "no end: {started:?}");
            if !self.select().unwrap() {
                return started;
            }
        }
    }

    pub fn install(&self, number: u64) -> Result<(), AgentError> {
        self.install_release(&Release::sealed(number))
    }

    pub fn install_release(&self, release: &Release) -> Result<(), AgentError> {
        let file = self.board.bundle(&release.bundle(&[&key(1)]));
        let arguments = install_of(file);
        update::install_bundle(&self.device(), &arguments, &mut sink())
    }

    /// What must hold when the device rests: the loader's default is what rests by the record, and nothing is told for the next
    /// boot but a trial.
    pub fn check_agreement(&self, what: &str) {
        let device = self.device();
        let facts = facts(&Held::look_at_both(&device, &Places::new(&device)));
        let record = self.record();
        let variables = self.variables.borrow();
        assert_eq!(variables.default, resting_default(&record, facts), "{what}");
        if let Some(trial) = record.trial() {
            assert_ne!(variables.default, Some(trial.set), "{what}: tried for ever");
        }
        assert_eq!(variables.next, None, "{what}");
    }
}

pub fn good(device: &Device, outlet: &mut Outlet) -> Result<(), AgentError> {
    verdict::mark_good(device, outlet, Patience::None)
}

pub fn bad(device: &Device, outlet: &mut Outlet) -> Result<(), AgentError> {
    verdict::mark_bad(device, outlet, Patience::None)
}

pub fn sink() -> Outlet {
    Outlet::new(Box::new(std::io::sink()), true)
}

/// Does `work` on machines made by `make`, going wrong at each of its calls to the loader in each way; `after` sees each machine.
/// Gives how many went wrong.
pub fn at_every_call(
    make: impl Fn() -> Machine,
    work: impl Fn(&Machine) -> Result<(), AgentError>,
    after: impl Fn(&Machine, &str),
) -> usize {
    let mut tried = 0;
    for wrong in [Wrong::Fails, Wrong::CutBefore, Wrong::CutAfter] {
        for at in 0.. {
            let machine = make();
            let before = machine.variables.borrow().calls;
            machine.variables.borrow_mut().wrong = Some((before + at, wrong));
            let ended = catch_unwind(AssertUnwindSafe(|| work(&machine)));
            let reached = machine.variables.borrow().calls > before + at;
            machine.variables.borrow_mut().wrong = None;
            if !reached {
                assert!(matches!(ended, Ok(Ok(()))), "untouched work succeeds");
                break;
            }
            tried += 1;
            after(&machine, &format!("call {at} {wrong:?}"));
        }
    }
    tried
}
