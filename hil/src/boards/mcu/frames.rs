//! Turns a firmware's `defmt` frames into text, with the ELF file that has the texts.
//!
//! # Invariants
//! - A frame that cannot be read is told as such, and the next one is read: a machine whose power is cut leaves half a frame.

use defmt_decoder::Table;
use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest frame, and longest run of bytes without the end of one: a machine gone astray must not fill the memory.
const FRAME_MAX_BYTES: usize = 64 << 10;

/// Ends a frame (rzCOBS, defmt's encoding: the only byte that no frame contains).
const FRAME_END: u8 = 0;

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub enum FramesError {
    /// A file cannot be read.
    #[error("{} could not be read: {source}.", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The ELF file has no texts.
    #[error("{} has no defmt texts ({why}). Give the ELF file of the program that sent the frames, as it was linked.", file.display())]
    NoTexts {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The texts of a program.
#[derive(Clone)]
pub struct Texts(Arc<Table>);

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Texts")
    }
}

impl Texts {
    /// Reads them out of the program's ELF file.
    ///
    /// # Errors
    /// [`FramesError`].
    pub fn read(elf: &Path) -> Result<Self, FramesError> {
        let bytes = fs::read(elf).map_err(|source| FramesError::Read {
            file: elf.to_owned(),
            source,
        })?;
        let none = |why: String| FramesError::NoTexts {
            file: elf.to_owned(),
            why,
        };
        let table = Table::parse(&bytes).map_err(|error| none(error.to_string()))?;
        table
            .map(|table| Self(Arc::new(table)))
            .ok_or_else(|| none("it has no section .defmt".to_owned()))
    }

    /// The text of one frame, with its level.
    pub fn text(&self, frame: &[u8]) -> String {
        let mut decoder = self.0.new_stream_decoder();
        decoder.received(frame);
        decoder.received(&[FRAME_END]);
        decoder.decode().map_or_else(
            |_| {
                format!(
                    "(a frame of {} bytes that is not of this program)",
                    frame.len()
                )
            },
            |frame| {
                let level = frame.level().map_or("print", |level| level.as_str());
                format!("{level:<5} {}", frame.display_message())
            },
        )
    }

    /// The text of all frames of `source`, a line for each.
    pub fn lines<R: Read>(self, source: R) -> Lines<R> {
        Lines {
            texts: self,
            source,
            frame: Vec::new(),
            text: VecDeque::new(),
        }
    }
}

/// Text that is read out of frames.
pub struct Lines<R> {
    texts: Texts,
    source: R,
    frame: Vec<u8>,
    text: VecDeque<u8>,
}

impl<R> Lines<R> {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte != FRAME_END && self.frame.len() < FRAME_MAX_BYTES {
                self.frame.push(*byte);
            } else {
                self.end_frame();
            }
        }
    }

    fn end_frame(&mut self) {
        // Two ends in a row: nothing was said in between.
        if !self.frame.is_empty() {
            self.text.extend(self.texts.text(&self.frame).bytes());
            self.text.push_back(b'\n');
            self.frame.clear();
        }
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        while self.text.is_empty() {
            match self.source.read(&mut buffer)? {
                0 if self.frame.is_empty() => return Ok(0),
                // What is left of a frame whose sender went off.
                0 => self.end_frame(),
                length => self.take(buffer.get(..length).unwrap_or_default()),
            }
        }
        self.text.read(into)
    }
}

/// Decodes a file of frames into text.
///
/// # Errors
/// [`FramesError`].
pub fn decode(elf: &Path, frames: &Path, mut out: impl io::Write) -> Result<(), FramesError> {
    let read = |source| FramesError::Read {
        file: frames.to_owned(),
        source,
    };
    let file = fs::File::open(frames).map_err(read)?;
    let mut lines = Texts::read(elf)?.lines(file);
    io::copy(&mut lines, &mut out).map_err(read)?;
    Ok(())
}
