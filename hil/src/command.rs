//! Runs programs: captures what they print, holds them to a time limit, and keeps a transcript.
//!
//! # Invariants
//! - A command ends or is killed within its limit; nothing waits by sleeping.
//! - What a command prints is kept up to [`CAPTURE_LIMIT_BYTES`] per stream, and the rest is read and dropped: a program
//!   that prints without end costs no memory.
//!
//! # Power loss
//! Nothing here outlives the process but the transcript, which is only for people.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::de::DeserializeOwned;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Most bytes kept of each stream of a command; a program that floods its output must not fill the memory.
pub const CAPTURE_LIMIT_BYTES: u64 = 1 << 20;

/// Longest time that a command may take when nobody says otherwise.
pub const TIME_LIMIT_DEFAULT: Duration = Duration::from_secs(300);

/// What went wrong with a command.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started or waited for.
    #[error("The command could not be run: {source}.\nCommand: {command}")]
    NotRun {
        /// The command line, quoted for a shell.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time, or left a process behind that holds its output open.
    #[error("The command did not end within {} s and was killed.\nCommand: {command}", limit.as_secs())]
    TimedOut {
        /// The command line, quoted for a shell.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// It ended otherwise than it must.
    #[error("The command ended with {found}, and must end with {expected}.\n{output}")]
    Status {
        /// How it must end.
        expected: String,
        /// How it ended.
        found: String,
        /// The command and what it printed.
        output: Box<Output>,
    },
    /// It did not print the JSON that it must.
    #[error("The command did not print the JSON that was expected: {source}.\n{output}")]
    Json {
        /// What is wrong with it.
        source: serde_json::Error,
        /// The command and what it printed.
        output: Box<Output>,
    },
}

/// A program with its arguments.
#[derive(Clone, Debug)]
pub struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Option<Vec<(&'static str, &'static str)>>,
    limit: Duration,
}

impl Invocation {
    /// A program: a path, or a name to find in `PATH`.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: None,
            limit: TIME_LIMIT_DEFAULT,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Gives the program these variables and no others.
    #[must_use]
    pub fn environment(mut self, variables: &[(&'static str, &'static str)]) -> Self {
        self.environment = Some(variables.to_vec());
        self
    }

    /// Sets the time limit.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The standard library's command, with nothing on its input.
    pub(crate) fn prepare(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(variables) = &self.environment {
            command.env_clear().envs(variables.iter().copied());
        }
        command
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted(self.program.as_os_str()))?;
        self.arguments
            .iter()
            .try_for_each(|argument| write!(f, " {}", quoted(argument)))
    }
}

/// One word of a shell's command line.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, quoted for a shell.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed to standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// What it printed to standard error; bytes that are no UTF-8 are replaced.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl Output {
    /// The output of a command that ended with this exit code.
    ///
    /// # Errors
    /// [`CommandError::Status`] when it ended otherwise.
    pub fn expect_code(self, code: i32) -> Result<Self, CommandError> {
        if self.status.code() == Some(code) {
            return Ok(self);
        }
        let found = self.ending();
        Err(CommandError::Status {
            expected: format!("exit code {code}"),
            found,
            output: Box::new(self),
        })
    }

    /// The output of a command that ended with exit code 0.
    ///
    /// # Errors
    /// [`CommandError::Status`] when it ended otherwise.
    pub fn expect_success(self) -> Result<Self, CommandError> {
        self.expect_code(0)
    }

    /// Standard output, read as JSON.
    ///
    /// # Errors
    /// [`CommandError::Json`] when it is not the JSON of a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CommandError> {
        serde_json::from_str(&self.stdout).map_err(|source| CommandError::Json {
            source,
            output: Box::new(self.clone()),
        })
    }

    /// How it ended: an exit code, or a signal.
    pub fn ending(&self) -> String {
        match self.status.code() {
            Some(code) => format!("exit code {code}"),
            None => self.status.to_string(),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Command: {}\nExit: {}, after {:.1} s",
            self.command,
            self.ending(),
            self.elapsed.as_secs_f64()
        )?;
        for (name, text) in [
            ("Standard output", &self.stdout),
            ("Standard error", &self.stderr),
        ] {
            if text.trim().is_empty() {
                continue;
            }
            write!(f, "\n{name}:")?;
            text.trim_end()
                .lines()
                .try_for_each(|line| write!(f, "\n  {line}"))?;
        }
        Ok(())
    }
}

/// Runs commands and writes each, with what it printed, to a transcript.
#[derive(Debug, Default)]
pub struct Runner {
    transcript: Option<Mutex<File>>,
}

