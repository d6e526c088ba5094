//! QEMU's own control channel (QEMU Machine Protocol): a running machine is written to a file, and another QEMU goes on from it; a
//! device is plugged in.
//!
//! # Invariants
//! - Every answer has a limit.
//!
//! # Power loss
//! The file has memory and devices, not the disk: it belongs to the disk and the variables of the same moment.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest time between two lines of QEMU's. Half a gigabyte of memory is written in a second; a busy machine takes longer.
const LINE_LIMIT: Duration = Duration::from_secs(120);

/// Bytes a second that a machine is written with: as fast as the disk, which is the host's memory, takes them.
const BANDWIDTH_BYTES: u64 = 8 << 30;

/// A QEMU that takes orders.
#[derive(Debug)]
pub(super) struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    /// Greets the QEMU at the other end.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(LINE_LIMIT))?;
        let mut monitor = Self {
            lines: BufReader::new(stream),
        };
        monitor.greet()?;
        Ok(monitor)
    }

    /// Greets the QEMU that is there now, which a restart of the guest may have put in the place of an earlier one.
    fn greet(&mut self) -> io::Result<()> {
        // One that was greeted before refuses, and takes orders.
        self.send("qmp_capabilities", json!({}))?;
        self.until(|line| line.get("return").or(line.get("error")).map(|_| Ok(())))?;
        let events = json!({ "capabilities": [{ "capability": "events", "state": true }] });
        self.order("migrate-set-capabilities", events)?;
        let speed = json!({ "max-bandwidth": BANDWIDTH_BYTES });
        self.order("migrate-set-parameters", speed)
    }

    /// Writes the running machine to a file; it stands still then, and its disk has everything that it wrote.
    ///
    /// # Errors
    /// When QEMU cannot.
    pub(super) fn save(&mut self, file: &Path) -> io::Result<()> {
        self.greet()?;
        self.send("migrate", json!({ "uri": uri(file)? }))?;
        self.until(|line| refused(line).or_else(|| moved(line)))
    }

    /// Goes on with a machine from a file, in a QEMU that waits for one.
    ///
    /// # Errors
    /// When QEMU cannot.
    pub(super) fn load(&mut self, file: &Path) -> io::Result<()> {
        self.send("migrate-incoming", json!({ "uri": uri(file)? }))?;
        // Until it runs, what is sent to its serial lines would be lost; what is said of its move later would be taken for the
        // next one's end. QEMU says the former first.
        let (mut runs, mut is_moved) = (false, false);
        self.until(|line| {
            runs |= line["event"] == "RESUME";
            match refused(line).or_else(|| moved(line)) {
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(())) => is_moved = true,
                None => {}
            }
            (runs && is_moved).then_some(Ok(()))
        })
    }

    /// Plugs a device in, with a drive that was named when QEMU started.
    ///
    /// # Errors
    /// When QEMU cannot.
    pub(super) fn plug_in(&mut self, driver: &str, drive: &str) -> io::Result<()> {
        self.greet()?;
        self.order("device_add", json!({ "driver": driver, "drive": drive }))
    }

    /// Gives an order, and waits until it is done.
    fn order(&mut self, name: &str, arguments: Value) -> io::Result<()> {
        self.send(name, arguments)?;
        self.until(|line| refused(line).or_else(|| line.get("return").map(|_| Ok(()))))
    }

    fn send(&mut self, name: &str, arguments: Value) -> io::Result<()> {
        let order = json!({ "execute": name, "arguments": arguments });
        writeln!(self.lines.get_mut(), "{order}")
    }

    /// Reads lines up to the one that is an answer.
    fn until(&mut self, mut is_it: impl FnMut(&Value) -> Option<io::Result<()>>) -> io::Result<()> {
        let mut line = String::new();
        while self.lines.read_line(&mut line)? > 0 {
            if let Some(answer) = is_it(&serde_json::from_str(&line)?) {
                return answer;
            }
            line.clear();
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// QEMU's reason, if this line says that it does not do what it was told.
fn refused(line: &Value) -> Option<io::Result<()>> {
    let why = line.get("error")?["desc"].as_str();
    Some(Err(io::Error::other(
        why.unwrap_or("no reason was given").to_owned(),
    )))
}

/// How moving a machine ended, if this line says it.
fn moved(line: &Value) -> Option<io::Result<()>> {
    match line["data"]["status"].as_str() {
        _ if line["event"] != "MIGRATION" => None,
        Some("completed") => Some(Ok(())),
        Some("failed" | "cancelled") => Some(Err(io::Error::other("the machine was not moved"))),
        _ => None,
    }
}

/// How QEMU names a file that a machine is written to.
fn uri(file: &Path) -> io::Result<String> {
    let path = file.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
    Ok(format!("file:{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const DONE: &[&str] = &[r#"{"return":{}}"#];

    /// A monitor whose other end answers each order with the lines behind the one that it is named in.
    fn scripted(script: &'static [(&'static str, &'static [&'static str])]) -> Monitor {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut out = theirs.try_clone().unwrap();
            writeln!(out, r#"{{"QMP":{{}}}}"#).unwrap();
            for line in BufReader::new(theirs).lines() {
                let line = line.unwrap();
                let found = script
                    .iter()
                    .find(|(name, _)| line.contains(&format!("\"{name}\"")));
                let answers = found.map_or(DONE, |(_, answers)| answers);
                answers
                    .iter()
                    .for_each(|answer| writeln!(out, "{answer}").unwrap());
            }
        });
        Monitor::new(ours).unwrap()
    }

    #[test]
    fn a_machine_is_moved_when_qemu_says_so() {
        let mut monitor = scripted(&[
            (
                "migrate",
                &[
                    r#"{"return":{}}"#,
                    r#"{"event":"MIGRATION","data":{"status":"active"}}"#,
                    r#"{"event":"STOP"}"#,
                    r#"{"event":"MIGRATION","data":{"status":"completed"}}"#,
                ],
            ),
            (
                "migrate-incoming",
                &[
                    r#"{"event":"MIGRATION","data":{"status":"active"}}"#,
                    r#"{"event":"RESUME"}"#,
                    r#"{"return":{}}"#,
                    r#"{"event":"MIGRATION","data":{"status":"completed"}}"#,
                ],
            ),
        ]);
        monitor.save("/m".as_ref()).unwrap();
        monitor.load("/m".as_ref()).unwrap();
    }

    #[test]
    fn the_end_of_one_move_is_not_that_of_the_next() {
        let mut monitor = scripted(&[
            (
                "migrate-incoming",
                &[
                    r#"{"event":"RESUME"}"#,
                    r#"{"event":"MIGRATION","data":{"status":"completed"}}"#,
                ],
            ),
            (
                "migrate",
                &[r#"{"event":"MIGRATION","data":{"status":"failed"}}"#],
            ),
        ]);
        monitor.load("/m".as_ref()).unwrap();
        assert!(monitor.save("/m".as_ref()).is_err());
    }

    #[test]
    fn a_qemu_that_was_greeted_before_takes_orders() {
        let mut monitor = scripted(&[
            (
                "qmp_capabilities",
                &[
                    r#"{"error":{"class":"CommandNotFound","desc":"negotiation is already complete"}}"#,
                ],
            ),
            (
                "migrate",
                &[r#"{"event":"MIGRATION","data":{"status":"completed"}}"#],
            ),
        ]);
        monitor.save("/m".as_ref()).unwrap();
    }

    #[test]
    fn a_machine_that_was_not_moved_is_an_error() {
        const FAILED: &[&str] = &[
            r#"{"return":{}}"#,
            r#"{"event":"MIGRATION","data":{"status":"failed"}}"#,
        ];
        let mut monitor = scripted(&[("migrate", FAILED), ("migrate-incoming", FAILED)]);
        assert!(monitor.save("/m".as_ref()).is_err());
        assert!(monitor.load("/m".as_ref()).is_err());
    }

    #[test]
    fn a_refusal_has_qemus_own_words() {
        const REFUSAL: &[&str] = &[r#"{"error":{"class":"GenericError","desc":"no such file"}}"#];
        let mut monitor = scripted(&[("migrate-incoming", REFUSAL)]);
        let error = monitor.load("/m".as_ref()).unwrap_err();
        assert_eq!(error.to_string(), "no such file");
        monitor.plug_in("usb-storage", "other").unwrap();
        let mut monitor = scripted(&[("device_add", REFUSAL)]);
        assert!(monitor.plug_in("usb-storage", "other").is_err());
    }
}
