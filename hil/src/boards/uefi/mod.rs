//! The board `uefi`: QEMU with UEFI firmware, Secure Boot with the owner's keys, a disk, a watchdog, a console, and a control line
//! for test appliances.
//!
//! # Invariants
//! - Whatever ends a run ends QEMU: it is killed when the board is dropped, and by the kernel when this program dies.
//! - Every wait has a limit and ends at once when the machine goes off.
//! - A restart of the guest is a new QEMU ([`machine`]): its memory is empty, like that of a board that was off.
//!
//! # Power loss
//! A power cut is QEMU killed. It loses what is in the guest's own memory and requests on their way. A write that QEMU has
//! passed to the host survives, flushed or not (`cache=unsafe` spares only the host's own sync), so a flush that is missing,
//! and writes that are reordered, are not shown here.

mod control;
pub mod machine;
mod monitor;
mod processor;
pub mod qemu;
pub mod variables;

pub use control::{Answer, END};
pub(crate) use processor::beside;
pub use processor::{FirmwareFiles, Processor};

use crate::command::CommandError;
use crate::guard::Guarded;
use crate::scenario::Need;
use crate::stream::{Line, Stream, WaitError};
use monitor::Monitor;
use qemu::Port;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What an initramfs says at each start: words of an earlier start are old.
pub const START_WORDS: &str = "twinseal: init: set ";

/// Longest time that QEMU may take to be there.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What the board is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The processor.
    pub processor: Processor,
    /// QEMU.
    pub qemu: PathBuf,
    /// The firmware's code.
    pub firmware: PathBuf,
    /// This program: its `machine` starts QEMU, and its `relay` leads to the web server.
    pub own: PathBuf,
    /// The web server's port on this machine; without one the board has no network.
    pub server_port: Option<u16>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// What every limit is multiplied by: 1, or more where the machine has much else to do.
    pub patience: u32,
}

/// What went wrong with the board.
#[derive(Debug, thiserror::Error)]
pub enum UefiError {
    /// A word did not come.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// QEMU could not be started or talked to.
    #[error("QEMU could not be {done}: {source}.")]
    Io {
        /// What was tried.
        done: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// QEMU ended before the machine began.
    #[error("QEMU did not start the machine. It said:\n{said}")]
    NotStarted {
        /// Its standard error.
        said: String,
    },
    /// There is no QEMU.
    #[error("There is no QEMU: {} cannot be run. This board needs QEMU 10 or newer; scripts/deps.sh board installs it.", program.display())]
    NoQemu {
        /// What was tried.
        program: PathBuf,
    },
    /// QEMU is too old.
    #[error(
        "This board needs QEMU 10 or newer, and here is \"{found}\". Older ones crash their guests now and then. scripts/deps.sh board installs a newer one."
    )]
    OldQemu {
        /// What it says of itself.
        found: String,
    },
    /// Nothing writes variables.
    #[error(
        "There is no virt-fw-vars to put keys into the firmware's variables. Name one with TWINSEAL_VIRT_FW_VARS, or install it: pip install virt-firmware"
    )]
    NoVariablesProgram,
    /// The board is off.
    #[error("The board is off: switch it on first (power-on).")]
    Off,
    /// The board is on.
    #[error("The board is on: switch it off first (power-off or power-cut).")]
    On,
    /// The guest restarted while a command ran.
    #[error("The guest restarted while it ran: {command}\nThe console's end:\n{tail}")]
    Restarted {
        /// The command.
        command: String,
        /// The console's last lines.
        tail: String,
    },
}

impl UefiError {
    fn io(done: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { done, source }
    }
}

/// A virtual UEFI board.
#[derive(Debug)]
pub struct Uefi {
    parts: Parts,
    disk: PathBuf,
    other_disk: Option<(PathBuf, Port)>,
    offline: bool,
    variables: PathBuf,
    console: Arc<Stream>,
    control: Arc<Stream>,
    begin: Instant,
    /// Lines of the console before it was switched on last.
    switched_on: usize,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    qemu: Guarded,
    since: Duration,
    writer: UnixStream,
    monitor: Monitor,
    readers: Vec<JoinHandle<()>>,
    // Open as long as the machine is: the console's input would end otherwise.
    _input: Option<ChildStdin>,
}

