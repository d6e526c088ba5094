//! The report as one page that needs nothing else.

use super::{Outcome, Report, ScenarioResult, Starts, StepResult};
use std::fmt::Write;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8885;--good:#2a7d3c;--bad:#c0262d;--none:#8a6d00}\n\
@media(prefers-color-scheme:dark){:root{--good:#6fcf82;--bad:#ff7b7b;--none:#e0c050}}\n\
body{font:15px/1.45 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}\n\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}\n\
td.name{white-space:nowrap}th:last-child{text-align:right}td.n{width:4.5rem;text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\n\
.passed{color:var(--good)}.failed,.failed a{color:var(--bad);font-weight:600}.skipped{color:var(--none)}\n\
pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid var(--line);border-radius:4px;padding:.5rem;font-size:12px;margin:.3rem 0}\n\
summary{cursor:pointer}section{margin-top:2.2rem}h2{margin-bottom:.2rem}\n";

/// The report as a page.
pub fn html(report: &Report) -> String {
    let mut page = String::new();
    let failed = report.counts().failed > 0;
    // Writing into a string does not fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{counts}: board {board}</title>\n<style>\n{STYLE}</style></head><body>\n\
         <h1>Board {board}: <span class=\"{class}\">{counts}</span></h1>\n\
         <p>Scenarios that were run on a board: what each one shows, its steps with their seconds, and what the board said during each of them \
         (<i>console</i>; lines with ~ are this program's own).</p>\n\
         <p>{machine}.<br>{seconds:.0} s, seed {seed}{cuts}.<br>{starts}</p>\n",
        counts = report.counts(),
        board = escaped(&report.board),
        class = if failed { "failed" } else { "passed" },
        machine = escaped(&report.machine),
        seconds = report.elapsed.as_secs_f64(),
        cuts = cuts(report),
        seed = report.seed,
        starts = Starts::of(report).map_or_else(String::new, |starts| format!("{starts}.")),
    );
    failures(&mut page, report);
    page.push_str("<h2>All scenarios</h2>\n<table><tr><th>Scenario</th><th>shows</th><th></th><th>seconds</th></tr>\n");
    report
        .results
        .iter()
        .for_each(|result| row(&mut page, result));
    page.push_str("</table>\n");
    report
        .results
        .iter()
        .for_each(|result| section(&mut page, result));
    page.push_str("</body></html>\n");
    page
}

/// The power cuts, where there were some.
fn cuts(report: &Report) -> String {
    match (report.cuts(), report.late_cuts()) {
        (0, _) => String::new(),
        (1, late) => format!(", 1 power cut, {late} too late"),
        (cuts, late) => format!(", {cuts} power cuts, of these {late} too late"),
    }
}

const fn class(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) => "failed",
        Outcome::Skipped(_) => "skipped",
    }
}

/// What went wrong stands before everything else.
fn failures(page: &mut String, report: &Report) {
    for result in &report.results {
        if let Outcome::Failed(why) = &result.outcome {
            let (first, rest) = why.split_once('\n').unwrap_or((why, ""));
            let _ = writeln!(
                page,
                "<h2 class=\"failed\"><a href=\"#{name}\">{name}</a> failed</h2>\n<p>{shows}</p>\n<p class=\"failed\">{first}</p>\n<pre>{rest}</pre>",
                name = escaped(&result.name),
                shows = escaped(&result.shows),
                first = escaped(first),
                rest = escaped(rest),
            );
        }
    }
}

fn row(page: &mut String, result: &ScenarioResult) {
    let _ = writeln!(
        page,
        "<tr><td class=\"name\"><a href=\"#{name}\">{name}</a></td><td>{shows}</td><td class=\"{class}\">{class}</td><td class=\"n\">{seconds:.1}</td></tr>",
        name = escaped(&result.name),
        shows = escaped(&result.shows),
        class = class(&result.outcome),
        seconds = result.elapsed.as_secs_f64(),
    );
}

fn section(page: &mut String, result: &ScenarioResult) {
    let (name, class) = (escaped(&result.name), class(&result.outcome));
    let _ = writeln!(
        page,
        "<section id=\"{name}\"><h2>{name} <span class=\"{class}\">{class}</span></h2>\n<p>{}</p>",
        escaped(&result.shows)
    );
    if let Outcome::Failed(why) | Outcome::Skipped(why) = &result.outcome {
        let first = why.lines().next().unwrap_or_default();
        let _ = writeln!(page, "<p class=\"{class}\">{}</p>", escaped(first));
    }
    if !result.steps.is_empty() {
        page.push_str("<table>\n");
        result.steps.iter().for_each(|step| step_row(page, step));
        page.push_str("</table>\n");
    }
    page.push_str("</section>\n");
}

fn step_row(page: &mut String, step: &StepResult) {
    let class = if step.failure.is_some() {
        "failed"
    } else {
        "passed"
    };
    let _ = write!(
        page,
        "<tr><td class=\"n\">{:.1} s</td><td><span class=\"{class}\">{}</span>",
        step.elapsed.as_secs_f64(),
        escaped(&step.title)
    );
    if !step.output.is_empty() {
        let _ = write!(
            page,
            "<details><summary>output</summary><pre>{}</pre></details>",
            escaped(&step.output)
        );
    }
    if !step.console.is_empty() {
        let lines: String = step
            .console
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        let open = if step.failure.is_some() { " open" } else { "" };
        let _ = write!(
            page,
            "<details{open}><summary>console, {} lines</summary><pre>{}</pre></details>",
            step.console.len(),
            escaped(&lines)
        );
    }
    page.push_str("</td></tr>\n");
}

/// Text as text, also in an attribute.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
        out
    })
}
