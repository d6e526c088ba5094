//! A power cut at every operation of the flash, before and within it, during a whole update: install, flip, trial, commit.
//!
//! The firmware's own storage, boot record and proofs, and core, as on the microcontroller; the order of one start is that of
//! `bin/boot.rs` and `bin/app.rs`, whose programs the board `mcu` runs.

#[path = "../../../core/tests/support/mod.rs"]
mod support;

use crate::flash::{Flash, POWER_CUT};
use crate::held::{self, COMPATIBLE, Held};
use crate::record::Copies;
use crate::slots::{SLOT, Scratch, Slots};
use crate::sys::{PowerOff, medium, set_medium, write_medium};
use std::panic::{AssertUnwindSafe, catch_unwind};
use support::{Release, bundle_reader, key, noise, trusted};
use twinseal_core::boot::record::{self, BootRecord, Loaded};
use twinseal_core::boot::select::{ATTEMPTS_DEFAULT, select};
use twinseal_core::boot::{Set, trial};
use twinseal_core::decode::Inflate;
use twinseal_core::install::{Config, Installed, Installer, OUTPUT_MIN_BYTES, Workspace};
use twinseal_core::source::{Seekable, run};
use twinseal_core::verify::policy::Policy;
use twinseal_core::wire::FRONT_MAX_BYTES;
use twinseal_core::wire::text::Name;

/// Size of the images: five sectors and a piece.
const IMAGE_BYTES: usize = 5 * 4096 + 700;

const VIOLATIONS_AT: usize = 20;

fn bundle(seed: u64) -> Vec<u8> {
    let release = Release {
        uki: None,
        erofs: Vec::new(),
        objects: Vec::new(),
        images: vec![(SLOT, noise(seed, IMAGE_BYTES))],
        info: Vec::new(),
        ..Release::sealed(seed)
    };
    release.build_with(
        |_| {},
        |manifest| {
            manifest.compatible = Name::new(COMPATIBLE).unwrap();
            manifest.seal = None;
        },
    )
}

fn flash() -> Flash {
    Flash::find().unwrap()
}

/// A new flash that trusts the key of the bundles.
fn new_medium() {
    set_medium(vec![0; crate::machine::MEDIUM_BYTES]);
    let trusted: &[u8] = &*key(1).pk;
    put(0, b"TSFL");
    put(64, trusted);
}

fn put(at: usize, bytes: &[u8]) {
    for (number, byte) in bytes.iter().enumerate() {
        write_medium(at + number, *byte);
    }
}

fn look() -> [Option<Held>; 2] {
    held::look_at_both(&flash(), &mut [0; FRONT_MAX_BYTES])
}

fn load() -> Loaded {
    record::load(&mut Copies(&mut flash())).unwrap()
}

fn store(next: &BootRecord) {
    record::store(&mut Copies(&mut flash()), next).unwrap();
}

fn install(bundle: &[u8], target: Set, running: Option<Held>) -> Installed {
    let mut flash = flash();
    let keys = [trusted(1)];
    let config = Config {
        keys: &keys,
        policy: Policy {
            compatible: COMPATIBLE,
            floor: 0,
            now: None,
            highest_time_seen: 0,
        },
        request_max_bytes: 8192,
        source_bytes: None,
        audit: false,
        read_back: true,
        budget: None,
        can_go_back: true,
    };
    let (mut front, mut output) = ([0; FRONT_MAX_BYTES], [0; OUTPUT_MIN_BYTES]);
    let mut inflate = Inflate::new();
    let workspace = Workspace {
        front: &mut front,
        output: &mut output,
        inflate: &mut inflate,
        zstd: None,
    };
    let mut scratch: Scratch = [0; size_of::<Scratch>()];
    let running = running.map(|held| held.image);
    let mut slots = Slots::new(&mut flash, target, running, &mut scratch);
    let mut installer = Installer::new(config, workspace).unwrap();
    let mut source = Seekable(bundle_reader(bundle));
    run(
        &mut installer,
        &mut source,
        &mut slots,
        &mut [0; 8192],
        |_, _| true,
    )
    .unwrap();
    installer.into_installed().unwrap()
}

