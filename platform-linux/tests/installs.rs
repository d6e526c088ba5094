//! Whole installs by core's installer into slots, run after run, and stopped at every call of the storage.

#[path = "../../core/tests/support/mod.rs"]
mod bundles;

use bundles::{Options, Release, bundle_reader, noise, proved, trusted, verity};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use twinseal_core::decode::Inflate;
use twinseal_core::error::{Error, StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::install::{Config, Installer, Tally, Workspace};
use twinseal_core::source::{RunError, Seekable, run};
use twinseal_core::storage::{Storage, StorageLayer};
use twinseal_core::verify::Verified;
use twinseal_core::wire::FRONT_MAX_BYTES;
use twinseal_core::wire::manifest::Manifest;
use twinseal_platform_linux::{
    BootLayout, ImageSlot, LinuxConfig, LinuxStorage, SetPaths, Verity, read_front,
};

/// The error of a stop.
const STOPPED: StorageError = StorageError {
    operation: StorageOperation::Sync,
    object: StorageObject::Scratch,
    fault: StorageFault::Code(-1),
};

/// A storage that stops before its call number `left`, and stays stopped.
struct Stopping<S> {
    storage: S,
    left: usize,
    calls: usize,
}

impl<S: Storage> StorageLayer for Stopping<S> {
    type Below = S;
    type Reached<'l>
        = &'l mut S
    where
        Self: 'l;

    fn below(&mut self) -> Result<&mut S, StorageError> {
        self.left = self.left.checked_sub(1).ok_or(STOPPED)?;
        self.calls += 1;
        Ok(&mut self.storage)
    }
}

/// Two sets of slots.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        // In memory: what is tested is the order of calls, and hundreds of syncs would wait for everybody's disk.
        let directory = TempDir::new_in("/dev/shm").unwrap();
        for set in ["a", "b"] {
            fs::create_dir_all(directory.path().join(set).join("boot")).unwrap();
            fs::create_dir_all(directory.path().join(set).join("root")).unwrap();
        }
        Self(directory)
    }

    fn path(&self, set: &str, name: &str) -> String {
        self.0
            .path()
            .join(set)
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// Installs into `target`; gives what was done and the calls that it took.
    fn install(
        &self,
        target: &str,
        bundle: &[u8],
        stop_after: usize,
    ) -> Result<(Tally, usize), Error> {
        let sets = ["a", "b"]
            .map(|set| ["boot", "root", "front", "fpga"].map(|name| self.path(set, name)));
        let (running, target) = if target == "b" {
            (&sets[0], &sets[1])
        } else {
            (&sets[1], &sets[0])
        };
        let paths = |set: &'_ [String; 4]| (set[0].clone(), set[1].clone(), set[2].clone());
        let ((rb, rr, rf), (tb, tr, tf)) = (paths(running), paths(target));
        let images = [ImageSlot {
            name: "fpga",
            running: &running[3],
            target: &target[3],
        }];
        let config = LinuxConfig {
            running: SetPaths {
                boot: Some(&rb),
                layout: BootLayout::RemovableMedia,
                root: Some(&rr),
                front: &rf,
            },
            target: SetPaths {
                boot: Some(&tb),
                layout: BootLayout::RemovableMedia,
                root: Some(&tr),
                front: &tf,
            },
            images: &images,
            scratch: &self.path("", "scratch"),
            verity: Verity::Absent,
            probe_images: true,
            recovers: false,
        };
        let storage = LinuxStorage::open(config).map_err(Error::Storage)?;
        let mut front = vec![0; FRONT_MAX_BYTES];
        let length = read_front(&tf, &mut front).map_err(Error::Storage)?;
        let held = length.and_then(|length| proved(&front[..length]));
        drive(
            bundle,
            held.as_ref(),
            &mut Stopping {
                storage,
                left: stop_after,
                calls: 0,
            },
        )
    }

    /// Everything about a set that can be seen, by name and content.
    fn contents(&self, set: &str) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        walk(&self.0.path().join(set), &mut found);
        found.sort();
        found
    }

    fn is_bootable(&self, set: &str) -> bool {
        let names = fs::read_dir(self.path(set, "boot/EFI/BOOT"));
        names.is_ok_and(|mut names| {
            names.any(|name| {
                name.unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .to_lowercase()
                    .ends_with(".efi")
            })
        })
    }

    fn assert_holds(&self, set: &str, release: &Release) {
        assert!(self.is_bootable(set));
        let mut objects: Vec<_> = release.objects.iter().chain([&release.erofs]).collect();
        objects.sort_by_key(|bytes| verity(bytes).to_hex());
        let found: Vec<_> = self
            .contents(set)
            .into_iter()
            .filter(|(name, _)| name.contains("/composefs/objects/"))
            .map(|(_, bytes)| bytes)
            .collect();
        assert!(
            found.iter().eq(objects),
            "exactly the objects of the release"
        );
        let (names, sealed) = (
            self.path(set, "root/composefs/images"),
            verity(&release.erofs).to_string(),
        );
        let names: Vec<_> = fs::read_dir(names)
            .unwrap()
            .map(|name| name.unwrap().file_name())
            .collect();
        assert_eq!(names, [sealed.as_str()]);
        let fpga = fs::read(self.path(set, "fpga")).unwrap();
        assert_eq!(fpga, release.images[0].1);
        let ukis = self
            .contents(set)
            .into_iter()
            .filter(|(name, _)| name.contains("/EFI/BOOT/"));
        assert_eq!(
            ukis.map(|(_, bytes)| bytes).collect::<Vec<_>>(),
            [release.uki.clone().unwrap()]
        );
        let mut front = vec![0; FRONT_MAX_BYTES];
        let length = read_front(&self.path(set, "front"), &mut front)
            .unwrap()
            .unwrap();
        assert!(
            release.build().starts_with(&front[..length - 1024]),
            "the front matter, and two zero blocks"
        );
    }
}

