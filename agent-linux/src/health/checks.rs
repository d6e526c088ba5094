//! Health checks: programs that belong to the sealed system, each with a time limit.
//!
//! # Invariants
//! - A check never outlives its limit: it and all of its process group are killed then, and after its end too, so that nothing that it
//!   started goes on.
//! - What a check prints is kept up to a limit and drained beyond it, so that it neither blocks nor fills the memory.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use twinseal_core::journal::HealthFailure;
use twinseal_core::wire::text::Line;

/// Most bytes of a check's output that are kept: some screens of text.
pub const OUTPUT_MAX_BYTES: usize = 16 * 1024;

/// What a signal adds to its number to make an exit code, as shells have it (sh(1)).
const SIGNAL_BASE: i32 = 128;

/// How a check went.
#[derive(Debug)]
pub struct Checked {
    /// Its file name.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// What it printed, at most [`OUTPUT_MAX_BYTES`].
    pub output: Vec<u8>,
    /// Why it failed; `None` when it passed.
    pub failure: Option<HealthFailure>,
}

/// The checks of a folder in the order of their names: every executable file whose name does not start with a dot.
///
/// # Errors
/// When the folder is there and cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut checks = Vec::new();
    for entry in entries {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let about = fs::metadata(entry.path())?;
        if !hidden && about.is_file() && about.permissions().mode() & 0o111 != 0 {
            checks.push(entry.path());
        }
    }
    checks.sort();
    Ok(checks)
}

/// Runs one check.
pub fn run(check: &Path, limit: Duration) -> Checked {
    let start = Instant::now();
    let name = check.file_name().unwrap_or_default().to_string_lossy();
    let line = Line::lossy(&name);
    let mut output = Vec::new();
    let ended = start_check(check)
        .and_then(|(mut child, pipe)| watch(&mut child, pipe, start + limit, &mut output));
    let failure = match ended {
        Ok(Some(status)) if status.success() => None,
        Ok(Some(status)) => Some(HealthFailure::CheckFailed {
            name: line,
            exit_code: exit_code(status),
        }),
        Ok(None) => Some(HealthFailure::CheckTimedOut {
            name: line,
            limit_seconds: u32::try_from(limit.as_secs()).unwrap_or(u32::MAX),
        }),
        Err(error) => {
            output.extend_from_slice(error.to_string().as_bytes());
            Some(HealthFailure::CheckUnusable { name: line })
        }
    };
    Checked {
        name: name.into_owned(),
        took: start.elapsed(),
        output,
        failure,
    }
}

/// Starts a check in a process group of its own; both of its outputs go into one pipe.
fn start_check(check: &Path) -> io::Result<(Child, PipeReader)> {
    let (reader, writer) = io::pipe()?;
    fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    let child = Command::new(check)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    Ok((child, reader))
}

/// Waits for the end of a check or of its time; gives its status, `None` when its time ended first.
fn watch(
    child: &mut Child,
    mut pipe: PipeReader,
    deadline: Instant,
    output: &mut Vec<u8>,
) -> io::Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let waited = pid.map_or(Err(io::ErrorKind::InvalidInput.into()), |pid| {
        wait(pid, &mut pipe, deadline, output)
    });
    if let Some(pid) = pid {
        // Nobody left in the group is what one hopes for.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let status = child.wait()?;
    drain(&mut pipe, output)?;
    Ok(waited?.then_some(status))
}

/// Reads until the process ends (true) or the deadline comes (false).
fn wait(
    pid: Pid,
    pipe: &mut PipeReader,
    deadline: Instant,
    output: &mut Vec<u8>,
) -> io::Result<bool> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut open = true;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut events = [
            PollFd::new(&process, PollFlags::IN),
            PollFd::new(&*pipe, PollFlags::IN),
        ];
        // A pipe that was closed would wake the call again and again.
        let watched = if open {
            &mut events[..]
        } else {
            &mut events[..1]
        };
        match poll(watched, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if !events[0].revents().is_empty() {
            return Ok(true);
        }
        if !events[1].revents().is_empty() {
            open = drain(pipe, output)?;
        }
    }
}

