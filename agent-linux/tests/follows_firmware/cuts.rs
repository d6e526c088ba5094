//! The power is cut, or the loader fails, at every call that is made to it.

use super::machine::*;
use twinseal::device::Device;
use twinseal::error::AgentError;
use twinseal::report::Outlet;
use twinseal::verdict;
use twinseal_core::boot::Set;

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
    type Verdict = fn(&Device, &mut Outlet) -> Result<(), AgentError>;
    let verdicts: [(Verdict, Set); 3] =
        [(good, Set::B), (bad, Set::A), (verdict::roll_back, Set::A)];
    let mut tried = 0;
    for (verdict, ends_in) in verdicts {
        tried += at_every_call(
            Machine::trying,
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
