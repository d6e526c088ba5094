//! Promise: the repository of a root slot is one that the C programs of composefs read, offline, from the disk image.
//!
//! Needs `mkcomposefs` and `composefs-info` 1.0.8 (`scripts/reference-composefs.sh` fetches them) and debugfs.

#[path = "support/factory.rs"]
mod factory;
#[path = "support/reference.rs"]
mod reference;
mod support;
#[path = "../src/pe/synthetic.rs"]
mod synthetic;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use factory::Factory;
use support::tool;
use twinseal_bundle::disk::DiskOptions;

/// A repository that was copied out of its slot.
struct Repository(PathBuf);

impl Repository {
    /// That of a root slot of a disk with both sets filled.
    fn of(factory: &Factory, label: &str) -> Self {
        let options = DiskOptions {
            both: true,
            ..factory.options()
        };
        let slot = factory.disk("disk.img", &options).part(label);
        let out = factory.workshop.at(label);
        fs::create_dir(&out).unwrap();
        let request = format!("rdump /composefs {}", out.display());
        tool("debugfs", &[Path::new("-R"), Path::new(&request), &slot]);
        Self(out.join("composefs"))
    }

    /// The names in `folder`, with those of the folders in it before them.
    fn objects(&self) -> BTreeSet<String> {
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).unwrap();
            let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
            entries.map(|entry| name(entry.unwrap())).collect()
        };
        let objects = self.0.join("objects");
        let of_shard = |shard: String| {
            let rest = names(&objects.join(&shard));
            rest.into_iter().map(move |rest| format!("{shard}{rest}"))
        };
        names(&objects).into_iter().flat_map(of_shard).collect()
    }

    /// Digest and path of the one image.
    fn image(&self) -> (String, PathBuf) {
        let mut images = fs::read_dir(self.0.join("images")).unwrap();
        let image = images.next().unwrap().unwrap();
        assert!(images.next().is_none(), "one image");
        let path = fs::canonicalize(image.path()).unwrap();
        (image.file_name().into_string().unwrap(), path)
    }

    /// What `composefs-info` says.
    fn info(&self, command: &str, file: &Path) -> String {
        let base = format!("--basedir={}", self.0.join("objects").display());
        let program = reference::program("composefs-info");
        let arguments = [Path::new(&base), Path::new(command), file];
        tool(program.to_str().unwrap(), &arguments)
    }
}

#[test]
fn the_reference_finds_every_object_and_the_sealed_digest() {
    let factory = Factory::new();
    for label in ["root-a", "root-b"] {
        let repository = Repository::of(&factory, label);
        let (digest, image) = repository.image();
        assert_eq!(repository.info("missing-objects", &image).trim(), "");

        let listed = repository.info("objects", &image);
        let mut needed: BTreeSet<String> =
            listed.lines().map(|line| line.replace('/', "")).collect();
        assert!(needed.len() > 2, "{listed}");
        needed.insert(digest.clone());
        assert_eq!(repository.objects(), needed, "objects of {label}");
        for name in &needed {
            let object = repository
                .0
                .join("objects")
                .join(&name[..2])
                .join(&name[2..]);
            assert_eq!(repository.info("measure-file", &object).trim(), *name);
        }
        assert!(repository.info("ls", &image).contains("/usr/lib/large"));

        // Made anew from what the reference reads in it, the image is the same one.
        let dump = factory.workshop.at("dump");
        fs::write(&dump, repository.info("dump", &image)).unwrap();
        let program = reference::program("mkcomposefs");
        let arguments = [
            Path::new("--from-file"),
            Path::new("--print-digest-only"),
            &dump,
        ];
        assert_eq!(tool(program.to_str().unwrap(), &arguments).trim(), digest);
    }
}
