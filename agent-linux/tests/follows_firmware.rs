//! Where the firmware chooses: boot record and boot loader come together again after every cut, and every trial ends.
//!
//! The firmware and the initramfs are models here; the agent is the real one, run inside the test so that it can be cut at every
//! call that it makes to the loader.

mod support;

use std::cell::{Cell, RefCell};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use support::Board;
use support::bundle::{Release, key};
use twinseal::cli::{BundleArguments, InstallArguments, SelectArguments};
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
const BOOTS: usize = 8;

thread_local! {
    static RESTART: Cell<bool> = const { Cell::new(false) };
}

fn restart() -> Result<(), AgentError> {
    RESTART.set(true);
    Ok(())
}

/// How the loader goes wrong at one of its calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    /// The call fails and the agent hears of it.
    Fails,
    /// The power is cut before the call does anything.
    CutBefore,
    /// The power is cut after the call did everything.
    CutAfter,
}

/// The firmware's variables, and when they go wrong.
#[derive(Default)]
struct Variables {
    default: Option<Set>,
    next: Option<Set>,
    calls: usize,
    wrong: Option<(usize, Wrong)>,
}

/// Stands for the firmware: counts the calls, and one of them may go wrong.
struct Model(Rc<RefCell<Variables>>);

impl Model {
    fn call<T>(&mut self, does: impl FnOnce(&mut Variables) -> T) -> Result<T, StorageError> {
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
struct Machine {
    board: Board,
    variables: Rc<RefCell<Variables>>,
    /// A set that the firmware does not start, whatever it is told.
    refuses: Cell<Option<Set>>,
    /// One machine at a time: a process that another thread starts has the device's lock for an instant, between fork and exec.
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    /// Provisioned with release 1 in set a, and booted.
    fn new() -> Self {
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

    fn device(&self) -> Device {
        let mut device = Device::open(Some(&self.board.path("device.toml"))).unwrap();
        let variables = self.variables.clone();
        device.loader = Follower::with(Box::new(move || Ok(Box::new(Model(variables.clone())))));
        device.restart = restart;
        device
    }

    fn record(&self) -> BootRecord {
        let Loaded::Record(record) = self.device().load_record().unwrap() else {
            panic!("the boot record is lost");
        };
        record
    }

    /// Firmware and initramfs: which set starts, with the trial gate.
    fn boot(&self) -> Set {
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

    fn firmware(&self) -> Set {
        let mut variables = self.variables.borrow_mut();
        let default = variables.default.unwrap_or(Set::A);
        let order = [variables.next.take(), Some(default), Some(default.other())];
        let starts = |set: &Set| {
            let uki = self.board.path(&format!("boot-{set}/EFI/BOOT/BOOTX64.EFI"));
            uki.exists() && self.refuses.get() != Some(*set)
        };
        order.into_iter().flatten().find(starts).unwrap()
    }

    fn gate(&self, set: Set) -> bool {
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
    fn select(&self) -> Result<bool, AgentError> {
        RESTART.set(false);
        let arguments = SelectArguments { restart: true };
        select::select_set(&self.device(), arguments, &mut sink())?;
        Ok(RESTART.get())
    }

    /// Boots and selects until the device rests; gives the sets that started.
    fn boot_until_it_rests(&self) -> Vec<Set> {
        let mut started = Vec::new();
        loop {
            started.push(self.boot());
            assert!(started.len() <= BOOTS, "no end: {started:?}");
            if !self.select().unwrap() {
                return started;
            }
        }
    }

    fn install(&self, number: u64) -> Result<(), AgentError> {
        self.install_release(&Release::sealed(number))
    }

    fn install_release(&self, release: &Release) -> Result<(), AgentError> {
        let file = self.board.bundle(&release.bundle(&[&key(1)]));
        let arguments = InstallArguments {
            no_firmware_check: false,
            bundle: BundleArguments {
                source: file.into(),
                budget: None,
                no_audit: false,
                max_rate: None,
                window: None,
            },
            no_read_back: false,
            attempts: None,
            no_trial: false,
        };
        update::install_bundle(&self.device(), &arguments, &mut sink())
    }

    /// What must hold when the device rests: the loader's default is what rests by the record, and nothing is told for the next
    /// boot but a trial.
    fn check_agreement(&self, what: &str) {
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

fn good(device: &Device, outlet: &mut Outlet) -> Result<(), AgentError> {
    verdict::mark_good(device, outlet, Patience::None)
}

fn bad(device: &Device, outlet: &mut Outlet) -> Result<(), AgentError> {
    verdict::mark_bad(device, outlet, Patience::None)
}

fn sink() -> Outlet {
    Outlet::new(Box::new(std::io::sink()), true)
}

/// Does `work` on machines made by `make`, going wrong at each of its calls to the loader in each way; `after` sees each machine.
/// Gives how many went wrong.
fn at_every_call(
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

#[test]
fn an_update_is_tried_at_once_and_committed() {
    let machine = Machine::new();
    fs::create_dir_all(machine.board.path("state/etc/b")).unwrap();
    fs::write(machine.board.path("state/etc/b/seal"), "old").unwrap();
    machine.install(2).unwrap();
    assert_eq!(machine.record().trial().unwrap().attempts_left, 2);
    assert!(machine.board.path("state/boot-attempt").exists());
    assert!(!machine.board.path("state/etc/b/seal").exists());
    assert_eq!(machine.boot(), Set::B);
    assert_eq!(machine.record().trial().unwrap().attempts_left, 2);
    let on_trial = || machine.board.path("on-trial").exists();
    assert!(!on_trial(), "nobody has looked");
    assert!(!machine.select().unwrap());
    assert!(on_trial());
    good(&machine.device(), &mut sink()).unwrap();
    machine.check_agreement("after the commit");
    assert_eq!(machine.boot_until_it_rests(), [Set::B]);
    assert!(!on_trial());
    machine.install(3).unwrap();
    machine.select().unwrap();
    assert!(!on_trial(), "set a waits for its trial, and set b runs");
    assert_eq!(machine.boot_until_it_rests(), [Set::A]);
    machine.check_agreement("after a restart");
}

#[test]
fn a_trial_that_says_nothing_ends_after_its_attempts() {
    let machine = Machine::new();
    machine.install(2).unwrap();
    let mut started = Vec::new();
    for _ in 0..BOOTS {
        // The trial hangs before its services start; set a has its select.
        let set = machine.boot();
        started.push(set);
        if set == Set::A {
            machine.select().unwrap();
        }
    }
    use Set::{A, B};
    assert_eq!(started, [B, A, B, A, B, A, A, A]);
    assert!(machine.record().is_bad(B));
    machine.check_agreement("after the rollback");
}

#[test]
fn a_firmware_that_refuses_the_trial_uses_its_attempts_up() {
    let machine = Machine::new();
    machine.install(2).unwrap();
    machine.refuses.set(Some(Set::B));
    assert_eq!(machine.boot_until_it_rests(), [Set::A; 3]);
    assert!(machine.record().is_bad(Set::B));
    machine.check_agreement("after the rollback");
}

#[test]
fn select_run_again_in_the_same_boot_spends_nothing() {
    let machine = Machine::new();
    machine.install(2).unwrap();
    for _ in 0..5 {
        assert!(machine.select().unwrap(), "a restart is needed");
        assert_eq!(machine.record().trial().unwrap().attempts_left, 2);
    }
    assert_eq!(machine.boot(), Set::B);
}

#[test]
fn a_jump_that_fails_is_tried_again_in_the_same_boot_without_another_attempt() {
    let machine = Machine::new();
    machine.install(2).unwrap();
    machine.boot();
    assert_eq!(machine.boot(), Set::A);
    let calls = machine.variables.borrow().calls;
    // The two calls that ask come first, then the two that tell.
    for at in [2, 3] {
        machine.variables.borrow_mut().calls = calls;
        machine.variables.borrow_mut().wrong = Some((calls + at, Wrong::Fails));
        assert_eq!(machine.select().unwrap_err().code(), 55);
        assert_eq!(machine.record().trial().unwrap().attempts_left, 1);
    }
    machine.variables.borrow_mut().wrong = None;
    assert!(machine.select().unwrap());
    assert_eq!(machine.record().trial().unwrap().attempts_left, 1);
    assert_eq!(machine.boot(), Set::B);
}

#[test]
fn every_cut_of_an_install_leaves_a_device_that_comes_together_again() {
    let tried = at_every_call(
        Machine::new,
        |machine| machine.install(2),
        |machine, what| {
            let started = machine.boot_until_it_rests();
            let last = *started.last().unwrap();
            let record = machine.record();
            machine.check_agreement(what);
            match record.trial() {
                Some(trial) => assert_eq!(trial.set, last, "{what}: the trial runs"),
                None => assert_eq!(last, Set::A, "{what}"),
            }
            if record.trial().is_some() {
                good(&machine.device(), &mut sink()).unwrap();
                assert_eq!(machine.boot_until_it_rests(), [Set::B], "{what}");
            } else {
                machine.install(2).unwrap();
                assert_eq!(machine.boot(), Set::B, "{what}: the same install again");
            }
        },
    );
    println!("{tried} calls went wrong");
    assert!(tried >= 9);
}

#[test]
fn every_cut_of_an_install_over_a_pending_trial_is_repaired() {
    let pending = || {
        let machine = Machine::new();
        machine.install(2).unwrap();
        machine
    };
    let tried = at_every_call(
        pending,
        |machine| machine.install(3),
        |machine, what| {
            let last = *machine.boot_until_it_rests().last().unwrap();
            machine.check_agreement(what);
            let trial = machine.record().trial().map(|trial| trial.set);
            assert_eq!(trial.unwrap_or(Set::A), last, "{what}");
        },
    );
    println!("{tried} calls went wrong");
    assert!(tried >= 9);
}

#[test]
fn every_cut_of_a_verdict_is_repaired() {
    let running_trial = || {
        let machine = Machine::new();
        machine.install(2).unwrap();
        assert_eq!(machine.boot_until_it_rests(), [Set::B]);
        machine
    };
    type Verdict = fn(&Device, &mut Outlet) -> Result<(), AgentError>;
    let verdicts: [(Verdict, Set); 3] =
        [(good, Set::B), (bad, Set::A), (verdict::roll_back, Set::A)];
    let mut tried = 0;
    for (verdict, ends_in) in verdicts {
        tried += at_every_call(
            running_trial,
            |machine| verdict(&machine.device(), &mut sink()),
            |machine, what| {
                let last = *machine.boot_until_it_rests().last().unwrap();
                assert_eq!(last, ends_in, "{what}");
                assert_eq!(machine.record().trial(), None, "{what}");
                machine.check_agreement(what);
            },
        );
    }
    println!("{tried} calls went wrong");
    assert!(tried >= 18);
}

#[test]
fn every_cut_of_select_is_repaired_by_the_next() {
    // A trial whose first start did not come up: set a runs, and select must send the firmware again.
    let returned = || {
        let machine = Machine::new();
        machine.install(2).unwrap();
        machine.boot();
        assert_eq!(machine.boot(), Set::A);
        machine
    };
    let tried = at_every_call(
        returned,
        |machine| machine.select().map(|_| ()),
        |machine, what| {
            let last = *machine.boot_until_it_rests().last().unwrap();
            machine.check_agreement(what);
            let trial = machine.record().trial().map(|trial| trial.set);
            assert_eq!(trial.unwrap_or(Set::A), last, "{what}");
        },
    );
    println!("{tried} calls went wrong");
    assert!(tried >= 9);
}

#[test]
fn a_loader_that_cannot_be_asked_costs_no_attempt() {
    let machine = Machine::new();
    machine.install(2).unwrap();
    machine.boot();
    assert_eq!(machine.boot(), Set::A);
    let calls = machine.variables.borrow().calls;
    machine.variables.borrow_mut().wrong = Some((calls, Wrong::Fails));
    assert_eq!(machine.select().unwrap_err().code(), 55);
    assert_eq!(machine.record().trial().unwrap().attempts_left, 2);
}

#[test]
fn a_committed_device_is_well_although_its_loader_and_its_marks_fail() {
    let committed = || {
        let machine = Machine::new();
        machine.boot();
        machine
    };
    let tried = at_every_call(
        committed,
        |machine| {
            assert!(!machine.select()?, "no restart");
            Ok(())
        },
        |_, _| (),
    );
    let machine = committed();
    let calls = machine.variables.borrow().calls;
    // Every call of its own, without a power cut: `select` goes on.
    for at in 0..tried / 3 {
        machine.variables.borrow_mut().wrong = Some((calls + at, Wrong::Fails));
        machine.variables.borrow_mut().calls = calls;
        assert!(!machine.select().unwrap(), "call {at}");
        assert!(machine.variables.borrow().calls > calls + at);
    }
    machine.variables.borrow_mut().wrong = None;
    // Marks that cannot be removed: they are folders.
    for mark in ["boot-attempt", "redirect"] {
        fs::create_dir_all(machine.board.path("state").join(mark).join("x")).unwrap();
    }
    machine.variables.borrow_mut().default = Some(Set::B);
    assert!(!machine.select().unwrap());
    assert_eq!(
        machine.variables.borrow().default,
        Some(Set::A),
        "the firmware is told all the same"
    );
}

#[test]
fn lost_variables_are_told_again() {
    let machine = Machine::new();
    machine.install(2).unwrap();
    assert_eq!(machine.boot_until_it_rests(), [Set::B]);
    good(&machine.device(), &mut sink()).unwrap();
    for loss in 1..=3 {
        *machine.variables.borrow_mut() = Variables::default();
        // A firmware without variables starts the first disk entry that it finds: set a.
        assert_eq!(
            machine.boot_until_it_rests(),
            [Set::A, Set::B],
            "loss {loss}"
        );
        machine.check_agreement("after one restart");
        assert!(!machine.board.path("state/redirect").exists());
    }
}

/// Set b is the default set, the firmware refuses it, and set a runs, after one restart more.
fn staying() -> Machine {
    let machine = Machine::new();
    machine.install(2).unwrap();
    assert_eq!(machine.boot_until_it_rests(), [Set::B]);
    good(&machine.device(), &mut sink()).unwrap();
    machine.refuses.set(Some(Set::B));
    assert_eq!(machine.boot_until_it_rests(), [Set::A, Set::A]);
    machine
}

#[test]
fn a_default_set_that_the_firmware_refuses_is_tried_once_and_can_be_installed_over() {
    let machine = staying();
    assert_eq!(
        machine.boot_until_it_rests(),
        [Set::A],
        "no restart any more"
    );
    assert_eq!(machine.board.kinds().last().unwrap(), "stayed");
    machine.refuses.set(None);
    machine.install(3).unwrap();
    assert_eq!(machine.boot(), Set::B, "another release is another chance");
}

/// Set b is the default set and was refused by the firmware; the same release is installed there again from set a.
fn installed_again(anti_rollback: u64) -> Machine {
    let release = Release {
        anti_rollback,
        ..Release::sealed(2)
    };
    let machine = Machine::new();
    machine.install_release(&release).unwrap();
    assert_eq!(machine.boot_until_it_rests(), [Set::B]);
    good(&machine.device(), &mut sink()).unwrap();
    machine.refuses.set(Some(Set::B));
    assert_eq!(machine.boot_until_it_rests(), [Set::A, Set::A]);
    machine.refuses.set(None);
    machine.install_release(&release).unwrap();
    let record = machine.record();
    assert_eq!(record.default_set(), Set::B);
    assert_eq!(record.trial().unwrap().set, Set::B);
    machine
}

#[test]
fn a_trial_of_the_default_set_ends_like_any_other() {
    use Set::{A, B};
    // With a way back that may be booted, and with one that is below the floor.
    for (anti_rollback, ends) in [(1, A), (2, B)] {
        let machine = installed_again(anti_rollback);
        let mut started = Vec::new();
        while machine.record().trial().is_some() {
            assert_eq!(machine.variables.borrow().default, Some(A), "{started:?}");
            let set = machine.boot();
            started.push(set);
            machine.select().unwrap();
            assert!(started.len() <= BOOTS, "no end: {started:?}");
        }
        assert_eq!(started, [B, A, B, A, B, A], "{anti_rollback}");
        assert!(machine.record().is_bad(B));
        let started = machine.boot_until_it_rests();
        assert_eq!(started.last(), Some(&ends), "{anti_rollback}");
        machine.check_agreement("after the trial");
    }
}

#[test]
fn a_verdict_on_a_trial_of_the_default_set_is_followed() {
    type Verdict = fn(&Device, &mut Outlet) -> Result<(), AgentError>;
    let verdicts: [(Verdict, Set); 3] =
        [(good, Set::B), (bad, Set::A), (verdict::roll_back, Set::A)];
    for (verdict, ends) in verdicts {
        let machine = installed_again(1);
        assert_eq!(machine.boot_until_it_rests(), [Set::B]);
        machine.check_agreement("during the trial");
        verdict(&machine.device(), &mut sink()).unwrap();
        let record = machine.record();
        assert_eq!((record.default_set(), record.trial()), (ends, None));
        machine.check_agreement("after the verdict");
        assert_eq!(machine.boot_until_it_rests(), [ends]);
    }
    let machine = installed_again(2);
    machine.boot_until_it_rests();
    assert_eq!(
        bad(&machine.device(), &mut sink()).unwrap_err().code(),
        40,
        "the way back is below the floor"
    );
}

#[test]
fn a_set_that_boots_next_is_written_only_after_the_firmware_refused_it() {
    let machine = Machine::new();
    let release = Release {
        anti_rollback: 1,
        ..Release::sealed(2)
    };
    machine.install_release(&release).unwrap();
    assert_eq!(machine.boot_until_it_rests(), [Set::B]);
    good(&machine.device(), &mut sink()).unwrap();
    verdict::roll_back(&machine.device(), &mut sink()).unwrap();
    assert_eq!(machine.install(3).unwrap_err().code(), 39);
    // `select` sends the firmware to set a; nobody has restarted yet.
    assert!(machine.select().unwrap());
    assert_eq!(machine.install(3).unwrap_err().code(), 39);
    machine.refuses.set(Some(Set::A));
    assert_eq!(machine.boot(), Set::B);
    assert!(!machine.select().unwrap());
    assert!(!machine.select().unwrap(), "nor when it is run again");
    let stayed = |kinds: Vec<String>| kinds.iter().filter(|kind| *kind == "stayed").count();
    assert_eq!(stayed(machine.board.kinds()), 1);
    machine.install(3).unwrap();
    machine.refuses.set(None);
    assert_eq!(machine.boot_until_it_rests(), [Set::A]);
}

#[test]
fn a_verdict_ends_staying() {
    let machine = staying();
    assert!(machine.board.path("running-set.stayed").exists());
    let needed = || verdict::reboot_needed(&machine.device(), &mut sink()).unwrap();
    assert_eq!(needed(), 1, "it would stay again");
    bad(&machine.device(), &mut sink()).unwrap();
    assert!(!machine.board.path("running-set.stayed").exists());
    assert_eq!(needed(), 0, "it was decided anew");
    assert_eq!(machine.install(3).unwrap_err().code(), 39);
}

#[test]
fn mark_good_makes_a_set_that_stays_the_default() {
    let machine = staying();
    good(&machine.device(), &mut sink()).unwrap();
    let record = machine.record();
    assert_eq!((record.default_set(), record.floor()), (Set::A, 2));
    assert!(!machine.board.path("running-set.stayed").exists());
    machine.check_agreement("after the verdict");
    machine.refuses.set(None);
    assert_eq!(machine.boot_until_it_rests(), [Set::A]);
}

#[test]
fn a_start_that_select_ends_is_not_held_against_its_set() {
    let machine = Machine::new();
    let starts = |set| machine.board.path(&format!("state/starts-{set}"));
    machine.install(2).unwrap();
    machine.boot();
    assert_eq!(machine.boot(), Set::A, "the trial said nothing");
    for set in [Set::A, Set::B] {
        fs::write(starts(set), "..").unwrap();
    }
    assert!(machine.select().unwrap(), "to the trial");
    assert!(!starts(Set::A).exists() && starts(Set::B).exists());
    assert_eq!(machine.boot(), Set::B);
    machine.select().unwrap();
    good(&machine.device(), &mut sink()).unwrap();
    *machine.variables.borrow_mut() = Variables::default();
    assert_eq!(machine.boot(), Set::A, "the firmware forgot");
    fs::write(starts(Set::A), "..").unwrap();
    assert!(machine.select().unwrap(), "to the default set");
    assert!(!starts(Set::A).exists());
}

#[test]
fn rollback_has_a_refused_set_started_again() {
    let machine = staying();
    let starts = machine.board.path("state/starts-b");
    fs::write(&starts, "...").unwrap();
    verdict::roll_back(&machine.device(), &mut sink()).unwrap();
    assert!(!starts.exists());
    assert_eq!(machine.record().default_set(), Set::B);
    machine.refuses.set(None);
    assert_eq!(machine.boot_until_it_rests(), [Set::B]);
}

#[test]
fn a_device_that_stays_needs_a_restart_only_for_a_trial() {
    let machine = Machine::new();
    machine.install(2).unwrap();
    assert_eq!(machine.boot_until_it_rests(), [Set::B]);
    good(&machine.device(), &mut sink()).unwrap();
    machine.refuses.set(Some(Set::B));
    assert_eq!(machine.boot(), Set::A);
    let needed = || machine.board.run(&["reboot-needed"]);
    assert_eq!(needed().code, 0, "nothing is known of the firmware yet");
    assert!(machine.select().unwrap());
    assert_eq!(needed().code, 0);
    assert_eq!(machine.boot_until_it_rests(), [Set::A]);
    let run = needed();
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(
        run.out.contains("the firmware refused set b"),
        "{}",
        run.out
    );
    assert_eq!(machine.board.status()["reboot_needed"], false);
    machine.install(3).unwrap();
    assert_eq!(needed().code, 0, "a trial waits");
}

#[test]
fn status_says_what_the_loader_says() {
    let machine = Machine::new();
    let text = |machine: &Machine| {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut outlet = Outlet::new(Box::new(writer), false);
        twinseal::status::status(&machine.device(), &mut outlet).unwrap();
        drop(outlet);
        std::io::read_to_string(reader).unwrap()
    };
    let says = text(&machine);
    assert!(
        says.contains("boot loader    default set a; as the"),
        "{says}"
    );
    machine.install(2).unwrap();
    assert!(text(&machine).contains("default set a, next set b; as the"));
    machine.variables.borrow_mut().default = Some(Set::B);
    assert!(text(&machine).contains("NOT as the boot record says"));
    machine.variables.borrow_mut().default = None;
    assert!(text(&machine).contains("default set not known"));
}
