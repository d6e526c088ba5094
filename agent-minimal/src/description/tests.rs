//! What is read of a device description, and what is refused.

use super::*;
use std::format;
use std::string::String;

fn parse(text: &str) -> Result<Description, DescriptionFault> {
    Description::parse(text, "/etc/twinseal")
}

#[test]
fn one_line_is_enough() {
    let device = parse("compatible = \"acme-gateway\"").unwrap();
    assert_eq!(device.compatible.as_str(), "acme-gateway");
    assert_eq!(device.record, "/var/lib/twinseal/boot-record");
    assert_eq!(
        (device.verity, device.trial_attempts),
        (Verity::Required, 3)
    );
    assert!(device.trusts_clock && device.loader == Loader::Record);
    assert!(!device.limits_network);
    let [a, b] = device.sets.unwrap();
    assert_eq!(a.boot, "/dev/disk/by-partlabel/boot-a");
    assert_eq!(b.root, "/dev/disk/by-partlabel/root-b");
}

#[test]
fn every_key_is_read_and_relative_paths_start_at_the_file() {
    let text = "# A device.\ncompatible = \"x\" # its type\nstate = \"state\"\ntrusted-keys = [ \"k.pub\", \"/l.pub\", ]\n\
                running = \"/run/set\"\nverity = \"absent\"\nclock = \"none\"\ntrial-attempts = 5\nhealth = \"h\"\n\n\
                [boot]\nloader = \"uefi\"\nrecord = \"record\"\nvariables = \"v\"\n[sets.a]\nboot = \"boot-a\"\n\
                [budget]\nbytes = 9\n[network]\nno-proxy = [\"h\"]\n[slots.fpga]\r\na = \"fpga-a\"\nb = \"/dev/fpga-b\"\n";
    let device = parse(text).unwrap();
    assert_eq!(device.state, "/etc/twinseal/state");
    assert_eq!(device.record, "/etc/twinseal/record");
    assert_eq!(device.variables, "/etc/twinseal/v");
    assert_eq!(device.running, "/run/set");
    assert_eq!((device.verity, device.trial_attempts), (Verity::Absent, 5));
    assert!(!device.trusts_clock && device.loader == Loader::Uefi);
    assert!(device.limits_network);
    let keys: Vec<&str, 4> = device
        .trusted_keys
        .iter()
        .flatten()
        .map(|key| key.as_str())
        .collect();
    assert_eq!(keys, ["/etc/twinseal/k.pub", "/l.pub"]);
    assert_eq!(device.sets.unwrap()[0].boot, "/etc/twinseal/boot-a");
    assert_eq!(device.images[0].name.as_str(), "fpga");
    assert_eq!(device.images[0].of[1], "/dev/fpga-b");
}

#[test]
fn a_line_outside_of_the_form_is_named() {
    for line in [
        "compatible",
        "verity = absent",
        "state = 'state'",
        "state = \"a\\tb\"",
        "state = \"\"\"a\"\"\"",
        "state = \"a\" b",
        "trial-attempts = 03",
        "trial-attempts = 3.0",
        "trusted-keys = [",
        "trusted-keys = [\"a\" \"b\"]",
        "[boot",
        "[boot] x",
        "boot.loader = { }",
    ] {
        let fault = parse(&format!("compatible = \"x\"\n{line}\n"));
        assert_eq!(
            fault.err(),
            Some(DescriptionFault::Form { line: 2 }),
            "{line}"
        );
    }
}

#[test]
fn what_is_not_known_stands_twice_or_cannot_be_is_named() {
    let fault = |line: &str| parse(&format!("compatible = \"x\"\n{line}\n")).unwrap_err();
    for line in [
        "trusted-key = []",
        "Verity = \"absent\"",
        "[boots]",
        "[sets.c]",
    ] {
        assert_eq!(fault(line), DescriptionFault::Unknown { line: 2 }, "{line}");
    }
    assert_eq!(
        fault("[boot]\nlader = \"uefi\""),
        DescriptionFault::Unknown { line: 3 }
    );
    assert_eq!(
        fault("compatible = \"y\""),
        DescriptionFault::Twice { line: 2 }
    );
    for table in ["[boot]", "[budget]", "[network]"] {
        let twice = fault(&format!("{table}\n{table}"));
        assert_eq!(twice, DescriptionFault::Twice { line: 3 }, "{table}");
    }
    assert_eq!(
        fault("[slots.f]\na = \"x\"\nb = \"y\"\n[slots.f]"),
        DescriptionFault::Twice { line: 5 }
    );
    for line in [
        "verity = \"off\"",
        "clock = true",
        "trial-attempts = 0",
        "trial-attempts = 256",
        "image-only = \"true\"",
        "[slots.FPGA]",
        "[slots.fpga]\na = \"only one\"",
    ] {
        assert_eq!(fault(line), DescriptionFault::Value { line: 2 }, "{line}");
    }
    assert_eq!(
        fault("[boot]\nloader = \"grub\""),
        DescriptionFault::Value { line: 3 }
    );
    assert_eq!(parse("").unwrap_err(), DescriptionFault::NoCompatible);
    assert_eq!(fault("image-only = true"), DescriptionFault::ImageOnly);
    assert_eq!(
        fault("[boot]\nvariables = \"v\""),
        DescriptionFault::VariablesWithoutLoader
    );
    for other in ["x", "./x", "x/", "././x/"] {
        let shared = fault(&format!("[slots.f]\na = \"x\"\nb = \"{other}\""));
        assert_eq!(shared, DescriptionFault::Shared, "{other}");
    }
    let long: String = "x".repeat(256);
    assert_eq!(
        fault(&format!("state = \"{long}\"")),
        DescriptionFault::PathTooLong
    );
}

#[test]
fn a_key_in_the_wrong_table_is_not_passed_over() {
    for (table, line) in [
        ("network", "clock = \"none\""),
        ("budget", "trusted-keys = [\"k\"]"),
        ("network", "by tes = 5"),
    ] {
        let text = format!("compatible = \"x\"\n[{table}]\n{line}\n");
        let wrong = Description::parse(&text, "");
        assert_eq!(wrong, Err(DescriptionFault::Unknown { line: 3 }), "{line}");
    }
    let dotted = "compatible = \"x\"\n[slots.fp.ga]\na = \"a\"\nb = \"b\"\n";
    let wrong = Description::parse(dotted, "");
    assert_eq!(wrong, Err(DescriptionFault::Unknown { line: 2 }));
}
