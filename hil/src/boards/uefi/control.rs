//! The control line: a test appliance takes one shell command a line and answers with its output and `:end CODE`.
//!
//! # Invariants
//! - An answer belongs to the command that was sent last, in the same start of the guest.

use super::{Uefi, UefiError};
use crate::stream::Line;
use std::io::Write;
use std::time::Duration;

/// What an appliance says when it takes commands.
const READY: &str = "ready";

/// Begins the last line of an answer; the exit code follows.
pub const END: &str = ":end ";

/// Room for the words between the console's clock and the control line's: both are read by threads of their own.
const CLOCK_SLACK: Duration = Duration::from_millis(200);

/// What a command in the guest said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The command.
    pub command: String,
    /// Its exit code.
    pub code: i32,
    /// Its output and errors.
    pub text: String,
}

impl Uefi {
    /// Waits until the guest, in its present start, takes commands.
    ///
    /// # Errors
    /// [`UefiError::Wait`] when it does not.
    pub fn wait_ready(&self, limit: Duration) -> Result<(), UefiError> {
        self.running.as_ref().ok_or(UefiError::Off)?;
        self.control
            .wait("\"ready\"", limit, |line, _| {
                let new = line.at + CLOCK_SLACK >= self.started();
                (new && line.complete && line.text.trim() == READY).then_some(line.text.len())
            })
            .map_err(|mut error| {
                error.tail = format!(
                    "{}\nThe console's end:\n{}",
                    error.tail,
                    self.console.tail()
                );
                error
            })?;
        Ok(())
    }

    /// Whether the guest said in its present start that it takes commands.
    pub fn is_ready(&self) -> bool {
        let ready = self.control.last(READY);
        ready.is_some_and(|line| line.at + CLOCK_SLACK >= self.started())
    }

    /// Begins a command in the guest.
    ///
    /// # Errors
    /// When the board is off.
    pub fn begin(&mut self, command: &str) -> Result<(), UefiError> {
        let running = self.running.as_mut().ok_or(UefiError::Off)?;
        self.control.skip();
        self.console.note(&format!("in the guest: {command}"));
        let line = format!("{}\n", command.replace('\n', " "));
        let written = running.writer.write_all(line.as_bytes());
        written.map_err(UefiError::io("told a command"))
    }

    /// Waits for words in the output of the command that was begun.
    ///
    /// # Errors
    /// [`UefiError::Wait`] when they do not come.
    pub fn wait_output(&self, words: &str, limit: Duration) -> Result<Line, UefiError> {
        Ok(self.control.wait_for(words, 1, limit)?)
    }

    /// Runs a command in the guest.
    ///
    /// # Errors
    /// When it does not end within the limit, or the guest restarts. Its exit code is no error here.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<Answer, UefiError> {
        self.begin(command)?;
        let (mut text, mut code) = (Vec::new(), None);
        let what = format!("the end of `{command}`");
        let ended = self.control.wait(&what, limit, |line, _| {
            if !line.complete {
                return None;
            }
            code = line
                .text
                .strip_prefix(END)
                .and_then(|code| code.trim().parse().ok());
            let restarted = line.text.trim() == READY;
            if code.is_none() && !restarted {
                text.push(line.text.clone());
            }
            (code.is_some() || restarted).then_some(line.text.len())
        });
        let tail = || self.console.tail();
        ended.map_err(|mut error| {
            error.tail = format!("{}\nThe console's end:\n{}", error.tail, tail());
            error
        })?;
        let command = command.to_owned();
        match code {
            Some(code) => Ok(Answer {
                command,
                code,
                text: text.join("\n").trim_end().to_owned(),
            }),
            None => Err(UefiError::Restarted {
                command,
                tail: tail(),
            }),
        }
    }
}
