//! The manual pages and the completion scripts, made from the command line's own definition and the table of exit codes.

use crate::cli::Cli;
use crate::error::AgentError;
use crate::exit;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Section of the manual: system administration (man(1)).
const SECTION: &str = "8";

/// Prints the manual page, or writes one page for each command into `folder`.
///
/// # Errors
/// When it cannot be written.
pub fn man(folder: Option<&Path>) -> Result<(), AgentError> {
    let Some(folder) = folder else {
        return write_page(command(), &mut io::stdout().lock()).or_else(printed);
    };
    let written = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        pages(command()).into_iter().try_for_each(|page| {
            let mut file = fs::File::create(folder.join(format!("{}.{SECTION}", name(&page))))?;
            write_page(page, &mut file)
        })
    };
    written().map_err(|error| AgentError::File {
        file: folder.to_path_buf(),
        done: "written",
        error,
    })
}

/// Prints a completion script.
///
/// # Errors
/// When it cannot be written.
pub fn completions(shell: Shell) -> Result<(), AgentError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "twinseal", &mut script);
    io::stdout().lock().write_all(&script).or_else(printed)
}

/// A reader that goes away is no failure.
fn printed(error: io::Error) -> Result<(), AgentError> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(AgentError::File {
        file: "standard output".into(),
        done: "written",
        error,
    })
}

fn command() -> clap::Command {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

/// A command and all below it.
fn pages(command: clap::Command) -> Vec<clap::Command> {
    let below: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    let mut pages = vec![command];
    below
        .into_iter()
        .for_each(|command| pages.extend(self::pages(command)));
    pages
}

fn name(command: &clap::Command) -> String {
    command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned()
}

fn write_page(command: clap::Command, out: &mut dyn Write) -> io::Result<()> {
    Man::new(command)
        .section(SECTION)
        .manual("twinseal")
        .render(out)?;
    exit_status().to_writer(out)
}

fn exit_status() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for row in exit::TABLE {
        roff.control("TP", []);
        roff.text([bold(row.code.to_string())]);
        roff.text([roman(format!("{} ({})", row.meaning, row.name))]);
    }
    roff
}
