//! The firmware's variables with the owner's keys, made by other people's program: virt-fw-vars.

use super::UefiError;
use crate::command::{Invocation, Runner};
use std::env;
use std::path::{Path, PathBuf};

/// Names the program that writes variables.
pub const PROGRAM_VARIABLE: &str = "TWINSEAL_VIRT_FW_VARS";

/// Owner of the keys in the signature lists (UEFI specification, "SignatureOwner"): any number of one's own.
const OWNER: &str = "5b3e9a56-6f0a-4d57-9d5c-7473656c6869";

/// Certificates of an owner's keys, PEM.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// Platform key: who may change the keys below.
    pub platform: PathBuf,
    /// Key exchange key: who may change the list of allowed signers.
    pub exchange: PathBuf,
    /// The allowed signer.
    pub signer: PathBuf,
}

/// Finds virt-fw-vars: what the environment names, else one that the inputs bring, else a virtual environment's, else in `PATH`.
///
/// # Errors
/// [`UefiError::NoVariablesProgram`].
pub fn find_program(tools: &Path) -> Result<PathBuf, UefiError> {
    if let Some(program) = env::var_os(PROGRAM_VARIABLE) {
        return Ok(program.into());
    }
    let near = [
        tools.join("virt-fw-vars"),
        tools.join("../../venv/bin/virt-fw-vars"),
    ];
    near.into_iter()
        .find(|file| file.is_file())
        .or_else(|| crate::programs::find_in_path("virt-fw-vars"))
        .ok_or(UefiError::NoVariablesProgram)
}

/// Makes variables in which Secure Boot is on with these keys and no others.
///
/// # Errors
/// When the program fails.
pub fn make(
    runner: &Runner,
    program: &Path,
    empty: &Path,
    keys: &Certificates,
    out: &Path,
) -> Result<(), UefiError> {
    let make = Invocation::new(program)
        .argument("--input")
        .argument(empty)
        .argument("--output")
        .argument(out)
        .arguments(["--set-pk", OWNER])
        .argument(&keys.platform)
        .arguments(["--add-kek", OWNER])
        .argument(&keys.exchange)
        .arguments(["--add-db", OWNER])
        .argument(&keys.signer)
        .argument("--secure-boot");
    runner.run(&make)?.expect_success()?;
    Ok(())
}
