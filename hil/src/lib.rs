//! Boards, scenarios and the demo: runs twinseal's programs as a device and its maker would.
//!
//! - [`board`]: what a machine under test can do; [`boards`]: the machines, one module each;
//! - [`agent`]: what the agent answers; [`command`]: programs run, captured and held to a time limit;
//! - [`programs`]: the programs that a run needs, found before it begins; [`story`]: tells a run step by step;
//! - [`stream`]: what a machine says, and waiting for it; [`guard`]: programs that never outlive this one; [`web`], [`relay`]: a
//!   web server for bundles, and the way of a guest to it; [`link`]: a bad link in between;
//! - [`demo`]: the life of one appliance, from its first release to a rollback; [`cli`]: the command line.
//!
//! # Invariants
//! - Nothing here links the code under test: a board runs the built programs, as a device does.
//! - What fails names its step, the command, its exit code and what it printed.
#![forbid(unsafe_code)]

pub mod agent;
pub mod board;
pub mod boards;
pub mod cli;
pub mod command;
pub mod demo;
pub mod disk;
pub mod guard;
pub mod link;
pub mod maker;
pub mod power;
pub mod programs;
pub mod relay;
pub mod report;
pub mod scenario;
pub mod story;
pub mod stream;
pub mod suite;
pub mod tamper;
pub mod web;
