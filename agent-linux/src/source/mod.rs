//! Where a bundle comes from: a file, which can seek, a pipe, which cannot, or a web server, which has ranges.

pub mod http;
mod socket;

use crate::error::AgentError;
use embedded_io_adapters::std::FromStd;
use http::{Http, Patience, Traffic};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use twinseal_core::source::{Seekable, Source, SourceError, Stream};

/// An open bundle.
pub struct Bundle {
    name: String,
    bytes: Option<u64>,
    reader: Reader,
}

enum Reader {
    File(Seekable<FromStd<File>>),
    Pipe(Stream<FromStd<File>>),
    Web(Box<Http>),
}

impl Bundle {
    /// Opens a bundle; `-` is standard input, and what starts with `http:` or `https:` is on a web server. Anything but a regular
    /// file is read as a pipe: forwards only. With a `budget` a web server is asked for nothing but what is read, which costs a request
    /// for every read and no byte beyond.
    ///
    /// # Errors
    /// [`AgentError::Source`] when it cannot be opened, [`AgentError::BudgetNeedsRanges`] when a server without ranges might send more
    /// than the budget.
    pub fn open(path: &Path, budget: Option<u64>) -> Result<Self, AgentError> {
        if let Some(url) = path.to_str().filter(|path| is_url(path)) {
            return Self::open_url(url, budget);
        }
        let standard_input = path == Path::new("-");
        let name = if standard_input {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        let opened = || -> io::Result<(File, Option<u64>)> {
            if standard_input {
                return Ok((File::from(io::stdin().as_fd().try_clone_to_owned()?), None));
            }
            let file = File::open(path)?;
            let about = file.metadata()?;
            if about.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok((file, about.is_file().then_some(about.len())))
        };
        let (file, bytes) = opened().map_err(|error| AgentError::Source {
            name: name.clone(),
            error,
        })?;
        let reader = match bytes {
            Some(_) => Reader::File(Seekable(FromStd::new(file))),
            None => Reader::Pipe(Stream::new(FromStd::new(file))),
        };
        Ok(Self {
            name,
            bytes,
            reader,
        })
    }

    fn open_url(url: &str, budget: Option<u64>) -> Result<Self, AgentError> {
        let failed = |error| AgentError::Source {
            name: url.to_owned(),
            error,
        };
        let web = Http::open(url, budget.is_some(), Patience::default()).map_err(failed)?;
        // Without ranges all of it comes, whatever is read: what is dropped on the way costs as much as what is used.
        if let Some(budget) = budget
            && !web.has_ranges()
            && web.bytes().is_none_or(|bytes| bytes > budget)
        {
            return Err(AgentError::BudgetNeedsRanges {
                name: url.to_owned(),
                budget,
            });
        }
        Ok(Self {
            name: url.to_owned(),
            bytes: web.bytes(),
            reader: Reader::Web(Box::new(web)),
        })
    }

    /// Whether reading what is not needed costs nothing: everywhere but on a web server with ranges.
    pub fn is_free_to_read(&self) -> bool {
        !matches!(&self.reader, Reader::Web(web) if web.has_ranges())
    }

    /// Whether it can give again what it has passed, without sending everything before once more.
    pub fn can_go_back(&self) -> bool {
        match &self.reader {
            Reader::File(_) => true,
            Reader::Pipe(_) => false,
            Reader::Web(web) => web.has_ranges(),
        }
    }

    /// What went over the network, for a bundle on a web server.
    pub fn traffic(&self) -> Option<Traffic> {
        match &self.reader {
            Reader::Web(web) => Some(web.traffic()),
            Reader::File(_) | Reader::Pipe(_) => None,
        }
    }

    /// Its name, for an error.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same file for another reader, which has its own place; `None` for a pipe, and when there is no descriptor left.
    pub fn second_reader(&self) -> Option<File> {
        match &self.reader {
            Reader::File(Seekable(file)) => file.inner().try_clone().ok(),
            Reader::Pipe(_) | Reader::Web(_) => None,
        }
    }

    /// Its length, when that is known before it is read.
    pub const fn bytes(&self) -> Option<u64> {
        self.bytes
    }
}

impl Source for Bundle {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError<io::Error>> {
        match &mut self.reader {
            Reader::File(file) => file.read_at(offset, buffer),
            Reader::Pipe(pipe) => pipe.read_at(offset, buffer),
            Reader::Web(web) => web.read_at(offset, buffer),
        }
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<io::Error>> {
        match &mut self.reader {
            Reader::File(file) => file.ends_at(offset),
            Reader::Pipe(pipe) => pipe.ends_at(offset),
            Reader::Web(web) => web.ends_at(offset),
        }
    }
}

fn is_url(path: &str) -> bool {
    let scheme = |name: &str| {
        path.get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    scheme("http://") || scheme("https://")
}
