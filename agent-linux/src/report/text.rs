//! Events as lines of text.

use super::{count, plan};
use crate::events::{
    Check, CheckedSet, Event, Health, Installed, Journal, LoaderStatus, RebootNeeded, Release,
    Selected, SetStatus, Status,
};
use indicatif::BinaryBytes;

/// An event as lines of text.
pub(super) fn text(event: &Event) -> String {
    match event {
        Event::Plan(plan) => plan::text(plan),
        // A failure is told on standard error.
        Event::Progress(_) | Event::Failed(_) => String::new(),
        Event::Traffic(traffic) => format!(
            "Over the network: {} received, {} sent; {}, {}.\n",
            bytes(traffic.received_bytes),
            bytes(traffic.sent_bytes),
            count(traffic.requests, "request"),
            count(traffic.tries, "new try")
        ),
        Event::Installed(installed) => installed_text(installed),
        Event::Provisioned(made) => {
            let (set, floor) = (&made.set, made.floor);
            format!(
                "The device is provisioned: set {set} is the default, the floor is {floor}. Restart to boot it.\n"
            )
        }
        Event::Check(check) => check_text(check),
        Event::Health(health) => health_text(health),
        Event::CheckedSet(checked) => checked_text(checked),
        Event::Repaired(done) => {
            let (set, left) = (&done.set, count(done.left, "object"));
            let repaired = count(done.repaired, "object");
            format!("Set {set}: {repaired} replaced, {left} still damaged.\n")
        }
        Event::Committed(done) if done.changed => {
            format!(
                "Set {} is committed: it is the default, the floor is {}.\n",
                done.set, done.floor
            )
        }
        Event::Committed(done) => format!(
            "Set {} was the default already: nothing changed.\n",
            done.set
        ),
        Event::MarkedBad(done) => returning("is bad", &done.set, &done.next, done.changed),
        Event::WentBack(done) => returning("is left", &done.set, &done.next, done.changed),
        Event::RebootNeeded(answer) => reboot_text(answer),
        Event::Entry(entry) => {
            format!(
                "{:>5}  {:20}  {}\n",
                entry.number,
                entry.time.as_deref().unwrap_or("-"),
                entry.text
            )
        }
        Event::Journal(journal) => journal_text(journal),
        Event::SetAside(done) => match (&done.file, &done.damage) {
            (Some(file), Some(damage)) => format!(
                "The journal did not hold: {damage}. It is kept as {file}; a new chain begins.\n"
            ),
            _ => "The journal holds: nothing was moved.\n".to_owned(),
        },
        Event::Selected(selected) => selected_text(selected),
        Event::Status(status) => status_text(status),
    }
}

/// The first word is for scripts: the set.
fn selected_text(selected: &Selected) -> String {
    let mut text = format!("{} {}", selected.set, selected.reason);
    if selected.reason == "trial" {
        text += &format!(", {} left", count(selected.attempts_left, "attempt"));
    }
    match &selected.running {
        Some(running) if selected.restart => {
            text += &format!("; set {running} runs, restart to boot set {}", selected.set);
        }
        Some(running) if *running != selected.set => {
            text += &format!(
                "; set {running} runs, because the firmware did not boot set {}",
                selected.set
            );
        }
        _ => {}
    }
    text + "\n"
}

fn check_text(check: &Check) -> String {
    let verdict = if check.passed { "passed" } else { "FAILED" };
    let mut text = format!("check {} {verdict} ({:.2} s)\n", check.check, check.seconds);
    for line in check.output.lines() {
        // What a program prints must not move the cursor of whoever looks at it.
        let plain = |letter: char| if letter.is_control() { '.' } else { letter };
        text += &format!("  | {}\n", line.chars().map(plain).collect::<String>());
    }
    text
}

fn checked_text(checked: &CheckedSet) -> String {
    let set = &checked.set;
    if !checked.holds_something {
        return format!("Set {set} holds nothing.\n");
    }
    let read = format!(
        "{}, {}",
        count(checked.objects, "object"),
        bytes(checked.bytes)
    );
    let mut text = match checked.damaged.len() {
        0 => format!("Set {set} is well: {read}.\n"),
        number => format!(
            "Set {set} is DAMAGED in {}: {read}.\n",
            count(number as u64, "place")
        ),
    };
    for part in &checked.damaged {
        let what = match part.part {
            "uki" => "UKI: ",
            "image" => "Among the images: ",
            _ => "",
        };
        text += &format!("  {what}{}\n", part.text);
    }
    text
}

