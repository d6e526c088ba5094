//! A web server for bundles, on a port of the loopback device: nginx, or busybox where there is no nginx.
//!
//! # Invariants
//! - It listens before [`WebServer::start`] returns, to this machine only, and ends with its value.
//!
//! # Power loss
//! Nothing here is stored.

use crate::guard::{self, Guarded};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Rounds of waiting for the server to listen; the wait ends early when the server does.
const START_ROUNDS: u32 = 500;
const START_ROUND: Duration = Duration::from_millis(20);

/// Ports tried: another program may take one between our choice and the server's start.
const PORT_TRIES: u32 = 5;

/// A web server.
#[derive(Debug)]
pub struct WebServer {
    /// Where it listens.
    pub port: u16,
    /// Its name, for people.
    pub name: &'static str,
    _process: Guarded,
}

/// Why there is no web server.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// There is no program for it.
    #[error(
        "There is no web server: neither nginx nor busybox is in PATH. Install one with: sudo apt-get install --no-install-recommends nginx-light"
    )]
    NoProgram,
    /// It could not be set up or started.
    #[error("The web server could not be started: {0}.")]
    NotStarted(#[from] io::Error),
    /// It ended, or does not answer.
    #[error("The web server {name} did not begin to listen. What it says is in {}.", log.display())]
    NotListening {
        /// Its name.
        name: &'static str,
        /// What it says.
        log: PathBuf,
    },
}

impl WebServer {
    /// Starts a server for the files of `served`. What it needs itself goes into `scratch`. `nginx` is looked for first at its
    /// own path, then in `PATH`.
    ///
    /// # Errors
    /// [`WebError`].
    pub fn start(served: &Path, scratch: &Path, nginx: Option<&Path>) -> Result<Self, WebError> {
        let nginx = nginx
            .filter(|program| program.is_file())
            .map(Path::to_owned)
            .or_else(|| crate::programs::find_in_path("nginx"));
        let served = fs::canonicalize(served)?;
        fs::create_dir_all(scratch)?;
        let scratch = fs::canonicalize(scratch)?;
        let mut last = None;
        for _ in 0..PORT_TRIES {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
                .local_addr()?
                .port();
            let started = match (&nginx, crate::programs::find_in_path("busybox")) {
                (Some(nginx), _) => start_nginx(nginx, port, &served, &scratch),
                (None, Some(busybox)) => start_busybox(&busybox, port, &served, &scratch),
                (None, None) => Err(WebError::NoProgram),
            };
            match started {
                Err(error @ WebError::NotListening { .. }) => last = Some(error),
                other => return other,
            }
        }
        Err(last.unwrap_or(WebError::NoProgram))
    }
}

fn start_nginx(
    nginx: &Path,
    port: u16,
    served: &Path,
    scratch: &Path,
) -> Result<WebServer, WebError> {
    let configuration = scratch.join("nginx.conf");
    fs::write(&configuration, nginx_configuration(port, served, scratch))?;
    let mut command = guard::command(nginx);
    command.arg("-c").arg(&configuration).arg("-p").arg(scratch);
    command.arg("-e").arg(scratch.join("nginx.log"));
    listening("nginx", command, port, &scratch.join("nginx.log"))
}

/// One process in the foreground: the one that is killed at the end.
fn nginx_configuration(port: u16, served: &Path, scratch: &Path) -> String {
    let (served, scratch) = (served.display(), scratch.display());
    format!(
        "daemon off;\nmaster_process off;\npid \"{scratch}/nginx.pid\";\nerror_log \"{scratch}/nginx.log\";\n\
         events {{ worker_connections 64; }}\n\
         http {{\n  access_log \"{scratch}/nginx-access.log\";\n  sendfile on;\n  tcp_nopush on;\n  default_type application/octet-stream;\n  \
         client_body_temp_path \"{scratch}/nginx-body\";\n  proxy_temp_path \"{scratch}/nginx-proxy\";\n  \
         fastcgi_temp_path \"{scratch}/nginx-fastcgi\";\n  uwsgi_temp_path \"{scratch}/nginx-uwsgi\";\n  \
         scgi_temp_path \"{scratch}/nginx-scgi\";\n  \
         server {{ listen 127.0.0.1:{port}; root \"{served}\"; autoindex on; }}\n}}\n"
    )
}

fn start_busybox(
    busybox: &Path,
    port: u16,
    served: &Path,
    scratch: &Path,
) -> Result<WebServer, WebError> {
    let mut command = guard::command(busybox);
    command
        .args(["httpd", "-f", "-p", &format!("127.0.0.1:{port}"), "-h"])
        .arg(served);
    listening("busybox httpd", command, port, &scratch.join("busybox.log"))
}

fn listening(
    name: &'static str,
    mut command: std::process::Command,
    port: u16,
    log: &Path,
) -> Result<WebServer, WebError> {
    let said = fs::OpenOptions::new().create(true).append(true).open(log)?;
    command
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said);
    let process = Guarded::start(command)?;
    for _ in 0..START_ROUNDS {
        if process.wait(START_ROUND) {
            break;
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(WebServer {
                port,
                name,
                _process: process,
            });
        }
    }
    Err(WebError::NotListening {
        name,
        log: log.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn get(port: u16, range: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        write!(
            stream,
            "GET /bundle HTTP/1.1\r\nHost: x\r\nRange: bytes={range}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn ranges_are_served_until_the_server_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let served = folder.path().join("served");
        fs::create_dir(&served).unwrap();
        fs::write(served.join("bundle"), "0123456789").unwrap();
        let server = WebServer::start(&served, &folder.path().join("scratch"), None).unwrap();
        let answer = get(server.port, "3-5");
        assert!(
            answer.contains(" 206 ") && answer.ends_with("345"),
            "{answer}"
        );
        let port = server.port;
        drop(server);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }
}
