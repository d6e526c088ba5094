//! `status`: what there is to know about the device, one fact a line, without changing anything.

use crate::console::Stream;
use crate::device::Device;
use crate::held::Held;
use twinseal_core::boot::Set;
use twinseal_core::boot::record::Loaded;

/// Looks at everything. What cannot be read is shown as such.
pub fn status(device: &Device) {
    let say = |line: core::fmt::Arguments<'_>| Stream::Output.say(line);
    say(format_args!(
        "compatible    {}",
        device.description.compatible.as_str()
    ));
    match device.running_set() {
        Ok(set) => say(format_args!("running       {set}")),
        Err(error) => say(format_args!("running       not known: {error}")),
    }
    let record = match device.load_record() {
        Ok(Loaded::Record(record)) => Some(record),
        Ok(Loaded::Blank) => {
            say(format_args!("boot record   blank"));
            None
        }
        Ok(Loaded::Corrupt) => {
            say(format_args!("boot record   corrupt"));
            None
        }
        Err(error) => {
            say(format_args!("boot record   unreadable: {error}"));
            None
        }
    };
    if let Some(record) = &record {
        say(format_args!("default       {}", record.default_set()));
        say(format_args!("floor         {}", record.floor()));
        if let Some(trial) = record.trial() {
            let left = trial.attempts_left;
            say(format_args!(
                "trial         {}, attempts left: {left}",
                trial.set
            ));
        }
    }
    for set in Set::BOTH {
        let held = Held::look(device, set);
        let bad = record.as_ref().is_some_and(|record| record.is_bad(set));
        let state = match (held.bootable, bad) {
            (_, true) => "marked bad",
            (true, false) => "bootable",
            (false, false) => "not bootable",
        };
        match &held.release {
            Ok(Some(release)) => {
                let release = release.value();
                say(format_args!(
                    "set {set}         {state}, version {}, anti-rollback {}",
                    release.version.as_str(),
                    release.anti_rollback
                ));
            }
            Ok(None) => say(format_args!(
                "set {set}         {state}, no signed manifest"
            )),
            Err(error) => say(format_args!(
                "set {set}         {state}, not proved: {error}"
            )),
        }
    }
    journal(device, record.map(Loaded::Record).unwrap_or(Loaded::Blank));
}

fn journal(device: &Device, loaded: Loaded) {
    let say = |line: core::fmt::Arguments<'_>| Stream::Output.say(line);
    match device.journal(&loaded) {
        Ok(journal) => {
            let entries = journal.head().entries;
            match journal.damage() {
                None => say(format_args!("journal       {entries} entries, sound")),
                Some(damage) => say(format_args!("journal       broken: {damage}")),
            }
        }
        Err(error) => say(format_args!("journal       unreadable: {error}")),
    }
}
