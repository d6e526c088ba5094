//! The life of the sealed appliance: first start, a good update, an altered object, a broken update.

use super::super::device::{exit, set_text};
use super::super::error::{DemoError, must_be};
use super::super::folder::Folder;
use super::super::maker::{Bundle, Made};
use super::super::step;
use super::super::tampered::{self, IN_MANIFEST_OFFSET};
use super::alteration::{ALTERED_FILE, Alteration};
use super::guest::{BOOT_LIMIT, Guest, SHORT, Start};
use super::served;
use crate::agent::{Failed, Installed, Journal, Plan, Status};
use crate::story::{Size, Story};
use serde::Deserialize;
use std::io::Write;
use std::path::Path;

/// The firmware's variable that says whether it checks signatures (UEFI specification, "SecureBoot"): four bytes of
/// attributes, then 1 or 0.
const SECURE_BOOT: &str =
    "od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Lets the kernel forget every file that it has read (Linux, Documentation/admin-guide/sysctl/vm.rst, "drop_caches").
const FORGET: &str = "sync && echo 3 >/proc/sys/vm/drop_caches";

/// The appliance under demonstration.
pub(super) struct Life<'l, 'g, W> {
    /// The appliance.
    pub guest: &'l mut Guest<'g>,
    /// Tells what happens.
    pub story: &'l mut Story<W>,
    /// Where everything goes.
    pub folder: &'l Folder,
    /// What the maker made.
    pub made: &'l Made,
    /// What somebody does to its disk.
    pub alteration: Alteration<'l>,
}

impl<W: Write> Life<'_, '_, W> {
    /// The whole life, from the first start on.
    pub(super) fn live(&mut self) -> Result<(), DemoError> {
        let [v1, v2, v3] = &self.made.bundles;
        self.first_start(v1)?;
        self.good_update(v1, v2)?;
        self.refusals(v1, v2)?;
        self.altered_object(v2)?;
        self.broken_update(v2, v3)?;
        self.history()?;
        step(self.story, "switch it off", || {
            Ok((self.guest.power_off()?, "in order"))
        })
    }

    fn first_start(&mut self, v1: &Bundle) -> Result<(), DemoError> {
        self.story
            .chapter("Power on: a sealed system under Secure Boot")?;
        self.power_on("a")?;
        self.up(v1)?;
        step(self.story, "Secure Boot", || {
            let variable = self.guest.run(SECURE_BOOT, 0, SHORT)?;
            must_be("The firmware's variable SecureBoot", &variable.trim(), &"1")?;
            Ok(((), "the firmware's variable says 1"))
        })?;
        step(self.story, "the root", || {
            let mount = self.guest.run("mount | grep ' on / '", 0, SHORT)?;
            let options = mount.split_once('(').map_or("", |(_, options)| options);
            let has = |wanted: &str| {
                options
                    .trim_end_matches(')')
                    .split(',')
                    .any(|option| option == wanted)
            };
            let sealed = mount.contains("type overlay") && has("ro") && has("verity=require");
            must_be(
                "The root",
                &if sealed { "sealed" } else { mount.as_str() },
                &"sealed",
            )?;
            Ok((
                (),
                "overlay of composefs, read-only, verity=require: the kernel checks every read",
            ))
        })?;
        self.status("a", "a", v1.number)?;
        let text = self.guest.run("twinseal status", 0, SHORT)?;
        Ok(self.story.detail(&text)?)
    }

    fn good_update(&mut self, v1: &Bundle, v2: &Bundle) -> Result<(), DemoError> {
        self.story
            .chapter("v2 over the network: installed, tried, committed by the appliance itself")?;
        let plan = self.plan(v2)?;
        self.install(v2, "b", &plan)?;
        self.status("a", "a", v1.number)?;
        self.restart("b")?;
        step(self.story, "its health service", || {
            let line = self.guest.line("Set b is committed", BOOT_LIMIT)?;
            Ok(((), spoken(&line.text)))
        })?;
        self.up(v2)?;
        self.status("b", "b", v2.number)?;
        Ok(self.story.line("v2 committed")?)
    }

