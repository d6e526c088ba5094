//! A workshop for tests: a small root, the parts of a UKI, keys, and the programs that others own.
#![allow(
    dead_code,
    reason = "not every test that shares this file uses all of it"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use twinseal_bundle::build::build;
use twinseal_bundle::error::Error;
use twinseal_bundle::keys::{KeyFiles, PublicKey, generate_into};
use twinseal_bundle::recipe::Recipe;
use twinseal_bundle::vectors::{archive_of, pe_file};
use twinseal_bundle::verify::Device;

/// A folder with everything that a bundle is made of.
pub struct Workshop {
    directory: TempDir,
    /// The release key.
    pub key: KeyFiles,
}

impl Workshop {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = generate_into(&directory.path().join("keys"), "release").unwrap();
        let workshop = Self { directory, key };
        workshop.put("root.tar", &root_archive(1));
        workshop.put("vmlinuz", &pe_file(&[(".text", b"a kernel".repeat(99))]));
        workshop.put("stub.efi", &stub());
        workshop.put("initrd.cpio", &b"070701 no initramfs ".repeat(300));
        workshop
    }

    /// A path in the workshop.
    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file.
    pub fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The lines of a recipe for a whole system, without tables.
    pub fn system_recipe() -> &'static str {
        "compatible = 'test-device'\nversion = '1.0'\nanti-rollback = 3\nkernel = 'vmlinuz'\nstub = 'stub.efi'\n\
         initramfs = 'initrd.cpio'\ncmdline = 'quiet'\nsign = ['keys/release.key']\nroot = { tar = 'root.tar', epoch = 0 }\n"
    }

    /// Builds a recipe to `name`.
    pub fn build(&self, recipe: &str, name: &str) -> Result<PathBuf, Error> {
        let recipe = Recipe::read(&self.put("recipe.toml", recipe.as_bytes()))?;
        let out = self.at(name);
        build(&recipe.ingredients()?, &out).map(|_| out)
    }

    /// A device that trusts the release key.
    pub fn device(&self) -> Device {
        Device {
            keys: vec![PublicKey::read(&self.key.public).unwrap()],
            ..Device::default()
        }
    }
}

/// A root of some files; `release` changes one of them.
pub fn root_archive(release: u8) -> Vec<u8> {
    let lines: Vec<u8> = (0..4000u32)
        .flat_map(|line| format!("line {line}\n").into_bytes())
        .collect();
    let entries = [
        ("etc/hostname", b"sealed\n".to_vec()),
        ("usr/bin/tool", vec![release; 5000]),
        (
            "usr/lib/os-release",
            b"ID=test\nPRETTY_NAME=\"A small root for tests of the builder\"\nVERSION_ID=1\n"
                .to_vec(),
        ),
        ("usr/share/empty", Vec::new()),
        ("usr/share/lines", lines),
    ];
    archive_of(&entries.map(|(name, content)| (name.to_owned(), content)))
}

/// Something that `uki` takes for systemd's stub: a PE file whose headers have room for more sections.
fn stub() -> Vec<u8> {
    let sbat = b"sbat,1,SBAT Version,sbat,1,https://example.org/\nstub,1,A stub,stub,1,https://example.org/\n";
    let mut padded = sbat.to_vec();
    padded.resize(2048, 0);
    let sections = [
        (".text", b"no code".repeat(80)),
        (".sbat", sbat.to_vec()),
        (".reloc", vec![0; 12]),
    ];
    crate::synthetic::Synthetic {
        sections: sections.to_vec(),
        ..Default::default()
    }
    .build()
}

/// Runs a program that others own, and gives what it printed.
pub fn tool(program: &str, arguments: &[&Path]) -> String {
    let output = try_tool(program, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?} failed: {errors}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program that may fail.
pub fn try_tool(program: &str, arguments: &[&Path]) -> Output {
    Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| {
            panic!("{program} cannot be run ({error}). `scripts/deps.sh test` installs it.")
        })
}

/// Arguments for [`tool`] from text.
pub fn words(text: &str) -> Vec<&Path> {
    text.split(' ').map(Path::new).collect()
}
