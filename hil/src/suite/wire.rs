//! The link between a scenario's board and the web server, and what may go over it.

use super::bench::Bench;
use super::execute::StepError;
use crate::agent::{Plan, event_in};
use crate::boards::uefi::{Answer, Parts};
use crate::link::{Link, Report, Shape};
use crate::scenario::Traffic;
use std::net::{Ipv4Addr, SocketAddr};

/// A board's way to the web server: with a link in between where a scenario has one.
pub(super) struct Wire {
    link: Option<Link>,
    planned: Option<Planned>,
}

/// What the device said that an update costs, and what had gone over the link until then.
struct Planned {
    source_bytes: u64,
    before: Report,
}

impl Wire {
    /// The way of a board, and the board's parts that go it.
    ///
    /// # Errors
    /// With a sentence when the link cannot be opened.
    pub(super) fn new(bench: &Bench<'_>, shape: Option<&Shape>) -> Result<(Self, Parts), String> {
        let mut parts = bench.parts.clone();
        let link = match (shape, parts.server_port) {
            (Some(shape), Some(port)) => {
                let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let link = Link::start(shape.clone(), bench.seed, server, None)
                    .map_err(|error| format!("The link could not be opened: {error}."))?;
                parts.server_port = Some(link.port);
                Some(link)
            }
            _ => None,
        };
        let planned = None;
        Ok((Self { link, planned }, parts))
    }

    /// Remembers what the device plans; what goes over the link is counted from here.
    ///
    /// # Errors
    /// When the answer is no plan.
    pub(super) fn planned(&mut self, answer: &Answer) -> Result<String, StepError> {
        let plan: Plan = event_in(&answer.text, "plan").map_err(|error| {
            StepError::Unexpected(format!(
                "The answer to `{}` is no plan: {error}. It is:\n{}",
                answer.command, answer.text
            ))
        })?;
        let source_bytes = plan.source_bytes;
        self.planned = Some(Planned {
            source_bytes,
            before: self.report()?,
        });
        Ok(format!("{source_bytes} bytes are planned"))
    }

    /// Compares what went over the link since the plan, or since the beginning.
    ///
    /// # Errors
    /// With every difference.
    pub(super) fn compare(&self, traffic: &Traffic) -> Result<String, StepError> {
        let report = self.report()?;
        let (report, planned) = match &self.planned {
            Some(planned) => (report.since(&planned.before), Some(planned.source_bytes)),
            None => (report, None),
        };
        let wrong = differences(traffic, &report, planned);
        let said = format!("{report:?}");
        if wrong.is_empty() {
            Ok(said)
        } else {
            Err(StepError::Unexpected(format!(
                "What went over the link is not as it must be: {}. It was {said}",
                wrong.join("; ")
            )))
        }
    }

    fn report(&self) -> Result<Report, StepError> {
        let link = self.link.as_ref();
        link.map(Link::report)
            .ok_or_else(|| StepError::Unexpected("The scenario has no link.".to_owned()))
    }
}

fn differences(traffic: &Traffic, report: &Report, planned: Option<u64>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut least = |what: &str, least: u64, found: u64| {
        if found < least {
            wrong.push(format!("{what} must be at least {least}, and are {found}"));
        }
    };
    least("cuts", traffic.cuts_at_least, report.cuts);
    least(
        "changed bytes",
        traffic.corrupted_at_least,
        report.corrupted_bytes,
    );
    least("refusals", traffic.refused_at_least, report.refused);
    let Some(percent) = traffic.at_most_percent_of_plan else {
        return wrong;
    };
    match planned {
        None => wrong.push("no plan was made before".to_owned()),
        Some(planned) => {
            let most = planned.saturating_mul(percent) / 100
                + report.cuts.saturating_mul(traffic.more_bytes_a_cut);
            if report.bytes() > most {
                wrong.push(format!(
                    "bytes both ways must be at most {most}, for {planned} planned and {} cuts, and are {}",
                    report.cuts,
                    report.bytes()
                ));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_over_the_link_is_held_to_the_plan() {
        let traffic = Traffic {
            cuts_at_least: 2,
            corrupted_at_least: 0,
            refused_at_least: 0,
            at_most_percent_of_plan: Some(103),
            more_bytes_a_cut: 100,
        };
        let report = |cuts, down_bytes| Report {
            cuts,
            down_bytes,
            up_bytes: 30,
            ..Report::default()
        };
        assert!(differences(&traffic, &report(2, 10_470), Some(10_000)).is_empty());
        for (report, planned, words) in [
            (report(2, 10_471), Some(10_000), "at most 10500"),
            (report(1, 100), Some(10_000), "cuts must be at least 2"),
            (report(2, 100), None, "no plan"),
        ] {
            let wrong = differences(&traffic, &report, planned);
            assert!(
                wrong.len() == 1 && wrong[0].contains(words),
                "{words}: {wrong:?}"
            );
        }
    }
}
