//! The report as JUnit's XML, which most CI servers read.

use super::{Outcome, Report, ScenarioResult, Starts};
use quick_junit::{NonSuccessKind, Report as Xml, TestCase, TestCaseStatus, TestSuite};

/// The report as XML.
///
/// # Errors
/// When it cannot be written as XML.
pub fn junit(report: &Report) -> Result<String, quick_junit::SerializeError> {
    let mut xml = Xml::new("twinseal-hil");
    xml.set_time(report.elapsed);
    let mut suite = TestSuite::new(report.board.as_str());
    suite.set_time(report.elapsed);
    suite.add_property(("seed", report.seed.to_string().as_str()));
    suite.add_property(("power-cuts", report.cuts().to_string().as_str()));
    suite.add_property(("late-power-cuts", report.late_cuts().to_string().as_str()));
    if let Some(starts) = Starts::of(report) {
        suite.add_property((
            "sealed-root-mounted-seconds",
            format!("{:.3}", starts.median).as_str(),
        ));
    }
    suite.add_test_cases(
        report
            .results
            .iter()
            .map(|result| case(result, &report.board)),
    );
    // quick-junit counts them as `disabled`; CI servers look for this word.
    let skipped = report.counts().skipped.to_string();
    suite.extra.insert("skipped".into(), skipped.into());
    xml.add_test_suite(suite);
    xml.to_string()
}

fn case(result: &ScenarioResult, board: &str) -> TestCase {
    let status = match &result.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Failed(why) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(why.lines().next().unwrap_or_default());
            status.set_description(why.as_str());
            status
        }
        Outcome::Skipped(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why.as_str());
            status
        }
    };
    let mut case = TestCase::new(result.name.as_str(), status);
    case.set_time(result.elapsed);
    case.set_classname(format!("twinseal.{board}"));
    if !result.steps.is_empty() {
        case.set_system_out(steps(result));
    }
    case
}

fn steps(result: &ScenarioResult) -> String {
    let line = |step: &super::StepResult| {
        let verdict = if step.failure.is_some() {
            "FAILED"
        } else {
            "ok"
        };
        format!(
            "{:6.1} s  {verdict:<6} {}\n",
            step.elapsed.as_secs_f64(),
            step.title
        )
    };
    result.steps.iter().map(line).collect()
}
