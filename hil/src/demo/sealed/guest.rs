//! The appliance as its console and its control line show it.
//!
//! # Invariants
//! - Every wait has a limit; every command and its answer is in the transcript.

use super::super::error::{DemoError, must_be};
use crate::agent::{self, Status};
use crate::boards::uefi::{Answer, START_WORDS, Uefi};
use crate::command::Runner;
use crate::report::MOUNTED_WORDS;
use crate::stream::{Line, WaitError};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Limit of firmware and initramfs on a busy machine.
pub(super) const START_LIMIT: Duration = Duration::from_secs(120);

/// Limit of a whole boot, or of an end in order, on a busy machine.
pub(super) const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// Limit of a command that has little to do.
pub(super) const SHORT: Duration = Duration::from_secs(60);

/// A start that was seen.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// The seal that the UKI states, in hex.
    pub seal: String,
    /// Seconds that it took the initramfs to mount the sealed root, as it says.
    pub mounted: String,
}

/// The appliance on its board.
pub(super) struct Guest<'g> {
    /// The board.
    pub board: Uefi,
    /// Keeps the transcript.
    pub runner: &'g Runner,
}

impl Guest<'_> {
    /// Waits until the set has started and its sealed root is mounted.
    ///
    /// # Errors
    /// When another set starts, or none.
    pub(super) fn started(&self, set: &str) -> Result<Start, DemoError> {
        let line = self.line(START_WORDS, START_LIMIT)?;
        let said = behind(&line, START_WORDS);
        let (found, seal) = said.split_once(", seal ").unwrap_or((said, ""));
        must_be("The set that starts", &found, &set)?;
        let line = self.line(MOUNTED_WORDS, SHORT)?;
        Ok(Start {
            seal: seal.trim().to_owned(),
            mounted: behind(&line, MOUNTED_WORDS).trim().to_owned(),
        })
    }

    /// Waits for a whole line with these words on the console.
    ///
    /// # Errors
    /// When it does not come.
    pub(super) fn line(&self, words: &str, limit: Duration) -> Result<Line, DemoError> {
        let wait = self
            .board
            .console()
            .wait(&format!("{words:?}"), limit, |line, from| {
                let found = line.text.get(from..)?.contains(words);
                (found && line.complete).then_some(line.text.len())
            });
        wait.map_err(DemoError::from)
    }

    /// Waits until the appliance takes commands.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn ready(&self) -> Result<(), DemoError> {
        Ok(self.board.wait_ready(BOOT_LIMIT)?)
    }

    /// Waits until systemd has started everything, and asks whether it has.
    ///
    /// # Errors
    /// When a unit has failed.
    pub(super) fn settled(&mut self) -> Result<(), DemoError> {
        let answer = self.ask("systemctl is-system-running --wait", BOOT_LIMIT)?;
        if answer.code == 0 {
            return Ok(());
        }
        let failed = self.ask("systemctl --failed --no-legend --plain", SHORT)?;
        Err(DemoError::Unexpected {
            what: "What systemd says of the system",
            expected: "\"running\"".to_owned(),
            found: format!("{:?}; these units failed:\n{}", answer.text, failed.text),
        })
    }

    /// Runs a command, which may end as it likes.
    ///
    /// # Errors
    /// When it does not end within the limit.
    pub(super) fn ask(&mut self, command: &str, limit: Duration) -> Result<Answer, DemoError> {
        let answer = self.board.run(command, limit)?;
        let answer = Answer {
            text: without_progress(&answer.text),
            ..answer
        };
        let (code, text) = (answer.code, &answer.text);
        self.runner
            .note(&format!("In the guest: {command}\nExit: {code}\n{text}\n"));
        Ok(answer)
    }

    /// Runs a command that must end with this exit code; gives what it prints.
    ///
    /// # Errors
    /// When it ends otherwise.
    pub(super) fn run(
        &mut self,
        command: &str,
        code: i32,
        limit: Duration,
    ) -> Result<String, DemoError> {
        let answer = self.ask(command, limit)?;
        if answer.code == code {
            return Ok(answer.text);
        }
        Err(DemoError::Guest {
            command: answer.command,
            expected: code,
            found: answer.code,
            text: answer.text,
        })
    }

    /// Runs the agent, which must end with this exit code; gives the event of this name.
    ///
    /// # Errors
    /// When it ends otherwise, or does not tell the event.
    pub(super) fn agent<T: DeserializeOwned>(
        &mut self,
        arguments: &str,
        code: i32,
        event: &str,
    ) -> Result<T, DemoError> {
        let command = format!("twinseal --json {arguments}");
        let text = self.run(&command, code, BOOT_LIMIT)?;
        agent::event_in(&text, event).map_err(|source| DemoError::GuestJson {
            command,
            source,
            text,
        })
    }

    /// The state of the device, as the agent tells it.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(super) fn status(&mut self) -> Result<Status, DemoError> {
        self.agent("status", 0, "status")
    }

    /// Begins a restart, in order. Words of the start before are old from here on.
    ///
    /// # Errors
    /// When the board is off.
    pub(super) fn begin_restart(&mut self) -> Result<(), DemoError> {
        self.board.console().skip();
        self.runner.note("In the guest: systemctl reboot\n");
        Ok(self.board.begin("systemctl reboot")?)
    }

    /// Switches it off, in order.
    ///
    /// # Errors
    /// When it does not go off, or something of it could not be closed.
    pub(super) fn power_off(&mut self) -> Result<(), DemoError> {
        self.runner.note("In the guest: systemctl poweroff\n");
        let mark = self.board.console().mark();
        self.board.begin("systemctl poweroff")?;
        self.board.wait_off(BOOT_LIMIT)?;
        let said = self.board.console().since(mark);
        let failed = said.iter().find(|line| failed_to_close(&line.text));
        must_be(
            "What could not be closed at the end",
            &failed.map_or("nothing", |line| line.text.as_str()),
            &"nothing",
        )
    }
}

