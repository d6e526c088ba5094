//! The C programs of composefs, which own its formats.

use std::path::{Path, PathBuf};

/// Where one of them is; it must be there.
pub fn program(name: &str) -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/reference/bin/mkcomposefs");
    let tool = std::env::var_os("TWINSEAL_MKCOMPOSEFS").map_or(fetched, PathBuf::from);
    let tool = tool.with_file_name(name);
    assert!(
        tool.exists(),
        "`{}` is missing. Run scripts/reference-composefs.sh, or set TWINSEAL_MKCOMPOSEFS to mkcomposefs 1.0.8.",
        tool.display()
    );
    tool
}