/// Takes what the pipe has; gives whether somebody may still write to it.
fn drain(pipe: &mut PipeReader, output: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 4096];
    loop {
        match pipe.read(&mut piece) {
            Ok(0) => return Ok(false),
            Ok(bytes) => {
                let room = OUTPUT_MAX_BYTES.saturating_sub(output.len());
                output.extend(piece.iter().take(bytes.min(room)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or(status.signal().map(|signal| SIGNAL_BASE + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a check through a process of its own: while this one had it open, a process that another thread starts could inherit it,
    /// and a file that is open for writing cannot be executed (ETXTBSY).
    fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
        let file = folder.join(name);
        let written = Command::new("sh")
            .args(["-c", r#"printf '%s\n' "$2" >"$1" && chmod 755 "$1""#, "sh"])
            .arg(&file)
            .arg(format!("#!/bin/sh\n{text}"))
            .status();
        assert!(written.unwrap().success());
        file
    }

    /// Waits until a process has ended. A killed process goes on until it is next scheduled, so one look may find it still there.
    fn ended_within(pid: &str, limit: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < limit {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn run_script(text: &str, limit_ms: u64) -> Checked {
        let folder = tempfile::tempdir().unwrap();
        run(
            &script(folder.path(), "check", text),
            Duration::from_millis(limit_ms),
        )
    }

    #[test]
    fn both_outputs_and_the_exit_code_are_taken() {
        let checked = run_script("echo one; echo two >&2; exit 3", 10_000);
        assert_eq!(checked.output, b"one\ntwo\n");
        assert!(matches!(
            checked.failure,
            Some(HealthFailure::CheckFailed { exit_code: 3, .. })
        ));
        assert!(run_script("true", 10_000).failure.is_none());
        assert!(matches!(
            run_script("kill -9 $$", 10_000).failure,
            Some(HealthFailure::CheckFailed { exit_code: 137, .. })
        ));
    }

    #[test]
    fn a_check_that_hangs_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "sleep 600 & echo $! > {0}/pid; wait",
            folder.path().display()
        );
        let check = script(folder.path(), "check", &text);
        let checked = run(&check, Duration::from_secs(3));
        assert!(matches!(
            checked.failure,
            Some(HealthFailure::CheckTimedOut {
                limit_seconds: 3,
                ..
            })
        ));
        assert!(checked.took < Duration::from_secs(60));
        let pid = fs::read_to_string(folder.path().join("pid")).unwrap();
        assert!(ended_within(pid.trim(), Duration::from_secs(30)));
    }

    #[test]
    fn what_is_left_of_a_check_does_not_keep_it_from_ending() {
        let checked = run_script("sleep 600 & echo done", 30_000);
        assert!(checked.failure.is_none(), "{checked:?}");
        assert!(checked.took < Duration::from_secs(20));
    }

    #[test]
    fn a_check_that_closes_its_output_still_has_its_time() {
        let checked = run_script("exec >&- 2>&-; sleep 0.3; exit 4", 30_000);
        assert!(matches!(
            checked.failure,
            Some(HealthFailure::CheckFailed { exit_code: 4, .. })
        ));
    }

    #[test]
    fn a_flood_of_output_is_bounded() {
        let checked = run_script("head -c 1000000 /dev/zero", 30_000);
        assert!(checked.failure.is_none());
        assert_eq!(checked.output.len(), OUTPUT_MAX_BYTES);
    }

    #[test]
    fn executables_are_taken_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["20-b", "10-a", ".hidden"] {
            script(folder.path(), name, "true");
        }
        fs::write(folder.path().join("README"), "not a program").unwrap();
        fs::create_dir(folder.path().join("15-folder")).unwrap();
        let names: Vec<_> = list(folder.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["10-a", "20-b"]);
        assert!(list(Path::new("/no/such")).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_started_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b\u{e4}d");
        fs::write(&file, "#!/no/such/interpreter\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let Some(HealthFailure::CheckUnusable { name }) =
            run(&file, Duration::from_secs(1)).failure
        else {
            panic!("it was started");
        };
        assert_eq!(name.as_str(), "b?d");
    }
}
