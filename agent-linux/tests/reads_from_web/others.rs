//! Web servers that somebody else wrote.

use crate::support::Board;
use crate::support::bundle::{Release, key};
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A web server that somebody else wrote, ended when dropped.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx, which listens when it says how it waits for events.
fn nginx(folder: &Path, listener: TcpListener) -> io::Result<Option<Other>> {
    let (at, port) = (folder.display(), listener.local_addr().unwrap().port());
    drop(listener);
    let text = format!(
        "daemon off; master_process off; pid {at}/pid; error_log stderr notice; events {{}}\n\
         http {{ access_log off; client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;\n\
         uwsgi_temp_path {at}/4; scgi_temp_path {at}/5; server {{ listen 127.0.0.1:{port}; root {at}; }} }}\n"
    );
    fs::write(folder.join("conf"), text).unwrap();
    let mut command = Command::new("nginx");
    command
        .arg("-c")
        .arg(folder.join("conf"))
        .arg("-p")
        .arg(folder)
        .args(["-e", "stderr"])
        .stderr(Stdio::piped());
    let mut server = Other(command.spawn()?);
    let mut says = BufReader::new(server.0.stderr.as_mut().unwrap()).lines();
    let listens = says.any(|line| line.unwrap().contains("event method"));
    assert!(listens, "nginx ended");
    Ok(Some(server))
}

/// busybox, of which each process serves one connection on its standard input and output, and ends with it.
fn busybox(folder: &Path, listener: TcpListener) -> io::Result<Option<Other>> {
    let folder = folder.to_owned();
    let start = move |stream: TcpStream| {
        let mut command = Command::new("busybox");
        command.args(["httpd", "-i", "-h"]).arg(&folder);
        command.stdin(OwnedFd::from(stream.try_clone()?));
        command.stdout(OwnedFd::from(stream)).spawn()
    };
    Command::new("busybox").stdout(Stdio::null()).status()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            start(stream.unwrap()).unwrap().wait().unwrap();
        }
    });
    Ok(None)
}

#[test]
fn servers_of_others_are_understood() {
    type Start = fn(&Path, TcpListener) -> io::Result<Option<Other>>;
    let servers: [(&str, Start); 2] = [("nginx", nginx), ("busybox httpd", busybox)];
    let mut understood = 0;
    for (name, start) in servers {
        let board = Board::sealed().booted(&Release::sealed(1).bundle(&[&key(1)]));
        board.bundle(&Release::sealed(2).bundle(&[&key(1)]));
        let web = tempfile::tempdir().unwrap();
        fs::copy(board.path("bundle.tseal"), web.path().join("b.tseal")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let Ok(_server) = start(web.path(), listener) else {
            eprintln!("not asked: there is no {name} here");
            continue;
        };
        let url = format!("http://127.0.0.1:{port}/b.tseal");
        let run = board.run(&["--json", "install", &url]);
        assert_eq!(run.code, 0, "{name}: {}", run.err);
        let events = run.events();
        let traffic = events
            .iter()
            .find(|event| event["event"] == "traffic")
            .unwrap();
        println!("{name}: {traffic}");
        assert!(traffic["received_bytes"].as_u64() > Some(1_000));
        assert_eq!(
            board
                .run(&["plan", &format!("http://127.0.0.1:{port}/none")])
                .code,
            70
        );
        assert_eq!(board.select(), "b trial, 2 attempts left");
        understood += 1;
    }
    assert!(
        understood > 0,
        "no web server of others starts here: install nginx-light, or busybox-static"
    );
}
