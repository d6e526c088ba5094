//! What a scenario that failed leaves: enough to look at the board, and to do it again.
//!
//! # Invariants
//! - The folder has what this run left: what an earlier one left there is removed first.

use super::SuiteError;
use super::bench::{Bench, State};
use super::execute::Execution;
use crate::disk;
use std::fs;
use std::path::Path;

/// Where it is, in the folder of the run.
pub(super) const FOLDER: &str = "failed";

/// Keeps disk, variables and console of a board, and the disk as the power cut left it where there was one; gives a sentence
/// that names the folder.
pub(super) fn keep(
    bench: &Bench<'_>,
    name: &str,
    execution: &Execution<'_>,
    at_cut: Option<&State>,
    why: &str,
) -> String {
    let folder = bench.kept.join(name);
    match kept(bench, &folder, execution, at_cut, why) {
        Ok(()) => format!(
            "Disk, variables and console are kept in {}; --seed {} makes the same moments again.",
            folder.display(),
            bench.seed
        ),
        Err(error) => format!("The board could not be kept: {error}"),
    }
}

fn kept(
    bench: &Bench<'_>,
    folder: &Path,
    execution: &Execution<'_>,
    at_cut: Option<&State>,
    why: &str,
) -> Result<(), SuiteError> {
    fs::create_dir_all(folder).map_err(SuiteError::file(folder, "made"))?;
    let state = execution.state();
    let mut files = vec![
        (&state.disk, "disk.img"),
        (&state.variables, "variables.fd"),
    ];
    if let Some(at_cut) = at_cut {
        files.push((&at_cut.disk, "disk-at-the-cut.img"));
        files.push((&at_cut.variables, "variables-at-the-cut.fd"));
    }
    for (from, name) in files {
        disk::copy(&bench.runner, from, &folder.join(name))?;
    }
    for (name, text) in [
        ("console.txt", execution.console()),
        ("why.txt", why.to_owned()),
    ] {
        let file = folder.join(name);
        fs::write(&file, text).map_err(SuiteError::file(&file, "written"))?;
    }
    Ok(())
}
