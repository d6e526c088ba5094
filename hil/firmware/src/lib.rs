//! What the programs of the microcontroller share: twinseal's core on a Cortex-M4, with two slots in a flash that is stricter than a
//! real one.
//!
//! - [`sys`]: registers, memory and the debugger's calls: all `unsafe` of the firmware; [`machine`]: where things are on the board;
//! - [`flash`]: the flash and the power cuts that it makes; [`slots`]: core's storage on it; [`record`]: the boot record on it;
//! - [`held`]: what a set holds, proved anew; [`handoff`]: what the boot stage tells the application;
//! - [`lan9118`], [`network`], [`http`]: the way to a bundle; [`update`]: one install, and the proof that it needs;
//! - [`clock`], [`sleep`], [`watchdog`], [`log`], [`stack`], [`release`]: the small parts.
//!
//! # Invariants
//! - The application writes the flash through [`slots`] and [`record`] only, and these write the set that is not running.
//!
//! # Power loss
//! Only what is in the flash outlives a reset. [`flash`] can cut the power at each of its operations.
//!
//! On the host there are only the parts that keep the flash and the sets, on a medium in memory, for tests.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(
    test,
    allow(
        missing_docs,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        reason = "a test that fails panics"
    )
)]

pub mod flash;
pub mod held;
pub mod machine;
pub mod record;
pub mod slots;
#[cfg_attr(not(target_os = "none"), path = "host.rs")]
pub mod sys;
pub mod watchdog;

#[cfg(target_os = "none")]
pub mod clock;
#[cfg(target_os = "none")]
pub mod handoff;
#[cfg(target_os = "none")]
pub mod http;
#[cfg(target_os = "none")]
pub mod lan9118;
#[cfg(target_os = "none")]
pub mod log;
#[cfg(target_os = "none")]
pub mod network;
#[cfg(target_os = "none")]
pub mod release;
#[cfg(target_os = "none")]
pub mod sleep;
#[cfg(target_os = "none")]
pub mod stack;
#[cfg(target_os = "none")]
pub mod update;

#[cfg(test)]
mod power_cuts;
