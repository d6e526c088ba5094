//! Scenarios that cut the power at random moments.
//!
//! # Invariants
//! - A cut counts as one that interrupted something only when that had not ended; a scenario none of whose cuts did has failed.

use super::SuiteError;
use super::bench::{Bench, State};
use super::execute::{Done, Execution};
use super::kept;
use super::landing::Landing;
use crate::power::Moments;
use crate::scenario::{Cuts, Scenario, Step};
use std::fs;
use std::path::Path;
use std::slice;
use std::time::Duration;

/// Cuts that may come too late besides as many as are wanted: each shortens the window of the next.
const LATE_SPARE: u32 = 6;

/// A new copy of the start for each cut; the last one goes on with what comes after. A cut that came too late is made again.
pub(super) fn with_cuts(
    bench: &Bench<'_>,
    scenario: &Scenario,
    plan: &Cuts,
    done: &mut Done,
) -> Result<(), String> {
    let count = bench.cuts.unwrap_or(plan.count);
    let mut moments = Moments::new(bench.seed, &scenario.name);
    let mut window_ms = plan.within_ms;
    let mut round = 1;
    while round <= count {
        let moment = moments.within(window_ms);
        let name = format!("cut {round} of {count}, {} ms after", moment.as_millis());
        let cut = Cut {
            moment,
            number: done.cuts + 1,
            name: &name,
            is_last: round == count,
        };
        let late_before = done.late_cuts;
        one(bench, scenario, plan, &cut, done)
            .map_err(|why| format!("Seed {}, {name}: {why}", bench.seed))?;
        if done.late_cuts > late_before && done.late_cuts < count + LATE_SPARE {
            window_ms = shortened(window_ms, moment);
        } else {
            round += 1;
        }
    }
    hit(done.cuts, done.late_cuts)
}

/// The window of the cuts that come after one that came too late. Half of the way: how long something takes varies.
fn shortened(window_ms: u64, late: Duration) -> u64 {
    let late_ms = u64::try_from(late.as_millis()).unwrap_or(window_ms);
    window_ms.midpoint(late_ms)
}

/// A cut to be made.
struct Cut<'c> {
    /// How long after the beginning of what it is to interrupt.
    moment: Duration,
    /// From 1 on, those that came too late among them.
    number: u32,
    name: &'c str,
    /// Whether what comes after the cuts follows.
    is_last: bool,
}

/// One cut of a new copy of the start; with what comes after the last one.
fn one(
    bench: &Bench<'_>,
    scenario: &Scenario,
    plan: &Cuts,
    cut: &Cut<'_>,
    done: &mut Done,
) -> Result<(), String> {
    let folder = bench.scratch().map_err(|error| error.to_string())?;
    let state = bench.start(scenario.appliance(), scenario.start, folder.path())?;
    let made = bench.made(scenario.appliance())?;
    let link = scenario.link.as_ref();
    let mut execution = Execution::new(bench, made, &state, &scenario.name, link)?;
    execution.round = format!("{}: ", cut.name);
    let cut_made = execution
        .steps_before_cut(&plan.before)
        .and_then(|()| execution.cut_after(cut.moment));
    let at_cut = cut_made.and_then(|()| copy_of(bench, &state, folder.path()));
    let after: &[Step] = if cut.is_last { &plan.after } else { &[] };
    let ended = at_cut.as_ref().map_err(Clone::clone).and_then(|_| {
        execution.steps(&scenario.steps)?;
        execution.steps(after)
    });
    done.add(&mut execution);
    execution.switch_off();
    ended.map_err(|why| {
        let name = format!("{}-cut-{}", scenario.name, cut.number);
        let kept = kept::keep(bench, &name, &execution, at_cut.as_ref().ok(), &why);
        format!("{why}\n{kept}")
    })
}

/// The board as the cut left it, in case that what comes then fails.
fn copy_of(bench: &Bench<'_>, state: &State, folder: &Path) -> Result<State, String> {
    let folder = folder.join("at-the-cut");
    let copied = fs::create_dir_all(&folder).map_err(SuiteError::file(&folder, "made"));
    let copied = copied.and_then(|()| bench.copy(state, &folder));
    copied.map_err(|error| error.to_string())
}

/// Cuts that all came too late show nothing.
fn hit(cuts: u32, late: u32) -> Result<(), String> {
    match cuts.saturating_sub(late) {
        0 if cuts == 0 => Err("No power cut was made.".to_owned()),
        0 => Err(format!(
            "None of {cuts} power cuts came before what it was to interrupt had ended. Make within-ms shorter."
        )),
        _ => Ok(()),
    }
}

impl Execution<'_> {
    /// The steps before a cut at a random moment, which is to interrupt the last one.
    fn steps_before_cut(&mut self, steps: &[Step]) -> Result<(), String> {
        let Some((last, before)) = steps.split_last() else {
            return Ok(());
        };
        self.steps(before)?;
        self.begun = (self.board.console().mark(), self.board.control().mark());
        self.steps(slice::from_ref(last))
    }

    fn cut_after(&mut self, moment: Duration) -> Result<(), String> {
        self.noted("power cut", |execution| {
            execution.board.pass(moment);
            execution.cut()?;
            let (console, control) = execution.begun;
            let landing = Landing::of(
                &execution.board.console().since(console),
                &execution.board.control().since(control),
            );
            execution.late_cuts += u32::from(landing.late);
            execution.outcome = format!(" {landing}");
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_cut_shortens_the_window() {
        assert_eq!(shortened(8000, Duration::from_millis(6000)), 7000);
        assert_eq!(shortened(60, Duration::from_millis(60)), 60);
        assert_eq!(shortened(1, Duration::ZERO), 0);
    }

    #[test]
    fn cuts_that_all_came_too_late_are_a_failure() {
        assert!(hit(0, 0).unwrap_err().contains("No power cut"));
        assert!(hit(3, 3).unwrap_err().contains("None of 3"));
        assert_eq!(hit(3, 2), Ok(()));
    }
}
