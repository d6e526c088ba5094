//! The firmware refuses the set that must boot.

use super::machine::*;
use crate::support::bundle::Release;
use std::fs;
use twinseal::device::Device;
use twinseal::error::AgentError;
use twinseal::report::Outlet;
use twinseal::verdict;
use twinseal_core::boot::Set;

/// Set b is the default set, the firmware refuses it, and set a runs, after one restart more.
fn staying() -> Machine {
    let machine = Machine::trying();
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
    let machine = Machine::trying();
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