    fn refusals(&mut self, v1: &Bundle, v2: &Bundle) -> Result<(), DemoError> {
        self.story.chapter("What the appliance refuses")?;
        self.refused("install v1 again, a downgrade", &v1.file, exit::BELOW_FLOOR)?;
        let tampered = tampered::flip(self.folder, v2, "manifest", IN_MANIFEST_OFFSET)?;
        self.refused(
            "install v2, a bit of its manifest flipped",
            &tampered,
            exit::SIGNATURE,
        )
    }

    fn altered_object(&mut self, v2: &Bundle) -> Result<(), DemoError> {
        self.story
            .chapter("A bit of the disk is altered, and repaired")?;
        step(
            self.story,
            "flip a bit of the disk of the running system",
            || {
                self.alteration.flip()?;
                // The health check has read the file: what the kernel keeps in memory is right, and hides what the disk has.
                self.guest.run(FORGET, 0, SHORT)?;
                Ok(((), format!("in the content of {ALTERED_FILE}, set b")))
            },
        )?;
        step(self.story, "read that file", || {
            let said = self
                .guest
                .run(&format!("cat {ALTERED_FILE} >/dev/null"), 1, SHORT)?;
            must_be_io_error(&said)?;
            Ok(((), said))
        })?;
        step(self.story, "read every file of /usr/share", || {
            let read = "find /usr/share -xdev -type f -exec cat {} + >/dev/null";
            let said = self.guest.run(read, 1, BOOT_LIMIT)?;
            must_be_io_error(&said)?;
            must_be(
                "The number of files that cannot be read",
                &said.lines().count(),
                &1,
            )?;
            Ok(((), "all the others can be read"))
        })?;
        self.repair(v2)?;
        step(self.story, "read that file again", || {
            self.guest
                .run(&format!("cat {ALTERED_FILE} >/dev/null"), 0, SHORT)?;
            Ok(((), "it is whole, without a restart"))
        })
    }

    fn repair(&mut self, v2: &Bundle) -> Result<(), DemoError> {
        let damaged = step(self.story, "twinseal check", || {
            let checked: Checked =
                self.guest
                    .agent("check --set b", exit::DAMAGED, "checked-set")?;
            must_be("The number of damaged objects", &checked.damaged.len(), &1)?;
            let text = checked
                .damaged
                .first()
                .map(|part| part.text.clone())
                .unwrap_or_default();
            Ok((
                text,
                format!(
                    "exit code {}; 1 of {} objects is damaged",
                    exit::DAMAGED,
                    checked.objects
                ),
            ))
        })?;
        self.story.detail(&damaged)?;
        step(self.story, "twinseal repair, from the web server", || {
            let log = self.folder.at("web/nginx-access.log");
            let before = served::bytes(&log)?;
            let order = format!("repair {}", served::address(&v2.file));
            let repaired: Repaired = self.guest.agent(&order, 0, "repaired")?;
            must_be(
                "The number of objects that were replaced",
                &repaired.repaired,
                &1,
            )?;
            must_be(
                "The number of objects that are damaged still",
                &repaired.left,
                &0,
            )?;
            let cost = match before.zip(served::bytes(&log)?) {
                Some((before, after)) => format!(
                    "; {} of {} were fetched",
                    Size(after - before),
                    Size(v2.bytes)
                ),
                None => String::new(),
            };
            Ok(((), format!("1 object replaced{cost}")))
        })?;
        step(self.story, "the journal", || {
            let history = self.guest.run("twinseal history", 0, SHORT)?;
            let entry = history
                .lines()
                .rev()
                .find(|line| line.contains("repaired") || line.contains("replaced"));
            let entry = entry.ok_or_else(|| DemoError::Unexpected {
                what: "The journal",
                expected: "one with the repair".to_owned(),
                found: history.clone(),
            })?;
            Ok(((), entry.trim().to_owned()))
        })
    }

