//! Runs scenarios side by side.
//!
//! # Invariants
//! - A scenario that ends by a panic is one that failed; the others go on.
//! - The results are in the order of the scenarios.

use crate::report::{Outcome, ScenarioResult};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Runs all, `jobs` side by side, and tells each result as soon as it is there.
///
/// # Errors
/// When nobody hears the results.
pub(super) fn run_all<S: Sync>(
    scenarios: &[S],
    jobs: usize,
    out: &mut (impl Write + Send),
    run_one: impl Fn(&S) -> ScenarioResult + Sync,
) -> io::Result<Vec<ScenarioResult>> {
    let (next, told) = (AtomicUsize::new(0), Mutex::new((out, Vec::new(), None)));
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, scenarios.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(scenario) = scenarios.get(index) else {
                        return;
                    };
                    let result = run_one(scenario);
                    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Err(error) = writeln!(told.0, "{result}").and_then(|()| told.0.flush()) {
                        told.2.get_or_insert(error);
                    }
                    told.1.push((index, result));
                }
            });
        }
    });
    let (_, mut results, failure) = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    match failure {
        Some(error) => Err(error),
        None => Ok(results.into_iter().map(|(_, result)| result).collect()),
    }
}

/// What came of a scenario, or, after a panic of this program, that it failed.
pub(super) fn caught<R>(work: impl FnOnce() -> R, failed: impl FnOnce(Outcome) -> R) -> R {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no words");
        failed(Outcome::Failed(format!(
            "The program that runs the scenarios panicked: {text}"
        )))
    })
}
