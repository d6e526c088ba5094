//! `twinseal-minimal`: the small static agent that will also be the `/init` of the initramfs.
//!
//! It has no verb yet: this crate holds its place in the workspace, and its dependency on core alone.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!(
        "error: twinseal-minimal {} has no verb yet.",
        env!("CARGO_PKG_VERSION")
    );
    eprintln!(
        "help: it reads bundle format {}; use `twinseal` until it can install.",
        twinseal_core::wire::FORMAT_VERSION
    );
    ExitCode::from(2)
}
