//! What the agent answers with `--json`: one object a line, each with the field `event`.
//!
//! Only the fields that are used here are named; the agent may add others at any time.

use crate::command::{CommandError, Output};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};

/// The set to boot, from `select`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Selected {
    /// The set: "a" or "b".
    pub set: String,
    /// Why: the short name of a row in the table of boot states.
    pub reason: String,
    /// Attempts that the trial has left.
    pub attempts_left: u8,
}

/// What an install would do, from `plan`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Plan {
    /// Bytes that would be read from the bundle.
    pub source_bytes: u64,
    /// Of these, headers, manifest, signatures and index.
    pub framing_bytes: u64,
    /// Of these, data that would be written.
    pub fetch_bytes: u64,
    /// Of these, bytes that would only be checked.
    pub audit_bytes: u64,
    /// Bytes that would be written.
    pub write_bytes: u64,
    /// Of these, copied from the running set.
    pub copy_bytes: u64,
    /// What it would cost on the network, when the bundle is there.
    pub network: Option<NetworkCost>,
}

/// Bytes on the connections, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NetworkCost {
    /// What an install would take.
    pub install_bytes: u64,
}

/// What an install did, from `install`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Installed {
    /// The set: "a" or "b".
    pub set: String,
    /// Version for people.
    pub version: String,
    /// Bytes read from the bundle.
    pub source_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Of these, copied from the running set.
    pub copied_bytes: u64,
    /// Attempts of the trial.
    pub trial_attempts: Option<u8>,
}

/// The running set is the default, from `mark-good`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Committed {
    /// The set: "a" or "b".
    pub set: String,
    /// The anti-rollback floor.
    pub floor: u64,
    /// Whether anything changed.
    pub changed: bool,
}

/// The state of the device, from `status`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// The running set.
    pub running: Option<String>,
    /// "sealed", "not sealed", or "no root slots".
    pub verity: Option<String>,
    /// The set that boots when nothing is on trial.
    pub default: Option<String>,
    /// The trial.
    pub trial: Option<Trial>,
    /// The anti-rollback floor.
    pub floor: Option<u64>,
    /// Both sets.
    pub sets: Vec<SetStatus>,
}

/// A set on trial.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Trial {
    /// The set: "a" or "b".
    pub set: String,
    /// Boots that are left.
    pub attempts_left: u8,
}

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SetStatus {
    /// The set: "a" or "b".
    pub set: String,
    /// Whether it is complete.
    pub bootable: bool,
    /// Whether a trial of it failed or it was marked bad.
    pub marked_bad: bool,
    /// What it holds.
    pub release: Option<Release>,
}

/// A release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Release {
    /// Version for people.
    pub version: String,
}

/// How the journal ends, from `history`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Journal {
    /// Entries whose digests follow from those before.
    pub entries: u64,
    /// Whether the chain holds to its end.
    pub chain_holds: bool,
    /// Whether the chain passes through the boot record's anchor.
    pub anchor_holds: Option<bool>,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Failed {
    /// The exit code.
    pub exit_code: i32,
    /// Its short name.
    pub name: String,
    /// What is wrong.
    pub error: String,
}

/// The last event of this name that a command printed.
///
/// # Errors
/// [`CommandError::Json`] when a line is no JSON, or no event has the name and the fields of `T`.
pub fn event<T: DeserializeOwned>(output: &Output, name: &str) -> Result<T, CommandError> {
    find(&output.stdout, name).map_err(|source| CommandError::Json {
        source,
        output: Box::new(output.clone()),
    })
}

/// The last event of this name in what a command printed elsewhere. Lines that are no JSON are the command's errors.
///
/// # Errors
/// When no event has the name and the fields of `T`.
pub fn event_in<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, serde_json::Error> {
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with('{')).collect();
    find(&lines.join("\n"), name)
}

/// A number in the last entry of this kind that `history` printed elsewhere; nothing when there is none.
///
/// # Errors
/// When a line is no JSON.
pub fn number_in_entry(
    text: &str,
    kind: &str,
    field: &str,
) -> Result<Option<u64>, serde_json::Error> {
    let is = |value: &serde_json::Value, name: &str, word: &str| {
        value.get(name).and_then(serde_json::Value::as_str) == Some(word)
    };
    let mut found = None;
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let value: serde_json::Value = serde_json::from_str(line)?;
        if is(&value, "event", "entry") && is(&value, "kind", kind) {
            found = value.get(field).and_then(serde_json::Value::as_u64);
        }
    }
    Ok(found)
}

fn find<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, serde_json::Error> {
    let mut found = None;
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        if value.get("event").and_then(serde_json::Value::as_str) == Some(name) {
            found = Some(value);
        }
    }
    found.map_or_else(
        || {
            Err(serde_json::Error::custom(format!(
                "no line is the event {name:?}"
            )))
        },
        serde_json::from_value,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_of_the_kind_has_the_number() {
        let text = "{\"event\":\"entry\",\"kind\":\"install-failed\",\"source_bytes\":1}\n\
                    {\"event\":\"entry\",\"kind\":\"install-failed\",\"source_bytes\":2}\n\
                    {\"event\":\"entry\",\"kind\":\"booted\",\"source_bytes\":3}\nno entry\n";
        let number = |kind, field| number_in_entry(text, kind, field).unwrap();
        assert_eq!(number("install-failed", "source_bytes"), Some(2));
        assert_eq!(number("install-failed", "other_bytes"), None);
        assert_eq!(number("committed", "source_bytes"), None);
        assert!(number_in_entry("{no", "booted", "x").is_err());
    }

    #[test]
    fn the_last_event_of_the_name_counts() {
        let text = "{\"event\":\"progress\",\"done\":1}\n\
                    {\"event\":\"selected\",\"set\":\"a\",\"reason\":\"default\",\"attempts_left\":0,\"later\":true}\n";
        let selected: Selected = find(text, "selected").unwrap();
        assert_eq!(
            selected,
            Selected {
                set: "a".into(),
                reason: "default".into(),
                attempts_left: 0
            }
        );
        assert!(
            find::<Selected>(text, "installed")
                .unwrap_err()
                .to_string()
                .contains("installed")
        );
        assert!(find::<Selected>(text, "progress").is_err());
        assert!(find::<Selected>("no JSON\n", "selected").is_err());
    }
}
