//! `twinseal-minimal`: as the first process of an initramfs it starts the sealed system; it has no other verb.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // The kernel starts the first process by any name and with the words of its command line as arguments.
    if std::process::id() == 1 {
        twinseal_minimal::init::run();
    }
    let called = std::env::args().next().unwrap_or_default();
    let verb = std::env::args().nth(1);
    if called.ends_with("init") || verb.as_deref() == Some("init") {
        eprintln!("error: `init` runs as the first process of an initramfs and nowhere else.");
        eprintln!("help: put this program into the initramfs as /init.");
    } else {
        eprintln!(
            "error: twinseal-minimal {} has one verb, `init`, for the initramfs.",
            env!("CARGO_PKG_VERSION")
        );
        eprintln!("help: on a running system use `twinseal`.");
    }
    ExitCode::from(2)
}
