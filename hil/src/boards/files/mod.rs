//! Plain folders on this machine, with real kernel mounts: the board that needs no virtual machine.
//!
//! ```text
//! device.toml       the device description
//! keys/             the trusted key
//! set-a/boot  set-a/root  set-b/boot  set-b/root      the slots
//! state/            the agent's: journal, boot record
//! var/              the data slot
//! running-set       the set that is running, a or b; gone when the board is off
//! mounts/           empty: where the running root is mounted, seen by the machine alone
//! ```
//!
//! The agent runs beside the sealed root, not in it: it works on the folders through the device description.
//!
//! # Invariants
//! - A root is mounted only after its seal has been checked.
//!
//! # Power loss
//! What the agent has written stays: this board shows trials and rollbacks, not torn writes.

mod machine;
mod seal;

use crate::agent::{self, Selected};
use crate::board::{Board, BoardError, Boot, Check, Description, Health, Verdict};
use crate::command::{CommandError, Invocation, Output, Runner};
use crate::programs::Tool;
use machine::{Machine, Sealed};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where a sealed root has its health checks: programs that run in the order of their names.
pub const CHECKS_FOLDER: &str = "/usr/lib/twinseal/health.d";

/// Longest time that one health check may take when nobody says otherwise.
pub const CHECK_LIMIT_DEFAULT: Duration = Duration::from_secs(30);

/// What the board is.
pub const DESCRIPTION: Description = Description {
    name: "files",
    made_of: "two sets of plain folders, and a private mount namespace of this machine as the running system",
    limits: &[
        "Not sealed by the kernel on this board: the composefs image is checked at each boot, but the folders have no \
         fs-verity, so a file changed later would be served.",
        "No firmware and no initramfs run: their checks are made here with sbverify, objcopy and fsverity.",
        "The agent runs beside the sealed root, not in it.",
    ],
};

/// What the board runs besides the agent.
pub const TOOLS: &[Tool] = &[
    Tool {
        program: "unshare",
        package: "util-linux",
    },
    Tool {
        program: "nsenter",
        package: "util-linux",
    },
    Tool {
        program: "mount",
        package: "mount",
    },
    Tool {
        program: "chroot",
        package: "coreutils",
    },
    Tool {
        program: "mknod",
        package: "coreutils",
    },
    Tool {
        program: "objcopy",
        package: "binutils",
    },
    Tool {
        program: "sbverify",
        package: "sbsigntool",
    },
    Tool {
        program: "fsverity",
        package: "fsverity",
    },
];

/// What the board is made from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The folder of the device; it is made.
    pub folder: PathBuf,
    /// The agent's program.
    pub agent: PathBuf,
    /// Device type.
    pub compatible: String,
    /// The public key that releases are signed with.
    pub release_key: PathBuf,
    /// The owner's Secure Boot certificate.
    pub certificate: PathBuf,
    /// Boots that a trial has.
    pub trial_attempts: u8,
    /// Longest time that one health check may take.
    pub check_limit: Duration,
}

/// The board.
#[derive(Debug)]
pub struct Files {
    parts: Parts,
    runner: Arc<Runner>,
    machine: Option<Machine>,
}

impl Files {
    /// Checks that this machine can be such a board, as far as that shows before the first mount.
    ///
    /// # Errors
    /// [`BoardError::NotRoot`] for everyone but root.
    pub fn check_machine() -> Result<(), BoardError> {
        if rustix::process::geteuid().is_root() {
            Ok(())
        } else {
            Err(BoardError::NotRoot)
        }
    }

    /// Makes the folders and the device description; the device is blank after that.
    ///
    /// # Errors
    /// When a folder or file cannot be made.
    pub fn new(parts: Parts, runner: Arc<Runner>) -> Result<Self, BoardError> {
        for folder in [
            "keys",
            "set-a/boot",
            "set-a/root",
            "set-b/boot",
            "set-b/root",
            "state",
            "var",
            "mounts",
        ] {
            let folder = parts.folder.join(folder);
            fs::create_dir_all(&folder).map_err(BoardError::file(&folder, "made"))?;
        }
        let key = parts.folder.join("keys/release.pub");
        fs::copy(&parts.release_key, &key).map_err(BoardError::file(&key, "written"))?;
        let board = Self {
            parts,
            runner,
            machine: None,
        };
        let file = board.description_file();
        fs::write(&file, board.device_description()).map_err(BoardError::file(&file, "written"))?;
        Ok(board)
    }

    /// The device description.
    pub fn description_file(&self) -> PathBuf {
        self.parts.folder.join("device.toml")
    }

