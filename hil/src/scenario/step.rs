//! The steps of a scenario.

use super::words::{Bundle, Need, Reading, SetOrNone};
use crate::tamper::{Set, Tamper};
use serde::Deserialize;
use std::fmt;

const fn once() -> u32 {
    1
}

const fn boot_seconds() -> u64 {
    120
}

const fn command_seconds() -> u64 {
    60
}

const fn install_seconds() -> u64 {
    240
}

/// One step. A limit that is over is a failure.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    tag = "do",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
#[expect(missing_docs, reason = "the fields are what their names say")]
pub enum Step {
    /// Switches the board on.
    PowerOn {},
    /// Lets the guest switch the board off, in order.
    PowerOff {},
    /// Cuts the power: now, or when these words have come on the console, then after a random moment of at most `within-ms`.
    PowerCut {
        at_console: Option<String>,
        #[serde(default = "once")]
        times: u32,
        at_output: Option<String>,
        #[serde(default)]
        within_ms: u64,
        #[serde(default = "boot_seconds")]
        limit_seconds: u64,
    },
    /// Plugs the stick into a USB port of the board, which is on; the next start is without it.
    PlugIn {},
    /// Lets the guest restart, in order.
    Restart {},
    /// Waits for words in a line of the console, this many times.
    WaitConsole {
        words: String,
        #[serde(default = "once")]
        times: u32,
        #[serde(default = "boot_seconds")]
        limit_seconds: u64,
    },
    /// Waits for words in the output of the command that was begun.
    WaitOutput {
        words: String,
        #[serde(default = "install_seconds")]
        limit_seconds: u64,
    },
    /// The console has not said these words so far.
    NeverSaid { words: String },
    /// The console has said these words exactly this many times since the board was switched on.
    Said { words: String, times: u32 },
    /// Waits until a release says that it is up, after its health checks, and takes commands.
    WaitUp {
        release: Option<Bundle>,
        #[serde(default = "boot_seconds")]
        limit_seconds: u64,
    },
    /// Waits until the present start of the guest takes commands.
    WaitReady {
        #[serde(default = "boot_seconds")]
        limit_seconds: u64,
    },
    /// The guest's present start takes no commands.
    NotReady {},
    /// Runs a command in the guest.
    Run {
        command: String,
        #[serde(default)]
        exit: i32,
        prints: Option<String>,
        #[serde(default = "command_seconds")]
        limit_seconds: u64,
    },
    /// Begins a command in the guest and does not wait for its end: for what comes in the middle of it.
    Begin { command: String },
    /// Begins the installation of a release.
    BeginInstall { bundle: Bundle },
    /// Installs a release from the web server.
    Install {
        bundle: Bundle,
        #[serde(default)]
        exit: i32,
        attempts: Option<u8>,
        #[serde(default)]
        no_trial: bool,
        prints: Option<String>,
        #[serde(default = "install_seconds")]
        limit_seconds: u64,
    },
    /// Asks the device what the installation of a release would cost. What goes over the link is counted from here.
    Plan {
        bundle: Bundle,
        #[serde(default = "install_seconds")]
        limit_seconds: u64,
    },
    /// Compares what went over the link since the plan, or since the board was made.
    Link(Traffic),
    /// Changes the disk or the variables; the board is off.
    Tamper { with: Tamper },
    /// Compares the state of the device, again and again until the limit.
    Expect(Expect),
    /// Looks at a number in the last entry of this kind of the device's journal.
    Journal {
        kind: String,
        field: String,
        #[serde(default)]
        at_least: u64,
        /// It is at most the size of this release's UKI and what stands before it in a bundle.
        at_most_uki: Option<Bundle>,
    },
    /// Reads a file in the guest.
    Read { file: String, gives: Reading },
}

/// What the state of the device must be; what is not named is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    /// The running set.
    pub running: Option<Set>,
    /// The default set.
    pub default: Option<Set>,
    /// The set on trial.
    pub trial: Option<SetOrNone>,
    /// The anti-rollback floor.
    pub floor: Option<u64>,
    /// Sets marked bad: exactly these.
    pub bad: Option<Vec<Set>>,
    /// The kernel's command line seals one of these releases.
    pub seal: Option<Vec<Bundle>>,
    /// The running set is the default set, and nothing is on trial.
    #[serde(default)]
    pub settled: bool,
    /// The journal's chain holds.
    #[serde(default)]
    pub journal: bool,
    /// How long it may take.
    #[serde(default = "command_seconds")]
    pub limit_seconds: u64,
}

/// What must have gone over the link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Traffic {
    /// Connections that were cut.
    #[serde(default)]
    pub cuts_at_least: u64,
    /// Bytes that were changed.
    #[serde(default)]
    pub corrupted_at_least: u64,
    /// Requests that the link refused.
    #[serde(default)]
    pub refused_at_least: u64,
    /// Bytes in both directions, heads included, are no more than this part of what the device planned,
    pub at_most_percent_of_plan: Option<u64>,
    /// and these for each cut.
    #[serde(default)]
    pub more_bytes_a_cut: u64,
}

