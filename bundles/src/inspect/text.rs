//! The forms for people: one report, a line for each blob, a line for each file.
//!
//! # Invariants
//! - Text from a bundle cannot move the cursor of a terminal.

use std::fmt::{self, Display};

use twinseal_core::wire::index::Role;

use super::Report;
use crate::error::role_name;

/// So much of a digest tells one release from another to people.
const SHORT_DIGEST_LETTERS: usize = 12;

/// A number of bytes for people: `12.3 MB`.
pub(crate) struct Bytes(pub u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000u64, "GB"), (1_000_000, "MB"), (1000, "kB")];
        let text = match units.into_iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, name)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(unit);
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            }
            None => format!("{} B", self.0),
        };
        f.pad(&text)
    }
}

impl Display for Report {
    /// The form for people, without blobs and files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_identity(f)?;
        self.fmt_signatures_and_info(f)?;
        self.fmt_payloads(f)?;
        self.fmt_index(f)
    }
}

impl Report {
    fn fmt_identity(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "compatible     {}", self.compatible)?;
        writeln!(f, "version        {}", printable(&self.version))?;
        writeln!(f, "anti-rollback  {}", self.anti_rollback)?;
        writeln!(f, "sequence       {}", self.sequence)?;
        let bound =
            |moment: &Option<String>| moment.clone().unwrap_or_else(|| "any time".to_owned());
        writeln!(
            f,
            "window         from {} until {}",
            bound(&self.not_before),
            bound(&self.not_after)
        )?;
        for (name, text) in [("source", &self.source), ("builder", &self.builder)] {
            if !text.is_empty() {
                writeln!(f, "{name:<15}{}", printable(text))?;
            }
        }
        writeln!(
            f,
            "manifest       {} (SHA-256, format {})",
            self.manifest_sha256, self.format
        )?;
        writeln!(
            f,
            "size           {} ({} bytes)",
            Bytes(self.bundle_bytes),
            self.bundle_bytes
        )
    }

    fn fmt_signatures_and_info(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signatures.as_slice() {
            [] => writeln!(f, "signature      none")?,
            all => all.iter().try_for_each(|signature| {
                writeln!(
                    f,
                    "signature      {} by key {} (not checked)",
                    signature.algorithm, signature.key
                )
            })?,
        }
        for info in &self.info {
            writeln!(
                f,
                "info           {} ({}, {} bytes)",
                info.name,
                info.kind.name(),
                info.bytes
            )?;
        }
        Ok(())
    }

    fn fmt_index(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, parts) = (&self.index, self.index.data_parts.len());
        writeln!(
            f,
            "index          {} blobs, {} bytes, {parts} data part(s)",
            index.blobs, index.bytes
        )?;
        for sum in &index.encodings {
            let (stored, raw) = (Bytes(sum.stored_bytes), Bytes(sum.raw_bytes));
            writeln!(
                f,
                "  {:<13}{} ranges, {stored} for {raw}",
                sum.encoding, sum.ranges
            )?;
        }
        for route in &index.based_routes {
            let base = route
                .base
                .get(..SHORT_DIGEST_LETTERS)
                .unwrap_or(&route.base);
            let (stored, patched) = (Bytes(route.stored_bytes), Bytes(route.patched_bytes));
            let (whole, records) = (Bytes(route.whole_stored_bytes), Bytes(route.index_bytes));
            writeln!(
                f,
                "route          from manifest {base}…: {} patches, {stored} for {patched}",
                route.patches
            )?;
            writeln!(
                f,
                "               {} blobs whole, {whole}; {} objects go; index {records}",
                route.blobs - route.patches,
                route.removed
            )?;
        }
        write!(
            f,
            "needs          ranges of {} bytes",
            self.needs_range_bytes
        )?;
        match self.needs_zstd_window_log {
            0 => writeln!(f),
            log => writeln!(f, ", zstd with a window of 2^{log} bytes"),
        }
    }

    fn fmt_payloads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for payload in &self.payloads {
            let what = match &payload.slot {
                Some(slot) => format!("image for slot {slot}"),
                None => payload.kind.to_owned(),
            };
            writeln!(
                f,
                "payload        {what}, {} ({} bytes)",
                Bytes(payload.bytes),
                payload.bytes
            )?;
            writeln!(f, "               sha256:{}", payload.digest)?;
            if let (Some(objects), Some(bytes)) = (payload.objects, payload.object_bytes) {
                writeln!(
                    f,
                    "               {objects} objects, {} ({bytes} bytes)",
                    Bytes(bytes)
                )?;
            }
        }
        let Some(recovery) = &self.recovery else {
            return writeln!(f, "recovery       none");
        };
        writeln!(
            f,
            "recovery       for {}, anti-rollback {} or above, trusts key {}",
            recovery.compatible,
            recovery.anti_rollback,
            recovery.keys.join(", ")
        )
    }

    /// A line for each blob.
    pub fn blob_lines(&self) -> String {
        let lines = self.blobs.iter().map(|blob| {
            let encodings: Vec<&str> = blob.encodings.iter().map(|sum| sum.encoding).collect();
            let slot = blob
                .slot
                .as_ref()
                .map_or(String::new(), |slot| format!(":{slot}"));
            let (bytes, stored, encodings) = (blob.bytes, blob.stored_bytes, encodings.join("+"));
            format!(
                "{} {bytes:>12} {stored:>12} {encodings:<14} {}{slot}\n",
                blob.digest, blob.role
            )
        });
        lines.collect()
    }

    /// A line for each file, when they were asked for.
    pub fn file_lines(&self) -> String {
        let lines = self.files.iter().flatten().map(|file| {
            let digest = file.digest.as_deref().unwrap_or("-");
            let target = file
                .target
                .as_ref()
                .map_or(String::new(), |target| format!(" -> {}", printable(target)));
            let (mode, user, group, bytes) = (&file.mode, file.user, file.group, file.bytes);
            let path = printable(&file.path);
            format!(
                "{:<10} {mode} {user:>5} {group:>5} {bytes:>12} {digest:<64} {path}{target}\n",
                file.kind
            )
        });
        lines.collect()
    }
}

/// Text from outside, with what would move the cursor escaped.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut safe, letter| {
            if letter.is_control() {
                safe.extend(letter.escape_default());
            } else {
                safe.push(letter);
            }
            safe
        })
}

/// The payload of a role in a sentence, for `extract`.
pub(crate) fn blob_title(role: Role, slot: Option<&str>) -> String {
    match slot {
        Some(slot) => format!("{} for slot {slot}", role_name(role)),
        None => role_name(role).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        let text = |bytes| Bytes(bytes).to_string();
        assert_eq!(
            [text(0), text(999), text(1000), text(1_250_000)],
            ["0 B", "999 B", "1.0 kB", "1.2 MB"]
        );
        assert_eq!(text(u64::MAX), "18446744073.7 GB");
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable("a\x1b[31mb\nü"), "a\\u{1b}[31mb\\nü");
    }
}