    fn broken_update(&mut self, v2: &Bundle, v3: &Bundle) -> Result<(), DemoError> {
        self.story
            .chapter("v3: rightly signed but broken; tried, rolled back by the appliance itself")?;
        let plan = self.plan(v3)?;
        self.install(v3, "a", &plan)?;
        self.restart("a")?;
        step(self.story, "its health service", || {
            let line = self.guest.line("FAILED: ", BOOT_LIMIT)?;
            Ok(((), spoken(&line.text)))
        })?;
        step(self.story, "it restarts by itself", || {
            let start = self.guest.started("b")?;
            Ok((
                (),
                format!("into set b, sealed root mounted in {}", start.mounted),
            ))
        })?;
        self.up(v2)?;
        let status = self.status("b", "b", v2.number)?;
        let marked = status
            .sets
            .iter()
            .any(|set| set.set == "a" && set.marked_bad);
        must_be(
            "The mark of set a",
            &if marked { "bad" } else { "none" },
            &"bad",
        )?;
        Ok(self.story.line("v3 rolled back")?)
    }

    fn history(&mut self) -> Result<(), DemoError> {
        self.story.chapter("What the appliance remembers")?;
        let history = step(self.story, "twinseal history --verify", || {
            let journal: Journal = self.guest.agent("history --verify", 0, "journal")?;
            must_be(
                "That the journal's chain holds",
                &journal.chain_holds,
                &true,
            )?;
            let anchored = journal.anchor_holds.unwrap_or(false);
            must_be(
                "That the boot record vouches for the journal",
                &anchored,
                &true,
            )?;
            let history = self.guest.run("twinseal history", 0, SHORT)?;
            Ok((
                history,
                format!("{} entries, the chain holds", journal.entries),
            ))
        })?;
        Ok(self.story.detail(&history)?)
    }

    fn power_on(&mut self, set: &str) -> Result<(), DemoError> {
        step(self.story, "power on", || {
            self.guest.board.power_on()?;
            let start = self.guest.started(set)?;
            Ok(((), start_text(set, &start)))
        })
    }

    fn restart(&mut self, set: &str) -> Result<(), DemoError> {
        step(self.story, "systemctl reboot", || {
            self.guest.begin_restart()?;
            let start = self.guest.started(set)?;
            Ok(((), format!("trial of {}", start_text(set, &start))))
        })
    }

    /// systemd has started everything, and the release is the one that it must be.
    fn up(&mut self, bundle: &Bundle) -> Result<(), DemoError> {
        step(self.story, "systemd", || {
            self.guest.ready()?;
            self.guest.settled()?;
            let release = self.guest.run("cat /usr/lib/twinseal/release", 0, SHORT)?;
            must_be(
                "The release that runs",
                &release.trim(),
                &bundle.version.as_str(),
            )?;
            Ok(((), format!("release {release} is up, no unit has failed")))
        })
    }

    fn status(&mut self, running: &str, default: &str, floor: u64) -> Result<Status, DemoError> {
        step(self.story, "twinseal status", || {
            let status = self.guest.status()?;
            must_be(
                "The running set",
                &status.running.as_deref().unwrap_or("none"),
                &running,
            )?;
            must_be(
                "The default set",
                &status.default.as_deref().unwrap_or("none"),
                &default,
            )?;
            must_be("The floor", &status.floor.unwrap_or(0), &floor)?;
            must_be(
                "What the agent says of the root slots",
                &status.verity.as_deref().unwrap_or("nothing"),
                &"sealed",
            )?;
            let sets: Vec<String> = status.sets.iter().map(set_text).collect();
            let said = format!(
                "sealed, set {running} runs, default set {default}, floor {floor}; {}",
                sets.join("; ")
            );
            Ok((status, said))
        })
    }

