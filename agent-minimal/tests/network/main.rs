//! The network of a recovery against real servers, and against one that does all that a server should not.
#![forbid(unsafe_code)]

mod hostile;
mod lab;
mod servers;

use hostile::{Hostile, partial};
use lab::{Listener, SERVER, in_network, patience, start_dnsmasq, start_nginx};
use servers::{Client, PORT, content, read_all, url};
use std::fs;
use std::io::Write;
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};
use twinseal_core::source::{Source, SourceError};
use twinseal_minimal::net::{
    Buffers, NetProblem, Patience, Setting, Stack, Storage, Transport, Url, Web,
};

/// Opens a stack and gives it to `work`.
fn with_stack<T>(
    setting: Setting,
    patience: Patience,
    listener: &Listener,
    work: impl FnOnce(&mut Stack<'_>) -> T,
) -> Result<T, NetProblem> {
    in_round(0, setting, patience, listener, work)
}

/// The same in one of the rounds of a recovery.
fn in_round<T>(
    round: usize,
    setting: Setting,
    patience: Patience,
    listener: &Listener,
    work: impl FnOnce(&mut Stack<'_>) -> T,
) -> Result<T, NetProblem> {
    let (mut buffers, mut storage) = (Box::new(Buffers::new()), Storage::default());
    let mut stack = Stack::open(
        &mut buffers,
        &mut storage,
        setting,
        round,
        patience,
        listener,
    )?;
    Ok(work(&mut stack))
}

/// Known addresses, so that a test is about its server alone.
fn fixed() -> Setting {
    Setting::parse("10.77.0.9/24").unwrap()
}

fn with_names() -> Setting {
    Setting::parse(&format!("10.77.0.9/24,,{SERVER}")).unwrap()
}

#[test]
fn dhcp_names_and_ranges_of_the_servers_of_others() {
    in_network("dhcp_names_and_ranges_of_the_servers_of_others", || {
        let folder = tempfile::tempdir().unwrap();
        let bundle = content(3_000_000);
        fs::create_dir(folder.path().join("www")).unwrap();
        fs::write(folder.path().join("www/b.tseal"), &bundle).unwrap();
        let (_names, _web) = (start_dnsmasq(folder.path()), start_nginx(folder.path()));
        let listener = Listener::default();
        let start = Instant::now();
        with_stack(Setting::Dynamic, patience(), &listener, |stack| {
            let url = Url::parse("http://updates.example/b.tseal").unwrap();
            assert_eq!(
                read_all(stack, &url, bundle.len(), 100_000),
                Ok(bundle.clone())
            );
            println!("3,000,000 bytes after {:?}", start.elapsed());
            reads_with_gaps(stack, &url, &bundle);
            let far = Url::parse(&format!("http://{}/b.tseal", lab::BEHIND_ROUTER)).unwrap();
            assert!(read_all(stack, &far, bundle.len(), 100_000) == Ok(bundle.clone()));
            assert_eq!(listener.heard("try"), 0, "nothing had to be tried again");
            let several = Url::parse("http://several.example/b.tseal").unwrap();
            for _ in 0..2 {
                assert_eq!(Web::open(stack, &several).err(), None);
            }
            let tries = listener.heard("the server cannot be reached");
            assert!((1..=2).contains(&tries), "once each, at most: {tries}");
            let unknown = Url::parse("http://nobody.example/b.tseal").unwrap();
            assert_eq!(
                Web::open(stack, &unknown).err(),
                Some(NetProblem::NameUnknown)
            );
            let missing = Url::parse("http://updates.example/c.tseal").unwrap();
            assert_eq!(
                Web::open(stack, &missing).err(),
                Some(NetProblem::Status(404))
            );
        })
        .unwrap();
        assert_eq!(listener.heard("the address on client is 10.77.0."), 1);
        let requests = fs::read_to_string(folder.path().join("requests")).unwrap();
        println!("{requests}");
        let row: Vec<&str> = requests.lines().take(5).collect();
        let connection = row[0].split(' ').next().unwrap();
        assert!(
            row.iter().all(|line| line.starts_with(connection)),
            "one connection for a row of windows"
        );
        let says_which = |line: &&str| !line.ends_with(" -");
        assert_eq!(
            row.iter().filter(|line| says_which(line)).count(),
            4,
            "all but the first say which bundle is meant"
        );
    });
}

/// Small gaps, large ones, and bytes at the very end.
fn reads_with_gaps(network: &mut dyn Transport, url: &Url, bundle: &[u8]) {
    let mut web = Web::open(network, url).unwrap();
    for offset in [0, 10_000, 12_000, 900_000, 900_004, 2_999_000] {
        let mut part = vec![0; 1_000];
        web.read_at(offset as u64, &mut part).unwrap();
        assert_eq!(part, bundle[offset..offset + 1_000], "at {offset}");
    }
    assert_eq!(web.ends_at(3_000_000), Ok(true));
    assert_eq!(web.ends_at(2_999_999), Ok(false));
    assert_eq!(
        web.read_at(2_999_500, &mut [0; 501]),
        Err(SourceError::Ended)
    );
}

#[test]
fn no_cable_no_address_and_no_server_are_told_apart() {
    in_network("no_cable_no_address_and_no_server_are_told_apart", || {
        let listener = Listener::default();
        let short = Patience {
            address: patience().idle,
            ..patience()
        };
        let dynamic = with_stack(Setting::Dynamic, short, &listener, |_| ());
        assert_eq!(dynamic, Err(NetProblem::NoAddress));
        with_stack(fixed(), patience(), &listener, |stack| {
            let name = Url::parse("http://updates.example/").unwrap();
            assert_eq!(
                Web::open(stack, &name).err(),
                Some(NetProblem::NoNameServer)
            );
            assert_eq!(
                Web::open(stack, &url("/")).err(),
                Some(NetProblem::NotReached)
            );
            let nobody = Url::parse("http://10.77.0.77/").unwrap();
            let hasty = Patience {
                tries: 0,
                ..patience()
            };
            stack.patience = hasty;
            assert_eq!(
                Web::open(stack, &nobody).err(),
                Some(NetProblem::NotReached)
            );
            // One that has nobody on the way to it.
            let elsewhere = Url::parse("http://192.0.2.1/").unwrap();
            assert_eq!(
                Web::open(stack, &elsewhere).err(),
                Some(NetProblem::NotReached)
            );
        })
        .unwrap();
        assert_eq!(listener.heard("the server cannot be reached, at byte 0"), 3);
        let hasty = Patience {
            carrier: patience().idle,
            ..patience()
        };
        lab::ip(&["link", "set", "server", "down"]);
        // The kernel may take a second until it shows that nobody is there any more.
        let cut = iter::repeat_with(|| with_stack(fixed(), hasty, &listener, |_| ()))
            .take(5_000)
            .find(Result::is_err);
        assert_eq!(cut, Some(Err(NetProblem::NoCarrier)));
        lab::ip(&["link", "delete", "server"]);
        let none = with_stack(fixed(), hasty, &listener, |_| ());
        assert_eq!(none, Err(NetProblem::NoInterface));
    });
}

#[test]
fn a_router_outside_of_the_network_and_a_way_that_loses_long_frames_are_coped_with() {
    let name = "a_router_outside_of_the_network_and_a_way_that_loses_long_frames_are_coped_with";
    in_network(name, || {
        let folder = tempfile::tempdir().unwrap();
        let bundle = content(200_000);
        fs::create_dir(folder.path().join("www")).unwrap();
        fs::write(folder.path().join("www/b.tseal"), &bundle).unwrap();
        let _web = start_nginx(folder.path());
        let listener = Listener::default();
        // As some providers give addresses: a network of one, and the way to everybody else is beside it.
        lab::ip(&["route", "add", "10.99.9.9/32", "dev", "server"]);
        let alone = Setting::parse(&format!("10.99.9.9/32,{SERVER}")).unwrap();
        for server in [SERVER, lab::BEHIND_ROUTER] {
            let url = Url::parse(&format!("http://{server}/b.tseal")).unwrap();
            let read = with_stack(alone, patience(), &listener, |stack| {
                read_all(stack, &url, bundle.len(), 50_000)
            });
            assert_eq!(read, Ok(Ok(bundle.clone())), "{server}");
        }
        assert_eq!(listener.heard("the address on client is 10.99.9.9"), 2);
        assert_eq!(listener.heard("try"), 0);
        // Packets of more than 576 bytes are lost, and nobody is told.
        lab::lose_frames_beyond("576");
        let url = Url::parse(&format!("http://{SERVER}/b.tseal")).unwrap();
        let hasty = Patience {
            tries: 1,
            ..patience()
        };
        let of_round = |round| {
            in_round(round, fixed(), hasty, &listener, |stack| {
                read_all(stack, &url, bundle.len(), 50_000)
            })
        };
        for round in [0, 1] {
            let lost = of_round(round);
            assert!(matches!(lost, Ok(Err(_))), "round {round}: {lost:?}");
        }
        for round in [2, 3] {
            assert_eq!(of_round(round), Ok(Ok(bundle.clone())), "round {round}");
        }
    });
}

#[test]
fn whoever_is_called_away_waits_for_nobody() {
    in_network("whoever_is_called_away_waits_for_nobody", || {
        let hour = Duration::from_secs(3_600);
        let patience = Patience {
            carrier: hour,
            address: hour,
            connect: hour,
            pause: hour,
            ..patience()
        };
        // Nobody gives an address.
        let listener = Listener::called_away_by("asking for an address");
        let waits = with_stack(Setting::Dynamic, patience, &listener, |_| ());
        assert_eq!(waits, Err(NetProblem::CalledAway));
        // Nobody answers; and the pause after a refusal.
        for (nobody, words) in [
            ("http://10.77.0.77/", "the address on"),
            ("http://10.77.0.1:9/", "try 1 of"),
        ] {
            let listener = Listener::called_away_by(words);
            let url = Url::parse(nobody).unwrap();
            let ended = with_stack(fixed(), patience, &listener, |stack| {
                Web::open(stack, &url).err()
            });
            assert_eq!(ended, Ok(Some(NetProblem::CalledAway)), "{nobody}");
        }
        // Whoever has been asked is heard to the end: it is called away after the request has come, and before it is answered.
        let bundle = content(300_000);
        let served = bundle.clone();
        let listener = Arc::new(Listener::default());
        let asked = Arc::clone(&listener);
        let _server = Hostile::start(PORT, move |request, stream| {
            let (head, body) = partial(request, &served, "one");
            asked.call_away_in_a_wait();
            stream.write_all(&[head.as_bytes(), body].concat())?;
            Ok(true)
        });
        let patient = Patience {
            idle: hour,
            pace: hour,
            ..patience
        };
        with_stack(fixed(), patient, &listener, |stack| {
            let mut web = Web::open(stack, &url("/a")).unwrap();
            let mut read = [0; 4_000];
            web.read_at(0, &mut read).unwrap();
            assert_eq!(read, bundle[..4_000]);
            // Bytes have come, so a new connection is waited for, too.
            web.read_at(290_000, &mut read).unwrap();
            assert_eq!(read, bundle[290_000..294_000]);
        })
        .unwrap();
        // Nobody is at the other end; the kernel may take a second until it shows that.
        lab::ip(&["link", "set", "server", "down"]);
        let cut = iter::repeat_with(|| with_stack(fixed(), patience, &listener, |_| ()))
            .take(5_000)
            .find(Result::is_err);
        assert_eq!(cut, Some(Err(NetProblem::CalledAway)));
    });
}

#[test]
fn names_and_ranges_of_the_servers_of_others_through_the_kernel() {
    let name = "names_and_ranges_of_the_servers_of_others_through_the_kernel";
    in_network(name, || {
        let folder = tempfile::tempdir().unwrap();
        let bundle = content(3_000_000);
        fs::create_dir(folder.path().join("www")).unwrap();
        fs::write(folder.path().join("www/b.tseal"), &bundle).unwrap();
        let (_names, _web) = (start_dnsmasq(folder.path()), start_nginx(folder.path()));
        lab::put(
            "/etc/hosts",
            "127.0.0.1 localhost\n10.77.0.1 alias.example\n",
            folder.path(),
        );
        // The first one is nobody, and is given up for the next.
        let servers = format!("nameserver 10.77.0.77\nnameserver {SERVER}\n");
        lab::put("/etc/resolv.conf", &servers, folder.path());
        let listener = Listener::default();
        let get = |host: &str, path: &str| {
            let url = Url::parse(&format!("http://{host}/{path}")).unwrap();
            Client::Kernel.with(patience(), &listener, |network| {
                Web::open(network, &url).err()
            })
        };
        let url = Url::parse("http://updates.example/b.tseal").unwrap();
        let patient = Patience {
            name: Duration::from_secs(20),
            ..patience()
        };
        let read = Client::Kernel.with(patient, &listener, |network| {
            reads_with_gaps(network, &url, &bundle);
            read_all(network, &url, bundle.len(), 100_000)
        });
        assert!(read == Ok(Ok(bundle)));
        assert_eq!(listener.heard("try"), 0, "nothing had to be tried again");
        assert_eq!(get("alias.example", "b.tseal"), Ok(None));
        for _ in 0..2 {
            assert_eq!(get("several.example", "b.tseal"), Ok(None));
        }
        let tries = listener.heard("the server cannot be reached, at byte 0");
        assert!((1..=2).contains(&tries), "once each, at most: {tries}");
        lab::put(
            "/etc/resolv.conf",
            &format!("nameserver {SERVER}\n"),
            folder.path(),
        );
        assert_eq!(
            get("nobody.example", "b.tseal"),
            Ok(Some(NetProblem::NameUnknown))
        );
        assert_eq!(
            get("updates.example", "c.tseal"),
            Ok(Some(NetProblem::Status(404)))
        );
        assert_eq!(
            get("updates.example:9", ""),
            Ok(Some(NetProblem::NotReached))
        );
        let more = listener.heard("the server cannot be reached, at byte 0") - tries;
        assert_eq!(more, 3);
        lab::put("/etc/resolv.conf", "nameserver 10.77.0.77\n", folder.path());
        assert_eq!(get("updates.example", ""), Ok(Some(NetProblem::NameSilent)));
        lab::put("/etc/resolv.conf", "# nobody\n", folder.path());
        assert_eq!(
            get("updates.example", ""),
            Ok(Some(NetProblem::NoNameServer))
        );
        // Nobody is on the way there: said at once by the kernel.
        assert_eq!(get("192.0.2.1", ""), Ok(Some(NetProblem::NotReached)));
    });
}

/// The answer to a question comes when the next one was asked.
#[test]
fn a_name_server_that_is_far_away_is_heard() {
    in_network("a_name_server_that_is_far_away_is_heard", || {
        servers::answer_names_after(Duration::from_secs(4));
        let folder = tempfile::tempdir().unwrap();
        let servers = format!("nameserver {SERVER}\n");
        lab::put("/etc/resolv.conf", &servers, folder.path());
        let listener = Listener::default();
        let found = |network: &mut dyn Transport| network.address_of("far.example", &[]);
        let own = with_stack(with_names(), patience(), &listener, |stack| found(stack));
        let kernel = Client::Kernel.with(patience(), &listener, found);
        assert_eq!([own, kernel], [Ok(Ok([10, 0, 0, 7].into())); 2]);
    });
}

#[test]
fn a_link_that_is_cut_every_100_kb_is_followed_to_the_end() {
    in_network(
        "a_link_that_is_cut_every_100_kb_is_followed_to_the_end",
        || {
            servers::a_link_that_is_cut_every_100_kb_is_followed_to_the_end(Client::Own);
        },
    );
}

#[test]
fn a_link_that_is_cut_every_100_kb_is_followed_to_the_end_through_the_kernel() {
    in_network(
        "a_link_that_is_cut_every_100_kb_is_followed_to_the_end_through_the_kernel",
        || {
            servers::a_link_that_is_cut_every_100_kb_is_followed_to_the_end(Client::Kernel);
        },
    );
}

#[test]
fn a_server_without_ranges_serves_as_long_as_it_is_not_cut() {
    in_network(
        "a_server_without_ranges_serves_as_long_as_it_is_not_cut",
        || {
            servers::a_server_without_ranges_serves_as_long_as_it_is_not_cut(Client::Own);
        },
    );
}

#[test]
fn a_server_without_ranges_serves_as_long_as_it_is_not_cut_through_the_kernel() {
    in_network(
        "a_server_without_ranges_serves_as_long_as_it_is_not_cut_through_the_kernel",
        || {
            servers::a_server_without_ranges_serves_as_long_as_it_is_not_cut(Client::Kernel);
        },
    );
}

#[test]
fn what_changes_between_requests_is_asked_for_anew() {
    in_network("what_changes_between_requests_is_asked_for_anew", || {
        servers::what_changes_between_requests_is_asked_for_anew(Client::Own);
    });
}

#[test]
fn what_changes_between_requests_is_asked_for_anew_through_the_kernel() {
    in_network(
        "what_changes_between_requests_is_asked_for_anew_through_the_kernel",
        || {
            servers::what_changes_between_requests_is_asked_for_anew(Client::Kernel);
        },
    );
}

#[test]
fn what_a_server_does_wrong_is_said_and_ends() {
    in_network("what_a_server_does_wrong_is_said_and_ends", || {
        servers::what_a_server_does_wrong_is_said_and_ends(Client::Own);
    });
}

#[test]
fn what_a_server_does_wrong_is_said_and_ends_through_the_kernel() {
    in_network(
        "what_a_server_does_wrong_is_said_and_ends_through_the_kernel",
        || {
            servers::what_a_server_does_wrong_is_said_and_ends(Client::Kernel);
        },
    );
}

#[test]
fn what_passes_is_waited_for_and_what_is_too_large_is_left() {
    in_network(
        "what_passes_is_waited_for_and_what_is_too_large_is_left",
        || {
            servers::what_passes_is_waited_for_and_what_is_too_large_is_left(Client::Own);
        },
    );
}

#[test]
fn what_passes_is_waited_for_and_what_is_too_large_is_left_through_the_kernel() {
    in_network(
        "what_passes_is_waited_for_and_what_is_too_large_is_left_through_the_kernel",
        || {
            servers::what_passes_is_waited_for_and_what_is_too_large_is_left(Client::Kernel);
        },
    );
}
