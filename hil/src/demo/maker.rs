//! The maker's half: keys, recipes, bundles.

use super::error::DemoError;
use super::folder::Folder;
use super::inputs::{Inputs, Release};
use super::recipe::{Keys, device_description, recipe};
use super::step;
use crate::command::{Invocation, Output, Runner};
use crate::maker::tools;
use crate::story::{Size, Story};
use serde::Deserialize;
use std::fs;
use std::io::Write;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

/// Folder of what is laid over every root.
const OVERLAY: &str = "overlay";

/// What the maker has when done.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// The key that devices trust.
    pub release_key: PathBuf,
    /// The owner's Secure Boot certificate.
    pub certificate: PathBuf,
    /// The bundles, in the order of the releases.
    pub bundles: [Bundle; 3],
}

/// A bundle.
#[derive(Clone, Debug)]
pub(super) struct Bundle {
    /// "v1", "v2" or "v3".
    pub name: &'static str,
    /// Its version for people.
    pub version: String,
    /// Its anti-rollback version.
    pub number: u64,
    /// The file.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// What `twinseal-bundle diff --json` says, as far as it is told here.
#[derive(Deserialize)]
struct Difference {
    objects_added: Sum,
    objects_removed: Sum,
    objects_kept: Sum,
    update_bytes: u64,
}

#[derive(Deserialize)]
struct Sum {
    count: u64,
    bytes: u64,
}

/// The maker at work.
pub(super) struct Maker<'m> {
    /// Runs the programs.
    pub runner: &'m Runner,
    /// `twinseal-bundle`.
    pub bundler: &'m Path,
    /// Where everything goes.
    pub folder: &'m Folder,
    /// What it is made from.
    pub inputs: &'m Inputs,
}

