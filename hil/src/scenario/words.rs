//! The words of scenarios that are not steps.

use serde::Deserialize;
use std::fmt;

/// What a scenario needs of a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Firmware that keeps variables and boots by them.
    Uefi,
    /// Firmware that refuses what the owner did not sign.
    SecureBoot,
    /// A watchdog that resets the board.
    Watchdog,
    /// A way to a web server.
    Network,
    /// Power that can be cut.
    PowerCut,
    /// Storage that can be changed while it is off.
    Tampering,
}

impl Need {
    /// Its name in scenarios.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uefi => "uefi",
            Self::SecureBoot => "secure-boot",
            Self::Watchdog => "watchdog",
            Self::Network => "network",
            Self::PowerCut => "power-cut",
            Self::Tampering => "tampering",
        }
    }
}

/// A release that the maker builds for scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bundle {
    /// The first release.
    V1,
    /// A good update, from which the way back is open.
    V2,
    /// A good update that raises the anti-rollback floor.
    V3,
    /// Its first process ends, so its kernel panics.
    Panics,
    /// It stops before its health checks.
    Hangs,
    /// Its health check fails.
    Sick,
    /// A good update, until something puts `/etc/frail` there: then its first process ends.
    Frail,
    /// Its UKI is signed by a stranger.
    Stranger,
    /// Its UKI has no signature.
    Unsigned,
    /// The bundle is signed with a key that no device trusts.
    Foreign,
    /// V2 with one bit changed in the middle.
    Damaged,
    /// V2 whose UKI asks for a recovery instead of starting: for a stick.
    Rescue,
}

impl Bundle {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::V1,
        Self::V2,
        Self::V3,
        Self::Panics,
        Self::Hangs,
        Self::Sick,
        Self::Frail,
        Self::Stranger,
        Self::Unsigned,
        Self::Foreign,
        Self::Damaged,
        Self::Rescue,
    ];

    /// Its name in scenarios, and that of its file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
            Self::Panics => "panics",
            Self::Hangs => "hangs",
            Self::Sick => "sick",
            Self::Frail => "frail",
            Self::Stranger => "stranger",
            Self::Unsigned => "unsigned",
            Self::Foreign => "foreign",
            Self::Damaged => "damaged",
            Self::Rescue => "rescue",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bundle| bundle.name() == name)
    }
}

/// The state of a board before the first step of a scenario. It is off, or on, as its name begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Start {
    /// As the factory delivers it: V1 in set a, never switched on.
    Factory,
    /// The same with V1 in both sets.
    FactoryBoth,
    /// V1 was booted once, from set a.
    CommittedV1,
    /// V2 was installed into set b, tried and committed; V1 is in set a.
    CommittedV2,
    /// From V1, this release was installed into set b and is the next trial.
    Armed(Bundle),
    /// On: V1 is up, from set a, as it was booted before.
    RunningV1,
    /// On: V1 is up as before, and has just installed this release into set b, which is the next trial.
    RunningArmed(Bundle),
    /// On: this release is on trial in set b, and its sealed root has just been mounted.
    Trying(Bundle),
}

impl Start {
    /// Whether a release was on the board before the first step.
    pub fn holds(self, bundle: Bundle) -> bool {
        let other = match self {
            Self::Factory | Self::FactoryBoth | Self::CommittedV1 | Self::RunningV1 => None,
            Self::CommittedV2 => Some(Bundle::V2),
            Self::Armed(other) | Self::RunningArmed(other) | Self::Trying(other) => Some(other),
        };
        bundle == Bundle::V1 || other == Some(bundle)
    }

    /// Whether the board is on.
    pub const fn is_on(self) -> bool {
        matches!(
            self,
            Self::RunningV1 | Self::RunningArmed(_) | Self::Trying(_)
        )
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Factory => f.write_str("factory"),
            Self::FactoryBoth => f.write_str("factory-both"),
            Self::CommittedV1 => f.write_str("committed-v1"),
            Self::CommittedV2 => f.write_str("committed-v2"),
            Self::Armed(bundle) => write!(f, "armed-{}", bundle.name()),
            Self::RunningV1 => f.write_str("running-v1"),
            Self::RunningArmed(bundle) => write!(f, "running-armed-{}", bundle.name()),
            Self::Trying(bundle) => write!(f, "trying-{}", bundle.name()),
        }
    }
}

impl TryFrom<String> for Start {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let with = |prefix| name.strip_prefix(prefix).and_then(Bundle::of_name);
        match name.as_str() {
            "factory" => Ok(Self::Factory),
            "factory-both" => Ok(Self::FactoryBoth),
            "committed-v1" => Ok(Self::CommittedV1),
            "committed-v2" => Ok(Self::CommittedV2),
            "running-v1" => Ok(Self::RunningV1),
            _ => None
                .or_else(|| with("armed-").map(Self::Armed))
                .or_else(|| with("running-armed-").map(Self::RunningArmed))
                .or_else(|| with("trying-").map(Self::Trying))
                .ok_or_else(|| {
                    format!(
                        "{name:?} is no start: factory, factory-both, committed-v1, committed-v2, armed-BUNDLE, running-v1, \
                         running-armed-BUNDLE or trying-BUNDLE"
                    )
                }),
        }
    }
}

/// What starts the UKIs of a board, between firmware and sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// The UEFI firmware itself.
    #[default]
    Uefi,
    /// systemd-boot.
    SystemdBoot,
}

impl Loader {
    /// Its name in scenarios, in the description of a device and to `twinseal-bundle disk`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uefi => "uefi",
            Self::SystemdBoot => "systemd-boot",
        }
    }
}

/// The kernel of a board's releases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// Debian's for clouds: small, and without USB.
    #[default]
    Cloud,
    /// Debian's general one, whose initramfs has drivers for USB as well.
    General,
}

/// What releases are made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Appliance {
    /// What starts its UKIs.
    pub loader: Loader,
    /// Its kernel.
    pub kernel: Kernel,
}

impl Appliance {
    /// All of them. Nothing is tried with systemd-boot and the general kernel: neither knows of the other.
    pub const ALL: [Self; 3] = [
        Self {
            loader: Loader::Uefi,
            kernel: Kernel::Cloud,
        },
        Self {
            loader: Loader::SystemdBoot,
            kernel: Kernel::Cloud,
        },
        Self {
            loader: Loader::Uefi,
            kernel: Kernel::General,
        },
    ];

    /// What folders of a run call it.
    pub const fn name(self) -> &'static str {
        match self.kernel {
            Kernel::Cloud => self.loader.name(),
            Kernel::General => "general",
        }
    }

    /// Where the web server has its bundles: the address of one begins so.
    pub const fn folder(self) -> &'static str {
        match (self.kernel, self.loader) {
            (Kernel::General, _) => "general/",
            (Kernel::Cloud, Loader::SystemdBoot) => "systemd-boot/",
            (Kernel::Cloud, Loader::Uefi) => "",
        }
    }
}

/// What becomes of reading a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// It can be read to its end.
    Fine,
    /// EIO, at opening or reading.
    IoError,
    /// ENOENT.
    Missing,
}

/// A set, or none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetOrNone {
    /// Set a.
    A,
    /// Set b.
    B,
    /// No set.
    None,
}

impl SetOrNone {
    /// "a", "b", or nothing.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::A => Some("a"),
            Self::B => Some("b"),
            Self::None => None,
        }
    }
}