impl Runner {
    /// A runner that writes into `transcript`.
    pub fn with_transcript(transcript: File) -> Self {
        Self {
            transcript: Some(Mutex::new(transcript)),
        }
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// [`CommandError`] when it does not start, or does not end within its limit. An exit code is no error here:
    /// [`Output::expect_code`] judges it.
    pub fn run(&self, invocation: &Invocation) -> Result<Output, CommandError> {
        let result = capture(invocation);
        match &result {
            Ok(output) => self.note(&format!("{output}\n")),
            Err(error) => self.note(&format!("{error}\n")),
        }
        result
    }

    /// Adds a line for people to the transcript. A transcript that cannot be written is no reason to stop.
    pub fn note(&self, text: &str) {
        if let Some(file) = &self.transcript {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = writeln!(file, "{text}");
        }
    }
}

/// What the threads that watch a command report.
enum Event {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Ended(io::Result<ExitStatus>),
}

fn capture(invocation: &Invocation) -> Result<Output, CommandError> {
    let begin = Instant::now();
    let command = invocation.to_string();
    let not_run = |source| CommandError::NotRun {
        command: command.clone(),
        source,
    };
    let mut child = invocation.prepare().spawn().map_err(not_run)?;
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let process = match process {
        Ok(process) => process,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(not_run(error.into()));
        }
    };
    let events = watch(child);
    let mut found = (None, None, None);
    while let (None, ..) | (_, None, _) | (.., None) = found {
        let left = (begin + invocation.limit).saturating_duration_since(Instant::now());
        match events.recv_timeout(left) {
            Ok(Event::Stdout(bytes)) => found.0 = Some(bytes),
            Ok(Event::Stderr(bytes)) => found.1 = Some(bytes),
            Ok(Event::Ended(status)) => found.2 = Some(status),
            Err(_) => {
                // It may have ended while something it started holds its output: then there is nobody to kill.
                let _ = pidfd_send_signal(&process, Signal::KILL);
                return Err(CommandError::TimedOut {
                    command,
                    limit: invocation.limit,
                });
            }
        }
    }
    let text =
        |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    let (stdout, stderr) = (text(found.0), text(found.1));
    match found.2 {
        Some(Ok(status)) => Ok(Output {
            command,
            status,
            stdout,
            stderr,
            elapsed: begin.elapsed(),
        }),
        Some(Err(source)) => Err(CommandError::NotRun { command, source }),
        None => Err(CommandError::TimedOut {
            command,
            limit: invocation.limit,
        }),
    }
}

/// Watches a command with a thread for each of its streams and one for its end.
fn watch(mut child: Child) -> Receiver<Event> {
    let (sender, receiver) = channel();
    read_in_thread(child.stdout.take(), sender.clone(), Event::Stdout);
    read_in_thread(child.stderr.take(), sender.clone(), Event::Stderr);
    thread::spawn(move || sender.send(Event::Ended(child.wait())));
    receiver
}

fn read_in_thread<R: Read + Send + 'static>(
    stream: Option<R>,
    sender: Sender<Event>,
    event: fn(Vec<u8>) -> Event,
) {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // A stream that breaks counts as ended; the exit code tells the rest.
            let _ = stream
                .by_ref()
                .take(CAPTURE_LIMIT_BYTES)
                .read_to_end(&mut bytes);
            let _ = io::copy(&mut stream, &mut io::sink());
        }
        sender.send(event(bytes))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Invocation {
        Invocation::new("sh").argument("-c").argument(script)
    }

    #[test]
    fn both_streams_and_the_exit_code_are_kept() {
        let output = Runner::default()
            .run(&shell("echo out; echo err >&2; exit 7"))
            .unwrap();
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert_eq!(
            output.clone().expect_code(7).unwrap().status.code(),
            Some(7)
        );
        let error = output.expect_success().unwrap_err().to_string();
        for part in [
            "exit code 7",
            "exit code 0",
            "sh -c 'echo out; echo err >&2; exit 7'",
            "\n  out",
            "\n  err",
        ] {
            assert!(error.contains(part), "{part:?} is missing in {error}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Runner::default()
            .run(&Invocation::new("/nowhere/program"))
            .unwrap_err();
        assert!(matches!(error, CommandError::NotRun { .. }));
        assert!(error.to_string().contains("/nowhere/program"));
    }

    #[test]
    fn a_command_that_hangs_is_killed_even_when_it_closes_its_output() {
        for script in ["exec sleep 1000", "exec >&- 2>&-; exec sleep 1000"] {
            let begin = Instant::now();
            let error = Runner::default()
                .run(&shell(script).limit(Duration::from_millis(200)))
                .unwrap_err();
            assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
            assert!(begin.elapsed() < Duration::from_secs(60));
        }
    }

    #[test]
    fn a_flood_of_output_is_cut_at_the_limit() {
        let output = Runner::default()
            .run(&shell("head -c 3000000 /dev/zero"))
            .unwrap();
        assert_eq!(output.stdout.len() as u64, CAPTURE_LIMIT_BYTES);
        assert_eq!(output.status.code(), Some(0));
    }

    #[test]
    fn a_signal_is_named() {
        let output = Runner::default().run(&shell("kill -9 $$")).unwrap();
        assert!(output.ending().contains('9'), "{}", output.ending());
        assert!(matches!(
            output.expect_success(),
            Err(CommandError::Status { .. })
        ));
    }

    #[test]
    fn the_environment_is_the_one_given() {
        let output = Runner::default()
            .run(&Invocation::new("/usr/bin/env").environment(&[("ONE", "1")]))
            .unwrap();
        assert_eq!(output.stdout, "ONE=1\n");
    }

    #[test]
    fn what_is_no_json_is_shown() {
        let output = Runner::default().run(&shell("echo no json")).unwrap();
        let error = output.json::<u32>().unwrap_err();
        assert!(matches!(error, CommandError::Json { .. }));
        assert!(error.to_string().contains("no json"));
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let invocation = Invocation::new("a b").arguments(["it's", "plain-1.2", ""]);
        assert_eq!(invocation.to_string(), r"'a b' 'it'\''s' plain-1.2 ''");
    }
}
