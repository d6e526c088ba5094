//! Both agents, as programs, on the whole conformance kit: the same exit code, and byte for byte the same device afterwards.

#[path = "support/kit.rs"]
mod kit;
#[path = "support/servers.rs"]
#[expect(dead_code, reason = "one plain server is enough here")]
mod servers;
mod support;

use kit::{Bench, Way};
use servers::Server;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// Bad bundles that the kit must have, so that agreeing says something.
const BAD_MIN: usize = 60;

/// A folder whose agents are taken, instead of those built for this machine: scripts/cross.sh makes one.
const AGENTS: &str = "TWINSEAL_AGENTS";

/// Of those, one bundle in so many is tried, by its place in the kit: an emulator takes ten times as long.
const OTHERS_SHARE: usize = 5;

#[test]
fn both_agents_make_the_same_of_every_bundle_of_the_kit() {
    let others = std::env::var_os(AGENTS).map(PathBuf::from);
    let share = others.as_ref().map_or(1, |_| OTHERS_SHARE);
    let bench = Bench::new(match others {
        Some(folder) => ["twinseal", "twinseal-minimal-commands"].map(|name| folder.join(name)),
        None => [
            support::programs().join("twinseal"),
            support::minimal_with_commands(),
        ],
    });
    let all = bench.both_take_all(&[Way::File, Way::Pipe], share, |_| true);
    let (good, bad) = (all.good, all.bad);
    println!("{good} good bundles, {bad} bad ones, each as a file and as a pipe");
    let enough = good >= 10 / share && bad >= BAD_MIN / share;
    assert!(enough, "{good} good, {bad} bad");
}

#[test]
fn both_agents_make_the_same_of_what_they_fetch() {
    if std::env::var_os(AGENTS).is_some() {
        // What they make of it is the same for every processor, and the network is the kernel's.
        return;
    }
    let bench = Bench::new([
        support::programs().join("twinseal"),
        support::device_program("twinseal-minimal-fetch"),
    ]);
    let text = "server { listen 127.0.0.1:PORT; }";
    let server = Server::nginx(&bench.at("server"), &bench.at("kit"), text);
    // How many bytes came, which the journal says, is each agent's own affair.
    let all = bench.both_take_all(&[Way::Address(server.port)], 1, |file| {
        !file.starts_with(Path::new("state"))
    });
    let (good, bad) = (all.good, all.bad);
    println!("{good} good bundles, {bad} bad ones, from a web server");
    assert!(good >= 10 && bad >= BAD_MIN, "{good} good, {bad} bad");
    assert!(server.log().len() > good + bad, "the server was asked");
}

/// What is changed on a device before a command.
type Change = fn(&Path) -> io::Result<()>;

/// Changes to a device, and what both agents must make of a command then: its words, and its exit code.
const AROUND: &[(Change, &[&str], i32)] = &[
    (|_| Ok(()), &["status"], 0),
    (|_| Ok(()), &["plan", "ftp://server/good.tseal"], 2),
    (|_| Ok(()), &["plan", "missing.tseal"], 70),
    (|_| Ok(()), &["plan", "/"], 70),
    (
        |device| fs::remove_file(device.join("first.pub")),
        &["status"],
        2,
    ),
    (
        |device| fs::write(device.join("first.pub"), "no key\n"),
        &["status"],
        2,
    ),
    (
        // One file, two keys: which of them counts is not for an agent to guess.
        |device| {
            let [one, other] = ["first.pub", "second.pub"].map(|key| fs::read(device.join(key)));
            fs::write(device.join("first.pub"), [one?, other?].concat())
        },
        &["status"],
        2,
    ),
    (
        |device| {
            let key = fs::read(device.join("first.pub"))?;
            let text = [&b"The key of releases, \xe9.\n"[..], &key, b"\n\n"].concat();
            fs::write(device.join("first.pub"), text)
        },
        &["status"],
        0,
    ),
    (
        |device| {
            let text = fs::read_to_string(device.join("device.toml"))?;
            let text = text.replace("\"firmware-b\"", "\"./firmware-a\"");
            fs::write(device.join("device.toml"), text)
        },
        &["status"],
        2,
    ),
    (
        |device| fs::write(device.join("running-set"), "c\n"),
        &["mark-good"],
        2,
    ),
];

#[test]
fn both_agents_say_the_same_of_a_device_that_is_not_as_it_should_be() {
    let small = support::minimal_with_commands();
    let bench = Bench::new([support::programs().join("twinseal"), small]);
    for (number, (change, words, code)) in AROUND.iter().enumerate() {
        for agent in [0, 1] {
            let device = bench.device(&format!("device-{number}-{agent}"));
            change(&device).unwrap();
            let found = bench.run(agent, &device, words, None);
            assert_eq!(found, *code, "case {number}, {words:?}, agent {agent}");
        }
    }
}

#[test]
fn each_build_of_the_small_agent_says_what_it_can_do() {
    for (program, says) in [
        ("twinseal-minimal", "/init of an initramfs"),
        ("twinseal-minimal-commands", "install SOURCE"),
        ("twinseal-minimal-fetch", "http://SERVER[:PORT]/PATH"),
    ] {
        let program = support::device_program(program);
        let run = |word| Command::new(&program).arg(word).output().unwrap();
        let help = run("--help");
        assert_eq!(help.status.code(), Some(0));
        let out = String::from_utf8(help.stdout).unwrap();
        assert!(out.contains(says), "{out}");
        let unknown = run("instal");
        assert_eq!(unknown.status.code(), Some(2));
        let err = String::from_utf8(unknown.stderr).unwrap();
        assert!(err.starts_with("error: ") && err.contains(says), "{err}");
    }
}

/// A system's service may start a program with its standard streams closed, and whoever reads what it says may leave.
#[test]
fn the_small_agent_needs_nobody_at_its_standard_streams() {
    let small = support::minimal_with_commands();
    let bench = Bench::new([support::programs().join("twinseal"), small.clone()]);
    let base = bench.at("base");
    let run = |script: &str| {
        let status = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&small)
            .arg(base.join("device.toml"))
            .arg(bench.at("code"))
            .status();
        assert!(status.unwrap().success(), "{script}");
        fs::read_to_string(bench.at("code")).unwrap()
    };
    let journal = || fs::read(base.join("state/journal")).unwrap();
    let before = journal();
    assert!(!before.is_empty());
    for streams in [">&-", "<&- >&- 2>&-"] {
        let closed = run(&format!(
            "\"$1\" --device \"$2\" status {streams}; echo $? >\"$3\""
        ));
        assert_eq!(closed, "0\n");
        assert!(journal() == before, "{streams}: nothing is written into it");
    }
    let full = run("\"$1\" --device \"$2\" status >/dev/full; echo $? >\"$3\"");
    assert_eq!(full, "50\n", "nobody has heard the answer");
    let left = run("{ sleep 1; \"$1\" --device \"$2\" status; echo $? >\"$3\"; } | true; wait");
    assert_eq!(left, "0\n", "141 is the signal of a broken pipe");
}