fn health_text(health: &Health) -> String {
    let set = &health.set;
    match &health.problem {
        _ if health.data_volatile => format!(
            "Set {set} runs, and the data partition could not be mounted: whether it is on trial is not known, so nothing is decided.\n"
        ),
        _ if !health.on_trial && health.counted_starts == 0 => {
            format!("Set {set} is not on trial: there is nothing to decide.\n")
        }
        Some(problem) => format!("Set {set} is NOT healthy: {problem}.\n"),
        None if !health.on_trial => format!(
            "Set {set} is well: {} passed; it was started {} without that word.\n",
            count(health.checks, "check"),
            count(health.counted_starts, "time")
        ),
        None => format!(
            "Set {set} is healthy: {} passed, {} could be read ({}).\n",
            count(health.checks, "check"),
            count(health.objects, "object"),
            bytes(health.bytes)
        ),
    }
}

fn loader_text(loader: &LoaderStatus) -> String {
    if let Some(problem) = &loader.problem {
        return format!("cannot be asked: {problem}");
    }
    let default = loader.default.as_deref().unwrap_or("not known");
    let next = loader
        .next
        .as_deref()
        .map(|set| format!(", next set {set}"));
    let agrees = match loader.agrees {
        Some(true) => "as the boot record says",
        Some(false) => "NOT as the boot record says: `twinseal select` tells it again",
        None => "there is no boot record to compare with",
    };
    format!(
        "default set {default}{}; {agrees}",
        next.unwrap_or_default()
    )
}

fn returning(what: &str, set: &str, next: &str, changed: bool) -> String {
    let after = if changed {
        "Restart to boot it."
    } else {
        "Nothing changed: that was so already."
    };
    format!("Set {set} {what}; set {next} boots next. {after}\n")
}

fn reboot_text(answer: &RebootNeeded) -> String {
    let running = &answer.running;
    match &answer.next {
        _ if answer.on_trial => {
            format!("No restart is needed: set {running} is running on trial.\n")
        }
        Some(next) if answer.needed => {
            format!("A restart is needed: set {running} is running, and set {next} boots next.\n")
        }
        Some(next) if answer.stays && next != running => {
            format!(
                "No restart helps: set {running} is running, because the firmware refused set {next}.\n"
            )
        }
        None => "No restart helps: no set can be booted.\n".to_owned(),
        Some(_) => format!("No restart is needed: set {running} is running and boots next.\n"),
    }
}

pub(super) fn signers(release: &Release) -> String {
    format!("signed by {}", release.signers.join(", "))
}

fn installed_text(installed: &Installed) -> String {
    let release = &installed.release;
    let mut text = format!(
        "Installed version {} into set {} ({}).\n",
        release.version,
        installed.set,
        signers(release)
    );
    let mut line = |name: &str, value: String| text += &format!("  {name:21}  {value}\n");
    line(
        "read from the bundle",
        format!(
            "{}: framing {}, index {}, data {}, only checked {}",
            bytes(installed.source_bytes),
            installed.framing_bytes,
            installed.index_bytes,
            installed.data_bytes,
            installed.audit_bytes
        ),
    );
    line(
        "patched",
        format!(
            "{}, from {} of patches",
            count(installed.patched_blobs, "blob"),
            bytes(installed.patch_bytes)
        ),
    );
    line(
        "copied",
        format!("{} from the running set", bytes(installed.copied_bytes)),
    );
    line(
        "already there",
        format!(
            "not read from the bundle again: {} bytes; only checked: {}",
            installed
                .present_bytes
                .saturating_sub(installed.present_audited_bytes),
            installed.present_audited_bytes
        ),
    );
    line(
        "written",
        format!(
            "{}, {}",
            bytes(installed.written_bytes),
            count(installed.blobs, "blob")
        ),
    );
    line(
        "read back",
        format!(
            "{} in {:.2} s",
            bytes(installed.read_back_bytes),
            installed.read_back_seconds
        ),
    );
    line(
        "time",
        format!(
            "{:.2} s, of these syncing blobs {:.2} s",
            installed.total_seconds, installed.settle_seconds
        ),
    );
    if let Some(peak) = installed.peak_memory_bytes {
        line("peak memory", bytes(peak));
    }
    if installed.damaged_blobs > 0 {
        line(
            "damaged",
            format!(
                "{} of the running set could not be copied and had to be read from the bundle",
                count(installed.damaged_blobs, "blob")
            ),
        );
    }
    if installed.damaged_bases > 0 {
        line(
            "damaged",
            format!(
                "{} of the running set could not be patched; `twinseal check` says more",
                count(installed.damaged_bases, "blob")
            ),
        );
    }
    match installed.trial_attempts {
        Some(attempts) => {
            text + &format!(
                "Set {} is on trial from the next restart on: {}.\n",
                installed.set,
                count(attempts, "attempt")
            )
        }
        None => text,
    }
}