/// The factory: the bundle in set a, and the first record.
fn factory(bundle: &[u8]) {
    new_medium();
    let installed = install(bundle, Set::A, None);
    let release = installed.manifest();
    let anti_rollback = release.value().anti_rollback;
    store(&BootRecord::provisioned(
        Set::A,
        anti_rollback,
        *release.manifest_sha256(),
    ));
}

/// One start: choice, commit of a trial, and an update where there is one. Gives what was booted, and whether it restarts.
fn start(update: Option<&[u8]>) -> (Set, bool) {
    let held = look();
    let selection = select(&load(), held::facts(&held), 0);
    let set = selection.boot().expect("a set can be booted");
    if let Some(next) = selection.record() {
        store(next);
    }
    assert!(set.of(held).is_some(), "what boots is whole");
    let Loaded::Record(mut record) = load() else {
        panic!("the record can be read")
    };
    if trial::running_trial(&record, set).is_ok()
        && let Some(next) = trial::commit(&record, set, held::facts(&held))
    {
        record = record::store(&mut Copies(&mut flash()), &next).unwrap();
    }
    let target = set.other();
    // As the application: a bundle that runs already is not wanted.
    let Some(bundle) = update.filter(|_| set == Set::A) else {
        return (set, record.trial().is_some());
    };
    if let Some(next) = trial::clear_for_install(&record, set).unwrap() {
        record = record::store(&mut Copies(&mut flash()), &next).unwrap();
    }
    let installed = install(bundle, target, set.of(held));
    store(&trial::arm(&record, &installed, target, ATTEMPTS_DEFAULT));
    (set, true)
}

/// Starts until nothing is left to do; the set that runs then, which must be committed.
fn settle(update: Option<&[u8]>) -> Set {
    for _ in 0..5 {
        let (set, restarts) = start(update);
        if !restarts {
            let Loaded::Record(record) = load() else {
                panic!("the record can be read")
            };
            assert_eq!((record.default_set(), record.trial()), (set, None));
            return set;
        }
    }
    panic!("it never settles");
}

/// Cuts the power in an operation of an update, and gives whether it came so far.
fn cut(update: &[u8], operation: u32, within: u32) {
    put(8, &operation.to_le_bytes());
    put(12, &within.to_le_bytes());
    let ended = catch_unwind(AssertUnwindSafe(|| settle(Some(update))));
    let off = ended.expect_err("the power is cut").downcast::<PowerOff>();
    assert_eq!(*off.expect("not by a panic"), PowerOff(POWER_CUT));
}

#[test]
fn every_cut_of_an_update_leaves_a_set_that_boots_and_can_be_gone_on_from() {
    let (one, two) = (bundle(1), bundle(2));
    factory(&one);
    let (begin, start) = (flash().operations(), medium());
    assert_eq!(settle(Some(&two)), Set::B);
    let end = flash().operations();
    let (mut cuts, mut on_old) = (0, 0);
    for operation in begin + 1..=end {
        for within in [0, 1] {
            set_medium(start.clone());
            put(16, &operation.to_le_bytes());
            cut(&two, operation, within);
            // Without the update it comes to what was committed, or to what is on trial.
            on_old += u32::from(settle(None) == Set::A);
            assert_eq!(
                settle(Some(&two)),
                Set::B,
                "operation {operation}, {within}"
            );
            assert_eq!(medium()[VIOLATIONS_AT..VIOLATIONS_AT + 4], [0; 4]);
            cuts += 1;
        }
    }
    println!(
        "{cuts} power cuts at {} operations, {on_old} of them on the old release",
        end - begin
    );
    assert!(
        cuts > 100 && on_old > 0 && on_old < cuts,
        "{cuts}, {on_old}"
    );
}
