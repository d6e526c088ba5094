//! Why a bundle on a web server cannot be read, and whether it may be read later.

use crate::source::account::BudgetProblem;
use std::fmt;
use std::io;

/// Why a bundle on a web server cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpProblem {
    /// The address is `https:`, and this build has no TLS.
    NoTls,
    /// The server answered with a status that gives no bytes.
    Status(u16),
    /// Another bundle is at the address than when the read began.
    Changed,
    /// The connection was cut, and the server cannot go on in the middle.
    NoRanges,
    /// The server has no ranges, and nobody can say that the whole bundle keeps within the budget.
    BudgetNeedsRanges {
        /// Most bytes that this run may spend.
        budget: u64,
    },
    /// An answer does not fit the request.
    Answer,
}

impl fmt::Display for HttpProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTls => f.write_str(
                "this agent has no TLS, so it reads http: addresses only; the bundle's signatures protect it on any way",
            ),
            Self::Status(code) => write!(f, "the server answered with status {code}"),
            Self::Changed => f.write_str(
                "the bundle at this address was replaced while it was read; run the command again for the new one",
            ),
            Self::NoRanges => f.write_str(
                "the connection was cut, and the server has no ranges to go on with; run the command again, or use another server",
            ),
            Self::BudgetNeedsRanges { budget } => write!(
                f,
                "the server has no ranges, so the whole bundle would come, and the budget leaves {budget} bytes"
            ),
            Self::Answer => f.write_str("the server's answer does not fit the range that was asked for"),
        }
    }
}

impl std::error::Error for HttpProblem {}

impl From<HttpProblem> for io::Error {
    fn from(problem: HttpProblem) -> Self {
        Self::other(problem)
    }
}

/// The problem that an error stands for.
pub fn problem_of(error: &io::Error) -> Option<&HttpProblem> {
    error.get_ref()?.downcast_ref()
}

/// The budget that ended a read.
pub fn budget_problem_of(error: &io::Error) -> Option<&BudgetProblem> {
    error.get_ref()?.downcast_ref()
}

/// Whether the same request may succeed later: everything but an answer that says no, and a budget that is spent.
pub(super) fn may_pass(error: &io::Error) -> bool {
    if error.kind() == io::ErrorKind::QuotaExceeded || budget_problem_of(error).is_some() {
        return false;
    }
    match problem_of(error) {
        Some(HttpProblem::Status(code)) => *code == 429 || *code >= 500,
        Some(_) => false,
        None => !matches!(
            error.get_ref().and_then(|inner| inner.downcast_ref()),
            Some(
                ureq::Error::BadUri(_)
                    | ureq::Error::TooManyRedirects
                    | ureq::Error::RedirectFailed
            )
        ),
    }
}
