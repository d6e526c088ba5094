//! The board `mcu`: a microcontroller in QEMU that runs the firmware of `hil/firmware`, with a flash that is a file of the host.
//!
//! It decides everything by itself, and switches itself off when there is nothing left to do. So the host serves a bundle,
//! switches the board on, waits until it is off, and reads what it said.
//!
//! # Invariants
//! - Whatever ends a run ends QEMU, and every wait has a limit.
//! - A rule of the flash that the firmware broke is an error of the run, whatever else came of it.
//!
//! # Power loss
//! The flash cuts the power where [`medium::Cut`] says: QEMU ends within or before an operation, and the medium has what that leaves.

pub mod frames;
pub mod medium;
pub mod program;
mod qemu;

use crate::guard::Guarded;
use crate::stream::{Line, Stream};
use frames::{FramesError, Texts};
use medium::Medium;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the board is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// QEMU.
    pub qemu: PathBuf,
    /// The programs of the firmware.
    pub firmware: Firmware,
    /// This program, whose `relay` leads to the web server.
    pub relay: PathBuf,
    /// The web server's port on this machine.
    pub server_port: u16,
    /// What every limit is multiplied by.
    pub patience: u32,
}

/// The programs of the firmware, as ELF files, and the texts of their logs.
#[derive(Clone, Debug)]
pub struct Firmware {
    folder: PathBuf,
    application_texts: Texts,
    factory_texts: Texts,
}

/// What the machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The boot stage, and with it what is installed.
    Boot,
    /// The factory: installs what the server has into set a of a new flash.
    Factory,
}

/// How the board went off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// By itself, with nothing left to do.
    Done,
    /// No set may be booted.
    NothingToBoot,
    /// The application cannot go on.
    Broken,
    /// The flash cut the power.
    PowerCut,
}

impl Ending {
    /// By the code with which the firmware switches the machine off (`hil/firmware/src`: `bin/app.rs`, `bin/boot.rs`, `flash.rs`).
    const fn of(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Done),
            3 => Some(Self::NothingToBoot),
            4 => Some(Self::Broken),
            9 => Some(Self::PowerCut),
            _ => None,
        }
    }
}

/// What went wrong with the board.
#[derive(Debug, thiserror::Error)]
pub enum McuError {
    /// A file could not be worked with.
    #[error("{} could not be {done}: {source}.", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What was tried.
        done: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A program of the firmware cannot be used.
    #[error("{} cannot be used: {what}. Build the firmware with scripts/mcu.sh.", file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A program of the firmware is missing or says nothing.
    #[error("{0} Build the firmware with scripts/mcu.sh.")]
    Firmware(#[from] FramesError),
    /// QEMU could not be started.
    #[error("QEMU could not be started: {0}.")]
    NotStarted(io::Error),
    /// The board did not go off.
    #[error("The board was still on after {} s. The console's end:\n{tail}", limit.as_secs())]
    StillOn {
        /// The limit.
        limit: Duration,
        /// The console's last lines.
        tail: String,
    },
    /// QEMU ended otherwise than the firmware ends it.
    #[error(
        "QEMU ended with {status}, which is no code of the firmware. The console's end:\n{tail}"
    )]
    Ended {
        /// How.
        status: String,
        /// The console's last lines.
        tail: String,
    },
    /// The firmware broke a rule of the flash.
    #[error("The firmware broke a rule of the flash, {count} times. The console's end:\n{tail}")]
    Violations {
        /// How often.
        count: u32,
        /// The console's last lines.
        tail: String,
    },
}

impl McuError {
    fn file(file: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::File { file, done, source }
    }
}

impl Firmware {
    /// Finds the programs in the folder where `scripts/mcu.sh` puts them.
    ///
    /// # Errors
    /// When one is missing, or has no texts.
    pub fn find(folder: &Path) -> Result<Self, McuError> {
        let folder = folder.to_owned();
        let (application, factory) = (folder.join("app"), folder.join("factory"));
        Ok(Self {
            application_texts: Texts::read(&application)?,
            factory_texts: Texts::read(&factory)?,
            folder,
        })
    }

    /// The application.
    pub fn application(&self) -> PathBuf {
        self.folder.join("app")
    }

    fn program(&self, program: Program) -> (PathBuf, Texts) {
        match program {
            Program::Boot => (self.folder.join("boot"), self.application_texts.clone()),
            Program::Factory => (self.folder.join("factory"), self.factory_texts.clone()),
        }
    }
}

/// A microcontroller that is off between the calls.
#[derive(Debug)]
pub struct Mcu {
    parts: Parts,
    medium: Medium,
    console: Arc<Stream>,
    /// Lines of the console before the last run.
    run_at: usize,
}

impl Mcu {
    /// A board with this medium, which its firmware writes to.
    pub fn new(parts: Parts, medium: Medium) -> Self {
        Self {
            parts,
            medium,
            console: Arc::new(Stream::new("console", Instant::now())),
            run_at: 0,
        }
    }

    /// What the firmware says.
    pub fn console(&self) -> &Stream {
        &self.console
    }

    /// The medium.
    pub const fn medium(&self) -> &Medium {
        &self.medium
    }

    /// The lines of the firmware in the last run.
    pub fn said(&self) -> Vec<Line> {
        let mut lines = self.console.since(self.run_at);
        lines.retain(|line| !line.is_note());
        lines
    }

    /// Switches it on, and waits until it is off.
    ///
    /// # Errors
    /// [`McuError`]; also when the firmware broke a rule of the flash.
    pub fn run(&mut self, program: Program, limit: Duration) -> Result<Ending, McuError> {
        let limit = limit * self.parts.patience;
        self.console.note("power on");
        self.run_at = self.console.mark();
        let (program, texts) = self.parts.firmware.program(program);
        let mut command = qemu::command(&self.parts, &program, self.medium.file());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut qemu = Guarded::start(command).map_err(McuError::NotStarted)?;
        let mut readers = Vec::new();
        // The boot stage has no log: it speaks to the debugger, and that is QEMU's standard error.
        readers.extend(qemu.stderr.take().map(|source| self.console.attach(source)));
        let log = qemu.stdout.take().map(|source| texts.lines(source));
        readers.extend(log.map(|log| self.console.attach(log)));
        let went_off = qemu.wait(limit);
        qemu.kill();
        readers.into_iter().for_each(|reader| drop(reader.join()));
        let tail = || self.console.tail();
        if !went_off {
            return Err(McuError::StillOn {
                limit,
                tail: tail(),
            });
        }
        let count = self.medium.violations()?;
        if count > 0 {
            return Err(McuError::Violations {
                count,
                tail: tail(),
            });
        }
        let status = qemu.status();
        let code = status.and_then(|status| status.code());
        code.and_then(Ending::of).ok_or_else(|| McuError::Ended {
            status: status.map_or_else(|| "nothing".to_owned(), |status| status.to_string()),
            tail: tail(),
        })
    }
}
