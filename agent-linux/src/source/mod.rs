//! Where a bundle comes from: a file, which can seek, a pipe, which cannot, or a web server, which has ranges.

pub mod account;
pub mod http;
pub mod line;
pub mod spool;

use crate::config::{Rate, Window};
use crate::device::Device;
use crate::error::AgentError;
use crate::ledger::Ledger;
use crate::report::warn;
use account::{Account, Limit};
use embedded_io_adapters::std::FromStd;
use http::{Http, Patience, Traffic, Ways};
use line::{Closed, Closing, Line};
use spool::Spool;
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use twinseal_core::source::{Seekable, Source, SourceError, Stream};

/// How fast a command reads from the network, and until when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Most bytes a second.
    pub rate: Option<Rate>,
    /// Until when; `None` for as long as it takes.
    pub closing: Option<Closing>,
}

/// On what terms a command reads from the network.
pub struct Terms<'d> {
    device: &'d Device,
    /// Most bytes that the bundle may cost, this run and those before; or that this run may cost.
    budget: Option<u64>,
    /// Whether the run is counted for the bundle.
    is_for_bundle: bool,
    /// Whether bytes count even without a limit: an attempt was cut off before.
    is_metered: bool,
    line: Arc<Line>,
}

impl<'d> Terms<'d> {
    /// For a command that installs: the budget is the bundle's, and what earlier runs spent on it counts.
    pub fn of_install(
        device: &'d Device,
        budget: Option<u64>,
        timing: Timing,
        was_interrupted: bool,
    ) -> Self {
        Self {
            is_for_bundle: true,
            is_metered: was_interrupted,
            ..Self::of_run(device, budget, timing)
        }
    }

    /// For any other command: the budget is that of the run. What it costs is counted in the calendar period alone.
    pub fn of_run(device: &'d Device, budget: Option<u64>, timing: Timing) -> Self {
        let rate = timing.rate.or(device.description.network.max_rate);
        Self {
            device,
            budget,
            is_for_bundle: false,
            is_metered: false,
            line: Line::new(rate.map(Rate::bytes), timing.closing),
        }
    }

    /// The device.
    pub const fn device(&self) -> &'d Device {
        self.device
    }

    /// What has gone over the network so far.
    pub fn network_bytes(&self) -> u64 {
        self.line.total_bytes()
    }

    /// The account for an address.
    fn account(&self, url: &str) -> Result<Account, AgentError> {
        let account = Account::unlimited(self.line.clone());
        let path = self.device.state("ledger");
        let period_budget = self.device.description.budget;
        let mut ledger = Ledger::open(&path)?;
        if !ledger.is_sound() {
            if self.budget.is_some() || period_budget.is_some() {
                return Err(AgentError::LedgerDamaged { file: path });
            }
            warn(&AgentError::LedgerDamaged { file: path }.to_string());
        }
        let time = self.device.latest_time()?;
        let period = Limit {
            budget: period_budget.map(|budget| budget.bytes),
            before: period_budget.map_or(0, |budget| ledger.enter_period(budget, time)),
        };
        let before = ledger.enter_address(url);
        let bundle = Limit {
            budget: self.budget,
            before: if self.is_for_bundle { before } else { 0 },
        };
        Ok(account.with(ledger, bundle, period, self.is_for_bundle))
    }
}

/// An open bundle.
pub struct Bundle {
    name: String,
    bytes: Option<u64>,
    reader: Reader,
}

enum Reader {
    File(Seekable<FromStd<File>>),
    Pipe(Stream<FromStd<File>>),
    Web(Rc<RefCell<Http>>),
}

