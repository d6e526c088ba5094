//! What a command may still spend on the network: asked before every request, written down before it is spent.
//!
//! # Invariants
//! - Limit and ledger know of a request's whole cost before it is sent. What it cost less is given back when its answer has been
//!   read to the end.

use super::line::Line;
use crate::ledger::Ledger;
use std::fmt;
use std::sync::Arc;

/// Which limit a request would go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetProblem {
    /// That of the bundle.
    Bundle {
        /// Bytes that it would have cost, this run and those before.
        needed: u64,
        /// Most bytes that it may cost.
        budget: u64,
    },
    /// That of the calendar period.
    Period {
        /// Bytes that the period would have cost.
        needed: u64,
        /// Most bytes that it may cost.
        budget: u64,
    },
}

impl fmt::Display for BudgetProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, needed, budget) = match self {
            Self::Bundle { needed, budget } => ("this bundle", needed, budget),
            Self::Period { needed, budget } => ("this period", needed, budget),
        };
        write!(
            f,
            "the budget of {budget} bytes for {what} does not allow the next request, after which it would have cost up to {needed}"
        )
    }
}

impl std::error::Error for BudgetProblem {}

/// A limit, and what was spent before this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Most bytes; `None` for no limit.
    pub budget: Option<u64>,
    /// Spent before this run.
    pub before: u64,
}

impl Limit {
    /// What is left for this run, all of it.
    pub fn left(&self) -> Option<u64> {
        self.budget.map(|budget| budget.saturating_sub(self.before))
    }
}

/// The account of a command.
#[derive(Debug)]
pub struct Account {
    line: Arc<Line>,
    ledger: Option<Ledger>,
    /// Whether the ledger counts this run for the bundle.
    is_for_bundle: bool,
    bundle: Limit,
    period: Limit,
    /// What the line's total may come to by the request under way.
    reserved_to: u64,
    /// What the ledger says of this run.
    stored: u64,
    /// Whether the run was more than a look: its plan was accepted.
    is_accepted: bool,
}

impl Account {
    /// An account without limits and without a ledger.
    pub fn unlimited(line: Arc<Line>) -> Self {
        Self {
            line,
            ledger: None,
            is_for_bundle: false,
            bundle: Limit::default(),
            period: Limit::default(),
            reserved_to: 0,
            stored: 0,
            is_accepted: false,
        }
    }

    /// The same, with a ledger that has entered bundle and period.
    #[must_use]
    pub fn with(self, ledger: Ledger, bundle: Limit, period: Limit, is_for_bundle: bool) -> Self {
        Self {
            ledger: Some(ledger),
            is_for_bundle,
            bundle,
            period,
            ..self
        }
    }

    /// The line whose bytes it counts.
    pub const fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// What this run may spend, all of it; `None` without a limit.
    pub fn limit(&self) -> Option<u64> {
        let limits = [self.bundle.left(), self.period.left()];
        limits.into_iter().flatten().min()
    }

    /// The limits.
    pub const fn limits(&self) -> (Limit, Limit) {
        (self.bundle, self.period)
    }

    /// Which limit would be passed if this run came to cost so much.
    ///
    /// # Errors
    /// [`BudgetProblem`] names it.
    pub fn check(&self, run_bytes: u64) -> Result<(), BudgetProblem> {
        let over = |limit: &Limit| {
            let needed = limit.before.saturating_add(run_bytes);
            limit
                .budget
                .filter(|budget| needed > *budget)
                .map(|budget| (needed, budget))
        };
        if let Some((needed, budget)) = over(&self.bundle) {
            return Err(BudgetProblem::Bundle { needed, budget });
        }
        match over(&self.period) {
            Some((needed, budget)) => Err(BudgetProblem::Period { needed, budget }),
            None => Ok(()),
        }
    }

