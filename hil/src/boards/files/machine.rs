//! The running half of the board: a process that holds a root mounted, in namespaces of its own.
//!
//! # Invariants
//! - The mounts are seen by nobody else, and everything that runs on them ends with the machine, also when this program is
//!   killed: the holder's input ends then.
//!
//! # Power loss
//! Switching off kills every process of the machine at once; what they had not written is lost, as on a real board. What the
//! kernel of this machine had taken is not lost: this board cannot show a torn write.

use crate::board::BoardError;
use crate::command::{CommandError, Invocation, Output, Runner};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Longest time that the mounts may take.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);

/// What the mount script prints when everything is mounted.
const READY: &str = "mounted\n";

/// What to mount.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed<'p> {
    /// The composefs image.
    pub image: &'p Path,
    /// The object store.
    pub objects: &'p Path,
    /// The folder that is `/var`.
    pub var: &'p Path,
}

/// A mounted root. Dropping it switches it off.
#[derive(Debug)]
pub(super) struct Machine {
    holder: Child,
    /// The holder runs until this is closed.
    power: Option<ChildStdin>,
    /// The root, as a process of the machine sees it.
    root: PathBuf,
}

impl Machine {
    /// Mounts a root; `folder` is an empty one for the mount points.
    pub(super) fn start(
        runner: &Runner,
        folder: &Path,
        sealed: &Sealed<'_>,
    ) -> Result<Self, BoardError> {
        let invocation = Invocation::new("unshare")
            .arguments(["--mount", "--pid", "--fork", "--kill-child", "--"])
            .arguments(["sh", "-euc", include_str!("mount.sh"), "mount.sh"])
            .arguments([folder, sealed.image, sealed.objects, sealed.var]);
        let spawned = invocation.prepare().stdin(Stdio::piped()).spawn();
        let mut holder = spawned.map_err(|source| CommandError::NotRun {
            command: "unshare".to_owned(),
            source,
        })?;
        let power = holder.stdin.take();
        let (said, message) = (holder.stdout.take(), holder.stderr.take());
        let mut machine = Self {
            holder,
            power,
            root: folder.join("root"),
        };
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            if let Some(said) = said {
                let _ = BufReader::new(said).read_line(&mut line);
            }
            sender.send(line)
        });
        let line = receiver.recv_timeout(MOUNT_LIMIT);
        if line.as_deref() == Ok(READY) {
            runner.note(&format!(
                "Mounted {} on {}.\n",
                sealed.image.display(),
                machine.root.display()
            ));
            return Ok(machine);
        }
        if line.is_err() {
            // Its first process ends with the holder, and with that one every other.
            let _ = machine.holder.kill();
            let message = format!("it took longer than {} s.", MOUNT_LIMIT.as_secs());
            return Err(BoardError::Mount { message });
        }
        machine.stop()?;
        let mut text = String::new();
        if let Some(mut message) = message {
            let _ = message.read_to_string(&mut text);
        }
        Err(BoardError::Mount {
            message: text.trim().to_owned(),
        })
    }

    /// A folder of the mounted root, as seen from outside.
    pub(super) fn outside(&self, inside: &str) -> PathBuf {
        let process_root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        join_absolute(&join_absolute(&process_root, &self.root), Path::new(inside))
    }

    /// Runs a program of the mounted root.
    pub(super) fn run(
        &self,
        runner: &Runner,
        program: &str,
        limit: Duration,
    ) -> Result<Output, BoardError> {
        let namespaces = format!("/proc/{}/ns", self.holder.id());
        let invocation = Invocation::new("nsenter")
            .argument(format!("--mount={namespaces}/mnt"))
            // The first process of the machine is the holder's child: its namespace is the one for children.
            .argument(format!("--pid={namespaces}/pid_for_children"))
            .arguments(["--", "chroot"])
            .argument(&self.root)
            .argument(program)
            .environment(&[
                ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                ("HOME", "/"),
                ("LC_ALL", "C"),
            ])
            .limit(limit);
        Ok(runner.run(&invocation)?)
    }

    /// Switches off: its first process ends with its input, the kernel kills every other, and the holder ends after them.
    pub(super) fn stop(&mut self) -> Result<(), BoardError> {
        drop(self.power.take());
        self.holder
            .wait()
            .map(drop)
            .map_err(BoardError::file(Path::new("The machine"), "switched off"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.power.is_some() {
            // There is nobody to tell.
            let _ = self.stop();
        }
    }
}

fn join_absolute(folder: &Path, absolute: &Path) -> PathBuf {
    folder.join(absolute.strip_prefix("/").unwrap_or(absolute))
}
