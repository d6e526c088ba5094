//! The device's half: provision, update, commit, rollback, refusals.

use super::error::{DemoError, must_be};
use super::folder::Folder;
use super::maker::{Bundle, Made};
use super::step;
use super::tampered::{self, IN_MANIFEST_OFFSET, TAR_BLOCK_BYTES};
use crate::agent::{self, Committed, Failed, Installed, Journal, Plan, Status};
use crate::board::{Board, Boot, Health, Verdict};
use crate::command::{Invocation, Runner};
use crate::programs::Tool;
use crate::story::{Size, Story};
use std::io::Write;
use std::path::Path;

/// Boots that a trial has.
pub(super) const TRIAL_ATTEMPTS: u8 = 3;

/// What the device's half runs besides board and agent.
pub(super) const TOOLS: &[Tool] = &[Tool {
    program: "tar",
    package: "tar",
}];

/// Exit codes of the agent, from its table.
pub(super) mod exit {
    pub const NO: i32 = 1;
    pub const BUNDLE: i32 = 20;
    pub const SIGNATURE: i32 = 23;
    pub const BELOW_FLOOR: i32 = 32;
    pub const BUDGET: i32 = 37;
    pub const DAMAGED: i32 = 81;
}

/// The UKI is the first thing in the data.
const IN_UKI_OFFSET: u64 = 100;

/// The device under demonstration.
pub(super) struct Device<'d, B, W> {
    /// The board.
    pub board: &'d mut B,
    /// Tells what happens.
    pub story: &'d mut Story<W>,
    /// Runs what is not the agent.
    pub runner: &'d Runner,
    /// Where tampered copies go.
    pub folder: &'d Folder,
    /// What the maker made.
    pub made: &'d Made,
}

