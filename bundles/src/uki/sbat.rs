//! SBAT texts: the revocation entries of stub, kernel and UKI, merged into one.
//!
//! shim refuses an image whose component generation is below its revocation level. An image has one `.sbat` section, so
//! the entries of everything inside a UKI go into it, each below the one header line that the format demands. The
//! format is shim's SBAT.md; the order (stub, kernel, UKI) is `ukify`'s.

use super::PartError;

/// The entry for the format itself, always first.
const HEADER: &str =
    "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n";

/// The entry that marks a UKI, which `ukify` adds too unless told otherwise.
pub(super) const UKI_ENTRY: &[u8] =
    b"sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n\
uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/\n";

/// Whom an SBAT text belongs to, for error messages, and its bytes.
pub(super) type Source<'a> = (&'static str, &'a [u8]);

/// The entries of all `sources`, in their order, below one header line and ended by a NUL.
pub(super) fn merge(sources: &[Source<'_>]) -> Result<Vec<u8>, PartError> {
    let mut merged = HEADER.to_owned();
    for &(owner, text) in sources {
        for line in entries(owner, text)? {
            merged.push_str(line);
            merged.push('\n');
        }
    }
    merged.push('\0');
    Ok(merged.into_bytes())
}

/// The lines of `text` below its header line, without empty ones.
fn entries<'a>(
    owner: &'static str,
    text: &'a [u8],
) -> Result<impl Iterator<Item = &'a str>, PartError> {
    let text = std::str::from_utf8(text).map_err(|_| PartError::Sbat { owner })?;
    let mut lines = text.trim_end_matches('\0').lines();
    let header = lines.next().filter(|line| line.starts_with("sbat,"));
    header.ok_or(PartError::Sbat { owner })?;
    Ok(lines.filter(|line| !line.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_order_below_one_header() {
        let stub = b"sbat,1,x\nstub,1,a\n\0\0".as_slice();
        let kernel = b"sbat,1,y\nlinux,2,b".as_slice();
        let merged = merge(&[("stub", stub), ("kernel", kernel), ("caller", UKI_ENTRY)]).unwrap();
        let text = String::from_utf8(merged).unwrap();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split(',').next())
            .collect();
        assert_eq!(names, ["sbat", "stub", "linux", "uki", "\0"]);
        assert!(text.ends_with("\n\0"));
    }

    #[test]
    fn text_without_its_header_is_refused() {
        assert_eq!(
            merge(&[("kernel", b"linux,1,b\n")]),
            Err(PartError::Sbat { owner: "kernel" })
        );
        assert_eq!(
            merge(&[("kernel", b"")]),
            Err(PartError::Sbat { owner: "kernel" })
        );
        assert_eq!(
            merge(&[("caller", b"sbat,1,\xff\n")]),
            Err(PartError::Sbat { owner: "caller" })
        );
    }
}
