//! What the web server serves, as the guest names it and as its log counts it.

use super::super::error::DemoError;
use crate::boards::uefi::qemu::SERVER_ADDRESS;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The address of a bundle, for the guest.
pub(super) fn address(bundle: &Path) -> String {
    let name = bundle.file_name().unwrap_or_default().to_string_lossy();
    format!("http://{SERVER_ADDRESS}/{name}")
}

/// Bytes that the web server has sent, without headers, by its log; nothing when it keeps none.
///
/// # Errors
/// When the log cannot be read.
pub(super) fn bytes(log: &Path) -> Result<Option<u64>, DemoError> {
    match fs::read_to_string(log) {
        Ok(text) => Ok(Some(text.lines().filter_map(body_bytes).sum())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DemoError::file(log, "read")(error)),
    }
}

/// The bytes of one line of nginx's format "combined": `… "GET …" 206 BYTES "…" "…"`.
fn body_bytes(line: &str) -> Option<u64> {
    let mut words = line.split('"').nth(2)?.split_whitespace();
    words.next()?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_named_by_its_file() {
        assert_eq!(
            address(Path::new("/out/bundles/v2.tseal")),
            "http://10.0.2.100/v2.tseal"
        );
    }

    #[test]
    fn sent_bytes_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(bytes(&log).unwrap(), None);
        let line = "127.0.0.1 - - [01/Jan/2026:00:00:00 +0000] \"GET /v2.tseal HTTP/1.1\" 206 65536 \"-\" \"twinseal\"\n";
        fs::write(&log, format!("{line}{line}not a line\n")).unwrap();
        assert_eq!(bytes(&log).unwrap(), Some(131_072));
    }
}
