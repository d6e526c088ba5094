//! Does the steps of a scenario.

use super::bench::{Bench, State};
use super::cuts::with_cuts;
use super::expect;
use super::kept;
use super::other_disk::OtherDisk;
use super::stick;
use super::wire::Wire;
use crate::boards::uefi::qemu::{Port, SERVER_ADDRESS};
use crate::boards::uefi::{Answer, START_WORDS, Uefi, UefiError};
use crate::disk::DiskError;
use crate::link::Shape;
use crate::maker::{Made, MakerError};
use crate::power::Moments;
use crate::report::{Outcome, ScenarioResult, StepResult};
use crate::scenario::{Bundle, Kernel, Reading, Scenario, Step};
use crate::stream::WaitError;
use crate::tamper::{self, Scene, Tamper};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a release says when it is up; its name follows.
pub(super) const UP_WORDS: &str = "up, release ";

/// Limit of what must happen at once.
const SHORT: Duration = Duration::from_secs(60);

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// The board failed, or a word did not come.
    #[error(transparent)]
    Board(#[from] UefiError),
    /// The disk could not be changed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file of a release could not be looked at.
    #[error(transparent)]
    Maker(#[from] MakerError),
    /// Something is not as it must be.
    #[error("{0}")]
    Unexpected(String),
}

impl From<WaitError> for StepError {
    fn from(error: WaitError) -> Self {
        Self::Board(error.into())
    }
}

/// Runs a scenario from a copy of its start state.
pub(super) fn scenario(bench: &Bench<'_>, scenario: &Scenario) -> ScenarioResult {
    let begin = Instant::now();
    let mut done = Done::default();
    let ended = match &scenario.cuts {
        None => once(bench, scenario, &mut done),
        Some(plan) => with_cuts(bench, scenario, plan, &mut done),
    };
    ScenarioResult {
        name: scenario.name.clone(),
        shows: scenario.shows.clone(),
        outcome: ended.map_or_else(Outcome::Failed, |()| Outcome::Passed),
        steps: done.steps,
        cuts: done.cuts,
        late_cuts: done.late_cuts,
        elapsed: begin.elapsed(),
    }
}

/// What was done so far.
#[derive(Default)]
pub(super) struct Done {
    steps: Vec<StepResult>,
    /// Power cuts.
    pub(super) cuts: u32,
    /// Of these, those that came too late.
    pub(super) late_cuts: u32,
}

impl Done {
    /// Takes over what came of a board.
    pub(super) fn add(&mut self, execution: &mut Execution<'_>) {
        self.steps.append(&mut execution.results);
        self.cuts += execution.cuts;
        self.late_cuts += execution.late_cuts;
    }
}

fn once(bench: &Bench<'_>, scenario: &Scenario, done: &mut Done) -> Result<(), String> {
    let folder = bench.scratch().map_err(|error| error.to_string())?;
    let state = bench.start(scenario.appliance(), scenario.start, folder.path())?;
    let made = bench.made(scenario.appliance())?;
    let link = scenario.link.as_ref();
    let mut execution = Execution::new(bench, made, &state, &scenario.name, link)?;
    if scenario.offline {
        execution.board.go_offline();
    }
    let other = OtherDisk::make(bench, scenario, &state, folder.path());
    let other = other.map_err(|error| error.to_string())?;
    let stick = stick::make(bench, made, scenario, folder.path());
    let stick = stick.map_err(|error| error.to_string())?;
    if let Some(disk) = other.as_ref().map(|other| other.disk.clone()).or(stick) {
        execution.board.plug_in(disk, port_of(scenario));
    }
    let ended = execution.steps(&scenario.steps);
    done.add(&mut execution);
    execution.switch_off();
    let ended = ended.and_then(|()| other.map_or(Ok(()), |other| other.compare(bench)));
    ended.map_err(|why| {
        let kept = kept::keep(bench, &scenario.name, &execution, None, &why);
        format!("{why}\n{kept}")
    })
}

/// Where a disk is plugged in: a kernel that knows USB is to find it there.
fn port_of(scenario: &Scenario) -> Port {
    match scenario.kernel {
        Kernel::Cloud => Port::Virtio,
        Kernel::General if scenario.plugs_in() => Port::FreeUsb,
        Kernel::General => Port::Usb,
    }
}

/// A board that a scenario is done to.
pub(super) struct Execution<'e> {
    bench: &'e Bench<'e>,
    made: &'e Made,
    state: &'e State,
    pub(super) board: Uefi,
    wire: Wire,
    moments: Moments,
    results: Vec<StepResult>,
    cuts: u32,
    pub(super) late_cuts: u32,
    /// Stands before the title of each step.
    pub(super) round: String,
    /// Lines of console and control line when that began which a cut is to interrupt.
    pub(super) begun: (usize, usize),
    /// What the step at hand said.
    output: String,
    /// What the title of the step at hand gets besides, when it has been done.
    pub(super) outcome: String,
}

