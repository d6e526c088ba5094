//! Tells what a run does while it does it: numbered chapters, and steps with their seconds.
//!
//! # Invariants
//! - A step is printed with its seconds when it has succeeded; the error of one that failed names it.

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("Step {chapter}, \"{step}\", failed after {:.1} s.\n{source}", elapsed.as_secs_f64())]
pub struct StepError<E: std::error::Error + 'static> {
    /// Number of the chapter.
    pub chapter: u32,
    /// What was being done.
    pub step: String,
    /// How long it had taken.
    pub elapsed: Duration,
    /// What went wrong.
    pub source: E,
}

/// A run that is being told.
#[derive(Debug)]
pub struct Story<W> {
    out: W,
    begin: Instant,
    chapter: u32,
}

impl<W: Write> Story<W> {
    /// Begins a story; its text goes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            begin: Instant::now(),
            chapter: 0,
        }
    }

    /// Begins a chapter.
    ///
    /// # Errors
    /// When the text cannot be written.
    pub fn chapter(&mut self, title: &str) -> io::Result<()> {
        self.chapter += 1;
        write!(self.out, "\n{}. {title}\n", self.chapter)?;
        self.out.flush()
    }

    /// Does a step: `work` gives a value and what to say about it.
    ///
    /// # Errors
    /// [`StepError`] with the error of `work`; one of `E` made from an [`io::Error`] when the text cannot be written.
    pub fn step<T, E>(
        &mut self,
        step: &str,
        work: impl FnOnce() -> Result<(T, String), E>,
    ) -> Result<T, StepError<E>>
    where
        E: std::error::Error + From<io::Error> + 'static,
    {
        let begin = Instant::now();
        let failed = |source, chapter| StepError {
            chapter,
            step: step.to_owned(),
            elapsed: begin.elapsed(),
            source,
        };
        let (value, said) = work().map_err(|source| failed(source, self.chapter))?;
        let separator = if said.is_empty() { "" } else { ": " };
        self.line(&format!(
            "{:6.1} s  {step}{separator}{said}",
            begin.elapsed().as_secs_f64()
        ))
        .map_err(|source| failed(source.into(), self.chapter))?;
        Ok(value)
    }

    /// Says something that belongs to the step before.
    ///
    /// # Errors
    /// When the text cannot be written.
    pub fn detail(&mut self, text: &str) -> io::Result<()> {
        text.lines()
            .try_for_each(|line| self.line(&format!("          {line}")))
    }

    /// Says something outside the steps.
    ///
    /// # Errors
    /// When the text cannot be written.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Since the story began.
    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }
}

/// A number of bytes, for people: decimal units, one digit behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{} bytes", self.0),
            1_000..1_000_000 => write!(f, "{:.1} kB", bytes / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} MB", bytes / 1e6),
            _ => write!(f, "{:.1} GB", bytes / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_under_their_chapter() {
        let mut text = Vec::new();
        let mut story = Story::new(&mut text);
        story.chapter("First").unwrap();
        let value: Result<u32, StepError<io::Error>> =
            story.step("count", || Ok((3, "to three".into())));
        assert_eq!(value.unwrap(), 3);
        story.detail("one\ntwo").unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "\n1. First\n   0.0 s  count: to three\n          one\n          two\n"
        );
    }

    #[test]
    fn the_error_names_the_step() {
        let mut text = Vec::new();
        let mut story = Story::new(&mut text);
        story.chapter("First").unwrap();
        let failed = story
            .step("break", || {
                Err::<((), String), _>(io::Error::other("It broke."))
            })
            .unwrap_err();
        assert_eq!((failed.chapter, failed.step.as_str()), (1, "break"));
        assert!(
            failed.to_string().starts_with("Step 1, \"break\", failed"),
            "{failed}"
        );
        assert!(failed.to_string().ends_with("It broke."), "{failed}");
    }

    #[test]
    fn sizes_are_decimal() {
        let pairs = [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (196_185_600, "196.2 MB"),
            (2_000_000_000, "2.0 GB"),
        ];
        for (bytes, text) in pairs {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
