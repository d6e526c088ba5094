//! Joins standard input and output with a TCP connection to this machine.
//!
//! The virtual network of a board starts one for each connection that its guest opens, so that the guest reaches the web server
//! of the run and nothing else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::thread;

const BUFFER_BYTES: usize = 64 << 10;

/// Joins them until the server closes the connection.
///
/// # Errors
/// When nothing listens on the port, or the connection breaks.
pub fn run(port: u16) -> io::Result<()> {
    let mut from_server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let mut to_server = from_server.try_clone()?;
    thread::spawn(move || {
        let _ = copy(&mut io::stdin().lock(), &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    copy(&mut from_server, &mut standard_output()?)
}

/// Standard output as it is, without a buffer that ends at lines. QEMU makes it a TCP socket, in which the second of two small
/// writes would wait 40 ms for the answer to the first.
fn standard_output() -> io::Result<File> {
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(File::from(output))
}

/// Passes on what comes when it comes.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..length).unwrap_or_default())?;
        to.flush()?;
    }
}