impl<'e> Execution<'e> {
    /// A board in this state, with such a link to the web server. One that was set aside goes on.
    ///
    /// # Errors
    /// With a sentence when the link cannot be opened, or the board does not go on.
    pub(super) fn new(
        bench: &'e Bench<'e>,
        made: &'e Made,
        state: &'e State,
        name: &str,
        link: Option<&Shape>,
    ) -> Result<Self, String> {
        let (wire, parts) = Wire::new(bench, link)?;
        let board = Uefi::new(parts, state.disk.clone(), state.variables.clone());
        let moments = Moments::new(bench.seed, name);
        let mut execution = Self {
            wire,
            bench,
            made,
            state,
            board,
            moments,
            results: Vec::new(),
            cuts: 0,
            late_cuts: 0,
            round: String::new(),
            begun: (0, 0),
            output: String::new(),
            outcome: String::new(),
        };
        if let Some(machine) = &state.machine {
            let goes_on = execution.board.take_up(machine);
            goes_on.map_err(|error| error.to_string())?;
        }
        Ok(execution)
    }

    /// Sets the board, which is on, aside: a file, and its disk and variables as they are now.
    ///
    /// # Errors
    /// With a sentence when that fails.
    pub(super) fn set_aside(&mut self, file: &Path) -> Result<(), String> {
        let aside = self.board.set_aside(file);
        aside.map_err(|error| error.to_string())
    }

    /// Disk and variables of the board.
    pub(super) const fn state(&self) -> &State {
        self.state
    }