/// A size for people, and exactly.
pub(super) fn bytes(size: u64) -> String {
    if size < 1024 {
        format!("{size} bytes")
    } else {
        format!("{} ({size} bytes)", BinaryBytes(size))
    }
}

fn journal_text(journal: &Journal) -> String {
    let entries = journal.entries;
    let mut text = match journal.first_bad_entry {
        Some(bad) => format!(
            "The chain is broken at entry {bad}: it was changed, or the medium is damaged.\n"
        ),
        None => format!("The chain holds: {}.\n", count(entries, "entry")),
    };
    if journal.torn_bytes > 0 {
        text += &format!(
            "At the end are {} bytes of an entry that was not written whole: power was lost. The next entry cuts them off.\n",
            journal.torn_bytes
        );
    }
    match (journal.anchor_entries, journal.anchor_holds) {
        (Some(anchor), Some(true)) => {
            text += &format!(
                "The boot record vouches for the first {anchor} entries, and they are there.\n"
            )
        }
        (Some(anchor), Some(false)) => {
            text += &format!(
                "The boot record vouches for {anchor} entries, and the journal does not have them: entries were cut off or replaced.\n"
            );
        }
        _ => text += "There is no boot record to compare with.\n",
    }
    for file in &journal.set_aside {
        text += &format!("An earlier journal did not hold and was set aside: {file}\n");
    }
    text
}

fn status_text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text += &format!("{name:14} {value}\n");
    line("compatible", status.compatible.clone());
    line(
        "running set",
        status
            .running
            .clone()
            .unwrap_or_else(|| "not known".to_owned()),
    );
    if status.data_volatile {
        line(
            "data",
            "NOT MOUNTED: the agent's state is in memory; look after the data partition and restart".to_owned(),
        );
    }
    match status.boot_record {
        "record" => {
            line("default set", status.default.clone().unwrap_or_default());
            line(
                "trial",
                status.trial.as_ref().map_or_else(
                    || "none".to_owned(),
                    |trial| {
                        format!(
                            "set {}, {} left, floor {} after a commit",
                            trial.set,
                            count(trial.attempts_left, "attempt"),
                            trial.anti_rollback
                        )
                    },
                ),
            );
            line(
                "floor",
                status
                    .floor
                    .map_or_else(String::new, |floor| floor.to_string()),
            );
            line(
                "highest time",
                status
                    .highest_time
                    .clone()
                    .unwrap_or_else(|| "none".to_owned()),
            );
        }
        other => line("boot record", other.to_owned()),
    }
    if let Some(loader) = &status.loader {
        line("boot loader", loader_text(loader));
    }
    if let Some(on) = status.secure_boot {
        line("secure boot", if on { "on" } else { "OFF" }.to_owned());
    }
    line("verity", status.verity.to_owned());
    for set in &status.sets {
        line(&format!("set {}", set.set), set_text(set));
    }
    let journal = &status.journal;
    let holds = match (journal.chain_holds, journal.anchor_holds) {
        (false, _) => "the chain is BROKEN",
        (true, Some(false)) => "entries are MISSING",
        (true, Some(true)) => "chain and anchor hold",
        (true, None) => "the chain holds",
    };
    line(
        "journal",
        format!("{}, {holds}", count(journal.entries, "entry")),
    );
    line("trusted keys", status.trusted_keys.join(", "));
    let needed = match status.reboot_needed {
        Some(true) => "yes",
        Some(false) => "no",
        None => "cannot be told",
    };
    line("reboot needed", needed.to_owned());
    if status.busy {
        line(
            "busy",
            "another process is at work on this device".to_owned(),
        );
    }
    text
}

fn set_text(set: &SetStatus) -> String {
    let state = if set.bootable {
        "bootable"
    } else {
        "not bootable"
    };
    let bad = if set.marked_bad { ", marked bad" } else { "" };
    let starts = match set.counted_starts {
        0 => String::new(),
        starts => format!(
            ", started {} without a word that it is well",
            count(starts, "time")
        ),
    };
    let holds = match (&set.release, &set.problem) {
        (Some(release), _) => format!(
            "version {}, anti-rollback {}, {}, manifest {}",
            release.version,
            release.anti_rollback,
            signers(release),
            release.manifest
        ),
        (None, Some(problem)) => problem.clone(),
        (None, None) => "nothing is recorded about its content".to_owned(),
    };
    format!("{state}{bad}{starts}; {holds}")
}
