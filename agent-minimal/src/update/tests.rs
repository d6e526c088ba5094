//! What an install leaves behind when its end fails.

use super::*;
use crate::description::Description;
use crate::keys::Keys;
use std::fs;
use std::sync::Mutex;
use tempfile::TempDir;
use twinseal_core::verify::signature::TrustedKey;

/// A bundle that installs, and the key that signed it.
const BUNDLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../core/tests/golden/small.tseal"
);
const KEY: &[u8; 32] = include_bytes!("../../../core/tests/golden/small.pub");

/// A device of folders and files, which runs set A; its boot loader is one that this agent cannot open.
fn device(folder: &TempDir) -> Device {
    let at = folder.path();
    for slot in ["boot-a", "root-a", "boot-b", "root-b", "state"] {
        fs::create_dir(at.join(slot)).unwrap();
    }
    for image in ["fpga-a", "fpga-b"] {
        fs::write(at.join(image), [0; 4096]).unwrap();
    }
    let text = "compatible = \"test-device\"\nstate = \"state\"\nverity = \"absent\"\nclock = \"none\"\n[boot]\nloader = \"systemd-boot\"\n\
                record = \"record\"\n[sets.a]\nboot = \"boot-a\"\nroot = \"root-a\"\n[sets.b]\nboot = \"boot-b\"\n\
                root = \"root-b\"\n[slots.fpga]\na = \"fpga-a\"\nb = \"fpga-b\"\n";
    let description = Description::parse(text, at.to_str().unwrap()).unwrap();
    let keys = Keys::from_iter([TrustedKey::ed25519(*KEY)]);
    Device { description, keys }
}

/// Too large for a stack.
static MEMORY: Mutex<Memory> = Mutex::new(Memory::new());

struct Accepts;

impl Watcher for Accepts {
    fn decide(&mut self, _: &Plan, _: &Verified<Manifest>) -> Result<bool, AgentError> {
        Ok(true)
    }
}

#[test]
fn an_address_that_is_none_and_a_limited_network_are_refused_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = device(&folder);
    let mut store = device.record_store().unwrap();
    let provisioned = BootRecord::provisioned(Set::A, 0, [1; 32]);
    let loaded = Loaded::Record(record::store(&mut store, &provisioned).unwrap());
    let past = device.journal(&loaded).unwrap().past();
    let mut memory = MEMORY.lock().unwrap();
    let mut fetch = |device: &Device, source| {
        let begin = start(device, &loaded, Set::A, past).unwrap();
        let stopped = transfer(device, &begin, source, &mut memory, &mut Accepts);
        stopped.unwrap_err().error
    };
    for wrong in [
        "https://a/b",
        "ftp://a/b",
        "http://",
        "http://[::1]/b",
        "x://",
    ] {
        let error = fetch(&device, wrong);
        let said = std::format!("{error}");
        assert!(
            said.starts_with(wrong) && said.contains("http://SERVER"),
            "{said}"
        );
        assert_eq!(error.code(), twinseal_core::exit::USAGE);
    }
    // What only looks like one is a path.
    let path = fetch(&device, "./a b://c");
    assert!(matches!(path, AgentError::Source { .. }), "{path:?}");
    device.description.limits_network = true;
    let limited = fetch(&device, "http://127.0.0.1:9/b");
    assert!(matches!(limited, AgentError::NetworkLimited), "{limited:?}");
    assert_eq!(limited.code(), twinseal_core::exit::USAGE);
}

#[test]
fn a_loader_that_cannot_be_opened_costs_no_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let device = device(&folder);
    let mut store = device.record_store().unwrap();
    let provisioned = BootRecord::provisioned(Set::A, 0, [1; 32]);
    let record = record::store(&mut store, &provisioned).unwrap();
    let loaded = Loaded::Record(record);
    let mut journal = device.journal(&loaded).unwrap();
    let begin = start(&device, &loaded, Set::A, journal.past()).unwrap();
    let mut memory = MEMORY.lock().unwrap();
    let installed = transfer(&device, &begin, BUNDLE, &mut memory, &mut Accepts);
    let installed = installed.unwrap().unwrap();
    let mut attempt = Attempt {
        device: &device,
        target: Set::B,
        store: &mut store,
        journal: &mut journal,
        recovers: false,
        forgets: false,
        keeps_etc: false,
    };
    let ended = complete(&mut attempt, &installed, &record);
    assert!(matches!(ended, Err(AgentError::LoaderUnknown)), "{ended:?}");
    assert_eq!(device.load_record().unwrap(), loaded);
    assert!(!folder.path().join("state/boot-attempt").exists());
}