impl Maker<'_> {
    /// Makes keys and bundles, or takes those of an earlier run, and looks at them.
    pub(super) fn work<W: Write>(&self, story: &mut Story<W>) -> Result<Made, DemoError> {
        let kept = self.folder.is_made();
        story.chapter("The maker's keys")?;
        if kept {
            story.detail("kept from an earlier run, and so are the bundles")?;
        } else {
            self.keys(story)?;
        }
        story.chapter("The maker builds three releases")?;
        if !kept {
            self.lay_out()?;
            self.build(story)?;
            self.folder.set_made()?;
        }
        let [v1, v2, v3] = &self.inputs.releases;
        let made = Made {
            release_key: self.folder.at("keys/release.pub"),
            certificate: self.folder.at("keys/secure-boot.crt"),
            bundles: [self.bundle(v1)?, self.bundle(v2)?, self.bundle(v3)?],
        };
        self.look(story, &made)?;
        Ok(made)
    }

    fn keys<W: Write>(&self, story: &mut Story<W>) -> Result<(), DemoError> {
        step(story, "release key", || {
            let keygen = self
                .bundler("keygen")
                .arguments(["--name", "release", "--out"]);
            self.run(keygen.argument(self.folder.at("keys")))?;
            Ok((
                (),
                "Ed25519; release.key stays with the maker, release.pub goes into devices",
            ))
        })?;
        step(story, "Secure Boot key and certificate", || {
            tools::certificate(
                self.runner,
                "Demo appliance owner",
                &self.folder.at("keys/secure-boot.key"),
                &self.folder.at("keys/secure-boot.crt"),
            )?;
            Ok((
                (),
                "RSA, 2048 bits, by openssl; the certificate goes into the firmware",
            ))
        })
    }

    /// What the maker puts into every root: the agent, the key that it trusts, and what the device is.
    fn lay_out(&self) -> Result<(), DemoError> {
        let overlay = self.folder.at(OVERLAY);
        let put = |from: &Path, to: &str| {
            let to = overlay.join(to);
            let made = to.parent().map_or(Ok(()), fs::create_dir_all);
            made.and_then(|()| fs::copy(from, &to))
                .map_err(DemoError::file(&to, "written"))
        };
        put(&self.inputs.agent, "usr/bin/twinseal")?;
        put(
            &self.folder.at("keys/release.pub"),
            "usr/lib/twinseal/keys/release.pub",
        )?;
        let description = overlay.join("usr/lib/twinseal/device.toml");
        fs::write(&description, device_description())
            .map_err(DemoError::file(&description, "written"))
    }

    /// Builds all bundles side by side.
    fn build<W: Write>(&self, story: &mut Story<W>) -> Result<(), DemoError> {
        let outputs = step(story, "three bundles, side by side", || {
            Ok((
                self.build_all()?,
                "root packed, UKI sealed and signed, bundle signed",
            ))
        })?;
        for (release, output) in self.inputs.releases.iter().zip(outputs) {
            let bundle = Size(self.bundle(release)?.bytes);
            let (root, seconds) = (Size(release.root_bytes), output.elapsed.as_secs_f64());
            let name = release.name;
            story.detail(&format!(
                "{name}: {bundle} from a root of {root}, {seconds:.1} s"
            ))?;
        }
        Ok(())
    }

    fn build_all(&self) -> Result<Vec<Output>, DemoError> {
        let releases = &self.inputs.releases;
        thread::scope(|scope| {
            let threads = releases
                .each_ref()
                .map(|release| scope.spawn(|| self.build_one(release)));
            let outputs =
                threads.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            outputs.into_iter().collect()
        })
    }

    fn build_one(&self, release: &Release) -> Result<Output, DemoError> {
        let key = |name: &str| self.folder.at("keys").join(name);
        let keys = Keys {
            release: &key("release.key"),
            secure_boot: &key("secure-boot.key"),
            certificate: &key("secure-boot.crt"),
        };
        let file = self.folder.at(&format!("recipes/{}.toml", release.name));
        fs::write(
            &file,
            recipe(release, self.inputs, keys, &self.folder.at(OVERLAY))?,
        )
        .map_err(DemoError::file(&file, "written"))?;
        let build = self.bundler("build").argument(file).argument("--out");
        self.run(build.argument(self.bundle_file(release)))
    }

    /// Shows what an auditor would look at.
    fn look<W: Write>(&self, story: &mut Story<W>, made: &Made) -> Result<(), DemoError> {
        let [v1, v2, _] = &made.bundles;
        step(story, "verify v2", || {
            let verify = self.bundler("verify").argument(&v2.file).argument("--key");
            self.run(verify.argument(&made.release_key))?;
            Ok((
                (),
                "signature, manifest, index, every range and every digest are right",
            ))
        })?;
        let output = step(story, "inspect v2", || {
            Ok((
                self.run(self.bundler("inspect").argument(&v2.file))?,
                String::new(),
            ))
        })?;
        story.detail(&output.stdout)?;
        step(story, "diff v1 v2", || {
            let diff = self
                .bundler("diff")
                .argument("--json")
                .arguments([&v1.file, &v2.file]);
            let difference: Difference = self.run(diff)?.json()?;
            Ok(((), difference.text(v2.bytes)))
        })
    }

    fn bundle(&self, release: &Release) -> Result<Bundle, DemoError> {
        let file = self.bundle_file(release);
        let metadata = fs::metadata(&file).map_err(DemoError::file(&file, "read"))?;
        Ok(Bundle {
            name: release.name,
            version: release.version.clone(),
            number: release.number,
            file,
            bytes: metadata.len(),
        })
    }

    fn bundle_file(&self, release: &Release) -> PathBuf {
        self.folder.at(&format!("bundles/{}.tseal", release.name))
    }

    fn bundler(&self, command: &str) -> Invocation {
        Invocation::new(self.bundler).argument(command)
    }

    fn run(&self, invocation: Invocation) -> Result<Output, DemoError> {
        Ok(self.runner.run(&invocation)?.expect_success()?)
    }
}

impl Difference {
    fn text(&self, bundle_bytes: u64) -> String {
        format!(
            "{} objects added ({}), {} removed, {} kept ({}); the update is {} of the bundle's {}",
            self.objects_added.count,
            Size(self.objects_added.bytes),
            self.objects_removed.count,
            self.objects_kept.count,
            Size(self.objects_kept.bytes),
            Size(self.update_bytes),
            Size(bundle_bytes)
        )
    }
}
