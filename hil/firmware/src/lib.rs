//! What the programs of the microcontroller share: twinseal's core on a Cortex-M4, with two slots in a flash that is stricter than a
//! real one.
//!
//! - [`sys`]: registers, memory and the debugger's calls: all `unsafe` of the firmware; [`machine`]: where things are on the board;
//! - [`flash`]: the flash and the power cuts that it makes; [`slots`]: core's storage on it; [`record`]: the boot record on it;
//! - [`held`]: what a set holds, proved anew; [`handoff`]: what the boot stage tells the application;
//! - [`lan9118`], [`network`], [`http`]: the way to a bundle; [`update`]: one install, and the proof that it needs;
//! - [`clock`], [`watchdog`], [`log`], [`stack`], [`release`]: the small parts.
//!
//! # Invariants
//! - The application writes the flash through [`slots`] and [`record`] only, and these write the set that is not running.
//!
//! # Power loss
//! Only what is in the flash outlives a reset. [`flash`] can cut the power at each of its operations.
#![no_std]

pub mod clock;
pub mod flash;
pub mod handoff;
pub mod held;
pub mod http;
pub mod lan9118;
pub mod log;
pub mod machine;
pub mod network;
pub mod record;
pub mod release;
pub mod slots;
pub mod stack;
pub mod sys;
pub mod update;
pub mod watchdog;
