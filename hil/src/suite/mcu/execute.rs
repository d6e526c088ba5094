//! Does the steps of a scenario of the microcontroller.

use super::bench::Bench;
use super::scenario::{Expect, Release, Scenario, Step};
use crate::boards::mcu::medium::Medium;
use crate::boards::mcu::{Ending, Mcu, McuError, Program};
use crate::report::StepResult;
use crate::scenario::SetOrNone;
use crate::stream::Line;
use crate::web::{WebError, WebServer};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where the firmware asks for its update.
const UPDATE: &str = "update.tseal";

/// Begins the line in which the firmware says how it stands (`hil/firmware/src/bin/app.rs`).
const STATE_WORDS: &str = "state: ";

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// The board failed.
    #[error(transparent)]
    Board(#[from] McuError),
    /// The server does not serve.
    #[error(transparent)]
    Web(#[from] WebError),
    /// What the server has could not be changed.
    #[error("What the server has could not be changed: {0}.")]
    Served(#[from] io::Error),
    /// Something is not as it must be.
    #[error("{0}")]
    Unexpected(String),
}

/// A board that a scenario is done to, and its server.
pub(super) struct Execution<'e> {
    bench: &'e Bench<'e>,
    folder: tempfile::TempDir,
    served: PathBuf,
    server: WebServer,
    pub board: Mcu,
    /// What was done so far.
    pub results: Vec<StepResult>,
    /// Stands before the title of each step.
    pub round: String,
    output: String,
}

impl<'e> Execution<'e> {
    /// A board with a copy of this medium, and a server that has nothing.
    ///
    /// # Errors
    /// When the copy cannot be made, or the server does not serve.
    pub fn new(bench: &'e Bench<'e>, medium: &Medium) -> Result<Self, StepError> {
        let folder = tempfile::tempdir_in(bench.scratch)?;
        let served = folder.path().join("served");
        fs::create_dir(&served)?;
        let server = WebServer::start(&served, &folder.path().join("web"), Some(bench.nginx))?;
        let medium = medium.copy_to(&folder.path().join("medium"))?;
        let board = Mcu::new(bench.parts(server.port), medium);
        Ok(Self {
            bench,
            folder,
            served,
            server,
            board,
            results: Vec::new(),
            round: String::new(),
            output: String::new(),
        })
    }

    /// Takes another copy, in the place of the board's own.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin_anew(&mut self, medium: &Medium) -> Result<(), StepError> {
        let medium = medium.copy_to(&self.folder.path().join("medium"))?;
        self.board = Mcu::new(self.bench.parts(self.server.port), medium);
        Ok(())
    }

    /// Does steps, and notes what came of each.
    ///
    /// # Errors
    /// With the first one that failed, and why.
    pub fn steps(&mut self, steps: &[Step]) -> Result<(), String> {
        steps
            .iter()
            .try_for_each(|step| self.noted(&step.to_string(), |execution| execution.step(step)))
    }

    /// Does something, and notes what came of it.
    ///
    /// # Errors
    /// When it failed, and why.
    pub fn noted(
        &mut self,
        title: &str,
        work: impl FnOnce(&mut Self) -> Result<(), StepError>,
    ) -> Result<(), String> {
        let (begin, mark) = (Instant::now(), self.board.console().mark());
        self.output.clear();
        let failure = work(self).err().map(|error| error.to_string());
        let title = format!("{}{title}", self.round);
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
            Step::Serve { bundle } => self.serve(*bundle)?,
            Step::ServeNothing {} => self.serve_nothing()?,
            Step::Run {
                ends,
                says,
                never_says,
                limit_seconds,
            } => {
                self.run(Program::Boot, *ends, Duration::from_secs(*limit_seconds))?;
                let lines = self.board.said();
                in_order(&lines, says).map_err(StepError::Unexpected)?;
                silent(&lines, never_says).map_err(StepError::Unexpected)?;
            }
            Step::Expect(expect) => {
                let lines = self.board.said();
                let state = State::last(&lines).map_err(StepError::Unexpected)?;
                self.output.clone_from(&state.text);
                expect.compare(&state).map_err(StepError::Unexpected)?;
            }
            Step::FlipImageBit { set } => self.board.medium().flip_image_bit(*set as u64)?,
        }
        Ok(())
    }

    /// The server has this release from now on.
    ///
    /// # Errors
    /// When its file cannot be copied.
    pub fn serve(&self, release: Release) -> Result<(), StepError> {
        let (new, file) = (self.served.join("new"), self.served.join(UPDATE));
        fs::copy(self.bench.releases.bundle(release), &new)?;
        Ok(fs::rename(new, file)?)
    }

    /// The server has nothing from now on.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub fn serve_nothing(&self) -> Result<(), StepError> {
        match fs::remove_file(self.served.join(UPDATE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Switches the board on until it goes off.
    ///
    /// # Errors
    /// When it goes off otherwise than it must.
    pub fn run(
        &mut self,
        program: Program,
        ends: Ending,
        limit: Duration,
    ) -> Result<(), StepError> {
        let ended = self.board.run(program, limit)?;
        if ended == ends {
            return Ok(());
        }
        Err(StepError::Unexpected(format!(
            "The board went off as {ended:?}, and must as {ends:?}. The console's end:\n{}",
            self.board.console().tail()
        )))
    }

    /// The medium, and what was said, in a folder that outlives the run; a sentence that names it.
    pub fn keep(&self, scenario: &Scenario) -> String {
        let folder = self.bench.kept.join(&scenario.name);
        let kept = fs::create_dir_all(&folder).and_then(|()| {
            let lines = self.board.console().since(0);
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            fs::copy(self.board.medium().file(), folder.join("medium.img"))?;
            fs::write(folder.join("console.txt"), text)
        });
        match kept {
            Ok(()) => format!("Medium and console are kept in {}.", folder.display()),
            Err(error) => format!("The board could not be kept: {error}."),
        }
    }
}

/// Whether the words come, each in a line behind that of the one before.
fn in_order(lines: &[Line], words: &[String]) -> Result<(), String> {
    let mut lines = lines.iter();
    for word in words {
        if !lines.any(|line| line.text.contains(word.as_str())) {
            return Err(format!(
                "{word:?} was not said, or not behind the words before it."
            ));
        }
    }
    Ok(())
}

fn silent(lines: &[Line], words: &[String]) -> Result<(), String> {
    let said = |word: &String| lines.iter().find(|line| line.text.contains(word.as_str()));
    match words.iter().find_map(said) {
        None => Ok(()),
        Some(line) => Err(format!("It was said, and must not be: {}", line.text)),
    }
}

/// What the firmware said of its state.
#[derive(Debug)]
struct State {
    text: String,
}

impl State {
    fn last(lines: &[Line]) -> Result<Self, String> {
        let mut lines = lines.iter().rev();
        let text = lines.find_map(|line| line.text.split_once(STATE_WORDS));
        let text = text.ok_or("The board did not say its state.")?.1;
        Ok(Self {
            text: text.to_owned(),
        })
    }

    /// What it says of one thing: `running a, default a, …`.
    fn of(&self, thing: &str) -> &str {
        let mut parts = self.text.split(", ");
        parts
            .find_map(|part| part.strip_prefix(thing)?.strip_prefix(' '))
            .unwrap_or_default()
    }
}

impl Expect {
    /// Compares a state, and names every difference.
    fn compare(&self, state: &State) -> Result<(), String> {
        let trial = |trial: SetOrNone| trial.name().unwrap_or("none").to_owned();
        let bad = |sets: &Vec<crate::tamper::Set>| match sets.as_slice() {
            [] => "none".to_owned(),
            sets => sets
                .iter()
                .map(|set| set.name())
                .collect::<Vec<_>>()
                .join(" "),
        };
        let settled = self.settled.then(|| "none".to_owned());
        let wanted = [
            ("running", self.running.map(|set| set.name().to_owned())),
            ("default", self.default.map(|set| set.name().to_owned())),
            ("trial", self.trial.map(trial).or(settled)),
            ("floor", self.floor.map(|floor| floor.to_string())),
            ("bad", self.bad.as_ref().map(bad)),
        ];
        let differs = |(thing, wanted): &(&str, Option<String>)| {
            let wanted = wanted.as_deref()?;
            (state.of(thing) != wanted).then(|| format!("{thing} must be {wanted}"))
        };
        let mut wrong: Vec<_> = wanted.iter().filter_map(differs).collect();
        if self.settled && state.of("running") != state.of("default") {
            wrong.push("the running set must be the default set".to_owned());
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("{}. It says: {}", wrong.join("; "), state.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tamper::Set;

    fn lines(texts: &[&str]) -> Vec<Line> {
        let line = |text: &&str| Line {
            at: Duration::ZERO,
            text: (*text).to_owned(),
            complete: true,
        };
        texts.iter().map(line).collect()
    }

    #[test]
    fn words_come_in_their_order_and_others_never() {
        let said = lines(&["one two", "three", "two"]);
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(in_order(&said, &words(&["one", "three", "two"])), Ok(()));
        assert!(in_order(&said, &words(&["three", "one"])).is_err());
        assert!(in_order(&said, &words(&["three", "three"])).is_err());
        assert_eq!(silent(&said, &words(&["four"])), Ok(()));
        assert!(silent(&said, &words(&["four", "three"])).is_err());
    }

    #[test]
    fn every_difference_of_the_state_is_named() {
        let said = lines(&[
            "info  state: running b, default b, trial none, floor 1, bad none",
            "info  state: running b, default a, trial b, floor 12, bad a",
            "info  memory: 1",
        ]);
        let state = State::last(&said).unwrap();
        let good = Expect {
            running: Some(Set::B),
            default: Some(Set::A),
            trial: Some(SetOrNone::B),
            floor: Some(12),
            bad: Some(vec![Set::A]),
            settled: false,
        };
        assert_eq!(good.compare(&state), Ok(()));
        let wrong = Expect {
            floor: Some(1),
            settled: true,
            bad: Some(vec![]),
            ..Expect::default()
        };
        let text = wrong.compare(&state).unwrap_err();
        for words in [
            "floor must be 1",
            "trial must be none",
            "the default set",
            "bad must be none",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert!(State::last(&lines(&["boot: set a"])).is_err());
    }
}
