//! Updates over bad links: the real agent, a device of folders, nginx (busybox where there is none), and a link in between that
//! counts every byte.

#[path = "support/field.rs"]
mod field;
mod support;

use field::{LONG_RANGES, Maker, PATCHED, PIECE_BYTES, SEED, address, read};
use std::io;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use twinseal_hil::link::{Report, Shape};
use twinseal_hil::power::Moments;

/// Limit of one run of the agent: with its pauses after cuts, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// The most that an update may take that was interrupted so often.
fn most(undisturbed: &Report, interruptions: u64) -> u64 {
    undisturbed.bytes() * 103 / 100 + interruptions * PIECE_BYTES
}

#[test]
fn cuts_every_200_kb_cost_a_piece_each_at_most() {
    cuts_cost_a_piece_each(&Maker::new());
}

#[test]
fn cuts_every_200_kb_cost_a_piece_each_at_most_of_long_ranges_too() {
    cuts_cost_a_piece_each(&Maker::of(LONG_RANGES));
}

fn cuts_cost_a_piece_each(maker: &Maker) {
    let (undisturbed, set) = maker.undisturbed(2);
    for ending in ["close", "reset"] {
        let link = maker.link(&format!(
            "cut = {{ every-bytes = 200000, by = \"{ending}\" }}"
        ));
        let device = maker.device();
        let ran = device.install(&link, 2, &[]);
        assert_eq!(ran.code, 0, "{ending}: {}", ran.err);
        let report = link.report();
        println!(
            "{ending}: {} bytes undisturbed, {report:?}",
            undisturbed.bytes()
        );
        assert!(report.cuts >= 5, "{ending}: {report:?}");
        assert!(
            report.bytes() <= most(&undisturbed, report.cuts),
            "{ending}: {undisturbed:?} {report:?}"
        );
        device.is_updated(&set);
    }
}

#[test]
fn what_a_link_corrupts_is_never_installed() {
    let maker = Maker::new();
    let (_, set) = maker.undisturbed(2);
    let link = maker.link("corrupt = { mean-bytes = 300000, times = 3, in = \"anywhere\" }");
    let device = maker.device();
    let mut stops = 0;
    loop {
        let ran = device.install(&link, 2, &[]);
        if ran.code == 0 {
            break;
        }
        // The bundle is not as signed, or the server's answer makes no sense.
        assert!(
            [20, 21, 22, 23, 30, 70, 71].contains(&ran.code),
            "{}: {}",
            ran.code,
            ran.err
        );
        device.runs_on();
        stops += 1;
        assert!(stops <= 3, "{}", ran.err);
    }
    let report = link.report();
    println!("{stops} stops, {report:?}");
    assert!(report.corrupted_bytes >= 2, "{report:?}");
    device.is_updated(&set);
}

#[test]
fn a_link_that_corrupts_without_end_never_costs_more_than_the_budget() {
    let maker = Maker::new();
    let (link, device) = (maker.link(""), maker.device());
    let budget = device.plan(&link, 2) + 400_000;
    let start = link.report();
    for round in 0..5 {
        let before = link.report();
        let shape = "corrupt = { mean-bytes = 150000, in = \"anywhere\" }";
        link.change(read(shape), SEED + round);
        let ran = device.install(&link, 2, &["--budget", &budget.to_string()]);
        assert!(ran.code != 0, "{}", ran.out);
        let since = link.report().since(&before);
        let told = device.told("install-failed");
        println!("exit code {}, {told} told of {since:?}", ran.code);
        // What was sent and not read any more is spent, too.
        assert!(told >= since.bytes(), "{told}: {since:?}");
        device.runs_on();
    }
    // All attempts together.
    let spent = link.report().since(&start);
    assert!(spent.corrupted_bytes > 0, "{spent:?}");
    assert!(spent.bytes() <= budget, "{budget}: {spent:?}");
    // Over a good link it is the budget that says no.
    let ran = device.install(&maker.link(""), 2, &["--budget", &budget.to_string()]);
    assert!([0, 37].contains(&ran.code), "{}", ran.err);
}