    fn device_description(&self) -> String {
        let compatible = toml::Value::from(self.parts.compatible.as_str());
        let attempts = self.parts.trial_attempts;
        format!(
            "# A device made of plain folders. Paths are relative to this file.\n\
             compatible = {compatible}\n\
             trusted-keys = [\"keys/release.pub\"]\n\
             state = \"state\"\n\
             running = \"running-set\"\n\
             trial-attempts = {attempts}\n\
             # The file system of the folders need not know fs-verity: the kernel does not seal files here.\n\
             verity = \"absent\"\n\n\
             [boot]\nloader = \"record\"\nrecord = \"state/boot-record\"\n\n\
             [sets.a]\nboot = \"set-a/boot\"\nroot = \"set-a/root\"\n\n\
             [sets.b]\nboot = \"set-b/boot\"\nroot = \"set-b/root\"\n"
        )
    }

    /// The agent's program with arguments, for this device.
    fn invocation(&self, arguments: &[&str]) -> Invocation {
        Invocation::new(&self.parts.agent)
            .argument("--device")
            .argument(self.description_file())
            .arguments(arguments)
    }

    /// The chosen set's seal is checked and its root mounted.
    fn start(&mut self, set: &str) -> Result<String, BoardError> {
        let slots = self.parts.folder.join(format!("set-{set}"));
        let (boot, root) = (slots.join("boot"), slots.join("root"));
        let seal = seal::check(&self.runner, &self.parts.certificate, &boot, &root)?;
        let sealed = Sealed {
            image: &seal.image,
            objects: &root.join("composefs/objects"),
            var: &self.parts.folder.join("var"),
        };
        self.machine = Some(Machine::start(
            &self.runner,
            &self.parts.folder.join("mounts"),
            &sealed,
        )?);
        Ok(seal.digest)
    }
}

impl Board for Files {
    fn description(&self) -> Description {
        DESCRIPTION
    }

    fn provision(&mut self, bundle: &Path) -> Result<Output, BoardError> {
        let invocation = self
            .invocation(&["--json", "device", "init"])
            .argument(bundle);
        Ok(self.runner.run(&invocation)?.expect_success()?)
    }

    fn power_on(&mut self) -> Result<Boot, BoardError> {
        if self.machine.is_some() {
            return Err(BoardError::On);
        }
        let output = self
            .runner
            .run(&self.invocation(&["--json", "select"]))?
            .expect_success()?;
        let selected: Selected = agent::event(&output, "selected")?;
        let seal = self.start(&selected.set)?;
        let Selected {
            set,
            reason,
            attempts_left,
        } = selected;
        Ok(Boot {
            set,
            reason,
            attempts_left,
            seal,
        })
    }

    fn health(&mut self) -> Result<Health, BoardError> {
        let machine = self.machine.as_ref().ok_or(BoardError::Off)?;
        let folder = machine.outside(CHECKS_FOLDER);
        let entries = fs::read_dir(&folder).map_err(BoardError::file(&folder, "read"))?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names
            .collect::<Result<Vec<String>, _>>()
            .map_err(BoardError::file(&folder, "read"))?;
        if names.is_empty() {
            return Err(BoardError::NoChecks {
                folder: CHECKS_FOLDER.into(),
            });
        }
        names.sort();
        let checks = names.into_iter().map(|name| self.check(machine, name));
        Ok(Health {
            checks: checks.collect::<Result<_, _>>()?,
        })
    }

    fn agent(&mut self, arguments: &[&str]) -> Result<Output, BoardError> {
        Ok(self.runner.run(&self.invocation(arguments))?)
    }

    fn power_off(&mut self) -> Result<(), BoardError> {
        let mut machine = self.machine.take().ok_or(BoardError::Off)?;
        machine.stop()?;
        // On a real board it lies where a restart forgets it.
        let running = self.parts.folder.join("running-set");
        match fs::remove_file(&running) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(BoardError::file(&running, "removed")(error))
            }
            _ => Ok(()),
        }
    }
}

impl Files {
    /// Runs one check. One that hangs is left behind on the machine, which takes it along when it is switched off.
    fn check(&self, machine: &Machine, name: String) -> Result<Check, BoardError> {
        match machine.run(
            &self.runner,
            &format!("{CHECKS_FOLDER}/{name}"),
            self.parts.check_limit,
        ) {
            Ok(output) => {
                let verdict = if output.status.success() {
                    Verdict::Passed
                } else {
                    Verdict::Failed {
                        ending: output.ending(),
                    }
                };
                Ok(Check {
                    name,
                    verdict,
                    text: output.stdout + &output.stderr,
                })
            }
            Err(BoardError::Command(CommandError::TimedOut { limit, .. })) => Ok(Check {
                name,
                verdict: Verdict::TimedOut { limit },
                text: String::new(),
            }),
            Err(error) => Err(error),
        }
    }
}