    /// Whatever is said on the console so far.
    pub(super) fn console(&self) -> String {
        let lines = self.board.console().since(0);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Ends the machine, in whatever state it is, so that its disk can be looked at.
    pub(super) fn switch_off(&mut self) {
        if self.board.is_on() {
            // A machine that is on can be cut off.
            let _ = self.board.power_cut();
        }
    }

    /// The console's last lines.
    pub(super) fn tail(&self) -> String {
        self.board.console().tail()
    }

    /// Does steps, and notes what came of each.
    ///
    /// # Errors
    /// With the first one that failed, and why.
    pub(super) fn steps(&mut self, steps: &[Step]) -> Result<(), String> {
        steps
            .iter()
            .try_for_each(|step| self.noted(&step.to_string(), |execution| execution.step(step)))
    }

    pub(super) fn noted(
        &mut self,
        title: &str,
        work: impl FnOnce(&mut Self) -> Result<(), StepError>,
    ) -> Result<(), String> {
        let (begin, mark) = (Instant::now(), self.board.console().mark());
        self.output.clear();
        self.outcome.clear();
        let failure = work(self).err().map(|error| error.to_string());
        let title = format!("{}{title}{}", self.round, self.outcome);
        self.results.push(StepResult {
            title: title.clone(),
            elapsed: begin.elapsed(),
            failure: failure.clone(),
            output: self.output.clone(),
            console: self.board.console().since(mark),
        });
        failure.map_or(Ok(()), |why| {
            Err(format!("Step {}, {title}: {why}", self.results.len()))
        })
    }

    fn step(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::PowerOn {} => self.board.power_on()?,
            Step::PowerOff {} => {
                self.board.begin("sync; poweroff -f")?;
                self.board.wait_off(SHORT)?;
            }
            Step::PowerCut {
                at_console,
                times,
                at_output,
                within_ms,
                limit_seconds,
            } => {
                let limit = Duration::from_secs(*limit_seconds);
                if let Some(words) = at_console {
                    self.board.wait_for(words, *times, limit)?;
                }
                if let Some(words) = at_output {
                    self.board.wait_output(words, limit)?;
                }
                let moment = self.moments.within(*within_ms);
                self.output = format!("{} ms after, seed {}", moment.as_millis(), self.bench.seed);
                self.board.pass(moment);
                self.cut()?;
            }
            Step::PlugIn {} => self.board.plug_in_now()?,
            Step::Restart {} => {
                self.board.console().skip();
                self.board.begin("sync; reboot -f")?;
                self.board
                    .console()
                    .wait("the restart", SHORT, |line, from| {
                        let words = line.text.get(from..)?.find(START_WORDS)?;
                        Some(from + words)
                    })?;
            }
            Step::WaitConsole {
                words,
                times,
                limit_seconds,
            } => {
                self.board
                    .wait_for(words, *times, Duration::from_secs(*limit_seconds))?;
            }
            Step::WaitOutput {
                words,
                limit_seconds,
            } => {
                self.board
                    .wait_output(words, Duration::from_secs(*limit_seconds))?;
            }
            Step::NeverSaid { words } => self.never_said(words)?,
            Step::Said { words, times } => self.said(words, *times)?,
            Step::WaitUp {
                release,
                limit_seconds,
            } => self.wait_up(*release, Duration::from_secs(*limit_seconds))?,
            Step::WaitReady { limit_seconds } => {
                self.board.wait_ready(Duration::from_secs(*limit_seconds))?
            }
            Step::NotReady {} if self.board.is_ready() => {
                return Err(StepError::Unexpected(
                    "The guest takes commands, and must not.".to_owned(),
                ));
            }
            Step::NotReady {} => {}
            Step::Run {
                command,
                exit,
                prints,
                limit_seconds,
            } => {
                self.run(
                    command,
                    *exit,
                    prints.as_deref(),
                    Duration::from_secs(*limit_seconds),
                )?;
            }
            Step::Begin { command } => self.board.begin(command)?,
            Step::BeginInstall { bundle } => {
                self.board.begin(&self.install_command(*bundle, ""))?
            }
            Step::Install {
                bundle,
                exit,
                attempts,
                no_trial,
                prints,
                limit_seconds,
            } => {
                let attempts =
                    attempts.map_or_else(String::new, |attempts| format!(" --attempts {attempts}"));
                let options = format!("{attempts}{}", if *no_trial { " --no-trial" } else { "" });
                let command = self.install_command(*bundle, &options);
                self.run(
                    &command,
                    *exit,
                    prints.as_deref(),
                    Duration::from_secs(*limit_seconds),
                )?;
            }
            Step::Plan {
                bundle,
                limit_seconds,
            } => {
                let command = format!("twinseal --json plan {}", self.address(*bundle));
                self.run(&command, 0, None, Duration::from_secs(*limit_seconds))?;
                self.output = self.wire.planned(&Answer {
                    command,
                    code: 0,
                    text: self.output.clone(),
                })?;
            }
            Step::Link(traffic) => self.output = self.wire.compare(traffic)?,
            Step::Tamper { with } => self.tamper(with)?,
            Step::Expect(expect) => self.output = expect::meet(&mut self.board, expect, self.made)?,
            Step::Journal {
                kind,
                field,
                at_least,
                at_most_uki,
            } => {
                let answer = self.board.run("twinseal --json history", SHORT)?;
                self.output = expect::entry(&answer, kind, field)?.within(
                    *at_least,
                    *at_most_uki,
                    self.made,
                )?;
            }
            Step::Read { file, gives } => self.read(file, *gives)?,
        }
        Ok(())
    }

    fn install_command(&self, bundle: Bundle, options: &str) -> String {
        format!("twinseal install{options} {}", self.address(bundle))
    }