#[test]
fn a_silence_is_waited_out_and_costs_nothing() {
    let maker = Maker::new();
    let (undisturbed, set) = maker.undisturbed(2);
    let link = maker.link("stall = { after-bytes = 400000, for-ms = 1500 }");
    let device = maker.device();
    let begin = Instant::now();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = link.report();
    assert!(begin.elapsed() >= Duration::from_millis(1500) && report.stalls == 1);
    assert!(
        report.bytes() <= most(&undisturbed, 0),
        "{undisturbed:?} {report:?}"
    );
    device.is_updated(&set);
}

#[test]
fn a_server_that_is_busy_is_asked_again_and_one_without_the_file_is_not() {
    let maker = Maker::new();
    let (undisturbed, set) = maker.undisturbed(2);
    let link = maker.link("refuse = { status = 503, times = 2, after-requests = 1 }");
    let device = maker.device();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = link.report();
    assert_eq!(report.refused, 2);
    assert!(
        report.bytes() <= most(&undisturbed, 2),
        "{undisturbed:?} {report:?}"
    );
    device.is_updated(&set);

    let link = maker.link("refuse = { status = 404, times = 9 }");
    let device = maker.device();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 70, "{}", ran.err);
    assert!(link.report().requests <= 2, "{:?}", link.report());
    device.runs_on();
}

#[test]
fn a_range_that_is_refused_ends_the_install_and_it_goes_on_later() {
    let maker = Maker::new();
    let (_, set) = maker.undisturbed(2);
    let link = maker.link("refuse = { status = 416, times = 1, after-requests = 2 }");
    let device = maker.device();
    let ran = device.install(&link, 2, &[]);
    assert!(
        ran.code != 0,
        "a range that is there was refused: {}",
        ran.out
    );
    device.runs_on();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    device.is_updated(&set);
}

#[test]
fn a_bundle_that_is_replaced_under_way_is_noticed_and_the_new_one_installed_next() {
    let maker = Maker::new();
    let (_, set) = maker.undisturbed(3);
    let link = maker.link("replace = { after-bytes = 300000, by = \"v3.tseal\" }");
    let device = maker.device();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 71, "{}", ran.err);
    assert!(link.report().replaced > 0);
    device.runs_on();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    device.is_updated(&set);
}

#[test]
fn a_server_without_ranges_gives_the_whole_or_nothing() {
    let maker = Maker::new();
    let (undisturbed, set) = maker.undisturbed(2);
    let whole = maker.bundle_bytes(2);
    assert!(undisturbed.bytes() < whole * 2 / 3);
    // Slow, so that what is sent before the agent hangs up is what the agent took to see it.
    let link = maker.link("no-ranges = true\nbits-per-second = 1000000");
    let device = maker.device();
    let ran = device.install(&link, 2, &["--budget", &(whole - 1).to_string()]);
    assert_eq!(ran.code, 37, "{}", ran.err);
    assert!(link.report().body_bytes < whole / 2, "{:?}", link.report());
    device.runs_on();

    let link = maker.link("no-ranges = true");
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = link.report();
    assert!(
        report.body_bytes <= whole && report.requests == 2,
        "{report:?}"
    );
    device.is_updated(&set);
}