impl Uefi {
    /// A board that is off, with this disk and these variables; both files are written to by its guest.
    pub fn new(parts: Parts, disk: PathBuf, variables: PathBuf) -> Self {
        let begin = Instant::now();
        let stream = |name| Stream::new(name, begin).with_patience(parts.patience);
        let (console, control) = (stream("console"), stream("control line"));
        Self {
            parts,
            disk,
            other_disk: None,
            offline: false,
            variables,
            console: Arc::new(console),
            control: Arc::new(control),
            begin,
            switched_on: 0,
            running: None,
        }
    }

    /// Plugs in another disk; from the next time that the board is switched on.
    pub fn plug_in(&mut self, disk: PathBuf, port: Port) {
        self.other_disk = Some((disk, port));
    }

    /// Plugs the disk for a free USB port in now.
    ///
    /// # Errors
    /// When it is off, or QEMU cannot.
    pub fn plug_in_now(&mut self) -> Result<(), UefiError> {
        let running = self.running.as_mut().ok_or(UefiError::Off)?;
        let plugged = running.monitor.plug_in("usb-storage", "other");
        plugged.map_err(UefiError::io("given a disk"))?;
        self.console.note("the stick was plugged in");
        Ok(())
    }

    /// Leaves the board's network card with nobody in reach, from the next time that it is switched on.
    pub const fn go_offline(&mut self) {
        self.offline = true;
    }

    /// What limits are multiplied by.
    pub const fn patience(&self) -> u32 {
        self.parts.patience
    }

    /// What the guest says on its first serial line.
    pub fn console(&self) -> &Stream {
        &self.console
    }

