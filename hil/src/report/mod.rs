//! What came of a run: for people as text and as a page, for machines as JUnit's XML.
//!
//! # Invariants
//! - What was skipped is reported as skipped, with its reason, never as passed.

mod html;
mod junit;
mod starts;

pub use html::html;
pub use junit::junit;
pub use starts::{MOUNTED_WORDS, Starts};

use crate::stream::Line;
use std::fmt;
use std::time::Duration;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The board.
    pub board: String,
    /// What the machine is, for people: QEMU's version, the web server.
    pub machine: String,
    /// The seed of every random moment.
    pub seed: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// The scenarios, in their order.
    pub results: Vec<ScenarioResult>,
}

/// What came of a scenario.
#[derive(Clone, Debug)]
pub struct ScenarioResult {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub shows: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Its steps, as far as it came.
    pub steps: Vec<StepResult>,
    /// Power cuts that it made.
    pub cuts: u32,
    /// Of these, those that came when what they were to interrupt had ended.
    pub late_cuts: u32,
    /// How long it took.
    pub elapsed: Duration,
}

impl ScenarioResult {
    /// A result without steps.
    pub fn new(name: &str, shows: &str, outcome: Outcome) -> Self {
        Self {
            name: name.to_owned(),
            shows: shows.to_owned(),
            outcome,
            steps: Vec::new(),
            cuts: 0,
            late_cuts: 0,
            elapsed: Duration::ZERO,
        }
    }
}

/// How a scenario ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything came as it must.
    Passed,
    /// Something did not.
    Failed(String),
    /// It could not run here.
    Skipped(String),
}

/// What came of a step.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// What was done.
    pub title: String,
    /// How long it took.
    pub elapsed: Duration,
    /// What went wrong.
    pub failure: Option<String>,
    /// What it said: a command's output.
    pub output: String,
    /// What came on the console during it.
    pub console: Vec<Line>,
}

impl Report {
    /// How many passed, failed and were skipped.
    pub fn counts(&self) -> Counts {
        let count = |is_it: fn(&Outcome) -> bool| {
            self.results
                .iter()
                .filter(|result| is_it(&result.outcome))
                .count()
        };
        Counts {
            passed: count(|outcome| matches!(outcome, Outcome::Passed)),
            failed: count(|outcome| matches!(outcome, Outcome::Failed(_))),
            skipped: count(|outcome| matches!(outcome, Outcome::Skipped(_))),
        }
    }

    /// How many power cuts were made.
    pub fn cuts(&self) -> u32 {
        self.results.iter().map(|result| result.cuts).sum()
    }

    /// How many of them came too late.
    pub fn late_cuts(&self) -> u32 {
        self.results.iter().map(|result| result.late_cuts).sum()
    }
}

/// How many scenarios ended how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Skipped.
    pub skipped: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// The line of a scenario, and, when it failed, why.
impl fmt::Display for ScenarioResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, seconds) = (&self.name, self.elapsed.as_secs_f64());
        let late = match self.late_cuts {
            0 => String::new(),
            late => format!(", {late} too late"),
        };
        let cuts = match self.cuts {
            0 => String::new(),
            1 => format!("  (1 power cut{late})"),
            cuts => format!("  ({cuts} power cuts{late})"),
        };
        match &self.outcome {
            Outcome::Passed => write!(f, "passed   {name:<32} {seconds:6.1} s{cuts}"),
            Outcome::Skipped(why) => write!(f, "skipped  {name:<32}           {why}"),
            Outcome::Failed(why) => {
                write!(f, "FAILED   {name:<32} {seconds:6.1} s{cuts}")?;
                why.lines()
                    .try_for_each(|line| write!(f, "\n         {line}"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