#[test]
fn a_budget_that_is_a_byte_too_small_is_refused_before_the_first_byte_of_data() {
    let maker = Maker::new();
    let (link, device) = (maker.link(""), maker.device());
    let budget = device.plan(&link, 2);
    let (set, before) = (device.set("b"), link.report());
    let ran = device.install(&link, 2, &["--budget", &(budget - 1).to_string()]);
    assert_eq!(ran.code, 37, "{}", ran.err);
    assert!(ran.err.contains("budget"), "{}", ran.err);
    let since = link.report().since(&before);
    assert!(since.body_bytes <= 4_096, "{since:?} of {budget}");
    assert!(device.set("b") == set, "nothing is written");
    device.runs_on();
    assert_eq!(device.told("install-failed"), since.bytes());
    let before = link.report();
    let ran = device.install(&link, 2, &["--budget", &budget.to_string()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let since = link.report().since(&before);
    println!("{budget} bytes planned, {since:?}");
    assert!(since.bytes() <= budget && since.bytes() >= budget * 95 / 100);
    assert_eq!(device.told("install-completed"), since.bytes());
}

#[test]
fn what_the_plan_says_is_enough_for_patches_whatever_the_device_starts_from() {
    let maker = Maker::of(PATCHED);
    for (options, start) in [(&["--both"][..], "target"), (&[], "running")] {
        let (link, device) = (maker.link(""), maker.device_made(options));
        let ran = device.run(&["--json", "plan", &address(&link, 2)]);
        let plan = ran.event("plan");
        assert_eq!(plan["start"], start, "{}", ran.err);
        let budget = plan["network"]["install_bytes"].as_u64().unwrap();
        let before = link.report();
        let ran = device.install(&link, 2, &["--budget", &budget.to_string()]);
        assert_eq!(ran.code, 0, "{start}: {}", ran.err);
        let since = link.report().since(&before);
        println!("{start}: {budget} bytes planned, {since:?}");
        assert!(since.bytes() <= budget);
        // What is there and the front matter, framing before and behind the data, the UKI, the image, and all patches in one row.
        assert!(since.requests <= 7, "{:?}", link.asked());
    }
}

#[test]
fn what_was_spent_before_counts_for_the_bundle_and_for_the_period() {
    let maker = Maker::new();
    let (link, device) = (maker.link(""), maker.device());
    let budget = device.plan(&link, 2);
    // The server goes away in the middle; what came by then is paid for.
    link.change(
        read("refuse = { status = 404, times = 9, after-requests = 8 }"),
        SEED,
    );
    let before = link.report();
    let ran = device.install(&link, 2, &["--budget", &budget.to_string()]);
    assert_eq!(ran.code, 70, "{}", ran.err);
    let spent = link.report().since(&before).bytes();
    assert!(spent > budget / 10, "{spent} of {budget}");
    link.change(Shape::default(), SEED);
    // The front matter is read again, and that is more than was planned.
    let before = link.report();
    let ran = device.install(&link, 2, &["--budget", &budget.to_string()]);
    assert_eq!(ran.code, 37, "{}", ran.err);
    let again = link.report().since(&before).bytes();
    assert!(again < 10_000, "{again}");
    // Another bundle has a budget of its own, but the period has one for all.
    device.describe("[budget]\nbytes = 30000\nperiod = \"month\"\n");
    let ran = device.install(&link, 3, &[]);
    assert_eq!(ran.code, 37, "{}", ran.err);
    let larger = (budget * 2).to_string();
    device.describe(&format!("[budget]\nbytes = {larger}\nperiod = \"month\"\n"));
    let ran = device.install(&link, 2, &["--budget", &larger]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn dropped_connections_are_tried_again() {
    let maker = Maker::new();
    let (_, set) = maker.undisturbed(2);
    let link = maker.link("drop = { one-in = 2, times = 2 }\ncut = { every-bytes = 300000 }");
    let device = maker.device();
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(link.report().dropped > 0, "{:?}", link.report());
    device.is_updated(&set);
}

#[test]
fn an_agent_that_is_killed_goes_on_where_it_was() {
    kills_cost_a_piece_each(&Maker::new());
}

#[test]
fn an_agent_that_is_killed_goes_on_where_it_was_in_a_long_range() {
    kills_cost_a_piece_each(&Maker::of(LONG_RANGES));
}

fn kills_cost_a_piece_each(maker: &Maker) {
    let (undisturbed, set) = maker.undisturbed(2);
    let (link, device) = (maker.link(""), maker.device());
    let mut moments = Moments::new(SEED, "kills");
    let mut kills = 0;
    for _ in 0..30 {
        let (tell, happened) = mpsc::channel();
        link.tell_stalls(tell.clone());
        let stalls = link.report().stalls;
        let after = 1 + moments.up_to(undisturbed.down_bytes / 15);
        link.change(read(&format!("stall = {{ after-bytes = {after} }}")), SEED);
        let mut command = device.command(&["install", &address(&link, 2)]);
        let mut agent = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = agent.stdout.take().unwrap();
        let listening = thread::spawn(move || {
            let read = io::copy(&mut said, &mut io::sink());
            // It has ended: nobody may listen any more.
            let _ = tell.send(());
            read
        });
        happened.recv_timeout(LIMIT).expect("nothing happened");
        let is_stalled = link.report().stalls > stalls;
        agent.kill().unwrap();
        agent.wait().unwrap();
        listening.join().unwrap().unwrap();
        if !is_stalled {
            break;
        }
        device.runs_on();
        kills += 1;
    }
    link.change(Shape::default(), SEED);
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = link.report();
    println!(
        "seed {SEED}: {kills} kills, {} bytes undisturbed, {report:?}",
        undisturbed.bytes()
    );
    assert!(kills >= 20, "{report:?}");
    let most = most(&undisturbed, kills);
    assert!(report.bytes() <= most, "{most}: {undisturbed:?} {report:?}");
    device.is_updated(&set);
}

#[test]
fn an_install_whose_hours_end_under_way_stops_in_order_and_goes_on_later() {
    let maker = Maker::new();
    let (undisturbed, set) = maker.undisturbed(2);
    // The whole takes some ten seconds, of which the hours have four.
    let rate = undisturbed.bytes() * 8 / 10;
    let (link, device) = (
        maker.link(&format!("bits-per-second = {rate}")),
        maker.device(),
    );
    let second = |from_now: i64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let second = (now.as_secs() as i64 + from_now).rem_euclid(24 * 3600);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        format!("{hour:02}:{minute:02}:{:02}", second % 60)
    };
    let begin = Instant::now();
    let hours = format!("{}-{}", second(-60), second(4));
    let ran = device.install(&link, 2, &["--window", &hours]);
    let (took, spent) = (begin.elapsed(), link.report());
    assert_eq!(ran.code, 72, "{}", ran.err);
    assert!(ran.err.contains("but from"), "{}", ran.err);
    println!("{took:?}, {spent:?} of {undisturbed:?}");
    assert!(spent.bytes() > undisturbed.bytes() / 10, "{spent:?}");
    // The request under way is the last one, and nothing of it was left unread.
    assert_eq!(device.told("install-failed"), spent.bytes());
    device.runs_on();
    // Now they are closed: nothing is asked for. A day later it goes on where it was.
    let ran = device.install(&link, 2, &["--window", &hours]);
    assert_eq!(ran.code, 72, "{}", ran.err);
    assert_eq!(link.report(), spent);
    link.change(Shape::default(), SEED);
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = link.report();
    assert!(report.bytes() <= most(&undisturbed, 1), "{report:?}");
    device.is_updated(&set);
}

/// Requests before the first byte of data: what is there, the front matter, the index, and what stands between them.
const REQUESTS_BEFORE_DATA: usize = 6;

#[test]
fn six_requests_at_most_come_before_the_first_byte_of_data() {
    let maker = Maker::of(PATCHED);
    let (link, device) = (maker.link(""), maker.device());
    let ran = device.install(&link, 2, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.event("plan")["base"].is_string(),
        "no route from a base"
    );
    assert!(ran.event("installed")["patched_blobs"].as_u64() >= Some(10));
    let data = maker.data_offset(2);
    let start = |range: &String| {
        range
            .strip_prefix("bytes=")?
            .split_once('-')?
            .0
            .parse()
            .ok()
    };
    let asked = link.asked();
    let before = asked.iter().position(|range| start(range) >= Some(data));
    println!("data at {data}: {asked:?}");
    assert!(before.unwrap() <= REQUESTS_BEFORE_DATA, "{before:?}");
}

#[test]
fn a_damaged_base_is_noticed_and_its_object_fetched_another_way_or_not_at_all() {
    let maker = Maker::of(PATCHED);
    let (undisturbed, set) = maker.undisturbed(2);
    let (link, device) = (maker.link(""), maker.device());
    let budget = device.plan(&link, 2);
    assert!(device.damage(&PATCHED.object(1, 0)) >= 1);
    // What was planned does not allow another way.
    let before = link.report();
    let ran = device.install(&link, 2, &["--budget", &budget.to_string()]);
    assert_eq!(ran.code, 81, "{}", ran.err);
    let spent = link.report().since(&before).bytes();
    assert!(spent <= budget, "{spent} of {budget}");
    assert_eq!(device.told("install-failed"), spent);
    device.runs_on();
    let larger = 2 * budget + PATCHED.object_bytes as u64;
    let ran = device.install(&link, 2, &["--budget", &larger.to_string()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let installed = ran.event("installed");
    assert_eq!(installed["damaged_bases"], 1, "{installed}");
    let spent = link.report().since(&before).bytes();
    println!(
        "{} bytes undisturbed, {spent} of {larger}",
        undisturbed.bytes()
    );
    assert!(spent <= larger, "{spent} of {larger}");
    device.is_updated(&set);
}
