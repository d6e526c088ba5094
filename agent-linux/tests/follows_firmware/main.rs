//! Where the firmware chooses: boot record and boot loader come together again after every cut, and every trial ends.
//!
//! The firmware and the initramfs are models here; the agent is the real one, run inside the test so that it can be cut at every
//! call that it makes to the loader.

mod cuts;
mod machine;
mod staying;
#[path = "../support/mod.rs"]
mod support;

use machine::*;
use std::fs;
use twinseal::report::Outlet;
use twinseal_core::boot::Set;

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
    let machine = Machine::trying();
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