impl Bundle {
    /// Opens a bundle; `-` is standard input, and what starts with `http:` or `https:` is on a web server. Anything but a regular
    /// file is read as a pipe: forwards only.
    ///
    /// # Errors
    /// [`AgentError::Source`] when it cannot be opened, or would cost more than the terms allow; [`AgentError::Address`] when it is an
    /// address of something else.
    pub fn open(path: &Path, terms: &Terms<'_>) -> Result<Self, AgentError> {
        match path.to_str() {
            Some(url) if is_url(url) => return Self::open_url(url, terms),
            Some(url) if is_address(url) => {
                let url = without_secrets(url);
                return Err(AgentError::Address { url });
            }
            _ => {}
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

    fn open_url(url: &str, terms: &Terms<'_>) -> Result<Self, AgentError> {
        let account = terms.account(url)?;
        let ways = Ways::of(&terms.device.description.network);
        let web = Http::open(url, ways, terms.is_metered, Patience::default(), account);
        let mut web = web.map_err(|error| AgentError::Source {
            name: without_secrets(url),
            error,
        })?;
        web.keep_in(Spool::new(terms.device.state("spool")));
        Ok(Self {
            name: without_secrets(url),
            bytes: web.bytes(),
            reader: Reader::Web(Rc::new(RefCell::new(web))),
        })
    }

    /// The web server that it is read from.
    pub fn web(&self) -> Option<Rc<RefCell<Http>>> {
        match &self.reader {
            Reader::Web(web) => Some(web.clone()),
            Reader::File(_) | Reader::Pipe(_) => None,
        }
    }

    /// Whether reading what is not needed costs nothing: everywhere but on a web server with ranges.
    pub fn is_free_to_read(&self) -> bool {
        !matches!(&self.reader, Reader::Web(web) if web.borrow().has_ranges())
    }

    /// Whether it can give again what it has passed, without sending everything before once more.
    pub fn can_go_back(&self) -> bool {
        match &self.reader {
            Reader::File(_) => true,
            Reader::Pipe(_) => false,
            Reader::Web(web) => web.borrow().has_ranges(),
        }
    }

    /// Most bytes that may be read of it: what the account leaves on a web server, otherwise `budget`.
    pub fn limit(&self, budget: Option<u64>) -> Option<u64> {
        match &self.reader {
            Reader::Web(web) => web.borrow().account().limit(),
            Reader::File(_) | Reader::Pipe(_) => budget,
        }
    }

    /// What went over the network, for a bundle on a web server.
    pub fn traffic(&self) -> Option<Traffic> {
        match &self.reader {
            Reader::Web(web) => Some(web.borrow().traffic()),
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
            Reader::Web(web) => web.borrow_mut().read_at(offset, buffer),
        }
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<io::Error>> {
        match &mut self.reader {
            Reader::File(file) => file.ends_at(offset),
            Reader::Pipe(pipe) => pipe.ends_at(offset),
            Reader::Web(web) => web.borrow_mut().ends_at(offset),
        }
    }
}

/// When the network closes for a bundle, by the hours in which bundles are fetched. A file and a pipe can be read at any time.
///
/// # Errors
/// [`AgentError::WindowClosed`] when they have not begun, [`AgentError::WindowWithoutClock`] when nobody knows whether they have.
pub fn closing(
    device: &Device,
    source: &Path,
    hours: Option<Window>,
) -> Result<Option<Closing>, AgentError> {
    let hours = hours.or(device.description.network.window);
    let Some(window) = hours.filter(|_| source.to_str().is_some_and(is_url)) else {
        return Ok(None);
    };
    let now = device.now().ok_or(AgentError::WindowWithoutClock)?;
    let opens = window.opens_at(now);
    let seconds = window
        .closes_in(now)
        .ok_or(AgentError::WindowClosed(Closed { opens }))?;
    Ok(Some(Closing {
        at: Instant::now() + Duration::from_secs(seconds),
        opens,
    }))
}

/// An address as it may be told: without name and password.
fn without_secrets(url: &str) -> String {
    let told = || {
        let (scheme, rest) = url.split_once("://")?;
        let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (secrets, _) = rest.get(..host_end)?.rsplit_once('@')?;
        Some(format!("{scheme}://{}", rest.get(secrets.len() + 1..)?))
    };
    told().unwrap_or_else(|| url.to_owned())
}

/// Whether a source is an address of any kind, and no path.
fn is_address(path: &str) -> bool {
    let behind = path.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric());
    behind.starts_with("://")
}

fn is_url(path: &str) -> bool {
    let scheme = |name: &str| {
        path.get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    scheme("http://") || scheme("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_none_of_ours_or_a_path() {
        assert!(is_url("HTTP://h/x") && is_url("https://h"));
        for other in ["ftp://h/x", "://", "http2://h"] {
            assert!(is_address(other) && !is_url(other), "{other}");
        }
        for path in ["http:/x", "a/ftp://x", "-", "./http://h"] {
            assert!(!is_address(path) && !is_url(path), "{path}");
        }
    }

    #[test]
    fn an_address_is_told_without_name_and_password() {
        for (url, told) in [
            ("https://me:w@rd@h:81/x@y", "https://h:81/x@y"),
            ("http://h/x@y", "http://h/x@y"),
            ("http://me@h?x", "http://h?x"),
        ] {
            assert_eq!(without_secrets(url), told);
        }
    }
}
