//! What a machine says on a line, kept with the time of every line, and waiting for a word of it.
//!
//! # Invariants
//! - Waiting ends with the word, with the end of the line, or with the limit; it never sleeps in between.
//! - A word is found once: the next wait looks behind it.
//! - Escape sequences and control characters of a terminal are not kept; a machine that floods its line costs no more than
//!   [`STREAM_LIMIT_BYTES`].
//!
//! # Power loss
//! Nothing here is stored.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Most bytes kept of a line's text; a machine that panics in a loop must not fill the memory.
pub const STREAM_LIMIT_BYTES: usize = 8 << 20;

/// A longer line is broken here.
const LINE_LIMIT_BYTES: usize = 4096;

/// Lines shown when waiting failed.
const TAIL_LINES: usize = 25;

/// What a machine said on a line.
#[derive(Debug)]
pub struct Stream {
    name: &'static str,
    begin: Instant,
    /// What limits are multiplied by.
    patience: u32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    bytes: usize,
    /// Where the next wait begins: a line, and a byte in it.
    cursor: (usize, usize),
    open: bool,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When its first byte came, since the stream began.
    pub at: Duration,
    /// Its text, without the line's end.
    pub text: String,
    /// Whether its end has come.
    pub complete: bool,
}

/// Begins a line that is our own and not the machine's.
const NOTE: &str = "~ ";

impl Line {
    /// Whether it is our own and not the machine's.
    pub fn is_note(&self) -> bool {
        self.text.starts_with(NOTE)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:8.3}] {}", self.at.as_secs_f64(), self.text)
    }
}

/// Waiting was in vain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} did not come on the {stream}: {why}. Its end:\n{tail}")]
pub struct WaitError {
    /// What was waited for.
    pub what: String,
    /// The stream's name.
    pub stream: &'static str,
    /// Why it cannot come any more.
    pub why: Why,
    /// The last lines.
    pub tail: String,
}

/// Why waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The limit is over.
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The machine is off.
    Ended,
    /// The machine says more than is kept.
    Flooded,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { limit } => write!(f, "{:.0} s are over", limit.as_secs_f64()),
            Self::Ended => f.write_str("the machine went off"),
            Self::Flooded => f.write_str("the machine says more than is kept"),
        }
    }
}

