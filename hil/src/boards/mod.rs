//! The boards, one module each.
//!
//! - [`files`]: plain folders on this machine, with real kernel mounts.

pub mod files;
pub mod uefi;