impl<B: Board, W: Write> Device<'_, B, W> {
    /// The whole life, from a blank device on.
    pub(super) fn live(&mut self) -> Result<(), DemoError> {
        let [v1, v2, v3] = &self.made.bundles;
        self.first_release(v1)?;
        self.good_update(v1, v2)?;
        self.broken_update(v2, v3)?;
        self.refusals(v1, v2)?;
        self.history()?;
        Ok(self.board.power_off()?)
    }

    fn first_release(&mut self, v1: &Bundle) -> Result<(), DemoError> {
        self.story.chapter("A new device")?;
        step(self.story, "provision set a with v1", || {
            let output = self.board.provision(&v1.file)?;
            let installed: Installed = agent::event(&output, "installed")?;
            let written = Size(installed.written_bytes);
            Ok((
                (),
                format!(
                    "{written} written and read back; the floor is {}",
                    v1.number
                ),
            ))
        })?;
        self.boot("first boot", "a", "default", 0)?;
        self.healthy("a")?;
        step(self.story, "reboot-needed", || {
            self.board
                .agent(&["reboot-needed"])?
                .expect_code(exit::NO)?;
            Ok(((), "no"))
        })
    }

    fn good_update(&mut self, v1: &Bundle, v2: &Bundle) -> Result<(), DemoError> {
        self.story.chapter("v2: installed, tried, committed")?;
        let plan = self.plan(v2)?;
        self.budget_refused(v2, &plan)?;
        self.install(v2, "b", &plan)?;
        self.status("a", v1.number)?;
        self.restart("restart", "b", "trial", TRIAL_ATTEMPTS - 1)?;
        self.healthy("b")?;
        step(self.story, "mark-good", || {
            let output = self
                .board
                .agent(&["--json", "mark-good"])?
                .expect_success()?;
            let committed: Committed = agent::event(&output, "committed")?;
            must_be("The committed set", &committed.set.as_str(), &"b")?;
            must_be("The floor", &committed.floor, &v2.number)?;
            Ok((
                (),
                format!(
                    "set b is the default set, the floor rises to {}",
                    committed.floor
                ),
            ))
        })?;
        self.status("b", v2.number)?;
        self.restart("restart, nothing is counted now", "b", "default", 0)?;
        self.healthy("b")?;
        Ok(self.story.line("v2 committed")?)
    }

    fn broken_update(&mut self, v2: &Bundle, v3: &Bundle) -> Result<(), DemoError> {
        self.story
            .chapter("v3: rightly signed but broken; tried, rolled back")?;
        let plan = self.plan(v3)?;
        self.install(v3, "a", &plan)?;
        for attempt in 1..=TRIAL_ATTEMPTS {
            let what = format!("trial boot {attempt} of {TRIAL_ATTEMPTS}");
            self.restart(&what, "a", "trial", TRIAL_ATTEMPTS - attempt)?;
            self.unhealthy("a")?;
        }
        self.restart("restart with no attempt left", "b", "rolled-back", 0)?;
        self.healthy("b")?;
        let status = self.status("b", v2.number)?;
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

    fn refusals(&mut self, v1: &Bundle, v2: &Bundle) -> Result<(), DemoError> {
        self.story.chapter("What the device refuses")?;
        self.refused(
            "install v1 again, a downgrade",
            &v1.file,
            &[],
            exit::BELOW_FLOOR,
        )?;
        let tampered = tampered::flip(self.folder, v2, "manifest", IN_MANIFEST_OFFSET)?;
        self.refused(
            "install v2, a bit of its manifest flipped",
            &tampered,
            &[],
            exit::SIGNATURE,
        )?;
        let offset = self.data_offset(v2)? + IN_UKI_OFFSET;
        let tampered = tampered::flip(self.folder, v2, "uki", offset)?;
        self.refused(
            "install v2, a bit of its UKI flipped",
            &tampered,
            &[],
            exit::BUNDLE,
        )?;
        self.restart("restart after all that", "b", "default", 0)?;
        self.healthy("b")
    }

    fn history(&mut self) -> Result<(), DemoError> {
        self.story.chapter("What the device remembers")?;
        let history = step(self.story, "history --verify", || {
            let output = self
                .board
                .agent(&["--json", "history", "--verify"])?
                .expect_success()?;
            let journal: Journal = agent::event(&output, "journal")?;
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
            let history = self.board.agent(&["history"])?.expect_success()?;
            Ok((
                history,
                format!("{} entries, the chain holds", journal.entries),
            ))
        })?;
        Ok(self.story.detail(&history.stdout)?)
    }

    fn plan(&mut self, bundle: &Bundle) -> Result<Plan, DemoError> {
        step(self.story, &format!("plan {}", bundle.name), || {
            let arguments = ["--json", "plan", "--no-audit", &text(&bundle.file)];
            let output = self.board.agent(&arguments)?.expect_success()?;
            let plan: Plan = agent::event(&output, "plan")?;
            let said = format!(
                "fetch at most {} of {}, copy {} from the running set",
                Size(plan.source_bytes),
                Size(bundle.bytes),
                Size(plan.copy_bytes)
            );
            Ok((plan, said))
        })
    }

    /// Half of what the plan needs: the agent refuses before it fetches any data.
    fn budget_refused(&mut self, bundle: &Bundle, plan: &Plan) -> Result<(), DemoError> {
        let half = plan.source_bytes / 2;
        let what = format!("install {} with a budget of {}", bundle.name, Size(half));
        let options = ["--no-audit", "--budget", &half.to_string()];
        self.refused(&what, &bundle.file, &options, exit::BUDGET)
    }

    /// Installs with the plan's bytes as the budget.
    fn install(&mut self, bundle: &Bundle, set: &str, plan: &Plan) -> Result<(), DemoError> {
        let what = format!(
            "install {} with a budget of {}",
            bundle.name,
            Size(plan.source_bytes)
        );
        step(self.story, &what, || {
            let (budget, file) = (plan.source_bytes.to_string(), text(&bundle.file));
            let arguments = [
                "--json",
                "install",
                "--no-audit",
                "--budget",
                &budget,
                &file,
            ];
            let output = self.board.agent(&arguments)?.expect_success()?;
            let installed: Installed = agent::event(&output, "installed")?;
            must_be("The target set", &installed.set.as_str(), &set)?;
            must_be("The installed version", &installed.version, &bundle.version)?;
            let percent = 100.0 * installed.source_bytes as f64 / bundle.bytes as f64;
            let said = format!(
                "fetched {} of {} ({percent:.0} %), wrote {} into set {set} and read it back",
                Size(installed.source_bytes),
                Size(bundle.bytes),
                Size(installed.written_bytes)
            );
            Ok(((), said))
        })?;
        step(self.story, "reboot-needed", || {
            self.board.agent(&["reboot-needed"])?.expect_success()?;
            Ok(((), format!("yes: set {set} is the next trial")))
        })
    }

    fn refused(
        &mut self,
        what: &str,
        bundle: &Path,
        options: &[&str],
        code: i32,
    ) -> Result<(), DemoError> {
        let failed = step(self.story, what, || {
            let bundle = text(bundle);
            let arguments = [&["--json", "install"], options, &[bundle.as_str()]].concat();
            let output = self.board.agent(&arguments)?.expect_code(code)?;
            let failed: Failed = agent::event(&output, "failed")?;
            let said = format!("refused with exit code {code} ({})", failed.name);
            Ok((failed, said))
        })?;
        Ok(self.story.detail(&failed.error)?)
    }

    /// Where the content of a bundle's entry `data` begins, as tar sees it.
    fn data_offset(&self, bundle: &Bundle) -> Result<u64, DemoError> {
        let list = Invocation::new("tar").arguments(["--list", "--block-number", "--file"]);
        let output = self
            .runner
            .run(&list.argument(&bundle.file))?
            .expect_success()?;
        let line = |line: &str| {
            line.strip_prefix("block ")?
                .strip_suffix(": data")?
                .parse()
                .ok()
        };
        let header: Option<u64> = output.stdout.lines().find_map(line);
        let content = header.map(|header| (header + 1) * TAR_BLOCK_BYTES);
        content.ok_or_else(|| DemoError::Unexpected {
            what: "The list of the bundle's entries",
            expected: "one with `data`".to_owned(),
            found: output.stdout.clone(),
        })
    }

    fn restart(
        &mut self,
        what: &str,
        set: &str,
        reason: &str,
        attempts_left: u8,
    ) -> Result<(), DemoError> {
        self.board.power_off()?;
        self.boot(what, set, reason, attempts_left)
    }

    fn boot(
        &mut self,
        what: &str,
        set: &str,
        reason: &str,
        attempts_left: u8,
    ) -> Result<(), DemoError> {
        step(self.story, what, || {
            let boot = self.board.power_on()?;
            must_be("The set that boots", &boot.set.as_str(), &set)?;
            must_be("The reason for it", &boot.reason.as_str(), &reason)?;
            must_be(
                "The number of attempts left",
                &boot.attempts_left,
                &attempts_left,
            )?;
            Ok(((), boot_text(&boot)))
        })
    }

    fn healthy(&mut self, set: &str) -> Result<(), DemoError> {
        step(self.story, "health checks", || {
            let health = self.board.health()?;
            match health.first_failure() {
                None => Ok(((), format!("passed: {}", names(&health)))),
                Some(check) => Err(DemoError::Unhealthy {
                    set: set.to_owned(),
                    check: check.name.clone(),
                    verdict: verdict(&check.verdict),
                    text: check.text.clone(),
                }),
            }
        })
    }

    fn unhealthy(&mut self, set: &str) -> Result<(), DemoError> {
        let text = step(self.story, "health checks", || {
            let health = self.board.health()?;
            let failure = health.first_failure();
            let check = failure.ok_or_else(|| DemoError::Healthy {
                set: set.to_owned(),
            })?;
            let said = format!("FAILED: {}, {}", check.name, verdict(&check.verdict));
            Ok((check.text.clone(), said))
        })?;
        let failures: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("ok:"))
            .collect();
        Ok(self.story.detail(&failures.join("\n"))?)
    }

    fn status(&mut self, default: &str, floor: u64) -> Result<Status, DemoError> {
        step(self.story, "status", || {
            let output = self.board.agent(&["--json", "status"])?.expect_success()?;
            let status: Status = agent::event(&output, "status")?;
            must_be(
                "The default set",
                &status.default.as_deref().unwrap_or("none"),
                &default,
            )?;
            must_be("The floor", &status.floor.unwrap_or(0), &floor)?;
            let sets: Vec<String> = status.sets.iter().map(set_text).collect();
            let said = format!("default set {default}, floor {floor}; {}", sets.join("; "));
            Ok((status, said))
        })
    }
}

fn boot_text(boot: &Boot) -> String {
    let why = match (boot.reason.as_str(), boot.attempts_left) {
        ("trial", 1) => "on trial, 1 attempt left".to_owned(),
        ("trial", left) => format!("on trial, {left} attempts left"),
        (other, _) => other.to_owned(),
    };
    let seal = boot.seal.get(..12).unwrap_or(&boot.seal);
    format!("set {} ({why}), seal {seal}… holds, root mounted", boot.set)
}

fn names(health: &Health) -> String {
    let names: Vec<&str> = health
        .checks
        .iter()
        .map(|check| check.name.as_str())
        .collect();
    names.join(", ")
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passed => "passed".to_owned(),
        Verdict::Failed { ending } => ending.clone(),
        Verdict::TimedOut { limit } => format!("not ended within {} s", limit.as_secs()),
    }
}

pub(super) fn set_text(set: &agent::SetStatus) -> String {
    let release = set
        .release
        .as_ref()
        .map_or("nothing", |release| release.version.as_str());
    let bad = if set.marked_bad { ", marked bad" } else { "" };
    format!("set {}: {release}{bad}", set.set)
}

/// A path as an argument. The recipes have shown that the folder's is UTF-8.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