impl From<WaitError> for DemoError {
    fn from(error: WaitError) -> Self {
        Self::Uefi(error.into())
    }
}

/// Whether systemd says that something could not be stopped or unmounted: in red while units end, in words at the very end.
fn failed_to_close(line: &str) -> bool {
    line.contains("FAILED") || line.contains("Failed to")
}

/// What a command printed, without the hundred lines that say how far it was.
fn without_progress(text: &str) -> String {
    let told = |line: &&str| !line.starts_with("{\"event\":\"progress\"");
    text.lines().filter(told).collect::<Vec<_>>().join("\n")
}

/// What a line says behind these words.
fn behind<'l>(line: &'l Line, words: &str) -> &'l str {
    let split = line.text.split_once(words);
    split.map_or("", |(_, behind)| behind).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_closed_is_seen() {
        for line in [
            "[\u{1b}[0;1;31mFAILED\u{1b}[0m] Failed unmounting run-twin…unt - /run/twinseal/root-slot.",
            "[  192.2] (sd-umount)[258]: Failed to unmount /run/twinseal/root-slot: Device or resource busy",
        ] {
            assert!(failed_to_close(line), "{line}");
        }
        assert!(!failed_to_close("[  192.4] reboot: Power down"));
    }

    #[test]
    fn how_far_a_command_was_is_not_kept() {
        let text = "{\"event\":\"progress\",\"done_bytes\":1}\n{\"event\":\"failed\"}\nwords";
        assert_eq!(without_progress(text), "{\"event\":\"failed\"}\nwords");
    }

    #[test]
    fn what_a_line_says_is_found_behind_the_words() {
        let line = Line {
            at: Duration::ZERO,
            text: "\u{1b}[0m[    1.2] twinseal: init: sealed root mounted in 0.123 s\r".to_owned(),
            complete: true,
        };
        assert_eq!(behind(&line, MOUNTED_WORDS), "0.123 s");
        assert_eq!(behind(&line, "other"), "");
    }
}
