//! The boards, one module each.
//!
//! - [`files`]: plain folders on this machine, with real kernel mounts;
//! - [`mcu`]: a microcontroller.

pub mod files;
pub mod mcu;
pub mod uefi;
