//! `twinseal-hil link`: a link for scripts and people, in front of any server of this machine, or of one that it starts.

use super::{Link, Report, Shape};
use crate::web::{WebError, WebServer};
use serde::Serialize;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub server: Server,
    /// The file of the shape; without one the link only counts.
    pub shape: Option<PathBuf>,
    /// The seed of everything that happens by chance.
    pub seed: u64,
    /// The port to listen on; any that is free when none is named.
    pub port: Option<u16>,
}

/// The server behind a link.
#[derive(Clone, Debug)]
pub enum Server {
    /// One that runs, on this machine.
    Port(u16),
    /// nginx, started for a folder.
    Folder {
        /// What it serves.
        served: PathBuf,
        /// The program, before `PATH` is asked.
        nginx: Option<PathBuf>,
    },
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The shape cannot be read.
    #[error("{} could not be read: {source}.", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no shape.
    #[error("{} is no shape of a link: {source}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// There is no server.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The port cannot be had, or the server's files have no place.
    #[error("The link could not be opened: {0}. Another port may help (--port).")]
    NotOpened(io::Error),
    /// Nobody hears the report.
    #[error("Standard output could not be written: {0}.")]
    Told(#[from] io::Error),
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
    Listening {
        port: u16,
        seed: u64,
    },
    Ended {
        #[serde(flatten)]
        report: Report,
    },
}

/// Opens a link, says its port, and keeps it open until `input` ends; then says what went over it. Both are one JSON object a line.
///
/// # Errors
/// [`LinkError`] when there is no link, or nobody to tell.
pub fn run(
    options: &Options,
    mut input: impl Read,
    mut out: impl Write,
) -> Result<Report, LinkError> {
    let shape = options
        .shape
        .as_deref()
        .map_or_else(|| Ok(Shape::default()), read)?;
    let scratch = tempfile::tempdir().map_err(LinkError::NotOpened)?;
    let (server, port) = match &options.server {
        Server::Port(port) => (None, *port),
        Server::Folder { served, nginx } => {
            let server = WebServer::start(served, scratch.path(), nginx.as_deref())?;
            let port = server.port;
            (Some(server), port)
        }
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let link =
        Link::start(shape, options.seed, address, options.port).map_err(LinkError::NotOpened)?;
    let (port, seed) = (link.port, options.seed);
    say(&mut out, &Event::Listening { port, seed })?;
    io::copy(&mut input, &mut io::sink())?;
    let report = link.report();
    drop((link, server));
    say(&mut out, &Event::Ended { report })?;
    Ok(report)
}

fn say(out: &mut impl Write, event: &Event) -> io::Result<()> {
    serde_json::to_writer(&mut *out, event)?;
    writeln!(out)?;
    out.flush()
}

fn read(file: &Path) -> Result<Shape, LinkError> {
    let text = fs::read_to_string(file).map_err(|source| LinkError::Read {
        file: file.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| LinkError::Syntax {
        file: file.to_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(shape: Option<PathBuf>) -> Options {
        Options {
            server: Server::Port(9),
            shape,
            seed: 5,
            port: None,
        }
    }

    #[test]
    fn the_port_comes_first_and_the_report_at_the_end_of_input() {
        let mut out = Vec::new();
        run(&options(None), io::empty(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(
            (&lines[0]["event"], &lines[0]["seed"]),
            (&"listening".into(), &5.into())
        );
        assert_eq!(
            (&lines[1]["event"], &lines[1]["down_bytes"]),
            (&"ended".into(), &0.into())
        );
    }

    #[test]
    fn a_shape_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bad.toml");
        let error = run(&options(Some(file.clone())), io::empty(), io::sink()).unwrap_err();
        assert!(matches!(error, LinkError::Read { .. }), "{error}");
        fs::write(&file, "cuts = 3").unwrap();
        let error = run(&options(Some(file)), io::empty(), io::sink()).unwrap_err();
        assert!(
            error.to_string().contains("bad.toml is no shape"),
            "{error}"
        );
    }
}