impl Step {
    /// Whether it makes sense only with a link.
    pub const fn looks_at_link(&self) -> bool {
        matches!(self, Self::Plan { .. } | Self::Link(_))
    }

    /// What it needs of a board that not every board has.
    pub const fn needs(&self) -> Option<Need> {
        match self {
            Self::PowerCut { .. } => Some(Need::PowerCut),
            Self::Install { .. }
            | Self::BeginInstall { .. }
            | Self::Plan { .. }
            | Self::Link(_) => Some(Need::Network),
            Self::Tamper { .. } => Some(Need::Tampering),
            _ => None,
        }
    }

    /// Whether it has the guest take a release from the web server.
    pub fn takes(&self, bundle: Bundle) -> bool {
        let file = format!("/{}.tseal", bundle.name());
        match self {
            Self::Install { bundle: taken, .. }
            | Self::BeginInstall { bundle: taken }
            | Self::Plan { bundle: taken, .. } => *taken == bundle,
            Self::Run { command, .. } | Self::Begin { command } => command.contains(&file),
            _ => false,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOn {} => f.write_str("power on"),
            Self::PowerOff {} => f.write_str("power off"),
            Self::PowerCut {
                at_console: Some(words),
                ..
            } => write!(f, "power cut at {words:?}"),
            Self::PowerCut {
                at_output: Some(words),
                ..
            } => write!(f, "power cut at the output {words:?}"),
            Self::PowerCut { .. } => f.write_str("power cut"),
            Self::PlugIn {} => f.write_str("plug the stick in"),
            Self::Restart {} => f.write_str("restart"),
            Self::WaitConsole {
                words, times: 1, ..
            } => write!(f, "wait for {words:?}"),
            Self::WaitConsole { words, times, .. } => {
                write!(f, "wait for {words:?}, {times} times")
            }
            Self::WaitOutput { words, .. } => write!(f, "wait for the output {words:?}"),
            Self::NeverSaid { words } => write!(f, "never said: {words:?}"),
            Self::Said { words, times } => {
                write!(f, "said since power on, {times} times: {words:?}")
            }
            Self::WaitUp {
                release: Some(release),
                ..
            } => write!(f, "wait until {} is up", release.name()),
            Self::WaitUp { .. } => f.write_str("wait until a release is up"),
            Self::WaitReady { .. } => f.write_str("wait until commands are taken"),
            Self::NotReady {} => f.write_str("no commands are taken"),
            Self::Run {
                command, exit: 0, ..
            } => write!(f, "run `{command}`"),
            Self::Run { command, exit, .. } => write!(f, "run `{command}`, which ends with {exit}"),
            Self::Begin { command } => write!(f, "begin `{command}`"),
            Self::BeginInstall { bundle } => write!(f, "begin to install {}", bundle.name()),
            Self::Install {
                bundle, exit: 0, ..
            } => write!(f, "install {}", bundle.name()),
            Self::Install { bundle, exit, .. } => {
                write!(f, "install {}, refused with {exit}", bundle.name())
            }
            Self::Plan { bundle, .. } => write!(f, "plan {}", bundle.name()),
            Self::Link(traffic) => {
                write!(f, "over the link: {} cuts or more", traffic.cuts_at_least)?;
                write!(f, ", {} changed bytes or more", traffic.corrupted_at_least)?;
                traffic.at_most_percent_of_plan.map_or(Ok(()), |percent| {
                    let more = traffic.more_bytes_a_cut;
                    write!(
                        f,
                        ", at most {percent} % of the plan and {more} bytes a cut"
                    )
                })
            }
            Self::Tamper { with } => write!(f, "tamper: {with:?}"),
            Self::Expect(expect) => write!(f, "expect {expect}"),
            Self::Journal {
                kind,
                field,
                at_least,
                at_most_uki,
            } => {
                write!(
                    f,
                    "the journal's last {kind}: {field} is at least {at_least}"
                )?;
                at_most_uki.map_or(Ok(()), |bundle| {
                    write!(f, " and at most what the UKI of {} takes", bundle.name())
                })
            }
            Self::Read { file, gives } => write!(f, "read {file}: {gives:?}"),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |name: &str, set: Option<Set>| set.map(|set| format!("{name} {}", set.name()));
        let names = |sets: &[Set]| {
            sets.iter()
                .map(|set| set.name())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let bad = self.bad.as_deref().map(|sets| match sets {
            [] => "no set bad".to_owned(),
            sets => format!("bad {}", names(sets)),
        });
        let seals = |seals: &[Bundle]| {
            seals
                .iter()
                .map(|seal| seal.name())
                .collect::<Vec<_>>()
                .join(" or ")
        };
        let parts = [
            set("running", self.running),
            set("default", self.default),
            self.trial
                .map(|trial| format!("trial {}", trial.name().unwrap_or("none"))),
            self.floor.map(|floor| format!("floor {floor}")),
            bad,
            self.seal
                .as_deref()
                .map(|list| format!("seal of {}", seals(list))),
            self.settled.then(|| "settled".to_owned()),
            self.journal.then(|| "a journal that holds".to_owned()),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}
