//! The table `[network]`: how this device reaches web servers, whom it trusts there, how fast it reads, and when.

use super::Window;
use crate::error::DescriptionProblem;
use serde::Deserialize;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How web servers are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Trust anchors in PEM; `None` for those of the system.
    pub trust: Option<PathBuf>,
    /// What the device shows to a server that wants to know who asks.
    pub identity: Option<Identity>,
    /// The proxy; `None` for what the environment says.
    pub proxy: Option<String>,
    /// Hosts that are reached without the proxy, in addition to those of the environment.
    pub no_proxy: Vec<String>,
    /// Most bytes a second.
    pub max_rate: Option<Rate>,
    /// Hours in which bundles are fetched.
    pub window: Option<Window>,
}

/// Bytes a second: at least as many as a handshake needs to end within the time that is waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Rate(NonZeroU64);

/// The slowest rate: a handshake of 16 KiB in 16 seconds.
const RATE_MIN: u64 = 1_000;

/// A rate is too low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number of bytes a second, at least {RATE_MIN}")]
pub struct NotARate;

impl Rate {
    /// Bytes a second.
    pub const fn bytes(self) -> NonZeroU64 {
        self.0
    }
}

impl TryFrom<u64> for Rate {
    type Error = NotARate;

    fn try_from(bytes: u64) -> Result<Self, NotARate> {
        let rate = NonZeroU64::new(bytes).filter(|bytes| bytes.get() >= RATE_MIN);
        rate.map(Self).ok_or(NotARate)
    }
}

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        text.parse::<u64>().map_err(|_| NotARate)?.try_into()
    }
}

/// A client certificate and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and the anchor that the server trusts.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// The table as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Table {
    trust: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    proxy: Option<String>,
    #[serde(default)]
    no_proxy: Vec<String>,
    max_rate: Option<Rate>,
    window: Option<Window>,
}

impl Table {
    /// Its meaning; relative paths are relative to `folder`.
    pub(super) fn network(self, folder: &Path) -> Result<Network, DescriptionProblem> {
        let identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some(Identity {
                certificate: folder.join(certificate),
                key: folder.join(key),
            }),
            (None, None) => None,
            _ => return Err(DescriptionProblem::HalfIdentity),
        };
        Ok(Network {
            trust: self.trust.map(|path| folder.join(path)),
            identity,
            proxy: self.proxy,
            no_proxy: self.no_proxy,
            max_rate: self.max_rate,
            window: self.window,
        })
    }
}
