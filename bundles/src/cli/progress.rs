//! How far a long build is: one line on a terminal, nothing anywhere else.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::patch::Progress;

/// A line that is written over.
#[derive(Debug)]
pub struct ProgressLine {
    shown: bool,
    /// The highest number so far: threads finish in any order.
    done: AtomicUsize,
}

impl Default for ProgressLine {
    fn default() -> Self {
        Self {
            shown: io::stderr().is_terminal(),
            done: AtomicUsize::new(0),
        }
    }
}

impl ProgressLine {
    /// Shows how far it is.
    pub fn show(&self, now: Progress) {
        let before = self.done.fetch_max(now.done, Ordering::Relaxed);
        if now.done == now.all {
            self.done.store(0, Ordering::Relaxed);
        }
        if self.shown && now.done > before {
            // Where nobody can be told, nobody need know.
            let _ = write!(io::stderr(), "\r{}\x1b[K", line(now));
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(now: Progress) -> String {
    format!(
        "patches from base {}: {} of {} blobs",
        now.base + 1,
        now.done,
        now.all
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_count_from_one() {
        let now = Progress {
            base: 0,
            done: 3,
            all: 7,
        };
        assert_eq!(line(now), "patches from base 1: 3 of 7 blobs");
    }
}