impl Stream {
    /// A stream that nothing is said on yet.
    pub fn new(name: &'static str, begin: Instant) -> Self {
        Self {
            name,
            begin,
            patience: 1,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The same, where everything may take so many times as long.
    pub fn with_patience(self, patience: u32) -> Self {
        Self { patience, ..self }
    }

    /// Takes everything that `source` says, in a thread that ends with it.
    pub fn attach<R: Read + Send + 'static>(self: &Arc<Self>, mut source: R) -> JoinHandle<()> {
        self.lock().open = true;
        let stream = Arc::clone(self);
        thread::spawn(move || {
            let (mut filter, mut buffer) = (Filter::default(), [0; 4096]);
            // A source that breaks counts as ended.
            while let Ok(length @ 1..) = source.read(&mut buffer) {
                let text = filter.text(buffer.get(..length).unwrap_or_default());
                stream.push(&text);
            }
            stream.lock().open = false;
            stream.changed.notify_all();
        })
    }

    /// Adds a line of our own, for people.
    pub fn note(&self, text: &str) {
        let at = self.begin.elapsed();
        let mut state = self.lock();
        state.finish_line();
        state.lines.push(Line {
            at,
            text: format!("{NOTE}{text}"),
            complete: true,
        });
    }

    fn push(&self, text: &str) {
        let at = self.begin.elapsed();
        let mut state = self.lock();
        for piece in text.split_inclusive('\n') {
            state.push(at, piece);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for `word` in one line, `times` times.
    ///
    /// # Errors
    /// [`WaitError`] when it does not come.
    pub fn wait_for(&self, word: &str, times: u32, limit: Duration) -> Result<Line, WaitError> {
        let mut left = times.max(1);
        let what = if left == 1 {
            format!("\"{word}\"")
        } else {
            format!("\"{word}\" ({left} times)")
        };
        self.wait(&what, limit, |line, from| {
            let mut from = from;
            while let Some(at) = line.text.get(from..).and_then(|rest| rest.find(word)) {
                from += at + word.len().max(1);
                left -= 1;
                if left == 0 {
                    return Some(from);
                }
            }
            None
        })
    }

    /// Waits for a line that `is_it` accepts: it is given each line with the first byte to look at, again when the line has
    /// grown, and answers with the byte behind what it found.
    ///
    /// # Errors
    /// [`WaitError`] when it does not come.
    pub fn wait(
        &self,
        what: &str,
        limit: Duration,
        mut is_it: impl FnMut(&Line, usize) -> Option<usize>,
    ) -> Result<Line, WaitError> {
        let limit = limit * self.patience;
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(line) = state.find(&mut is_it) {
                return Ok(line);
            }
            let left = end.saturating_duration_since(Instant::now());
            let why = if state.bytes >= STREAM_LIMIT_BYTES {
                Why::Flooded
            } else if !state.open {
                Why::Ended
            } else if left.is_zero() {
                Why::TimedOut { limit }
            } else {
                state = self
                    .changed
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                continue;
            };
            let tail = state.tail();
            let (what, stream) = (what.to_owned(), self.name);
            return Err(WaitError {
                what,
                stream,
                why,
                tail,
            });
        }
    }

    /// Number of lines so far, for [`since`](Self::since).
    pub fn mark(&self) -> usize {
        self.lock().lines.len()
    }

    /// The lines since a mark.
    pub fn since(&self, mark: usize) -> Vec<Line> {
        self.lock().lines.get(mark..).unwrap_or_default().to_vec()
    }

    /// The next wait looks only at what is said from now on.
    pub fn skip(&self) {
        let mut state = self.lock();
        state.finish_line();
        state.cursor = (state.lines.len(), 0);
    }

    /// The last line of the machine with this word.
    pub fn last(&self, word: &str) -> Option<Line> {
        let state = self.lock();
        let mut lines = state.lines.iter().rev();
        lines
            .find(|line| !line.is_note() && line.text.contains(word))
            .cloned()
    }

    /// The last lines.
    pub fn tail(&self) -> String {
        self.lock().tail()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, at: Duration, piece: &str) {
        if self.bytes >= STREAM_LIMIT_BYTES {
            return;
        }
        self.bytes += piece.len();
        let text = piece.strip_suffix('\n').unwrap_or(piece);
        match self.lines.last_mut() {
            Some(line) if !line.complete && line.text.len() < LINE_LIMIT_BYTES => {
                line.text.push_str(text);
            }
            _ => {
                // A line that is too long ends here, or everything behind it would wait for its end.
                self.finish_line();
                self.lines.push(Line {
                    at,
                    text: text.to_owned(),
                    complete: false,
                });
            }
        }
        if piece.ends_with('\n') {
            self.finish_line();
        }
    }

    fn finish_line(&mut self) {
        if let Some(line) = self.lines.last_mut() {
            line.complete = true;
        }
    }

    fn find(&mut self, is_it: &mut impl FnMut(&Line, usize) -> Option<usize>) -> Option<Line> {
        loop {
            let (index, from) = self.cursor;
            let line = self.lines.get(index)?;
            if let Some(behind) = is_it(line, from) {
                self.cursor.1 = behind;
                return Some(line.clone());
            }
            if !line.complete {
                return None;
            }
            self.cursor = (index + 1, 0);
        }
    }

    fn tail(&self) -> String {
        let first = self.lines.len().saturating_sub(TAIL_LINES);
        let lines = self.lines.get(first..).unwrap_or_default();
        let lines: Vec<_> = lines.iter().map(|line| format!("  {line}")).collect();
        if lines.is_empty() {
            "  (nothing was said)".to_owned()
        } else {
            lines.join("\n")
        }
    }
}

/// Leaves out what only a terminal understands (ECMA-48: ESC, then `[`, parameters and one letter).
#[derive(Debug, Default)]
struct Filter {
    escape: Escape,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Sequence,
}

impl Filter {
    fn text(&mut self, bytes: &[u8]) -> String {
        let kept: Vec<u8> = bytes
            .iter()
            .copied()
            .filter(|byte| self.keeps(*byte))
            .collect();
        String::from_utf8_lossy(&kept).into_owned()
    }

    const fn keeps(&mut self, byte: u8) -> bool {
        match (self.escape, byte) {
            (_, 0x1b) => self.escape = Escape::Begun,
            (Escape::Begun, b'[') => self.escape = Escape::Sequence,
            (Escape::Begun, _) | (Escape::Sequence, 0x40..=0x7e) => self.escape = Escape::None,
            (Escape::Sequence, _) => {}
            (Escape::None, b'\n' | b'\t' | 0x20..=0x7e | 0x80..) => return true,
            (Escape::None, _) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Guarded, command};
    use std::process::Stdio;

    const LIMIT: Duration = Duration::from_secs(60);

    fn child(script: &str) -> (Arc<Stream>, Guarded, JoinHandle<()>) {
        let mut command = command("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        let mut guarded = Guarded::start(command).unwrap();
        let stream = Arc::new(Stream::new("console", Instant::now()));
        let reader = stream.attach(guarded.stdout.take().unwrap());
        (stream, guarded, reader)
    }

    #[test]
    fn a_line_without_end_hides_nothing_behind_it() {
        let stream = Stream::new("console", Instant::now());
        for _ in 0..4 {
            stream.push(&"x".repeat(LINE_LIMIT_BYTES));
        }
        stream.push("\nfound\n");
        let limit = Duration::ZERO;
        let line = stream.wait("found", limit, |line, _| {
            (line.complete && line.text == "found").then_some(0)
        });
        assert_eq!(line.unwrap().text, "found");
    }

    #[test]
    fn words_are_found_in_their_order_and_once() {
        let (stream, _child, reader) =
            child("echo one two; echo two; printf 'half a li'; exec sleep 1000");
        assert_eq!(stream.wait_for("two", 1, LIMIT).unwrap().text, "one two");
        assert_eq!(stream.wait_for("two", 1, LIMIT).unwrap().text, "two");
        assert!(!stream.wait_for("half", 1, LIMIT).unwrap().complete);
        let error = stream
            .wait_for("two", 1, Duration::from_millis(50))
            .unwrap_err();
        assert!(matches!(error.why, Why::TimedOut { .. }), "{error}");
        assert!(error.tail.contains("half a li"), "{error}");
        drop(_child);
        reader.join().unwrap();
    }

    #[test]
    fn a_machine_that_goes_off_ends_the_wait_at_once() {
        let (stream, _child, _) = child("echo last words");
        let begin = Instant::now();
        let error = stream.wait_for("never said", 1, LIMIT).unwrap_err();
        assert_eq!(error.why, Why::Ended);
        assert!(
            begin.elapsed() < LIMIT && error.to_string().contains("last words"),
            "{error}"
        );
    }

    #[test]
    fn the_nth_time_can_be_waited_for() {
        let (stream, _child, _) = child("echo x x; echo x; echo y; exec sleep 1000");
        assert_eq!(stream.wait_for("x", 3, LIMIT).unwrap().text, "x");
        assert!(stream.wait_for("x", 1, Duration::from_millis(20)).is_err());
        let error = stream
            .wait_for("y", 2, Duration::from_millis(20))
            .unwrap_err();
        assert!(error.what.contains("2 times"), "{error}");
    }

    #[test]
    fn what_a_terminal_understands_is_left_out() {
        let (stream, _child, reader) =
            child(r"printf '\033[2J\033[01;01Hboot\r\n\033=now\033[0m\n'");
        reader.join().unwrap();
        let lines: Vec<_> = stream.since(0).into_iter().map(|line| line.text).collect();
        assert_eq!(lines, ["boot", "now"]);
    }

    #[test]
    fn a_flood_ends_the_wait() {
        let (stream, _child, _) = child("exec yes");
        let error = stream.wait_for("no", 1, LIMIT).unwrap_err();
        assert_eq!(error.why, Why::Flooded);
        assert!(stream.lock().bytes < STREAM_LIMIT_BYTES + 8192);
    }

    #[test]
    fn what_was_said_before_can_be_skipped() {
        let (stream, _child, reader) = child("echo said");
        reader.join().unwrap();
        assert_eq!(stream.last("sai").unwrap().text, "said");
        stream.skip();
        assert_eq!(
            stream.wait_for("said", 1, LIMIT).unwrap_err().why,
            Why::Ended
        );
        let mark = stream.mark();
        stream.note("power cut");
        assert_eq!(stream.last("power cut"), None, "no word of the machine");
        let noted = &stream.since(mark)[0];
        assert_eq!(
            (noted.text.as_str(), noted.is_note()),
            ("~ power cut", true)
        );
    }
}