    fn plan(&mut self, bundle: &Bundle) -> Result<Plan, DemoError> {
        step(
            self.story,
            &format!("twinseal plan {}", served::address(&bundle.file)),
            || {
                let plan: Plan = self.guest.agent(
                    &format!("plan {}", served::address(&bundle.file)),
                    0,
                    "plan",
                )?;
                let (all, copied) = (Size(bundle.bytes), Size(plan.copy_bytes));
                let said = format!(
                    "fetch at most {} of {all}, copy {copied} from the running set",
                    Size(plan.source_bytes)
                );
                Ok((plan, said))
            },
        )
    }

    /// Installs with the bytes that the plan expects on the network as the budget.
    fn install(&mut self, bundle: &Bundle, set: &str, plan: &Plan) -> Result<(), DemoError> {
        let network = plan.network.as_ref();
        let budget = network.map_or(plan.source_bytes, |cost| cost.install_bytes);
        let what = format!("twinseal install, with a budget of {}", Size(budget));
        step(self.story, &what, || {
            let order = format!(
                "install --budget {budget} {}",
                served::address(&bundle.file)
            );
            let installed: Installed = self.guest.agent(&order, 0, "installed")?;
            must_be("The target set", &installed.set.as_str(), &set)?;
            must_be("The installed version", &installed.version, &bundle.version)?;
            let (fetched, written) = (Size(installed.source_bytes), Size(installed.written_bytes));
            let all = Size(bundle.bytes);
            Ok((
                (),
                format!(
                    "fetched {fetched} of {all}, wrote {written} into set {set} and read it back"
                ),
            ))
        })
    }

    fn refused(&mut self, what: &str, file: &Path, code: i32) -> Result<(), DemoError> {
        let failed = step(self.story, what, || {
            let order = format!("install {}", served::address(file));
            let failed: Failed = self.guest.agent(&order, code, "failed")?;
            let said = format!("refused with exit code {code} ({})", failed.name);
            Ok((failed, said))
        })?;
        Ok(self.story.detail(&failed.error)?)
    }
}

/// What `check` tells of a set, as far as it is told here.
#[derive(Deserialize)]
struct Checked {
    objects: u32,
    damaged: Vec<Damaged>,
}

#[derive(Deserialize)]
struct Damaged {
    text: String,
}

/// What `repair` tells.
#[derive(Deserialize)]
struct Repaired {
    repaired: u64,
    left: u64,
}

fn start_text(set: &str, start: &Start) -> String {
    let seal = start.seal.get(..12).unwrap_or(&start.seal);
    format!(
        "set {set}, seal {seal}…; the firmware took its UKI, sealed root mounted in {}",
        start.mounted
    )
}

/// The words of the C library for EIO.
fn must_be_io_error(said: &str) -> Result<(), DemoError> {
    let found = if said.contains("Input/output error") {
        "Input/output error"
    } else {
        said
    };
    must_be(
        "What reading the altered file gives",
        &found,
        &"Input/output error",
    )
}

/// What a service said on the console: systemd writes the time, and the service's name and number, before it.
fn spoken(line: &str) -> String {
    let words = line.split_once("]: ").map_or(line, |(_, words)| words);
    words.trim().trim_start_matches("| ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_said_stands_behind_its_name() {
        let line = "[   12.345678] twinseal[300]: Set b is committed: it is the default.\r";
        assert_eq!(spoken(line), "Set b is committed: it is the default.");
        assert_eq!(
            spoken("  | FAILED: curl: it lacks a library"),
            "FAILED: curl: it lacks a library"
        );
    }

    #[test]
    fn any_other_failure_than_an_io_error_is_told() {
        assert!(must_be_io_error("cat: x: Input/output error").is_ok());
        let error = must_be_io_error("cat: x: No such file or directory").unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