    /// Where the guest finds a release.
    fn address(&self, bundle: Bundle) -> String {
        format!(
            "http://{SERVER_ADDRESS}/{}{}.tseal",
            self.made.appliance.folder(),
            bundle.name()
        )
    }

    pub(super) fn cut(&mut self) -> Result<(), StepError> {
        self.board.power_cut()?;
        self.cuts += 1;
        Ok(())
    }

    fn never_said(&self, words: &str) -> Result<(), StepError> {
        match self.board.console().last(words) {
            None => Ok(()),
            Some(line) => Err(StepError::Unexpected(format!(
                "It was said, and must not be: {line}"
            ))),
        }
    }

    fn said(&mut self, words: &str, times: u32) -> Result<(), StepError> {
        let lines = self.board.said_since_power_on(words);
        let found: usize = lines
            .iter()
            .map(|line| line.text.matches(words).count())
            .sum();
        self.output = lines.iter().map(|line| format!("{line}\n")).collect();
        if u32::try_from(found) == Ok(times) {
            Ok(())
        } else {
            Err(StepError::Unexpected(format!(
                "It must be said {times} times since power on, and was {found} times:\n{}",
                self.output
            )))
        }
    }

    fn wait_up(&mut self, release: Option<Bundle>, limit: Duration) -> Result<(), StepError> {
        let words = format!("{UP_WORDS}{}", release.map_or("", Bundle::name));
        self.board.wait_for(&words, 1, limit)?;
        Ok(self.board.wait_ready(SHORT)?)
    }

    fn run(
        &mut self,
        command: &str,
        exit: i32,
        prints: Option<&str>,
        limit: Duration,
    ) -> Result<(), StepError> {
        let answer = self.board.run(command, limit)?;
        self.output = answer.text.clone();
        let wrong = if answer.code == exit {
            prints
                .filter(|words| !answer.text.contains(*words))
                .map(|words| format!("must print {words:?}"))
        } else {
            Some(format!("must end with {exit}"))
        };
        wrong.map_or(Ok(()), |wrong| Err(unexpected(&answer, &wrong)))
    }

    fn tamper(&mut self, with: &Tamper) -> Result<(), StepError> {
        if self.board.is_on() {
            return Err(UefiError::On.into());
        }
        let scratch = self
            .bench
            .scratch()
            .map_err(|error| StepError::Unexpected(error.to_string()))?;
        let (new_variables, [key, certificate]) = (self.made.variables(), self.made.stranger());
        let scene = Scene {
            processor: self.bench.parts.processor,
            runner: &self.bench.runner,
            disk: &self.state.disk,
            variables: &self.state.variables,
            new_variables: &new_variables,
            stranger_key: &key,
            stranger_certificate: &certificate,
            scratch: scratch.path(),
            loader: self.made.appliance.loader,
        };
        tamper::apply(&scene, with, |set, file| {
            let seal = tamper::seal_of(&scene, set)?;
            let bundle = self.made.bundle_of(&seal).ok_or_else(|| {
                StepError::Unexpected(format!(
                    "Set {} seals {seal}, which is no release of this run.",
                    set.name()
                ))
            })?;
            Ok(self
                .made
                .digest_of(&self.bench.runner, bundle, file, scratch.path())?)
        })
    }

    fn read(&mut self, file: &str, gives: Reading) -> Result<(), StepError> {
        let answer = self.board.run(&format!("cat '{file}' >/dev/null"), SHORT)?;
        self.output = answer.text.clone();
        // The words of the C library for EIO and ENOENT.
        let found = match answer.code {
            0 => Some(Reading::Fine),
            _ if answer.text.contains("Input/output error")
                || answer.text.contains("I/O error") =>
            {
                Some(Reading::IoError)
            }
            _ if answer.text.contains("No such file") => Some(Reading::Missing),
            _ => None,
        };
        if found == Some(gives) {
            Ok(())
        } else {
            Err(unexpected(&answer, &format!("must give {gives:?}")))
        }
    }
}

pub(super) fn unexpected(answer: &Answer, wrong: &str) -> StepError {
    StepError::Unexpected(format!(
        "`{}` {wrong}. It ended with {} and printed:\n{}",
        answer.command, answer.code, answer.text
    ))
}
