//! Builds, signs, inspects and verifies the bundles that sealed appliances are updated with. Runs on a build host, never on a
//! device.
//!
//! From a root file system to a bundle, and back:
//! - [`recipe`]: what a bundle is made of; TOML, flags, or both;
//! - [`rootfs`], [`composefs_image`]: a directory or tar archive becomes a composefs image and its objects;
//! - [`plain`]: modules and initramfs without the compression that they come in;
//! - [`initramfs`]: a program and kernel modules become an initramfs;
//! - [`uki`], [`pe`], [`authenticode`]: kernel, initramfs and a command line that seals the image become a signed UKI;
//! - [`build`], [`assemble`]: everything becomes one archive, the same bytes every time;
//! - [`patch`]: what a device fetches of a file that it has an older version of;
//! - [`keys`], [`sign`]: release keys and signatures, made here or elsewhere;
//! - [`read`], [`inspect`], [`extract`], [`diff`], [`update_cost`]: what is in a bundle, and what it costs a device;
//! - [`verify`]: what a device would say to it;
//! - [`disk`]: the disk of a new device, made from a bundle;
//! - [`vectors`]: small bundles, good and bad, for testing readers;
//! - [`cli`], [`exit`], [`error`]: the program.
//!
//! # Invariants
//! - The format is core's: everything on the wire is written and read by `twinseal-core`, so reader and writer share one
//!   definition.
//! - The same input gives the same bytes, on any machine and with any number of processors.
//! - A file appears under its name whole, or not at all.
//!
//! ```
//! use twinseal_bundle::{vectors, verify::verify};
//!
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("good.tseal");
//! std::fs::write(&path, vectors::good_bundle()?)?;
//! let report = verify(&path, &vectors::device())?;
//! assert_eq!(report.signers, [vectors::first_key().public().id()]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod assemble;
pub mod authenticode;
pub mod build;
pub mod cli;
pub mod composefs_image;
pub mod diff;
pub mod disk;
pub mod error;
pub mod exit;
pub mod extract;
pub mod initramfs;
pub mod inspect;
pub mod keys;
pub mod patch;
pub mod pe;
pub mod plain;
pub mod read;
pub mod recipe;
pub mod rootfs;
pub mod sign;
pub mod uki;
pub mod update_cost;
pub mod vectors;
pub mod verify;
