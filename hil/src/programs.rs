//! Finds the programs that a run needs before it begins, so that nothing stops half-way for want of one.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

/// The agent.
pub const AGENT: &str = "twinseal";

/// The maker's program.
pub const BUNDLER: &str = "twinseal-bundle";

/// A program of the machine, and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub program: &'static str,
    /// The package.
    pub package: &'static str,
}

/// Programs are missing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramsError {
    /// One of the programs under test.
    #[error(
        "There is no program {name} in {}. Build it with `cargo build --release -p {name}`, or name its folder with --programs.",
        folder.display()
    )]
    NotBuilt {
        /// Its name.
        name: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Programs of the machine.
    #[error("Programs are missing: {}. Install them with: sudo apt-get install --no-install-recommends {}", names(.0), packages(.0))]
    Tools(Vec<Tool>),
}

/// One of the programs under test, in the folder where they were built.
///
/// # Errors
/// [`ProgramsError::NotBuilt`].
pub fn built(folder: &Path, name: &'static str) -> Result<PathBuf, ProgramsError> {
    let program = folder.join(name);
    if program.is_file() {
        Ok(program)
    } else {
        Err(ProgramsError::NotBuilt {
            name,
            folder: folder.to_owned(),
        })
    }
}

/// A program in `PATH`, or where the administrator's programs are: a user's `PATH` often lacks those.
pub fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Checks that the tools are there.
///
/// # Errors
/// [`ProgramsError::Tools`] names all that are missing and the command that installs them.
pub fn require(tools: &[Tool]) -> Result<(), ProgramsError> {
    let there = |tool: &&Tool| find_in_path(tool.program).is_some();
    let missing: Vec<Tool> = tools.iter().filter(|tool| !there(tool)).copied().collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(ProgramsError::Tools(missing))
    }
}

fn names(tools: &[Tool]) -> impl fmt::Display {
    tools
        .iter()
        .map(|tool| tool.program)
        .collect::<Vec<_>>()
        .join(", ")
}

fn packages(tools: &[Tool]) -> impl fmt::Display {
    let mut packages: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let shell = Tool {
            program: "sh",
            package: "dash",
        };
        assert_eq!(require(&[shell]), Ok(()));
        let [one, two] = ["no-such-one", "no-such-two"].map(|program| Tool {
            program,
            package: "nothing",
        });
        let error = require(&[one, shell, two]).unwrap_err();
        assert_eq!(error, ProgramsError::Tools(vec![one, two]));
        let text = error.to_string();
        assert!(
            text.contains("no-such-one, no-such-two") && text.ends_with("recommends nothing"),
            "{text}"
        );
    }

    #[test]
    fn a_program_that_was_not_built_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("twinseal"), "").unwrap();
        assert!(built(folder.path(), AGENT).is_ok());
        let error = built(folder.path(), BUNDLER).unwrap_err();
        assert!(
            matches!(
                error,
                ProgramsError::NotBuilt {
                    name: "twinseal-bundle",
                    ..
                }
            ),
            "{error}"
        );
    }
}
