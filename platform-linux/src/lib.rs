//! Storage of a device that runs Linux: slots, object store, fs-verity, scratch, boot record, journal file, lock, mounts.
//!
//! Implements what `twinseal-core` asks of a device with system calls alone: no libc, no heap, no `std`. Both agents use it.
//!
//! - [`storage`]: [`LinuxStorage`], the target set as the installer sees it; it dispatches to
//!   `root_slot` (the composefs repository), `boot_slot` (the UKI), `image_slot` (raw slots), [`scratch`] and [`front`];
//! - [`verity`]: what the kernel says about a sealed file;
//! - [`loader`]: boot loaders that follow the boot record;
//! - [`record`], [`append`], [`journal`], [`lock`], [`mount`]: the boot record's file, the journal's file and its chain, one agent at a time, slots mounted;
//! - [`mod@file`], [`standard`]: whole reads and writes, directories entry by entry, the files a program is started with;
//! - [`format`](mod@format): new file systems for slots that lost theirs;
//! - [`partition`], [`partition_table`]: partitions by label, and the table brought back when it is lost;
//! - [`media`]: bundles on a stick or another disk;
//! - [`sealed`], [`modules`], [`watchdog`], [`restart`]: what an initramfs needs to start a sealed system;
//! - [`network`]: interfaces and whole frames, for the IP stack of a recovery;
//! - `sys`: every `unsafe` block, but for the entry point of the small agent.
//!
//! # Invariants
//! - The running set is opened for reading only, and a configuration in which both sets share a slot is refused.
//! - Names from a bundle never become paths: a path is a digest in hex, or stands in the configuration. Inside a slot nothing is
//!   reached through a symbolic link, and nothing is written that is not a regular file with one name.
//! - A final name never becomes durable before its content: content is synced first, then renamed.
//!
//! # Power loss
//! What was not published is under `composefs/tmp`, under the staging name of the UKI, or in an image slot; the next install
//! reads it, checks it and goes on from there. Nothing else needs repair.
//!
//! # Memory
//! [`LinuxStorage`] holds about 17 KiB, nearly all of it the filter that tells needed objects from garbage.
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::string_slice
    )
)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

#[cfg(test)]
extern crate std;

pub mod append;
mod bases;
mod batch;
mod boot_slot;
pub mod calls;
#[cfg(test)]
mod cut;
pub mod efivars;
mod fault;
pub mod file;
pub mod format;
pub mod front;
mod image_slot;
pub mod journal;
mod listing;
pub mod loader;
pub mod lock;
pub mod media;
pub mod modules;
pub mod mount;
mod needed;
pub mod network;
pub mod partition;
pub mod partition_table;
mod path;
pub mod record;
mod repository;
pub mod restart;
mod root_slot;
pub mod scratch;
pub mod sealed;
mod staged;
pub mod standard;
pub mod storage;
#[allow(unsafe_code, reason = "the one module of the workspace that may")]
mod sys;
pub mod verity;
pub mod watchdog;

pub use append::AppendFile;
pub use boot_slot::{UkiPath, uki_path};
pub use front::{front_entries, is_incomplete, read_front};
pub use lock::DeviceLock;
pub use mount::Mounted;
pub use path::BootLayout;
pub use record::FileRecordStore;
pub use scratch::Scratch;
pub use staged::EarlySync;
pub use storage::{ImageSlot, LinuxConfig, LinuxStorage, SetPaths, Verity};
