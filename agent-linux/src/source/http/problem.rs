//! Why a bundle on a web server cannot be read, and whether it may be read later.

use super::setup::SetupProblem;
use crate::clock::Utc;
use crate::source::account::BudgetProblem;
use crate::source::line::Closed;
use rustls::{AlertDescription, CertificateError};
use std::fmt;
use std::io;

/// Why a bundle on a web server cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpProblem {
    /// The address cannot be read.
    Address,
    /// This device cannot ask any server.
    Setup(SetupProblem),
    /// The server's certificate is not for now.
    CertificateTime {
        /// From when on, or until when it is good; seconds since 1970-01-01 UTC.
        limit: u64,
        /// Whether that is still to come.
        is_too_early: bool,
        /// What this device's clock says.
        clock: u64,
    },
    /// The server's certificate proves nothing to this device.
    Certificate(String),
    /// The server ended the handshake of TLS.
    Refused(String),
    /// The proxy does not let us through.
    Proxy(String),
    /// A server sends us on without end.
    TooManyRedirects,
    /// A server sends us from `https:` to `http:`.
    RedirectToPlain,
    /// A server sends us on, and does not say where to.
    Redirect,
    /// The server answered with a status that gives no bytes.
    Status(u16),
    /// The server is busy for longer than is waited for.
    Busy {
        /// Seconds after which it wants to be asked again.
        seconds: u64,
    },
    /// Another bundle is at the address than when the read began.
    Changed,
    /// The connection was cut, and the server cannot go on in the middle.
    NoRanges,
    /// The server has no ranges, and nobody can say that the whole bundle keeps within the budget.
    BudgetNeedsRanges {
        /// Most bytes that this run may spend.
        budget: u64,
    },
    /// An answer is compressed, or coded in another way.
    Compressed,
    /// An answer does not fit the request.
    Answer,
}

impl fmt::Display for HttpProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("the address must be http://HOST/PATH or https://HOST/PATH"),
            Self::Setup(problem) => problem.fmt(f),
            Self::CertificateTime {
                limit,
                is_too_early,
                clock,
            } => {
                let (word, limit, clock) = (
                    if *is_too_early { "from" } else { "until" },
                    Utc(*limit),
                    Utc(*clock),
                );
                write!(
                    f,
                    "the server's certificate is good {word} {limit}, and this device's clock says {clock}: one of them is wrong"
                )
            }
            Self::Certificate(why) => {
                write!(f, "the server's certificate does not prove who it is ({why})")
            }
            Self::Refused(why) => write!(f, "the server refuses the connection ({why})"),
            Self::Proxy(why) => write!(f, "the proxy does not let this connection through ({why})"),
            Self::TooManyRedirects => f.write_str("the server sends this device on and on"),
            Self::RedirectToPlain => {
                f.write_str("the server sends this device from https: to http:, which is refused")
            }
            Self::Redirect => f.write_str("the server sends this device on, and does not say where to"),
            Self::Status(code) => write!(f, "the server answered with status {code}"),
            Self::Busy { seconds } => write!(
                f,
                "the server is busy, and wants to be asked again in {seconds} s; run the command again then"
            ),
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
            Self::Compressed => f.write_str(
                "the server compresses the bundle, which nobody asked it for; it must serve it as it is",
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

/// That it is too late for another request.
pub fn closed_of(error: &io::Error) -> Option<&Closed> {
    error.get_ref()?.downcast_ref()
}

/// Whether a request was not sent: the budget does not allow it, or it is too late.
pub(super) fn is_unsent(error: &io::Error) -> bool {
    budget_problem_of(error).is_some() || closed_of(error).is_some()
}

/// Whether the same request may succeed later: everything but an answer that says no, and a budget that is spent.
pub(super) fn may_pass(error: &io::Error) -> bool {
    if error.kind() == io::ErrorKind::QuotaExceeded || is_unsent(error) {
        return false;
    }
    match problem_of(error) {
        Some(HttpProblem::Status(code)) => *code == 429 || *code >= 500,
        Some(_) => false,
        None => !matches!(ureq_error(error), Some(ureq::Error::BadUri(_))),
    }
}

/// An error of the library by our name for it, when it has one. What a bad link may do to a connection has none.
pub(super) fn named(error: io::Error) -> io::Error {
    let problem = match tls_error(&error) {
        Some(rustls::Error::InvalidCertificate(why)) => Some(of_certificate(why)),
        Some(rustls::Error::AlertReceived(alert)) => of_alert(*alert),
        _ => match ureq_error(&error) {
            Some(ureq::Error::ConnectProxyFailed(why)) if !is_passing(why) => {
                Some(HttpProblem::Proxy(why.clone()))
            }
            _ => None,
        },
    };
    problem.map_or(error, Into::into)
}

fn ureq_error(error: &io::Error) -> Option<&ureq::Error> {
    error.get_ref()?.downcast_ref()
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    match ureq_error(error) {
        Some(ureq::Error::Rustls(error)) => Some(error),
        Some(ureq::Error::Io(error)) => tls_error(error),
        _ => error.get_ref()?.downcast_ref(),
    }
}

fn of_certificate(why: &CertificateError) -> HttpProblem {
    let (limit, is_too_early, clock) = match why {
        CertificateError::NotValidYetContext { time, not_before } => (not_before, true, time),
        CertificateError::ExpiredContext { time, not_after } => (not_after, false, time),
        CertificateError::UnknownIssuer => {
            let why = "none of the trust anchors of this device has signed it";
            return HttpProblem::Certificate(why.to_owned());
        }
        other => return HttpProblem::Certificate(other.to_string()),
    };
    HttpProblem::CertificateTime {
        limit: limit.as_secs(),
        is_too_early,
        clock: clock.as_secs(),
    }
}

/// An alert that no other try changes.
fn of_alert(alert: AlertDescription) -> Option<HttpProblem> {
    let is_final = matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity
            | AlertDescription::UnrecognisedName
            | AlertDescription::CertificateRequired
    );
    is_final.then(|| HttpProblem::Refused(format!("{alert:?}")))
}

/// Whether the proxy's status says that it may let us through later.
fn is_passing(why: &str) -> bool {
    let mut words = why.split([' ', '/']);
    words.any(|word| {
        word.parse()
            .is_ok_and(|status: u16| status == 429 || status >= 500)
    })
}
