//! A power cut at every operation of the flash during the steps of a scenario.
//!
//! # Invariants
//! - Which operations there are is counted in a run without a cut, and each of them is cut in a new copy of the start; with a
//!   number of cuts, so many of them, by the seed.
//! - After each cut the device runs without an update first, and must come to a committed set by itself; then the steps are done,
//!   and must come out as without the cut.

use super::bench::Bench;
use super::execute::{Execution, StepError};
use super::scenario::{Cuts, Expect, Scenario, Step};
use crate::boards::mcu::medium::{Cut, Medium};
use crate::boards::mcu::{Ending, Program};
use crate::power::Moments;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Limit of a run that ends with a cut, and of the one behind it.
const LIMIT: Duration = Duration::from_secs(60);

/// Does the steps without a cut, and then after each; gives the number of cuts.
///
/// # Errors
/// With the first that failed, and why.
pub(super) fn with_cuts(
    bench: &Bench<'_>,
    scenario: &Scenario,
    cuts: Cuts,
    execution: &mut Execution<'_>,
    made: &mut u32,
) -> Result<(), String> {
    let start = bench.start(scenario.start)?;
    "without a cut: ".clone_into(&mut execution.round);
    let before = operations(execution.board.medium())?;
    execution.steps(&scenario.steps)?;
    let all = before + 1..=operations(execution.board.medium())?;
    let count = all.clone().count();
    for operation in chosen(&all, bench, &scenario.name) {
        let cut = Cut {
            operation,
            moment: cuts.moment.into(),
        };
        let number = operation - before;
        execution.round = format!("operation {number} of {count}: ");
        execution.noted("power cut", |execution| {
            execution.begin_anew(&start)?;
            cut_power(execution, cuts, cut)
        })?;
        *made += 1;
        execution.steps(&comes_up())?;
        execution.steps(&scenario.steps)?;
    }
    match *made {
        0 => Err("No power cut was made: the steps do nothing with the flash.".to_owned()),
        _ => Ok(()),
    }
}

fn operations(medium: &Medium) -> Result<u32, String> {
    medium.operations().map_err(|error| error.to_string())
}

/// All operations, or as many as are wanted, in their order.
fn chosen(all: &RangeInclusive<u32>, bench: &Bench<'_>, name: &str) -> Vec<u32> {
    let mut left: Vec<u32> = all.clone().collect();
    let Some(wanted) = bench.cuts else {
        return left;
    };
    let mut moments = Moments::new(bench.seed, name);
    let mut chosen = Vec::new();
    while chosen.len() < wanted as usize && !left.is_empty() {
        let most = left.len() as u64 - 1;
        chosen.push(left.swap_remove(moments.up_to(most) as usize));
    }
    chosen.sort_unstable();
    chosen
}

fn cut_power(execution: &mut Execution<'_>, cuts: Cuts, cut: Cut) -> Result<(), StepError> {
    execution.serve(cuts.serve)?;
    execution.board.medium().cut_at(cut)?;
    execution.run(Program::Boot, Ending::PowerCut, LIMIT)?;
    let done = execution.board.medium().operations()?;
    let begun = cut.operation - 1 + cut.moment as u32;
    if done == begun {
        Ok(())
    } else {
        Err(StepError::Unexpected(format!(
            "The power was cut after {done} operations had begun, and must be after {begun}."
        )))
    }
}

/// Without an update to go on with, the device comes to a committed set.
fn comes_up() -> [Step; 3] {
    let run = Step::Run {
        ends: Ending::Done,
        says: Vec::new(),
        never_says: Vec::new(),
        limit_seconds: LIMIT.as_secs(),
    };
    let settled = Expect {
        settled: true,
        ..Expect::default()
    };
    [Step::ServeNothing {}, run, Step::Expect(settled)]
}
