//! The table `[budget]`: what the network may cost in a calendar period.

use serde::{Deserialize, Serialize};

/// Most bytes in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Bytes on the connections, both ways, headers and TLS included.
    pub bytes: u64,
    /// The period.
    pub period: Period,
}

/// A period of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    /// From midnight on.
    Day,
    /// From Monday on.
    Week,
    /// From the first on.
    Month,
}