    /// What the guest says on its second serial line.
    pub fn control(&self) -> &Stream {
        &self.control
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| !running.qemu.wait(Duration::ZERO))
    }

    /// Switches it on.
    ///
    /// # Errors
    /// When it is on, or QEMU does not start.
    pub fn power_on(&mut self) -> Result<(), UefiError> {
        self.start("power on", false)
    }

    /// Writes the running machine to a file, and ends it: with copies of disk and variables of now it can be gone on with.
    ///
    /// # Errors
    /// When it is off, or QEMU cannot.
    pub fn set_aside(&mut self, file: &Path) -> Result<(), UefiError> {
        let running = self.running.as_mut().ok_or(UefiError::Off)?;
        let saved = running.monitor.save(file);
        saved.map_err(UefiError::io("asked for its machine"))?;
        self.clear();
        self.console.note("the running machine was set aside");
        Ok(())
    }

    /// Goes on with a machine that was set aside, on copies of its disk and its variables.
    ///
    /// # Errors
    /// When it is on, or QEMU cannot.
    pub fn take_up(&mut self, file: &Path) -> Result<(), UefiError> {
        self.start("a running machine that was set aside goes on", true)?;
        let running = self.running.as_mut().ok_or(UefiError::Off)?;
        let loaded = running.monitor.load(file);
        loaded.map_err(UefiError::io("given a machine"))
    }

    fn start(&mut self, note: &str, waits_for_machine: bool) -> Result<(), UefiError> {
        if self.is_on() {
            return Err(UefiError::On);
        }
        self.clear();
        // Words of an earlier power cycle are old.
        self.console.skip();
        self.switched_on = self.console.mark();
        self.console.note(note);
        // A socket's path must be short, so it is in a folder of its own.
        let folder = tempfile::tempdir().map_err(UefiError::io("given a folder"))?;
        let [control, monitor] = ["control", "monitor"].map(|name| folder.path().join(name));
        let listen = |socket: &Path| {
            UnixListener::bind(socket).map_err(UefiError::io("given a control line"))
        };
        let listeners = [listen(&control)?, listen(&monitor)?];
        let cycle = qemu::Cycle {
            disk: &self.disk,
            other_disk: self
                .other_disk
                .as_ref()
                .map(|(disk, port)| qemu::Plugged { disk, port: *port }),
            offline: self.offline,
            variables: &self.variables,
            control: &control,
            monitor: &monitor,
            waits_for_machine,
        };
        let mut command = qemu::command(&self.parts, &cycle);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut qemu = Guarded::start(command).map_err(UefiError::io("started"))?;
        let mut readers = Vec::new();
        // What QEMU itself complains about belongs to what happened on the console.
        readers.extend(qemu.stderr.take().map(|source| self.console.attach(source)));
        readers.extend(qemu.stdout.take().map(|source| self.console.attach(source)));
        let [control, monitor] = &listeners;
        let (Some(writer), Some(monitor)) = (accept(control, &qemu)?, greet(monitor, &qemu)?)
        else {
            qemu.kill();
            readers.into_iter().for_each(|reader| drop(reader.join()));
            return Err(UefiError::NotStarted {
                said: self.console.tail(),
            });
        };
        let reader = writer
            .try_clone()
            .map_err(UefiError::io("given a control line"))?;
        readers.push(self.control.attach(reader));
        let _input = qemu.stdin.take();
        let since = self.begin.elapsed();
        self.running = Some(Running {
            qemu,
            since,
            writer,
            monitor,
            readers,
            _input,
        });
        Ok(())
    }

    /// Cuts the power: QEMU is killed.
    ///
    /// # Errors
    /// When it is off.
    pub fn power_cut(&mut self) -> Result<(), UefiError> {
        if !self.is_on() {
            return Err(UefiError::Off);
        }
        self.clear();
        self.console.note("power cut");
        Ok(())
    }

    /// Waits until the guest switches it off.
    ///
    /// # Errors
    /// [`UefiError::Wait`] when it does not within the limit.
    pub fn wait_off(&mut self, limit: Duration) -> Result<(), UefiError> {
        let running = self.running.as_ref().ok_or(UefiError::Off)?;
        if !running.qemu.wait(limit * self.parts.patience) {
            // The console is still open, so this tells the limit and the console's end.
            self.console
                .wait("power off", Duration::ZERO, |_, _| None)?;
        }
        self.clear();
        self.console.note("the guest switched the board off");
        Ok(())
    }

    /// Waits for a moment, or for the guest to switch off.
    pub fn pass(&self, moment: Duration) {
        if let Some(running) = &self.running {
            running.qemu.wait(moment);
        }
    }

    /// Waits for words on the console.
    ///
    /// # Errors
    /// [`UefiError::Wait`] when they do not come.
    pub fn wait_for(&self, words: &str, times: u32, limit: Duration) -> Result<Line, UefiError> {
        Ok(self.console.wait_for(words, times, limit)?)
    }

    /// The lines of the console with these words since it was switched on.
    pub fn said_since_power_on(&self, words: &str) -> Vec<Line> {
        let mut lines = self.console.since(self.switched_on);
        lines.retain(|line| !line.is_note() && line.text.contains(words));
        lines
    }

    /// When the guest started last, as far as the console tells, since the board was made.
    fn started(&self) -> Duration {
        let since = self
            .running
            .as_ref()
            .map_or(Duration::ZERO, |running| running.since);
        let started = self
            .console
            .last(START_WORDS)
            .map_or(Duration::ZERO, |line| line.at);
        since.max(started)
    }

    /// Ends QEMU, and takes what it said last.
    fn clear(&mut self) {
        if let Some(running) = self.running.take() {
            running.qemu.kill();
            for reader in running.readers {
                let _ = reader.join();
            }
        }
        self.control.skip();
    }
}

impl Drop for Uefi {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Waits for QEMU's own control channel, and greets it; nothing when QEMU ended instead, which it may do at any moment of both.
fn greet(listener: &UnixListener, qemu: &Guarded) -> Result<Option<Monitor>, UefiError> {
    let Some(stream) = accept(listener, qemu)? else {
        return Ok(None);
    };
    match Monitor::new(stream) {
        Ok(monitor) => Ok(Some(monitor)),
        Err(error) if is_end(&error) => Ok(None),
        Err(error) => Err(UefiError::io("greeted")(error)),
    }
}

/// Whether the other end of a channel is gone.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Waits for QEMU to connect; nothing when it ended instead.
fn accept(listener: &UnixListener, qemu: &Guarded) -> Result<Option<UnixStream>, UefiError> {
    let limit = Timespec::try_from(START_LIMIT).ok();
    let mut waits = [
        PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(qemu.as_fd(), PollFlags::IN),
    ];
    poll(&mut waits, limit.as_ref()).map_err(|error| UefiError::Io {
        done: "waited for",
        source: error.into(),
    })?;
    let [connected, _] = &waits;
    if connected.revents().is_empty() {
        return Ok(None);
    }
    let (stream, _) = listener.accept().map_err(UefiError::io("connected to"))?;
    Ok(Some(stream))
}
