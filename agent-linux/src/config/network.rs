//! The table `[network]`: how this device reaches web servers, and whom it trusts there.

use crate::error::DescriptionProblem;
use serde::Deserialize;
use std::path::{Path, PathBuf};

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
        })
    }
}
