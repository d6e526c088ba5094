//! Seconds that the initramfs took to mount the sealed root, as it says at each start.

use super::Report;
use std::fmt;

/// What the initramfs says; the seconds follow.
pub const MOUNTED_WORDS: &str = "twinseal: init: sealed root mounted in ";

/// The starts of a run, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Starts {
    /// How many there were.
    pub count: usize,
    /// The shortest.
    pub least: f64,
    /// The one in the middle.
    pub median: f64,
    /// The longest.
    pub most: f64,
}

impl Starts {
    /// Those of a run; `None` when there was none.
    pub fn of(report: &Report) -> Option<Self> {
        let steps = report.results.iter().flat_map(|result| &result.steps);
        let lines = steps.flat_map(|step| &step.console);
        let mut all: Vec<f64> = lines.filter_map(|line| seconds(&line.text)).collect();
        all.sort_by(f64::total_cmp);
        Some(Self {
            count: all.len(),
            least: *all.first()?,
            median: *all.get(all.len() / 2)?,
            most: *all.last()?,
        })
    }
}

fn seconds(line: &str) -> Option<f64> {
    let (_, said) = line.split_once(MOUNTED_WORDS)?;
    said.trim().strip_suffix(" s")?.parse().ok()
}

impl fmt::Display for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "/init took {:.3} s to mount the sealed root (median of {} starts, {:.3} to {:.3} s)",
            self.median, self.count, self.least, self.most
        )
    }
}
