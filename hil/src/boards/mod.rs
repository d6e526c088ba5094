//! The boards, one module each.
//!
//! - [`files`]: plain folders on this machine, with real kernel mounts;
//! - [`uefi`]: QEMU with UEFI firmware and Secure Boot;
//! - [`mcu`]: a microcontroller in QEMU.

pub mod files;
pub mod mcu;
pub mod uefi;
