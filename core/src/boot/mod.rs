//! Which set to boot: the state table of `docs/boot-state.md` as code.
//!
//! - [`record`]: the boot record, kept in two copies so that one whole copy is always there;
//! - [`select`]: the choice at power-on; an attempt is spent before the jump;
//! - [`trial`]: what the running system may say: arm, commit, mark bad, go back.
//!
//! # Invariants
//! - Nothing is counted on a committed set: power cycling it, however quick, writes nothing and changes nothing.
//! - The floor never falls, and rises only at commit.
//! - A record that cannot be read is a state of its own, never a default.
//!
//! # Power loss
//! A new record is written over the older of the two copies and synced before anything depends on it; a cut leaves the old
//! record or the new one.

pub mod record;
pub mod select;
pub mod trial;

use crate::wire::digest::Sha256Digest;
use core::fmt;
use serde::{Deserialize, Serialize};

/// A slot set. The numbers are stored: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Set {
    /// Set A.
    A = 0,
    /// Set B.
    B = 1,
}

impl Set {
    /// Both sets.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its value among those of both sets.
    pub const fn of<T: Copy>(self, both: [T; 2]) -> T {
        let [a, b] = both;
        match self {
            Self::A => a,
            Self::B => b,
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// What the device's storage says about a set when a choice is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SetFacts {
    /// The set is complete: its UKI stands where the firmware boots it (an install puts it there last).
    pub bootable: bool,
    /// SHA-256 of the signed manifest of what it holds, proved; `None` when that cannot be read or proved.
    pub manifest: Option<Sha256Digest>,
    /// Anti-rollback version in that manifest.
    pub anti_rollback: Option<u64>,
}

impl SetFacts {
    /// The facts of both sets for a device on which `set` does not start, whatever it holds.
    pub fn not_starting(facts: [Self; 2], set: Set) -> [Self; 2] {
        let [a, b] = facts;
        let without = |facts: Self, own: Set| Self {
            bootable: facts.bootable && own != set,
            ..facts
        };
        [without(a, Set::A), without(b, Set::B)]
    }

    /// Whether booting the set is no downgrade. What is not known counts as 0.
    pub fn reaches(&self, floor: u64) -> bool {
        self.anti_rollback.unwrap_or(0) >= floor
    }
}
