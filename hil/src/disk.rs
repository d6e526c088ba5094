//! Raw disk images of boards that are off: copied without their holes, and looked into by partition label, without mounting.
//!
//! # Power loss
//! Only copies of a run are written to.

use crate::command::{CommandError, Invocation, Runner};
use crate::programs::Tool;
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// What disks are worked on with.
pub const TOOLS: &[Tool] = &[
    Tool {
        program: "sfdisk",
        package: "fdisk",
    },
    Tool {
        program: "debugfs",
        package: "e2fsprogs",
    },
    Tool {
        program: "mcopy",
        package: "mtools",
    },
];

/// What went wrong with a disk image.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file could not be worked with.
    #[error("{} could not be {done}: {source}.", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What was tried.
        done: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no partition of this label.
    #[error("{} has no partition with the label {label}. It has: {found}.", disk.display())]
    NoPartition {
        /// The disk.
        disk: PathBuf,
        /// The label.
        label: String,
        /// The labels that are there.
        found: String,
    },
    /// debugfs complained; its exit code does not say so.
    #[error("debugfs could not do `{request}`: {said}")]
    Debugfs {
        /// What it was asked.
        request: String,
        /// What it said.
        said: String,
    },
    /// A file on the disk is not as it must be for what was asked.
    #[error("{file} on {label}: {what}.")]
    Unfit {
        /// The file on the disk.
        file: String,
        /// The partition.
        label: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl DiskError {
    /// The error of a file, for `map_err`.
    pub(crate) fn file(file: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::File { file, done, source }
    }
}

/// Where a partition lies in its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its first byte.
    pub offset_bytes: u64,
    /// Its length.
    pub size_bytes: u64,
}

#[derive(Deserialize)]
struct Listing {
    partitiontable: Table,
}

#[derive(Deserialize)]
struct Table {
    #[serde(default = "sector_bytes")]
    sectorsize: u64,
    #[serde(default)]
    partitions: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    start: u64,
    size: u64,
    #[serde(default)]
    name: String,
}

const fn sector_bytes() -> u64 {
    512
}

/// A raw disk image.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'d> {
    /// The image.
    pub file: &'d Path,
    /// Runs the tools.
    pub runner: &'d Runner,
}

