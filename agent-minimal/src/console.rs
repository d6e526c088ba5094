//! One line at a time for people and test benches: on the console, whatever level of the kernel's own messages it shows.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use twinseal_core::error::StorageFault;

const CONSOLE: &str = "/dev/console";

/// Where lines go when there is no console: into the kernel's log.
const KERNEL_LOG: &str = "/dev/kmsg";

/// Writes `twinseal: init: ` and a line. Nobody is there to hear that it failed.
pub fn say(line: fmt::Arguments<'_>) {
    // One write, so that the kernel's messages do not stand in the middle of it.
    let text = format!("twinseal: init: {line}\n");
    for path in [CONSOLE, KERNEL_LOG] {
        let opened = OpenOptions::new().write(true).open(path);
        if opened.is_ok_and(|mut file| file.write_all(text.as_bytes()).is_ok()) {
            return;
        }
    }
}

/// A fault in words, for the end of a line.
pub fn words(fault: StorageFault) -> String {
    match fault {
        StorageFault::Code(code) => io::Error::from_raw_os_error(code).to_string(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_number_has_words() {
        assert_eq!(
            words(StorageFault::Code(2)),
            "No such file or directory (os error 2)"
        );
        assert_eq!(words(StorageFault::Busy), "Busy");
    }
}
