//! Compares the state of a device, as its agent tells it, with what it must be.

use super::execute::{StepError, unexpected};
use crate::agent::{Journal, Status, event_in, number_in_entry};
use crate::boards::uefi::{Answer, Uefi};
use crate::maker::Made;
use crate::scenario::{Bundle, Expect};
use crate::tamper::Set;
use std::time::{Duration, Instant};

/// Limit of one question.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Asks until the state is as it must be; the guest waits a second between the questions.
///
/// # Errors
/// With every difference, when the limit is over.
pub(super) fn meet(board: &mut Uefi, expect: &Expect, made: &Made) -> Result<String, StepError> {
    let end = Instant::now() + Duration::from_secs(expect.limit_seconds) * board.patience();
    loop {
        let status = board.run("twinseal --json status", ASK_LIMIT)?;
        let line = board.run("cat /proc/cmdline", ASK_LIMIT)?.text;
        let mut wrong = match event_in::<Status>(&status.text, "status") {
            Ok(found) => differences(expect, &found, &line, made),
            Err(error) => vec![format!("the agent's answer cannot be read: {error}")],
        };
        if expect.journal {
            let history = board.run("twinseal --json history --verify", ASK_LIMIT)?;
            let journal = event_in::<Journal>(&history.text, "journal");
            let holds = journal
                .is_ok_and(|journal| journal.chain_holds && journal.anchor_holds != Some(false));
            wrong.extend((!holds || history.code != 0).then(|| "the journal must hold".to_owned()));
        }
        if wrong.is_empty() {
            return Ok(status.text);
        }
        if Instant::now() >= end {
            let wrong = wrong.join("; ");
            return Err(StepError::Unexpected(format!(
                "The device is not as it must be: {wrong}.\nIts status: {}\nIts command line: {line}",
                status.text
            )));
        }
        board.run("sleep 1", ASK_LIMIT)?;
    }
}

/// Room for what stands before a UKI in a bundle: headers, manifest, signatures and index.
const BEFORE_UKI_BYTES: u64 = 64 << 10;

/// A number of the device's journal.
pub(super) struct Number {
    name: String,
    value: u64,
}

/// Finds it in the answer of `history`: in the last entry of this kind.
///
/// # Errors
/// When there is none.
pub(super) fn entry(answer: &Answer, kind: &str, field: &str) -> Result<Number, StepError> {
    let name = format!("{field} of the journal's last {kind}");
    match number_in_entry(&answer.text, kind, field) {
        Ok(Some(value)) if answer.code == 0 => Ok(Number { name, value }),
        _ => Err(unexpected(answer, &format!("must print {name}"))),
    }
}

impl Number {
    /// Compares it, and says it.
    ///
    /// # Errors
    /// When it is too small or too large, and when the limit shows nothing, since the whole bundle is no larger.
    pub(super) fn within(
        &self,
        least: u64,
        uki: Option<Bundle>,
        made: &Made,
    ) -> Result<String, StepError> {
        let Self { name, value } = self;
        let most = match uki {
            None => u64::MAX,
            Some(bundle) => {
                let sizes = made.sizes(bundle).ok_or_else(|| {
                    StepError::Unexpected(format!("{} was not built.", bundle.name()))
                })?;
                let most = sizes.uki_bytes.saturating_add(BEFORE_UKI_BYTES);
                if most >= sizes.bundle_bytes {
                    return Err(StepError::Unexpected(format!(
                        "The bundle of {} bytes is hardly larger than its UKI, so nothing is shown by {name}.",
                        sizes.bundle_bytes
                    )));
                }
                most
            }
        };
        if (least..=most).contains(value) {
            Ok(format!("{name} is {value}"))
        } else {
            Err(StepError::Unexpected(format!(
                "{name} must be from {least} to {most}, and is {value}."
            )))
        }
    }
}

fn differences(expect: &Expect, found: &Status, command_line: &str, made: &Made) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, expected: Option<&str>, found: Option<&str>| {
        if expected != found {
            wrong.push(format!(
                "{what} must be {}, and is {}",
                expected.unwrap_or("none"),
                found.unwrap_or("none")
            ));
        }
    };
    let trial = found.trial.as_ref().map(|trial| trial.set.as_str());
    let (running, default) = (found.running.as_deref(), found.default.as_deref());
    if let Some(set) = expect.running {
        compare("the running set", Some(set.name()), running);
    }
    if let Some(set) = expect.default {
        compare("the default set", Some(set.name()), default);
    }
    if let Some(set) = expect.trial {
        compare("the set on trial", set.name(), trial);
    }
    if expect.settled {
        compare("the default set", running.or(Some("known")), default);
        compare("the set on trial", None, trial);
    }
    if let Some(floor) = expect.floor {
        let is = found.floor.map(|floor| floor.to_string());
        compare("the floor", Some(&floor.to_string()), is.as_deref());
    }
    if let Some(bad) = &expect.bad {
        let expected: Vec<_> = bad.iter().map(|set: &Set| set.name()).collect();
        let is: Vec<_> = found
            .sets
            .iter()
            .filter(|set| set.marked_bad)
            .map(|set| set.set.as_str())
            .collect();
        compare(
            "the bad sets",
            Some(&expected.join(", ")),
            Some(&is.join(", ")),
        );
    }
    if let Some(seals) = &expect.seal {
        let sealed = command_line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("composefs="));
        let bundle = sealed.and_then(|seal| made.bundle_of(seal));
        if bundle.is_none_or(|bundle| !seals.contains(&bundle)) {
            let names: Vec<_> = seals.iter().map(|seal| seal.name()).collect();
            compare(
                "the seal",
                Some(&format!("that of {}", names.join(" or "))),
                sealed,
            );
        }
    }
    wrong
}