fn walk(path: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_str().unwrap().to_owned();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            walk(&path, found);
        } else if kind.is_symlink() {
            found.push((
                name,
                fs::read_link(&path)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .as_bytes()
                    .to_vec(),
            ));
        } else {
            found.push((name, fs::read(&path).unwrap()));
        }
    }
}

fn drive<S: Storage>(
    bundle: &[u8],
    held: Option<&Verified<Manifest>>,
    storage: &mut Stopping<S>,
) -> Result<(Tally, usize), Error> {
    let options = Options::default();
    let keys: Vec<_> = options.keys.iter().map(|number| trusted(*number)).collect();
    let config = Config {
        keys: &keys,
        policy: options.policy,
        request_max_bytes: options.request_bytes as u32,
        source_bytes: Some(bundle.len() as u64),
        audit: false,
        read_back: true,
        budget: None,
        can_go_back: true,
    };
    let (mut front, mut output) = (vec![0; FRONT_MAX_BYTES], vec![0; 4096]);
    let mut inflate = Box::new(Inflate::new());
    let workspace = Workspace {
        front: &mut front,
        output: &mut output,
        inflate: &mut *inflate,
        zstd: None,
    };
    let mut installer = Installer::new(config, workspace)?;
    if let Some(held) = held {
        installer.start_from(held);
    }
    let mut buffer = vec![0; options.request_bytes];
    let mut source = Seekable(bundle_reader(bundle));
    match run(&mut installer, &mut source, storage, &mut buffer, |_, _| {
        true
    }) {
        Ok(()) => Ok((installer.into_installed()?.tally(), storage.calls)),
        Err(RunError::Core(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn sets_alternate_and_hold_nothing_else() {
    let machine = Machine::new();
    let mut fetched = Vec::new();
    for (seed, target) in [(1, "a"), (2, "b"), (3, "a"), (3, "b"), (3, "b")] {
        let release = Release::sealed(seed);
        let other = if target == "a" { "b" } else { "a" };
        let before = machine.contents(other);
        let (tally, _) = machine
            .install(target, &release.build(), usize::MAX)
            .unwrap();
        machine.assert_holds(target, &release);
        assert_eq!(
            machine.contents(other),
            before,
            "the running set is as it was"
        );
        fetched.push(tally.data_bytes);
    }
    assert!(
        fetched[1] < fetched[0],
        "objects of the running set are copied: {fetched:?}"
    );
    assert_eq!(
        fetched[4], 0,
        "the same release again costs no data: {fetched:?}"
    );
}

/// A release of many small objects.
fn many() -> Release {
    Release {
        objects: (0..300).map(|seed| noise(1000 + seed, 50)).collect(),
        ..Release::sealed(1)
    }
}

#[test]
fn the_route_from_what_the_set_holds_leaves_exactly_the_new_release() {
    let machine = Machine::new();
    let mut release = many();
    machine.install("b", &release.build(), usize::MAX).unwrap();
    let (full, _) = machine
        .install("a", &Release::after(&release, 40).build(), usize::MAX)
        .unwrap();
    for seed in [50, 60, 70] {
        release = Release::after(&release, seed);
        let bundle = release.build();
        let (tally, calls) = machine.install("b", &bundle, usize::MAX).unwrap();
        machine.assert_holds("b", &release);
        assert!(tally.index_bytes < full.index_bytes / 5, "{tally:?}");
        assert!(
            calls < 100,
            "{calls} calls: objects that stay are not looked at"
        );
    }
}

#[test]
fn a_base_whose_image_is_gone_or_renamed_is_not_believed() {
    let images = "root/composefs/images";
    for spoil in ["name", "object"] {
        let machine = Machine::new();
        let old = many();
        machine.install("b", &old.build(), usize::MAX).unwrap();
        let hex = verity(&old.erofs).to_string();
        let path = match spoil {
            "name" => machine.path("b", &format!("{images}/{hex}")),
            _ => machine.path(
                "b",
                &format!("root/composefs/objects/{}/{}", &hex[..2], &hex[2..]),
            ),
        };
        fs::remove_file(path).unwrap();
        let lost = verity(&old.objects[3]).to_string();
        let lost = format!("root/composefs/objects/{}/{}", &lost[..2], &lost[2..]);
        fs::remove_file(machine.path("b", &lost)).unwrap();
        let new = Release::after(&old, 50);
        machine.install("b", &new.build(), usize::MAX).unwrap();
        machine.assert_holds("b", &new);
    }
}

#[test]
fn a_stop_at_any_call_of_the_route_from_a_base_can_be_gone_on_from() {
    let old = Release {
        objects: (0..4).map(|seed| noise(1000 + seed, 50)).collect(),
        ..Release::sealed(1)
    };
    let new = Release::after(&old, 50);
    let bundle = new.build();
    let calls = {
        let machine = Machine::new();
        machine.install("b", &old.build(), usize::MAX).unwrap();
        machine.install("b", &bundle, usize::MAX).unwrap().1
    };
    let mut stops = 0;
    for stop in 0..calls {
        let machine = Machine::new();
        machine.install("b", &old.build(), usize::MAX).unwrap();
        let before = machine.contents("b");
        let stopped = machine.install("b", &bundle, stop).unwrap_err();
        assert_eq!(stopped, Error::Storage(STOPPED), "stop {stop}");
        let untouched = machine.contents("b") == before;
        assert!(untouched || !machine.is_bootable("b"), "stop {stop}");
        machine.install("b", &bundle, usize::MAX).unwrap();
        machine.assert_holds("b", &new);
        stops += 1;
    }
    println!("{stops} stops");
    assert!(stops > 30, "{stops} stops");
}

#[test]
fn a_stop_at_any_call_leaves_no_bootable_set_and_can_be_gone_on_from() {
    let old = Release::sealed(1);
    let new = Release::sealed(2);
    let bundle = new.build();
    let calls = {
        let machine = Machine::new();
        machine.install("a", &old.build(), usize::MAX).unwrap();
        machine.install("b", &bundle, usize::MAX).unwrap().1
    };
    let (mut stops, mut saved) = (0, 0);
    for stop in 0..calls {
        let machine = Machine::new();
        machine.install("a", &old.build(), usize::MAX).unwrap();
        let running = machine.contents("a");
        let stopped = machine.install("b", &bundle, stop).unwrap_err();
        assert_eq!(stopped, Error::Storage(STOPPED), "stop {stop}");
        assert!(!machine.is_bootable("b"), "stop {stop}");
        let (tally, _) = machine.install("b", &bundle, usize::MAX).unwrap();
        machine.assert_holds("b", &new);
        assert_eq!(machine.contents("a"), running, "stop {stop}");
        saved += usize::from(tally.present_bytes > 0);
        stops += 1;
    }
    println!("{stops} stops, after {saved} of them something was there already");
    assert!(
        stops > 50 && saved > stops / 3,
        "{stops} stops, {saved} resumed"
    );
}

/// What patches fetch, and what the same release costs whole.
fn patched(machine: &Machine, new: &Release) -> (Tally, u64) {
    let fresh = Machine::new();
    let whole = fresh.install("b", &new.build(), usize::MAX).unwrap().0;
    let (tally, _) = machine.install("b", &new.build(), usize::MAX).unwrap();
    machine.assert_holds("b", new);
    (tally, whole.data_bytes)
}

#[test]
fn blobs_are_patched_from_the_running_set_at_each_of_its_places() {
    let machine = Machine::new();
    let old = Release::sealed(1);
    let new = Release::evolved(&old, 3);
    machine.install("a", &old.build(), usize::MAX).unwrap();
    let before = machine.contents("a");
    let (tally, whole) = patched(&machine, &new);
    // The UKI, the image, the composefs image, and two objects that are worth it; a third is too small.
    assert!(tally.patched_blobs >= 5, "{tally:?}");
    assert!(tally.data_bytes * 4 < whole, "{tally:?} and {whole} whole");
    assert_eq!(tally.damaged_bases, 0);
    assert_eq!(machine.contents("a"), before);
}

#[test]
fn a_base_that_is_damaged_or_gone_is_noticed_at_each_of_its_places() {
    let old = Release::sealed(1);
    let new = Release::evolved(&old, 3);
    let object = |bytes: &[u8]| {
        let hex = verity(bytes).to_string();
        format!("root/composefs/objects/{}/{}", &hex[..2], &hex[2..])
    };
    let uki = format!("boot/EFI/BOOT/{}", {
        let machine = Machine::new();
        machine.install("a", &old.build(), usize::MAX).unwrap();
        let names = fs::read_dir(machine.path("a", "boot/EFI/BOOT")).unwrap();
        let mut names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
        names.next().unwrap()
    });
    let places = [
        uki,
        "fpga".to_owned(),
        object(&old.objects[2]),
        object(&old.erofs),
    ];
    for place in places {
        for gone in [false, true] {
            let machine = Machine::new();
            machine.install("a", &old.build(), usize::MAX).unwrap();
            let path = machine.path("a", &place);
            if gone {
                fs::remove_file(&path).unwrap();
            } else {
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
            let (tally, _) = patched(&machine, &new);
            assert_eq!(tally.damaged_bases, u32::from(!gone), "{place}");
        }
    }
}

#[test]
fn without_a_stated_manifest_what_has_no_name_is_no_base() {
    let machine = Machine::new();
    let old = Release::sealed(1);
    let new = Release::evolved(&old, 3);
    machine.install("a", &old.build(), usize::MAX).unwrap();
    fs::remove_dir_all(machine.path("a", "front")).unwrap();
    let (tally, _) = patched(&machine, &new);
    let (all, _) = {
        let machine = Machine::new();
        machine.install("a", &old.build(), usize::MAX).unwrap();
        patched(&machine, &new)
    };
    assert_eq!(tally.patched_blobs, all.patched_blobs - 2, "UKI and image");
}

#[test]
fn a_stop_at_any_call_of_a_patched_install_can_be_gone_on_from() {
    let old = Release::sealed(1);
    let new = Release::evolved(&old, 3);
    let bundle = new.build();
    let prepared = || {
        let machine = Machine::new();
        machine.install("a", &old.build(), usize::MAX).unwrap();
        machine
    };
    let calls = prepared().install("b", &bundle, usize::MAX).unwrap().1;
    let mut stops = 0;
    for stop in 0..calls {
        let machine = prepared();
        let stopped = machine.install("b", &bundle, stop).unwrap_err();
        assert_eq!(stopped, Error::Storage(STOPPED), "stop {stop}");
        assert!(!machine.is_bootable("b"), "stop {stop}");
        let (tally, _) = machine.install("b", &bundle, usize::MAX).unwrap();
        assert_eq!(tally.damaged_bases, 0);
        machine.assert_holds("b", &new);
        stops += 1;
    }
    println!("{stops} stops");
    assert!(stops > 50, "{stops} stops");
}