    /// Before a request: the line must be open, and its cost must fit, and is written down. `slack_bytes` more may come if there is
    /// room for them.
    ///
    /// # Errors
    /// [`BudgetProblem`] in an [`io::Error`](std::io::Error) when it does not fit, [`Closed`](super::line::Closed) when it is too late;
    /// otherwise why it cannot be written down.
    pub fn reserve(&mut self, bytes: u64, slack_bytes: u64) -> std::io::Result<()> {
        self.line.check_open().map_err(std::io::Error::other)?;
        let to = self.line.total_bytes().saturating_add(bytes);
        self.check(to).map_err(std::io::Error::other)?;
        let limit = self.limit();
        self.reserved_to = to
            .saturating_add(slack_bytes)
            .min(limit.unwrap_or(u64::MAX));
        self.store(self.reserved_to)?;
        if limit.is_some() {
            self.line.stop_at(self.reserved_to);
        }
        Ok(())
    }

    /// The answer was not read to its end, and what is missing of the reserved bytes may have come all the same.
    pub fn lose(&mut self) {
        let missing = self.reserved_to.saturating_sub(self.line.total_bytes());
        self.line.lose(missing);
    }

    /// The manifest is known: the account is that of its bundle.
    pub fn enter_manifest(&mut self, sha256: &[u8]) {
        let run_bytes = if self.is_for_bundle { self.stored } else { 0 };
        if let Some(ledger) = &mut self.ledger {
            self.bundle.before = ledger.enter_manifest(sha256, run_bytes);
            if !self.is_for_bundle {
                self.bundle.before = 0;
            }
        }
    }

    /// The plan was accepted.
    pub const fn accept(&mut self) {
        self.is_accepted = true;
    }

    /// Writes down what was really spent. A bundle that was only looked at has no account yet: its budget is for installing it.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn settle(&mut self) -> std::io::Result<()> {
        self.reserved_to = self.line.total_bytes();
        self.store(self.reserved_to)?;
        if !self.is_accepted && self.is_for_bundle && self.bundle.before == 0 {
            let period = self.period.before.saturating_add(self.stored);
            if let Some(ledger) = &mut self.ledger {
                return ledger
                    .store(Some(0), Some(period))
                    .map_err(std::io::Error::other);
            }
        }
        Ok(())
    }

    fn store(&mut self, run_bytes: u64) -> std::io::Result<()> {
        if run_bytes == self.stored {
            return Ok(());
        }
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        let bundle = self
            .is_for_bundle
            .then(|| self.bundle.before.saturating_add(run_bytes));
        let period = self.period.before.saturating_add(run_bytes);
        ledger
            .store(bundle, Some(period))
            .map_err(std::io::Error::other)?;
        self.stored = run_bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_two_limits_counts_to_the_byte() {
        let (bundle, period) = (
            Limit {
                budget: Some(100),
                before: 40,
            },
            Limit {
                budget: Some(1_000),
                before: 930,
            },
        );
        let mut account = Account {
            bundle,
            period,
            ..Account::unlimited(Line::unlimited())
        };
        assert_eq!(account.limit(), Some(60));
        assert_eq!(account.check(60), Ok(()));
        assert_eq!(
            account.check(61),
            Err(BudgetProblem::Bundle {
                needed: 101,
                budget: 100
            })
        );
        account.bundle.budget = None;
        assert_eq!(
            account.check(71),
            Err(BudgetProblem::Period {
                needed: 1_001,
                budget: 1_000
            })
        );
    }

    #[test]
    fn what_nobody_read_is_spent() {
        let mut account = Account::unlimited(Line::unlimited());
        account.bundle.budget = Some(100);
        account.reserve(60, 10).unwrap();
        account.lose();
        assert_eq!(account.line.total_bytes(), 70);
        let error = account.reserve(31, 0).unwrap_err();
        let problem: Option<&BudgetProblem> =
            error.get_ref().and_then(|inner| inner.downcast_ref());
        assert_eq!(
            problem,
            Some(&BudgetProblem::Bundle {
                needed: 101,
                budget: 100
            })
        );
        account.reserve(30, 5).unwrap();
    }
}
