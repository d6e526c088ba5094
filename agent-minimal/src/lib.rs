//! The `/init` of a sealed appliance: it mounts the root that the signed command line names, and starts it.
//!
//! - [`init`]: the steps, in their order; the others are one concern each:
//! - [`command_line`], [`console`]: what the kernel was told, and what is told to people;
//! - [`early`]: the kernel's file systems and its modules; [`devices`]: which set this is, and its slots;
//! - [`gate`]: what the boot record says about starting this set; [`fallback`], [`firmware`]: what a refusal does next;
//! - [`install`], with [`bundle`], [`memory`], [`zstd`] and [`inflate`]: a bundle into a set;
//! - `status`, `verdict` (feature `commands`): a running system; [`device`], [`description`], [`slots`], [`held`], [`keys`]: what it is;
//! - [`files`], [`clock`], [`process`]: what a program without a library needs of the kernel;
//! - `recovery` (feature `net`): a set rebuilt from a medium or a web server when neither may start; [`media`], [`attempt`]: what
//!   it shares with the commands; `net`: a bundle on a web server, through a network of our own (`net`) or the kernel's (`fetch`);
//! - [`data`], [`var`], [`etc_overlay`], [`tree`]: what is not sealed; [`handover`]: from the initramfs to the system.
//!
//! # Invariants
//! - Nothing runs from a root that the kernel did not measure to be the one on the command line.
//! - An attempt of a trial that the boot record speaks of is spent on the medium before the set's own code runs, and the watchdog
//!   runs by then. A record that cannot be read speaks of none: that is said, and the set starts.
//! - What is not essential (a module, the watchdog, the data partition) never stops a boot: it is said on the console, and
//!   memory that stands for the data is marked in `/run`, so that nobody takes it for the device's state.
#![no_std]
#![forbid(unsafe_code)]
#![allow(
    clippy::result_large_err,
    reason = "a refusal has two digests, once in a boot, and there is no heap to put them in"
)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

#[cfg(test)]
extern crate std;

pub mod attempt;
pub mod bundle;
pub mod clock;
pub mod command_line;
#[cfg(feature = "commands")]
pub mod commands;
pub mod console;
pub mod data;
pub mod description;
pub mod device;
pub mod devices;
pub mod early;
pub mod error;
pub mod etc_overlay;
pub mod fallback;
pub mod files;
pub mod firmware;
pub mod gate;
pub mod handover;
pub mod held;
pub mod inflate;
pub mod init;
pub mod install;
pub mod keys;
pub mod labels;
pub mod media;
pub mod memory;
#[cfg(feature = "web")]
pub mod net;
pub mod process;
#[cfg(feature = "commands")]
pub mod recover;
#[cfg(feature = "net")]
pub mod recovery;
pub mod refusal;
pub mod slots;
pub mod starts;
#[cfg(feature = "commands")]
pub mod status;
pub mod tree;
#[cfg(feature = "commands")]
pub mod update;
pub mod var;
#[cfg(feature = "commands")]
pub mod verdict;
pub mod zstd;