impl Disk<'_> {
    /// Finds a partition by its GPT label.
    ///
    /// # Errors
    /// [`DiskError::NoPartition`], or when sfdisk fails.
    pub fn partition(&self, label: &str) -> Result<Partition, DiskError> {
        let table = self.table()?;
        let labels = || table.partitions.iter().map(|row| row.name.as_str());
        let row = table.partitions.iter().find(|row| row.name == label);
        let place = row.and_then(|row| {
            Some(Partition {
                offset_bytes: row.start.checked_mul(table.sectorsize)?,
                size_bytes: row.size.checked_mul(table.sectorsize)?,
            })
        });
        place.ok_or_else(|| DiskError::NoPartition {
            disk: self.file.to_owned(),
            label: label.to_owned(),
            found: labels().collect::<Vec<_>>().join(", "),
        })
    }

    fn table(&self) -> Result<Table, DiskError> {
        let list = Invocation::new("sfdisk")
            .argument("--json")
            .argument(self.file);
        let listing: Listing = self.runner.run(&list)?.expect_success()?.json()?;
        Ok(listing.partitiontable)
    }

    /// A partition as the programs of e2fsprogs are told of it.
    ///
    /// # Errors
    /// When there is none of this label.
    pub fn place(&self, label: &str) -> Result<String, DiskError> {
        let offset = self.partition(label)?.offset_bytes;
        Ok(format!("{}?offset={offset}", self.file.display()))
    }

    /// Asks debugfs, which may write, about an ext4 partition; gives what it prints.
    ///
    /// # Errors
    /// [`DiskError::Debugfs`] when it complains.
    pub fn debugfs(&self, label: &str, request: &str) -> Result<String, DiskError> {
        let place = self.place(label)?;
        let ask = Invocation::new("debugfs").arguments(["-w", "-R", request, &place]);
        let output = self.runner.run(&ask)?.expect_success()?;
        // The first line of its errors is always its name and version.
        let said: Vec<_> = output
            .stderr
            .lines()
            .filter(|line| !line.starts_with("debugfs "))
            .collect();
        if said.is_empty() {
            return Ok(output.stdout);
        }
        Err(DiskError::Debugfs {
            request: request.to_owned(),
            said: said.join(" "),
        })
    }

    /// Copies a file out of a FAT partition.
    ///
    /// # Errors
    /// When mcopy fails.
    pub fn copy_out(&self, label: &str, name: &str, to: &Path) -> Result<(), DiskError> {
        let copy = self
            .mcopy(label)?
            .argument("-o")
            .argument(format!("::{name}"))
            .argument(to);
        self.runner.run(&copy)?.expect_success()?;
        Ok(())
    }

    /// Copies a file into a FAT partition, over one that is there.
    ///
    /// # Errors
    /// When mcopy fails.
    pub fn copy_in(&self, label: &str, from: &Path, name: &str) -> Result<(), DiskError> {
        let copy = self
            .mcopy(label)?
            .argument("-o")
            .argument(from)
            .argument(format!("::{name}"));
        self.runner.run(&copy)?.expect_success()?;
        Ok(())
    }

    /// Removes a file of a FAT partition.
    ///
    /// # Errors
    /// When mdel fails.
    pub fn remove(&self, label: &str, name: &str) -> Result<(), DiskError> {
        let remove = self.mtool("mdel", label)?.argument(format!("::{name}"));
        self.runner.run(&remove)?.expect_success()?;
        Ok(())
    }

    fn mcopy(&self, label: &str) -> Result<Invocation, DiskError> {
        self.mtool("mcopy", label)
    }

    /// One of mtools, at work on a FAT partition.
    ///
    /// # Errors
    /// [`DiskError::NoPartition`].
    pub fn mtool(&self, program: &str, label: &str) -> Result<Invocation, DiskError> {
        let offset = self.partition(label)?.offset_bytes;
        let place = format!("{}@@{offset}", self.file.display());
        Ok(Invocation::new(program).arguments(["-i", &place]))
    }

    /// Gives the disk and its partitions other GUIDs; the labels stay.
    ///
    /// # Errors
    /// When sfdisk fails.
    pub fn rename_all(&self) -> Result<(), DiskError> {
        let id = |number: usize| format!("5ec0d15c-0000-4000-8000-{number:012}");
        let count = self.table()?.partitions.len();
        let change = |words: &[&str], id: &str| -> Result<(), DiskError> {
            let change = Invocation::new("sfdisk").arguments(["--quiet", words[0]]);
            let change = change
                .argument(self.file)
                .arguments(&words[1..])
                .argument(id);
            self.runner.run(&change)?.expect_success()?;
            Ok(())
        };
        change(&["--disk-id"], &id(0))?;
        (1..=count)
            .try_for_each(|number| change(&["--part-uuid", &number.to_string()], &id(number)))
    }

    /// Opens the image for writing.
    ///
    /// # Errors
    /// When that fails.
    pub fn open(&self) -> Result<File, DiskError> {
        let opened = OpenOptions::new().read(true).write(true).open(self.file);
        opened.map_err(DiskError::file(self.file, "opened"))
    }
}

/// Copies a file without its holes, sharing its blocks where the file system can.
///
/// # Errors
/// When cp fails.
pub fn copy(runner: &Runner, from: &Path, to: &Path) -> Result<(), DiskError> {
    let copy = Invocation::new("cp")
        .arguments(["--sparse=always", "--reflink=auto", "--force", "--"])
        .arguments([from, to]);
    runner.run(&copy)?.expect_success()?;
    Ok(())
}
